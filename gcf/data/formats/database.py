"""JSON with a `database`: ActivityNet's files and those of 3D-ResNets-PyTorch and Efficient-3DCNNs."""

import json
from pathlib import Path

from gcf.data.formats.common import Annotation, Annotations, Collector, check_name, refuse_split, subset_of
from gcf.errors import AnnotationError

EXPECTED = 'expected {"database": {id: {"subset": ..., "annotations": [{"label": ...}] or {"label": ...}}}}'


def read_database(path: Path, text: str, *, split: str | None = None, multi_label: bool = False) -> Annotations:
    """The label of each video, or with `multi_label` those of all its segments.

    Where one is wanted, a video whose segments show several classes gets none, and a note says so: a video-level
    classifier has no right answer there, and refusing the file would refuse ActivityNet for a few videos.
    """
    refuse_split(path, split, "this JSON format")
    root = read_root(path, text)
    classes = _declared_classes(path, root)
    collector, several = Collector(path), []
    for name, entry in root["database"].items():
        place = f"{path}: database[{name!r}]"
        labels, subset = _entry(entry, place)
        if classes is not None and (unknown := sorted(set(labels) - set(classes))):
            raise AnnotationError(f"{place}: label {unknown[0]!r} is not among the {len(classes)} 'labels' of the file")
        if len(set(labels)) > 1 and not multi_label:
            several.append(name)
        only = labels[0] if len(set(labels)) == 1 else None
        collector.add(name, Annotation.of_classes(labels, subset) if multi_label else Annotation(only, subset), place)
    notes: tuple[str, ...] = ()
    if several:
        shown = ", ".join(several[:5]) + (", ..." if len(several) > 5 else "")
        notes = (f"{path}: {len(several)} videos show several classes and are left unlabelled: {shown}",)
    return Annotations(
        str(path), collector.sorted_classes() if classes is None else classes, collector.videos, notes=notes
    )


def read_root(path: Path, text: str) -> dict:
    """The parsed file, which has an object `database`. Raises AnnotationError where it has none."""
    root = _parse(path, text)
    if not isinstance(root, dict) or not isinstance(root.get("database"), dict):
        raise AnnotationError(f"{path}: no object 'database'; {EXPECTED}")
    for name in root["database"]:
        check_name(name, f"{path}: database")
    return root


def _parse(path: Path, text: str) -> object:
    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in pairs:
            if key in found and found[key] != value:
                raise AnnotationError(f"{path}: {key!r} occurs twice in one object and differs")
            found[key] = value
        return found

    try:
        return json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise AnnotationError(f"{path}: line {error.lineno}: {error.msg}; {EXPECTED}") from error
    except (ValueError, RecursionError) as error:  # a number of too many digits, brackets nested too deep
        raise AnnotationError(f"{path}: cannot be read as JSON: {error}; {EXPECTED}") from error


def _declared_classes(path: Path, root: dict) -> tuple[str, ...] | None:
    """The file's own list of classes, whose order it fixes; None where it has no list."""
    labels = root.get("labels")
    if labels is None:
        return None
    if not isinstance(labels, list) or not all(isinstance(x, str) for x in labels) or len(set(labels)) < len(labels):
        raise AnnotationError(f"{path}: 'labels' must be a list of different names")
    for name in labels:
        check_name(name, f"{path}: labels")
    return tuple(labels)


def _entry(entry: object, place: str) -> tuple[list[str], str]:
    """The labels of one video's segments, and its subset."""
    if not isinstance(entry, dict):
        raise AnnotationError(f"{place}: {entry!r:.60}; {EXPECTED}")
    found = entry.get("annotations", [])
    segments = [found] if isinstance(found, dict) else found
    if not isinstance(segments, list) or not all(isinstance(s, dict) for s in segments):
        raise AnnotationError(f"{place}: 'annotations' is {found!r:.60}; {EXPECTED}")
    labels = [s["label"] for s in segments if s.get("label") not in (None, "")]
    if wrong := [x for x in [*labels, entry.get("subset", "")] if not isinstance(x, str)]:
        raise AnnotationError(f"{place}: {wrong[0]!r:.60} where a text is expected; {EXPECTED}")
    return labels, subset_of(entry.get("subset", ""), place)
