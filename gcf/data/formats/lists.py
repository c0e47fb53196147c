"""The split lists of UCF-101 and HMDB-51: folders of text files, one set of files per split."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from gcf.data.films import film_of, shared_films_note
from gcf.data.formats.common import Annotation, Annotations, Collector, check_name, choose_split, read_lines
from gcf.errors import AnnotationError

UCF101_CLASSES = re.compile(r"classInd\.txt", re.IGNORECASE)
UCF101_LIST = re.compile(r"(train|test)list(\d+)\.txt", re.IGNORECASE)
HMDB51_LIST = re.compile(r"(.+)_test_split(\d+)\.txt", re.IGNORECASE)
HMDB51_SUBSETS = {"1": "train", "2": "test", "0": ""}  # the README published with the splits


def is_ucf101(name: str) -> bool:
    """Is this the name of one of UCF-101's lists?"""
    return bool(UCF101_CLASSES.fullmatch(name) or UCF101_LIST.fullmatch(name))


def is_hmdb51(name: str) -> bool:
    """Is this the name of one of HMDB-51's lists?"""
    return bool(HMDB51_LIST.fullmatch(name))


def default_split(name: str) -> str:
    """The split that a list's name stands for; '1' where it has none.

    >>> default_split("testlist03.txt"), default_split("classInd.txt")
    ('3', '1')
    """
    match = UCF101_LIST.fullmatch(name) or HMDB51_LIST.fullmatch(name)
    return str(int(match[2])) if match else "1"


def read_ucf101(folder: Path, files: Sequence[Path], *, split: str | None, default: str) -> Annotations:
    """classInd.txt (`1 ApplyEyeMakeup`), trainlist01.txt (`path 1`), testlist01.txt (`path`), and so on for 02, 03."""
    classes = _ucf101_classes(folder, [f for f in files if UCF101_CLASSES.fullmatch(f.name)])
    lists: dict[int, dict[str, Path]] = {}
    for file in files:
        if match := UCF101_LIST.fullmatch(file.name):
            lists.setdefault(int(match[2]), {})[match[1].lower()] = file
    if not lists:
        raise AnnotationError(f"{folder}: holds classInd.txt but no trainlist01.txt and testlist01.txt")
    labels = Collector(folder)
    splits: dict[str, dict[str, str]] = {}
    for number, pair in sorted(lists.items()):
        if missing := {"train", "test"} - pair.keys():
            raise AnnotationError(f"{folder}: split {number} has no {missing.pop()}list{number:02d}.txt")
        subsets = splits[str(number)] = {}
        for subset in ("train", "test"):
            for line, place in read_lines(pair[subset]):
                name, label = _ucf101_entry(line, classes, place)
                labels.add(name, Annotation(label), place)
                _put(subsets, name, subset, place)
    return _with_splits(labels, tuple(classes.values()), splits, split=split, default=default)


def _ucf101_classes(folder: Path, files: list[Path]) -> dict[str, str]:
    """Index as written -> class name, in the file's order."""
    if not files:
        raise AnnotationError(f"{folder}: holds UCF-101 lists but no classInd.txt, which names the classes")
    classes: dict[str, str] = {}
    for line, place in read_lines(files[0]):
        index, *names = line.split(maxsplit=1)
        check_name(line, place)
        if not index.isdecimal() or not names:
            raise AnnotationError(f"{place}: {line!r}; expected a number and a class, such as '1 ApplyEyeMakeup'")
        if index in classes or names[0] in classes.values():
            raise AnnotationError(f"{place}: {line!r} repeats a number or a class")
        classes[index] = names[0]
    return classes


def _ucf101_entry(line: str, classes: dict[str, str], place: str) -> tuple[str, str]:
    """Name and class of one line; the index and the folder must agree where both name a class."""
    name, *last = line.rsplit(maxsplit=1)
    index = last[0] if last and last[0].isdecimal() else None
    name = line if index is None else name
    if index is not None and index not in classes:
        raise AnnotationError(f"{place}: class index {index} is not in classInd.txt (1 to {len(classes)})")
    parts = name.split("/")
    by_folder = parts[-2] if len(parts) > 1 and parts[-2] in classes.values() else None
    label = by_folder if index is None else classes[index]
    if label is None:
        raise AnnotationError(f"{place}: {line!r} names no class of classInd.txt; expected Class/video.avi or an index")
    if by_folder not in (None, label):
        raise AnnotationError(f"{place}: index {index} is {label}, but the folder says {by_folder}")
    return name, label


def read_hmdb51(folder: Path, files: Sequence[Path], *, split: str | None, default: str) -> Annotations:
    """CLASS_test_splitN.txt, one per class and split, of lines `name.avi 1`: 1 train, 2 test, 0 left out."""
    lists = {(m[1], int(m[2])): file for file in files if (m := HMDB51_LIST.fullmatch(file.name))}
    classes, numbers = sorted({label for label, _ in lists}), sorted({number for _, number in lists})
    labels = Collector(folder)
    splits: dict[str, dict[str, str]] = {str(n): {} for n in numbers}
    for number in numbers:
        for label in classes:
            if (label, number) not in lists:
                raise AnnotationError(f"{folder}: no {label}_test_split{number}.txt; every class needs its file")
            for line, place in read_lines(lists[label, number]):
                name, *code = line.rsplit(maxsplit=1)
                if not code or code[0] not in HMDB51_SUBSETS:
                    raise AnnotationError(f"{place}: {line!r}; expected a name and 0, 1 or 2")
                labels.add(name, Annotation(label), place)
                _put(splits[str(number)], name, HMDB51_SUBSETS[code[0]], place)
    used = {}
    for name, subsets in splits.items():
        used[name] = {video: subset for video, subset in subsets.items() if subset}
    return _with_splits(labels, tuple(classes), used, split=split, default=default)


def _put(subsets: dict[str, str], name: str, subset: str, place: str) -> None:
    """Note a video's part in one split; a second, other part is refused."""
    if subsets.setdefault(name, subset) != subset:
        raise AnnotationError(f"{place}: {name!r} is listed under two subsets of one split")


def _with_splits(
    labels: Collector, classes: tuple[str, ...], splits: dict[str, dict[str, str]], *, split: str | None, default: str
) -> Annotations:
    chosen, subsets = choose_split(labels.source, splits, split, default)
    videos = {name: Annotation(a.label, subsets.get(name, "")) for name, a in labels.videos.items()}
    unused = Counter(a.subset for a in videos.values())[""]
    notes = [f"split {chosen} leaves out {unused} of {len(videos)} videos"] if unused else []
    films = [(film_of(name, a.label), a.label or "", a.subset) for name, a in videos.items()]
    notes += shared_films_note(chosen, films)
    told = tuple(f"{labels.source}: {note}" for note in notes)
    return Annotations(str(labels.source), classes, videos, splits, told)
