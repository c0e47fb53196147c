"""What every annotation reader gives and shares: the result, the subset words, reading text."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gcf.data.schema import NAME_BYTES
from gcf.errors import AnnotationError

SHOWN = 40  # characters of a name that is too long
SUBSET_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "validate": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Annotation:
    """What is said of one video; label None where the file knows the video but gives it no class, or several.

    labels: all its classes, sorted, where the file was read for several of them.
    """

    label: str | None
    subset: str = ""  # 'train' | 'val' | 'test' | ''
    group: str = ""
    labels: tuple[str, ...] = ()

    @classmethod
    def of_classes(cls, names: Iterable[str], subset: str = "", group: str = "") -> "Annotation":
        """A video that shows all of these classes.

        >>> Annotation.of_classes(["sit", "run", "sit"]).labels
        ('run', 'sit')
        """
        labels = tuple(sorted(set(names)))
        return cls(labels[0] if len(labels) == 1 else None, subset, group, labels)

    @property
    def classes(self) -> tuple[str, ...]:
        """All its classes, however the file was read."""
        return self.labels or (() if self.label is None else (self.label,))


@dataclass(frozen=True)
class Annotations:
    """One data set's annotations, each video under the name that the file gives it.

    splits: published splits, name -> {video: subset}; {} where the format has one. A video that a split leaves out is
    absent there, and has subset '' in `videos` when that split is the chosen one.
    notes: sentences for the user about what was read but not used, and about films that the chosen
    split has in train and in test.
    multi_label: whether a video may have several classes.
    """

    source: str
    classes: tuple[str, ...]
    videos: dict[str, Annotation]
    splits: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    multi_label: bool = False


class Collector:
    """Gathers the annotations of one source; a second entry for a name must say what the first said."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.videos: dict[str, Annotation] = {}
        self._places: dict[str, str] = {}

    def add(self, name: str, annotation: Annotation, place: str) -> None:
        """Take one entry found at `place` ("labels.csv: line 3"); raise AnnotationError where it contradicts.

        And where a name of it is too long, of the video, a class or the group.
        """
        for text in (name, *annotation.classes, annotation.group):
            check_name(text, place)
        first = self.videos.setdefault(name, annotation)
        if first != annotation:
            raise AnnotationError(
                f"{place}: {name!r} has {difference(annotation, first)} of {self._places[name]}; "
                "one video needs one answer"
            )
        self._places.setdefault(name, place)

    def sorted_classes(self) -> tuple[str, ...]:
        """The labels seen, in code point order."""
        return tuple(sorted({name for a in self.videos.values() for name in a.classes}))


def difference(one: Annotation, other: Annotation) -> str:
    """The first field in which two annotations differ, in words.

    >>> difference(Annotation("run", "train"), Annotation("run", "test"))
    "subset 'train' against 'test'"
    """
    name = next(n for n in ("labels", "label", "subset", "group") if getattr(one, n) != getattr(other, n))
    return f"{name} {getattr(one, name)!r} against {getattr(other, name)!r}"


def check_name(name: str, place: str) -> None:
    """Raise AnnotationError for a name that is longer than any file's."""
    size = len(name.encode("utf-8", "surrogateescape"))
    if size > NAME_BYTES:
        raise AnnotationError(f"{place}: a name of {size:,} bytes, {name[:SHOWN]!r}...; {NAME_BYTES:,} are the most")


def subset_of(word: str, place: str) -> str:
    """Our word for a published subset word; '' stays ''.

    >>> subset_of("Validation", "labels.csv: line 2")
    'val'
    """
    plain = word.strip().lower()
    if plain and plain not in SUBSET_WORDS:
        raise AnnotationError(f"{place}: subset {word!r} is unknown; known: {', '.join(SUBSET_WORDS)}, or nothing")
    return SUBSET_WORDS.get(plain, "")


def read_text(path: Path) -> str:
    """The whole of a UTF-8 file, with or without byte order mark."""
    if not path.is_file():
        raise AnnotationError(f"{path}: not a regular file; expected an annotation file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{data[error.start]:02x} is not UTF-8"
        raise AnnotationError(f"{path}: line {line}: {found}; save the file as UTF-8") from error


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines that are not blank, stripped, each with its place ("trainlist01.txt: line 3")."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield line.strip(), f"{path}: line {number}"


def choose_split(
    source: Path, splits: dict[str, dict[str, str]], wanted: str | None, default: str
) -> tuple[str, dict[str, str]]:
    """The split that is asked for ('01' is '1'), else `default`, else the first."""
    if wanted is None:
        name = default if default in splits else next(iter(splits))
    else:
        name = str(int(wanted)) if wanted.isdecimal() else wanted
    if name not in splits:
        raise AnnotationError(f"{source}: there is no split {wanted!r}; published here: {', '.join(splits)}")
    return name, splits[name]


def refuse_split(source: Path, wanted: str | None, what: str) -> None:
    """For formats without several splits: naming one is a mistake."""
    if wanted is not None:
        raise AnnotationError(f"{source}: {what} publishes no splits to choose from; leave out split {wanted!r}")
