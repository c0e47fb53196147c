"""Reading a feature file: checked against damage and tricks, then mapped, with HDF5 out of the way."""

import json
import math
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np

from gcf.data.datasets import DATASETS, REMEDY, REQUIRED, length_faults, type_faults
from gcf.data.recipe import canonical_json, text_sha256
from gcf.data.schema import (
    CLIP_FIELDS,
    FORMAT,
    OPTIONAL,
    SCHEMA,
    VIDEO_FIELDS,
    Clips,
    VideoFeatures,
    VideoInfo,
    decode,
)
from gcf.errors import FeatureFileError, RefusedError

HEAP_REFERENCE = np.dtype([("length", "<u4"), ("address", "<u8"), ("index", "<u4")])  # HDF5's, to a text of any length
BLOCK_VALUES = 1 << 20  # of a column, looked at together
BLOCK_BYTES = 16 << 20  # of a column of text, read together
FACTS = (*(f"clips/{name}" for name in CLIP_FIELDS), *(f"videos/{name}" for name in VIDEO_FIELDS))
NAMED = ("videos/id", "classes", "failures/id")  # what is listed there has a name
SHOWN = 40  # characters of a text that cannot be


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

    Types and shapes are checked against DATASETS before any value is read; numbers of any width of
    their kind are given in the schema's types. What cannot be in a column is refused when it is
    read, clips' facts when first asked for. suspect: facts of videos and clips are given as they
    are stored, for whoever looks for what is wrong with them.
    """

    left_out = 0

    def __init__(self, path: str | os.PathLike, *, suspect: bool = False):
        self.path, self._suspect = Path(path), suspect
        try:
            if self.path.exists() and not self.path.is_file():
                raise FeatureFileError(f"{self.path}: not a regular file")
            with h5py.File(self.path, "r") as h5:
                self._size = self.path.stat().st_size
                self._read(h5)
        except FileNotFoundError:
            raise FeatureFileError(f"{self.path}: no such file; gcf extract makes one") from None
        except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            number = getattr(error, "errno", None)
            if number is not None:  # the system refuses, which says nothing about the file
                raise RefusedError(f"{self.path}: cannot be read ({os.strerror(number)}); try again") from error
            raise FeatureFileError(
                f"{self.path}: not a readable feature file, cut short or of another kind ({error}); extract again"
            ) from error

    def _read(self, h5: h5py.File) -> None:
        self._check_kind(h5)
        self._check_there(h5)
        self.recipe, self.recipe_sha256 = self._recipe(h5)
        datasets = self._datasets(h5)
        per_clip = ("descriptors", "logits", *(f"clips/{name}" for name in CLIP_FIELDS))
        self._rows = {name: self._place(datasets[name]) for name in per_clip if name in datasets}
        self.offsets = self._offsets(datasets["videos/offset"])
        self.ids = self._texts(datasets["videos/id"], "videos/id")
        self.classes = self._texts(datasets["classes"], "classes")
        self.labels = self._labels(datasets)
        self.subsets = self._texts(datasets["videos/subset"], "videos/subset")
        self.groups = self._texts(datasets["videos/group"], "videos/group")
        fields = {name: self._numbers(datasets[f"videos/{name}"], f"videos/{name}") for name in VIDEO_FIELDS}
        self.absent = tuple(name for name in OPTIONAL if name not in datasets)
        note = self._optional_texts(datasets, "videos/note") or [""] * len(self.ids)
        self.videos = SimpleNamespace(
            **fields, status=self._texts(datasets["videos/status"], "videos/status"), note=note
        )
        self.backbone_classes = self._optional_texts(datasets, "backbone_classes")
        failed, reasons = (self._texts(datasets[name], name) for name in ("failures/id", "failures/error"))
        self.failures = list(zip(failed, reasons, strict=True))
        sums = datasets.get("videos/crc32")
        self.checksums = None if sums is None else self._numbers(sums, "videos/crc32")
        self._check_names()

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

    def _datasets(self, h5: h5py.File) -> dict[str, h5py.Dataset]:
        """Those of DATASETS that there are, each of the schema's kind and shape, and held by the file in full."""
        found = {name: self._dataset(h5, name) for name in DATASETS if self._find(h5, name) is not None}
        stored = {name: (dataset.dtype, dataset.shape) for name, dataset in found.items()}
        faults = list(type_faults(stored)) or list(length_faults(stored))
        if faults:
            raise FeatureFileError(f"{self.path}: {'; '.join(faults)}; {REMEDY}")
        for name, dataset in found.items():
            self._check_storage(dataset, name)
        return found

    def _dataset(self, h5: h5py.File, name: str) -> h5py.Dataset:
        """A plain contiguous dataset inside this file; anything that leads elsewhere is refused."""
        dataset = self._find(h5, name)
        if not isinstance(dataset, h5py.Dataset):
            raise FeatureFileError(f"{self.path}: {name} is not a dataset; extract again")
        create = dataset.id.get_create_plist()
        plain = create.get_layout() == h5py.h5d.CONTIGUOUS
        if not plain or create.get_external_count() or create.get_nfilters():
            raise FeatureFileError(f"{self.path}: {name} is not stored as plain contiguous data; {REMEDY}")
        return dataset

    def _check_storage(self, dataset: h5py.Dataset, name: str) -> None:
        """The file holds all that a dataset declares, in a type that NumPy reads as it lies."""
        stored = HEAP_REFERENCE if dataset.dtype.hasobject else dataset.dtype
        wanted, begin = dataset.size * stored.itemsize, dataset.id.get_offset()
        held = 0 if begin is None else max(0, self._size - begin)
        if wanted > held:
            raise FeatureFileError(
                f"{self.path}: cut short: {name} declares {wanted:,} bytes, of which the file holds {held:,}; {REMEDY}"
            )
        if dataset.dtype.kind in "iuf":  # HDF5 knows others, such as integers of 3 bytes
            plain = h5py.h5t.py_create(dataset.dtype)
            if not plain.equal(dataset.id.get_type()):
                raise FeatureFileError(
                    f"{self.path}: {name} is of a type that is only nearly {dataset.dtype}; {REMEDY}"
                )

    def _offsets(self, dataset: h5py.Dataset) -> np.ndarray:
        """Where each video's rows begin and the last one's end: from 0 on, each more than the one before.

        Looked at a piece at a time and before all else that has a value a video: a hole in a file,
        which reads as zeros, ends it there, whatever number of videos it declares.
        """
        pieces, before = [], -1
        for start in range(0, len(dataset), BLOCK_VALUES):
            piece = self._believed("videos/offset", dataset[start : start + BLOCK_VALUES], first=start)
            if piece[0] <= before or (np.diff(piece) < 1).any():
                raise FeatureFileError(
                    f"{self.path}: videos/offset goes back or stays from one video to the next: a "
                    f"video has no clip; {REMEDY}"
                )
            pieces.append(piece)
            before = piece[-1]
        offsets = np.concatenate(pieces)
        if offsets[0] != 0 or offsets[-1] != self.num_clips:
            raise FeatureFileError(
                f"{self.path}: videos/offset leads from {offsets[0]:,} to {offsets[-1]:,}, expected "
                f"0 to {self.num_clips:,}, the number of clips; {REMEDY}"
            )
        return offsets

    def _labels(self, datasets: dict[str, h5py.Dataset]) -> np.ndarray:
        """Numbers of classes, -1 where there is none."""
        labels = self._numbers(datasets["videos/label"], "videos/label")
        beyond = labels >= len(self.classes)
        if beyond.any():
            place = int(beyond.argmax())
            raise FeatureFileError(
                f"{self.path}: videos/label is {labels[place]} at {place:,}, and lies outside its "
                f"{len(self.classes)} classes; {REMEDY}"
            )
        return labels

    def _check_names(self) -> None:
        named, logits = self.backbone_classes, self._rows.get("logits")
        if self.num_clips and named is not None and (logits is None or logits.shape[1] != len(named)):
            raise FeatureFileError(
                f"{self.path}: {len(named)} names of backbone classes do not fit its logits; {REMEDY}"
            )
        if len(set(self.ids)) != len(self.ids):
            raise FeatureFileError(f"{self.path}: a name occurs twice in videos/id; {REMEDY}")

    @staticmethod
    def _attribute(h5: h5py.File, name: str) -> Any:
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

    def _numbers(self, dataset: h5py.Dataset, name: str) -> np.ndarray:
        """A column of numbers."""
        return self._believed(name, dataset[...])

    def _believed(self, name: str, values: np.ndarray, *, first: int = 0) -> np.ndarray:
        """Numbers (n,) from place `first` on, in the schema's type; those that cannot be are refused."""
        wanted = DATASETS[name]
        outside = wanted.outside(values)
        if not outside.any():
            return wanted.cast(values)
        if self._suspect and name in FACTS:
            return wanted.cast(values) if wanted.kind == "f" else values
        place = int(outside.argmax())
        raise FeatureFileError(
            f"{self.path}: {name} is {values[place]} at {first + place:,}, expected {wanted.expected}; {REMEDY}"
        )

    def _optional_texts(self, datasets: dict[str, h5py.Dataset], name: str) -> list[str] | None:
        """A column of text; None where the file does not have it."""
        return self._texts(datasets[name], name) if name in datasets else None

    def _texts(self, dataset: h5py.Dataset, name: str) -> list[str]:
        """A column of text."""
        if dataset.dtype.hasobject and dataset.size:
            self._check_lengths(dataset)
        width = 1 if dataset.dtype.hasobject else dataset.dtype.itemsize
        step = max(1, min(BLOCK_VALUES, BLOCK_BYTES // width))
        texts: list[str] = []
        known: dict[bytes, str] = {}
        for start in range(0, len(dataset), step):
            texts += decode(dataset[start : start + step], known)
            if len(dataset) > step and name in NAMED and not any(known):  # a hole in the file
                raise FeatureFileError(f"{self.path}: {name} declares {len(dataset):,} names of nothing; {REMEDY}")
        self._check_texts(name, texts, known)
        return texts

    def _check_texts(self, name: str, texts: list[str], known: dict[bytes, str]) -> None:
        """Names are no longer than names are, words are the schema's. known: all that there are."""
        wanted = DATASETS[name]
        if wanted.longest is not None and max(map(len, known), default=0) > wanted.longest:
            text = known[max(known, key=len)]
            raise FeatureFileError(
                f"{self.path}: {name} has a name of more than {wanted.longest:,} bytes, {text[:SHOWN]!r}...; {REMEDY}"
            )
        unknown = set(known.values()).difference(wanted.words) if wanted.words else ()
        if unknown and not self._suspect:
            place = next(n for n, text in enumerate(texts) if text in unknown)
            raise FeatureFileError(
                f"{self.path}: {name} is {texts[place][:SHOWN]!r} at {place:,}, expected {wanted.expected}; {REMEDY}"
            )

    def _check_lengths(self, dataset: h5py.Dataset) -> None:
        """A few bytes may ask for many references to one long text: all together cannot be longer than the file."""
        if dataset.id.get_storage_size() != dataset.size * HEAP_REFERENCE.itemsize:
            raise FeatureFileError(f"{self.path}: {dataset.name} is stored as no known kind of text; extract again")
        references = np.fromfile(self.path, HEAP_REFERENCE, dataset.size, offset=dataset.id.get_offset())
        if references["length"].sum(dtype=np.int64) > self._size:
            raise FeatureFileError(f"{self.path}: the texts of {dataset.name} are longer than the file; extract again")

    def _place(self, dataset: h5py.Dataset) -> RowPlace:
        return RowPlace(dataset.id.get_offset() or 0, dataset.dtype, dataset.shape)

    def _logits(self, start: int, stop: int) -> np.ndarray | None:
        return self._map("logits", start, stop) if "logits" in self._rows else None

    def _map(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows start to stop as a read-only memory map, which holds a file descriptor for as long as it lives."""
        place = self._rows[name]
        shape, width = (stop - start, *place.shape[1:]), place.row_bytes
        if not math.prod(shape):
            return np.empty(shape, place.dtype)
        return np.memmap(self.path, place.dtype, "r", place.offset + start * width, shape)

    @cached_property
    def clips(self) -> Clips:
        """Where the clips lie, each field (T,), read into memory when first asked for."""
        return Clips(**{name: self._clip_facts(f"clips/{name}", 0, self.num_clips) for name in CLIP_FIELDS})

    @property
    def parts(self) -> tuple["FeatureFile"]:
        """Itself alone: nothing is joined."""
        return (self,)

    def check_clips(self) -> None:
        """Raise FeatureFileError where a fact of a clip cannot be; holds no more than a piece of them."""
        for name in CLIP_FIELDS:
            for start in range(0, self.num_clips, BLOCK_VALUES):
                self._clip_facts(f"clips/{name}", start, min(start + BLOCK_VALUES, self.num_clips))

    def _clip_facts(self, name: str, start: int, stop: int) -> np.ndarray:
        return self._believed(name, self._read_rows(name, start, stop), first=start)

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
        return self._logits(0, self.num_clips)

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
            logits=self._logits(rows.start, rows.stop),
            clips=Clips(**{name: values[rows] for name, values in vars(self.clips).items()}),
            info=VideoInfo(**{name: values[n] for name, values in vars(self.videos).items()}),
        )
