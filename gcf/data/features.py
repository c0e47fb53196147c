"""Reading a feature file: checked against damage and tricks, then mapped, with HDF5 out of the way."""

import json
import math
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np

from gcf.data.recipe import canonical_json, text_sha256
from gcf.data.schema import (
    CLIP_FIELDS,
    FORMAT,
    OPTIONAL,
    REQUIRED,
    SCHEMA,
    VIDEO_FIELDS,
    Clips,
    VideoFeatures,
    VideoInfo,
    decode,
)
from gcf.errors import FeatureFileError, RefusedError

HEAP_REFERENCE = np.dtype([("length", "<u4"), ("address", "<u8"), ("index", "<u4")])  # HDF5's, to a text of any length


@dataclass(frozen=True)
class RowPlace:
    """Where the rows of a dataset lie in the file."""

    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize


class FeatureFile:
    """A feature file, open for reading: T clips of N videos, V views, D wide, K backbone classes.

    descriptors (T, V, D) and logits (T, K) or None are read-only memory maps; `offsets` (N + 1,) says which rows are
    a video's: `descriptors[offsets[n]:offsets[n + 1]]`. checksums (N,) uint32 of the videos, see gcf.data.checksums, or
    None where there are none. absent: those of OPTIONAL that the file does not have. Raises FeatureFileError for a file
    that is foreign, damaged, of another schema, or that would make HDF5 open anything else, RefusedError where the
    system does not let it be read.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        try:
            if self.path.exists() and not self.path.is_file():
                raise FeatureFileError(f"{self.path}: not a regular file")
            with h5py.File(self.path, "r") as h5:
                self._size = self.path.stat().st_size
                self._read(h5)
        except FileNotFoundError:
            raise FeatureFileError(f"{self.path}: no such file; gcf extract makes one") from None
        except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            if getattr(error, "errno", None) is not None:  # the system refuses, which says nothing about the file
                raise RefusedError(f"{self.path}: cannot be read ({os.strerror(error.errno)}); try again") from error
            raise FeatureFileError(
                f"{self.path}: not a readable feature file, cut short or of another kind ({error}); extract again"
            ) from error

    def _read(self, h5: h5py.File) -> None:
        self._check_kind(h5)
        self._check_there(h5)
        self.recipe, self.recipe_sha256 = self._recipe(h5)
        self._rows = {"descriptors": self._row_place(h5, "descriptors", 3)}
        if self._find(h5, "logits") is not None:
            self._rows["logits"] = self._row_place(h5, "logits", 2)
        for name in CLIP_FIELDS:
            self._rows[f"clips/{name}"] = self._place(self._dataset(h5, f"clips/{name}"))
        self.offsets = self._array(h5, "videos/offset")
        self.ids = self._texts(h5, "videos/id")
        self.labels = self._array(h5, "videos/label")
        self.classes = self._texts(h5, "classes")
        self.subsets = self._texts(h5, "videos/subset")
        self.groups = self._texts(h5, "videos/group")
        fields = {name: self._array(h5, f"videos/{name}") for name in VIDEO_FIELDS}
        self.absent = tuple(name for name in OPTIONAL if self._find(h5, name) is None)
        note = [""] * len(self.ids) if "videos/note" in self.absent else self._texts(h5, "videos/note")
        self.videos = SimpleNamespace(**fields, status=self._texts(h5, "videos/status"), note=note)
        unnamed = self._find(h5, "backbone_classes") is None
        self.backbone_classes = None if unnamed else self._texts(h5, "backbone_classes")
        self.failures = list(zip(self._texts(h5, "failures/id"), self._texts(h5, "failures/error"), strict=True))
        self.checksums = None if "videos/crc32" in self.absent else self._checksums(h5)
        self._check_counts()

    def _check_kind(self, h5: h5py.File) -> None:
        found = self._attribute(h5, "format")
        if found != FORMAT:
            raise FeatureFileError(f"{self.path}: not a gcf feature file (format {found!r}, expected {FORMAT!r})")
        schema = h5.attrs.get("schema")
        if schema != SCHEMA:
            raise FeatureFileError(f"{self.path}: schema {schema}, this version reads {SCHEMA}; extract again")

    def _check_there(self, h5: h5py.File) -> None:
        lacking = [f"the attribute {name}" for name in ("recipe", "recipe_sha256") if name not in h5.attrs]
        lacking += [name for name in REQUIRED if self._find(h5, name) is None]
        if lacking:
            raise FeatureFileError(
                f"{self.path}: lacks {', '.join(lacking)}; extract again, or write it as docs/feature-file.md says"
            )

    def _recipe(self, h5: h5py.File) -> tuple[dict, str]:
        """The recipe, and the hash of its text, which must be the one that the file names."""
        text, named = self._attribute(h5, "recipe"), self._attribute(h5, "recipe_sha256")
        recipe = json.loads(text)
        if not isinstance(recipe, dict):
            raise FeatureFileError(f"{self.path}: its recipe is no JSON object; extract again")
        canonical_json(recipe)  # a ValueError for infinite numbers, which Python's JSON reads
        if text_sha256(text) != named:
            raise FeatureFileError(
                f"{self.path}: its recipe does not match its recipe_sha256, the sha256 of that text as it is stored; "
                "extract again"
            )
        return recipe, named

    def _check_counts(self) -> None:
        clips, videos = self.num_clips, len(self.ids)
        per_clip = {place.shape[0] for place in self._rows.values()}
        per_video = {len(x) for x in (self.labels, self.subsets, self.groups, *vars(self.videos).values())}
        if self.checksums is not None:
            per_video.add(len(self.checksums))
        counts_agree = per_clip == {clips} and per_video == {videos}
        offsets = self.offsets
        if not counts_agree or len(offsets) != videos + 1 or offsets[0] != 0 or offsets[-1] != clips:
            raise FeatureFileError(f"{self.path}: its datasets disagree about the number of videos or clips")
        named = self.backbone_classes
        if named is not None and ("logits" not in self._rows or len(named) != self._rows["logits"].shape[1]) and clips:
            raise FeatureFileError(f"{self.path}: {len(named)} names of backbone classes do not fit its logits")
        if (np.diff(offsets) < 1).any() or len(set(self.ids)) != videos:
            raise FeatureFileError(f"{self.path}: a video has no clip, or a name occurs twice")
        if videos and not -1 <= self.labels.min() <= self.labels.max() < max(1, len(self.classes)):
            raise FeatureFileError(f"{self.path}: a label lies outside its {len(self.classes)} classes")

    def _dataset(self, h5: h5py.File, name: str, *, texts: bool = False) -> h5py.Dataset:
        """A plain contiguous dataset inside this file; anything that leads elsewhere is refused.

        texts: they may be of variable length, kept by reference in this file.
        """
        dataset = self._find(h5, name)
        if not isinstance(dataset, h5py.Dataset):
            raise FeatureFileError(f"{self.path}: {name} is not a dataset; extract again")
        create = dataset.id.get_create_plist()
        if create.get_layout() != h5py.h5d.CONTIGUOUS or create.get_external_count() or create.get_nfilters():
            raise FeatureFileError(f"{self.path}: {name} is not stored as plain contiguous data; extract again")
        if dataset.dtype.hasobject and not (texts and h5py.check_string_dtype(dataset.dtype)):
            raise FeatureFileError(f"{self.path}: {name} has a type that schema {SCHEMA} does not use")
        stored = HEAP_REFERENCE if dataset.dtype.hasobject else dataset.dtype
        end = (dataset.id.get_offset() or 0) + dataset.size * stored.itemsize
        if dataset.size and (dataset.id.get_offset() is None or end > self._size):
            raise FeatureFileError(f"{self.path}: cut short: {name} should end at byte {end}; extract again")
        return dataset

    @staticmethod
    def _attribute(h5: h5py.File, name: str) -> object:
        """An attribute; text of fixed length, which comes as bytes, as text."""
        value = h5.attrs.get(name)
        return value.decode() if isinstance(value, bytes) else value

    def _find(self, h5: h5py.File, name: str) -> h5py.Group | h5py.Dataset | None:
        """What has that name, None where nothing has; a link to elsewhere is refused."""
        found = h5
        for key in name.split("/"):  # asked of the link itself: h5py's own `in` would follow it
            if not isinstance(found, h5py.Group) or not found.id.links.exists(key.encode()):
                return None
            if found.id.links.get_info(key.encode()).type != h5py.h5l.TYPE_HARD:
                raise FeatureFileError(f"{self.path}: {name} is a link to elsewhere; extract again")
            found = found[key]
        return found

    def _array(self, h5: h5py.File, name: str) -> np.ndarray:
        return self._dataset(h5, name)[...]

    def _texts(self, h5: h5py.File, name: str) -> list[str]:
        dataset = self._dataset(h5, name, texts=True)
        if dataset.dtype.hasobject and dataset.size:
            self._check_lengths(dataset)
        return decode(dataset[...])

    def _check_lengths(self, dataset: h5py.Dataset) -> None:
        """A few bytes may ask for many references to one long text: all together cannot be longer than the file."""
        if dataset.id.get_storage_size() != dataset.size * HEAP_REFERENCE.itemsize:
            raise FeatureFileError(f"{self.path}: {dataset.name} is stored as no known kind of text; extract again")
        references = np.fromfile(self.path, HEAP_REFERENCE, dataset.size, offset=dataset.id.get_offset())
        if references["length"].sum(dtype=np.int64) > self._size:
            raise FeatureFileError(f"{self.path}: the texts of {dataset.name} are longer than the file; extract again")

    def _checksums(self, h5: h5py.File) -> np.ndarray:
        found = self._array(h5, "videos/crc32")
        if found.dtype != np.uint32 or found.ndim != 1:
            raise FeatureFileError(f"{self.path}: videos/crc32 is {found.dtype} with {found.ndim} axes; extract again")
        return found

    def _row_place(self, h5: h5py.File, name: str, ndim: int) -> RowPlace:
        dataset = self._dataset(h5, name)
        if dataset.ndim != ndim or dataset.dtype not in ("float16", "float32"):
            raise FeatureFileError(f"{self.path}: {name} is {dataset.dtype} with {dataset.ndim} axes, expected {ndim}")
        return self._place(dataset)

    def _place(self, dataset: h5py.Dataset) -> RowPlace:
        if not dataset.ndim:
            raise FeatureFileError(f"{self.path}: {dataset.name} is one value, expected a row for each clip")
        return RowPlace(dataset.id.get_offset() or 0, dataset.dtype, dataset.shape)

    def _map(self, name: str, start: int, stop: int) -> np.ndarray | None:
        """Rows start to stop as a read-only memory map, which holds a file descriptor for as long as it lives."""
        if name not in self._rows:
            return None
        place = self._rows[name]
        shape, width = (stop - start, *place.shape[1:]), place.row_bytes
        if not math.prod(shape):
            return np.empty(shape, place.dtype)
        return np.memmap(self.path, place.dtype, "r", place.offset + start * width, shape)

    @cached_property
    def clips(self) -> Clips:
        """Where the clips lie, each field (T,), read into memory when first asked for."""
        return Clips(**{name: self._read_rows(f"clips/{name}", 0, self.num_clips) for name in CLIP_FIELDS})

    def _read_rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows start to stop in memory; what a map would touch would count as this process's memory, too."""
        place = self._rows[name]
        shape = (stop - start, *place.shape[1:])
        values = np.fromfile(self.path, place.dtype, math.prod(shape), offset=place.offset + start * place.row_bytes)
        if len(values) < math.prod(shape):
            raise FeatureFileError(f"{self.path}: cut short while it was open; extract again")
        return values.reshape(shape)

    def row_place(self, name: str) -> RowPlace | None:
        """Where the rows of one of ROWS lie in the file; None for logits that there are not."""
        return self._rows.get(name)

    @cached_property
    def descriptors(self) -> np.ndarray:
        """(T, V, D) float16 or float32, a read-only memory map."""
        return self._map("descriptors", 0, self.num_clips)

    @cached_property
    def logits(self) -> np.ndarray | None:
        """(T, K) float16, a read-only memory map; None where the backbone had no classifier."""
        return self._map("logits", 0, self.num_clips)

    def gather(self, rows: np.ndarray | slice) -> np.ndarray:
        """The descriptors of these rows (...), read into memory -> (..., V, D)."""
        if not isinstance(rows, slice):
            return np.asarray(self.descriptors[rows])  # a copy
        start, stop, _ = rows.indices(self.num_clips)
        return self._read_rows("descriptors", start, max(start, stop))

    def read_ahead(self, start: int, stop: int) -> None:
        """Ask the system to read descriptors start to stop into its cache while other work goes on."""
        if not hasattr(os, "posix_fadvise"):
            return
        place, width = self._rows["descriptors"], self.descriptors[:1].nbytes
        with self.path.open("rb") as file:
            os.posix_fadvise(
                file.fileno(), place.offset + start * width, (stop - start) * width, os.POSIX_FADV_WILLNEED
            )

    @property
    def partial(self) -> list[tuple[str, str]]:
        """The videos of which only a part could be read, each with the reason."""
        columns = zip(self.ids, self.videos.status, self.videos.note, strict=True)
        return [(video_id, note) for video_id, status, note in columns if status != "ok"]

    @property
    def num_videos(self) -> int:
        """N, the videos that gave clips."""
        return len(self.ids)

    @property
    def num_clips(self) -> int:
        """T, the clips of all videos."""
        return self._rows["descriptors"].shape[0]

    def video(self, n: int) -> VideoFeatures:
        """The rows and facts of video n; its maps are its own, so that thousands of files can be walked."""
        rows = slice(int(self.offsets[n]), int(self.offsets[n + 1]))
        return VideoFeatures(
            id=self.ids[n],
            descriptors=self._map("descriptors", rows.start, rows.stop),
            logits=self._map("logits", rows.start, rows.stop),
            clips=Clips(**{name: values[rows] for name, values in vars(self.clips).items()}),
            info=VideoInfo(**{name: values[n] for name, values in vars(self.videos).items()}),
        )
