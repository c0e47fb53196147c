"""Labels, subsets and groups of videos: from an annotation file in any known format, or from folder names."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from gcf.data.films import film_group
from gcf.data.formats.common import Annotation, Annotations, difference, read_text
from gcf.data.formats.database import read_database
from gcf.data.formats.folders import read_folders
from gcf.data.formats.lists import default_split, is_hmdb51, is_ucf101, read_hmdb51, read_ucf101
from gcf.data.formats.table import read_csv
from gcf.data.matching import match_names
from gcf.data.spellings import settle_spellings
from gcf.errors import AnnotationError, UsageError

__all__ = ["Annotation", "Annotations", "Labelling", "label_videos", "read_annotations"]

# UCF-101 and UCF-50: v_Class_g07_c03.avi is clip 3 of source video 7. Groups are numbered anew in each class, but the
# published protocols cut all classes alike (g01-g07 are the test set of split 1) and leave-one-group-out has 25 folds,
# so the number alone is the group.
UCF101_NAME = re.compile(r"v_[^/]+_(g\d+)_c\d+(\.[^/.]+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Labelling:
    """What is known of N videos, in their order.

    labels (N,) int32 index into classes, -1 without; subsets 'train' | 'val' | 'test' | ''; groups '' without.
    missing: annotated names without a video. unlabelled: videos without a label, annotated or not.
    splits: the subsets (N of them) in each published split, '' for a video that the split leaves out.
    targets: (N, K) bool, the classes of each video where it may have several; labels then know those with one alone.
    notes: sentences for the user about classes that are spelled in several ways.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    subsets: tuple[str, ...]
    groups: tuple[str, ...]
    missing: tuple[str, ...]
    unlabelled: tuple[str, ...]
    splits: dict[str, tuple[str, ...]] = field(default_factory=dict)
    targets: np.ndarray | None = None
    notes: tuple[str, ...] = ()


def read_annotations(path: str | os.PathLike, *, split: str | None = None, multi_label: bool = False) -> Annotations:
    """Read the annotations of a data set; the format is recognised by names and content.

    | format      | give                              | content                                                        |
    |-------------|-----------------------------------|----------------------------------------------------------------|
    | CSV         | the file                          | header `path,label[,subset][,group]`; `path` may be called     |
    |             |                                   | `video`, `id` or `name`, `subset` may be called `split`        |
    | Kinetics    | the CSV file, or a folder of them | header `label,youtube_id,time_start,time_end,split[,is_cc]`    |
    | UCF-101     | the folder, or a list in it       | `classInd.txt`, `trainlist01.txt`, `testlist01.txt`, 02, 03    |
    | HMDB-51     | the folder, or a list in it       | `CLASS_test_splitN.txt`: `name.avi 1` (1 train, 2 test,        |
    |             |                                   | 0 left out)                                                    |
    | ActivityNet | the JSON file                     | `{"database": {id: {"subset": ..., "annotations":              |
    |             |                                   | [{"label": ...}]}}}`                                           |
    | Hara JSON   | the JSON file                     | `{"labels": [...], "database": {id: {"subset": ...,            |
    |             |                                   | "annotations": {"label": ...}}}}`                              |

    Text is UTF-8. Subsets are train, val, test; training, validation, validate and testing are understood. Names need
    not match the video files to the letter: folders and endings may be left out or differ in front (`match_names`).
    An empty label, and in ActivityNet several different labels, leave a video unlabelled.

    With `multi_label` a video may have several classes: all those of its segments in ActivityNet, and in a CSV file the
    names with | between them in its label (`jump|run`; otherwise that is one name). One or none is as good.

    `split` picks one of the published splits of UCF-101 or HMDB-51; without it, the number in the name of the list that
    was given, or 1. All splits are kept in `.splits`.

    Raises AnnotationError naming the file, the line or key, what was found and what is expected.
    """
    path = Path(path)
    try:
        path.stat()
    except OSError as error:
        raise AnnotationError(f"{path}: {error.strerror}; expected a file or folder of annotations") from error
    return replace(_read(path, split=split, multi_label=multi_label), multi_label=multi_label)


def _read(path: Path, *, split: str | None, multi_label: bool) -> Annotations:
    if path.is_dir():
        return _read_folder(path, split=split, default="1", multi_label=multi_label)
    if is_ucf101(path.name) or is_hmdb51(path.name):
        return _read_folder(path.parent, split=split, default=default_split(path.name), only=path.name)
    text = read_text(path)
    if not text.strip():
        raise AnnotationError(f"{path}: is empty; expected annotations")
    if path.suffix.lower() == ".json" or text.lstrip()[0] in "{[":
        return read_database(path, text, split=split, multi_label=multi_label)
    return read_csv([path], source=path, split=split, multi_label=multi_label)


def _read_folder(
    folder: Path, *, split: str | None, default: str, only: str = "", multi_label: bool = False
) -> Annotations:
    """The data set whose lists lie in a folder; `only` settles which, where there are lists of two."""
    try:
        files = sorted(f for f in folder.iterdir() if f.is_file())
    except OSError as error:
        raise AnnotationError(f"{folder}: cannot be read: {error.strerror}") from error
    ucf101 = [f for f in files if is_ucf101(f.name) and not is_hmdb51(only)]
    hmdb51 = [f for f in files if is_hmdb51(f.name) and not is_ucf101(only)]
    tables = [f for f in files if f.suffix.lower() == ".csv" and not only]
    kinds = [name for name, found in (("UCF-101", ucf101), ("HMDB-51", hmdb51), ("CSV", tables)) if found]
    if len(kinds) > 1:
        raise AnnotationError(f"{folder}: holds {' and '.join(kinds)} files; name the file that you mean")
    if ucf101:
        return read_ucf101(folder, ucf101, split=split, default=default)
    if hmdb51:
        return read_hmdb51(folder, hmdb51, split=split, default=default)
    if tables:
        return read_csv(tables, source=folder, split=split, multi_label=multi_label)
    expected = "expected classInd.txt and trainlist01.txt, CLASS_test_split1.txt, or Kinetics CSV files"
    raise AnnotationError(f"{folder}: no annotation files in this folder; {expected}")


def label_videos(
    ids: Sequence[str],
    annotations: Annotations | None = None,
    *,
    class_level: str | int | None = None,
    merge_labels: bool = False,
) -> Labelling:
    """Labels, subsets and groups of the videos `ids` (paths below the video root, '/' between folders).

    Without annotations the folders speak (`read_folders`, which class_level is for): the one directly above a file
    names its class, however deep it lies; a first level of train, val, test (or training, validation, testing) names
    subsets; a file directly in the root, or directly in a subset's folder, has no label.

    Groups are those of the annotations; where they give none at all, names give theirs: in UCF-101
    the number (`v_Class_g07_c03` is in g07), in HMDB-51 the film within the class (`film_group`).
    merge_labels: classes that differ in letter case or blanks only are one (`settle_spellings`).
    Linear in the number of videos.

    Raises AnnotationError where a name fits two videos, or two names of one video disagree; UsageError where the
    folders name the classes in two ways, or class_level is given beside annotations.
    """
    if len(set(ids)) < len(ids):
        raise ValueError("ids must differ")
    if annotations is not None and class_level is not None:
        raise UsageError("class_level says which folder names the class, and so do the annotations: give one of them")
    if annotations is None:
        annotations = read_folders(ids, level=class_level)
    owners = _owners(ids, annotations)
    entries = [Annotation(None) if name is None else annotations.videos[name] for name, _ in owners]
    index = {label: i for i, label in enumerate(annotations.classes)}
    labels = np.array([-1 if e.label is None else index[e.label] for e in entries], dtype=np.int32)
    grouped = any(a.group for a in annotations.videos.values())
    groups = [entry.group for entry in entries]
    if not grouped:
        groups = [_group_in_name(video, e.label) for video, e in zip(ids, entries, strict=True)]
    found = {name for _, names in owners for name in names}
    labelling = Labelling(
        classes=annotations.classes,
        labels=labels,
        subsets=tuple(e.subset for e in entries),
        groups=tuple(groups),
        missing=tuple(name for name in annotations.videos if name not in found),
        unlabelled=tuple(video for video, e in zip(ids, entries, strict=True) if not e.classes),
        splits={split: _subsets(owners, parts) for split, parts in annotations.splits.items()},
        targets=_targets(entries, index) if annotations.multi_label else None,
    )
    return settle_spellings(labelling, merge=merge_labels)


def _targets(entries: Sequence[Annotation], index: dict[str, int]) -> np.ndarray:
    targets = np.zeros((len(entries), len(index)), dtype=bool)
    for row, entry in zip(targets, entries, strict=True):
        row[[index[name] for name in entry.classes]] = True
    return targets


def _subsets(owners: Sequence[tuple[str | None, Sequence[str]]], parts: Mapping[str, str]) -> tuple[str, ...]:
    """The subset of each video in one split, '' for those that it leaves out."""
    return tuple("" if name is None else parts.get(name, "") for name, _ in owners)


def _owners(ids: Sequence[str], annotations: Annotations) -> list[tuple[str | None, list[str]]]:
    """For each video the name that speaks for it, and all names that mean it; these must agree."""
    names: list[list[str]] = [[] for _ in ids]
    for name, i in match_names(ids, annotations.videos, source=annotations.source).items():
        names[i].append(name)
    for i, (first, *others) in ((i, found) for i, found in enumerate(names) if len(found) > 1):
        for other in others:
            both = f"{annotations.source}: {first!r} and {other!r} both mean {ids[i]!r} but"
            if annotations.videos[first] != annotations.videos[other]:
                what = difference(annotations.videos[first], annotations.videos[other])
                raise AnnotationError(f"{both} differ: {what}; keep one")
            for split, parts in annotations.splits.items():
                if parts.get(first) != parts.get(other):
                    raise AnnotationError(f"{both} lie in different subsets of split {split}; keep one")
    return [(found[0] if found else None, found) for found in names]


def _group_in_name(video: str, label: str | None) -> str:
    match = UCF101_NAME.fullmatch(video.rpartition("/")[2])
    return match[1].lower() if match else film_group(video, label)
