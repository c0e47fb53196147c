"""Classes and subsets from the folders that videos lie in."""

from collections import Counter
from collections.abc import Sequence

from gcf.data.formats.common import SUBSET_WORDS, Annotation, Annotations
from gcf.data.text import named_classes
from gcf.errors import UsageError

CLASS_LEVELS = ("1", "last")
SHOWN = 4  # classes of each reading in the message that asks for one


def read_folders(ids: Sequence[str], *, level: str | int | None = None) -> Annotations:
    """Class and subset of the videos `ids`, paths below the video root.

    A first level of train, val, test (or training, validation, testing) names subsets; such a word is a class like any
    other where other folders lie beside it and none below it. level: which of the folders below names the class: "1",
    the first; "last", the one directly above the file; None, the last, if no other is likely.

    Raises UsageError where level is None and a folder's name recurs below several others, and for another level.
    """
    if level is not None and str(level) not in CLASS_LEVELS:
        raise UsageError(f"class_level is {' or '.join(CLASS_LEVELS)}, not {level!r}")
    subsets, folders = _parted(ids)
    if level is None:
        _require_one_reading(ids, folders)
    labels = _labels(folders, str(level or "last"))
    videos = {video: Annotation(label, subset) for video, label, subset in zip(ids, labels, subsets, strict=True)}
    return Annotations("folder names", tuple(sorted({label for label in labels if label is not None})), videos)


def _parted(ids: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The subset of each video, and the folders above it without the subset's."""
    folders = [video.split("/")[:-1] for video in ids]
    first = {parts[0] for parts in folders if parts}
    words = {name for name in first if name.lower() in SUBSET_WORDS}
    if words != first and not any(len(parts) > 1 for parts in folders if parts and parts[0] in words):
        words = set()  # a class called 'train' among other classes
    named = [bool(parts) and parts[0] in words for parts in folders]
    subsets = [SUBSET_WORDS[parts[0].lower()] if has else "" for parts, has in zip(folders, named, strict=True)]
    return subsets, [parts[has:] for parts, has in zip(folders, named, strict=True)]


def _labels(folders: Sequence[Sequence[str]], level: str) -> list[str | None]:
    """The folder that names the class of each video, None for one that lies in none."""
    place = 0 if level == "1" else -1
    return [parts[place] if parts else None for parts in folders]


def _require_one_reading(ids: Sequence[str], folders: Sequence[Sequence[str]]) -> None:
    """Raise UsageError where a folder that would name a class has the name of one elsewhere."""
    above: dict[str, Sequence[str]] = {}  # of the folder that holds videos, the folders above it
    for video, parts in zip(ids, folders, strict=True):
        if parts and above.setdefault(parts[-1], parts[:-1]) != parts[:-1]:
            both = " and ".join(repr("/".join(way) or ".") for way in (above[parts[-1]], parts[:-1]))
            first, last = (_reading(folders, level) for level in CLASS_LEVELS)
            raise UsageError(
                f"a folder {parts[-1]!r} lies below {both}, so classes can be read in two ways, and {video!r} is of "
                f"{parts[0]!r} or of {parts[-1]!r}: by the first folder {first} (--class-level 1); by the last {last} "
                "(--class-level last); say which, or give annotations"
            )


def _reading(folders: Sequence[Sequence[str]], level: str) -> str:
    """The classes at one level, in words."""
    counts = Counter(label for label in _labels(folders, level) if label is not None)
    return f"{len(counts):,} classes, {named_classes(dict(sorted(counts.items())), shown=SHOWN)}"
