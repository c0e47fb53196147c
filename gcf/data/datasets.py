"""What each dataset of a feature file must be, in one table; the reader and `gcf verify` follow it.

Types and shapes can be asked of a file before any value of it is read: `type_faults`, `length_faults`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import h5py
import numpy as np

from gcf.data.schema import CLIP_FIELDS, NAME_BYTES, STATUSES, SUBSETS, VIDEO_FIELDS

REMEDY = "extract again, or write it as docs/feature-file.md says"
CLIPS, VIDEOS, BOUNDS, FAILURES = ("clips",), ("videos",), ("videos + 1",), ("failures",)
WORDS = {"iu": "integers", "f": "floats", "S": "text", "rows": "float16 or float32"}


@dataclass(frozen=True)
class DatasetType:
    """One dataset: numbers or text of a kind, of any width, with one axis for each of `axes`.

    dtype: in which extraction writes it and every reader gets it. low: the least number that can
    be, None where all can. words: the only texts that can be, () where all can. longest: bytes of
    a text at most. mapped: float16 or float32 alone, since training maps these rows as they lie.
    """

    dtype: str
    axes: tuple[str, ...]
    low: int | None = None
    words: tuple[str, ...] = ()
    longest: int | None = None
    mapped: bool = False
    optional: bool = False

    @property
    def kind(self) -> str:
        """Its key in WORDS."""
        if self.mapped:
            return "rows"
        return next(kind for kind in WORDS if np.dtype(self.dtype).kind in kind)

    def holds(self, dtype: np.dtype) -> bool:
        """Whether a stored type is of this kind; text may be of fixed or of variable length."""
        if self.kind == "S":
            return h5py.check_string_dtype(dtype) is not None
        if self.mapped:
            return dtype in (np.float16, np.float32)
        return dtype.kind in self.kind

    def outside(self, values: np.ndarray) -> np.ndarray:
        """Which of these numbers (n,) cannot be, or cannot be said in `dtype`: (n,) bool."""
        if self.kind == "f":
            values = self.cast(values)
            unsaid = ~np.isfinite(values)
            return unsaid if self.low is None else unsaid | (values < self.low)
        low, high = self.bounds
        return (values < low) | (values > high)

    def cast(self, values: np.ndarray) -> np.ndarray:
        """Numbers in `dtype`; a float that is too large for it becomes infinite."""
        with np.errstate(over="ignore"):
            return values.astype(self.dtype, copy=False)

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the greatest integer that can be."""
        info = np.iinfo(self.dtype)
        return info.min if self.low is None else self.low, info.max

    @property
    def expected(self) -> str:
        """The values that can be, in words."""
        if self.words:
            return f"{', '.join(filter(None, self.words))}{' or nothing' * ('' in self.words)}"
        if self.kind == "f":
            return "a finite number" if self.low is None else f"a finite number from {self.low} on"
        low, high = self.bounds
        return f"{low} to {high}"


def _name(*axes: str, optional: bool = False) -> DatasetType:
    return DatasetType("S", axes, longest=NAME_BYTES, optional=optional)


DATASETS = {
    "descriptors": DatasetType("<f4", ("clips", "views", "width"), mapped=True),
    "logits": DatasetType("<f4", ("clips", "backbone's classes"), mapped=True, optional=True),
    "backbone_classes": _name("backbone's classes", optional=True),
    "clips/start_frame": DatasetType(CLIP_FIELDS["start_frame"], CLIPS, low=0),
    "clips/num_frames": DatasetType(CLIP_FIELDS["num_frames"], CLIPS, low=1),
    "clips/start_time": DatasetType(CLIP_FIELDS["start_time"], CLIPS),
    "clips/end_time": DatasetType(CLIP_FIELDS["end_time"], CLIPS),
    "videos/id": _name("videos"),
    "videos/offset": DatasetType("<i8", BOUNDS, low=0),
    "videos/label": DatasetType("<i4", VIDEOS, low=-1),
    "videos/subset": DatasetType("S", VIDEOS, words=SUBSETS),
    "videos/group": _name("videos"),
    "videos/status": DatasetType("S", VIDEOS, words=STATUSES),
    "videos/fps": DatasetType(VIDEO_FIELDS["fps"], VIDEOS, low=0),
    "videos/num_frames": DatasetType(VIDEO_FIELDS["num_frames"], VIDEOS, low=0),
    "videos/width": DatasetType(VIDEO_FIELDS["width"], VIDEOS, low=0),
    "videos/height": DatasetType(VIDEO_FIELDS["height"], VIDEOS, low=0),
    "videos/duration": DatasetType(VIDEO_FIELDS["duration"], VIDEOS, low=0),
    "videos/size": DatasetType(VIDEO_FIELDS["size"], VIDEOS, low=0),
    "videos/mtime_ns": DatasetType(VIDEO_FIELDS["mtime_ns"], VIDEOS),
    "videos/note": DatasetType("S", VIDEOS, optional=True),
    "videos/crc32": DatasetType("<u4", VIDEOS, optional=True),
    "classes": _name("classes"),
    "failures/id": _name("failures"),
    "failures/error": DatasetType("S", FAILURES),
}
REQUIRED = tuple(name for name, wanted in DATASETS.items() if not wanted.optional)

Stored = Mapping[str, tuple[np.dtype, tuple[int, ...] | None]]  # what a file says: type and shape


def type_faults(stored: Stored) -> Iterator[str]:
    """Where kind or number of axes are others, in plain words, for all of the datasets.

    A list of no values may be of any kind: programs that write an empty list cannot tell its kind.
    """
    for name, (dtype, shape) in stored.items():
        wanted = DATASETS[name]
        empty = shape == (0,) and len(wanted.axes) == 1
        axes_agree = shape is not None and len(shape) == len(wanted.axes)
        if not axes_agree or not (empty or wanted.holds(dtype)):
            axes = ", ".join(wanted.axes)
            yield f"{name} is {_words(dtype, shape)}, expected {WORDS[wanted.kind]} ({axes})"


def length_faults(stored: Stored) -> Iterator[str]:
    """Where axes of one name are of several lengths; the names of the backbone's classes apart.

    Those have no logits beside them where there is no clip.
    """
    shapes = {name: shape or () for name, (_, shape) in stored.items() if name != "backbone_classes"}
    lengths: dict[str, int] = {}
    owners: dict[str, str] = {}
    for name in ("videos/id", "descriptors", *shapes):
        for axis, length in zip(DATASETS[name].axes, shapes[name], strict=True):
            owner = owners.setdefault(axis, name)
            wanted = lengths.setdefault(axis, length)
            if length != wanted:
                yield f"{name} has {length:,} {axis}, {owner} has {wanted:,}"
    bounds = shapes["videos/offset"][0]
    if bounds != lengths["videos"] + 1:
        yield f"videos/offset has {bounds:,} values, expected one more than {lengths['videos']:,} videos"


def _words(dtype: np.dtype, shape: tuple[int, ...] | None) -> str:
    """A stored type and shape in words."""
    if shape is None:
        return "nothing"
    kind = "text" if h5py.check_string_dtype(dtype) else str(dtype)
    return f"{kind} of shape ({', '.join(f'{length:,}' for length in shape)})"
