"""Videos of several feature files as one table: facts as columns, rows copied straight from file to file."""

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from gcf.data.checksums import REMEDY
from gcf.data.features import FeatureFile
from gcf.data.schema import CLIP_FIELDS, ROWS, VIDEO_FIELDS, id_key
from gcf.errors import FeatureFileError

BLOCK_BYTES = 4 << 20  # read at once, however long a video is
OPEN_FILES = 16  # at once: a long run leaves thousands of parts
FEW = 3  # names in a message


@dataclass(frozen=True)
class GatheredVideos:
    """N videos in the order of their ids: video n is number `row[n]` of `sources[source[n]]`; both (N,) int64."""

    ids: list[str]
    sources: Sequence[FeatureFile]
    source: np.ndarray
    row: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def of_each(self, column: Callable[[FeatureFile], Sequence | np.ndarray]) -> np.ndarray:
        """What `column` gives for the videos of each file, brought into the order of this table: (N,)."""
        found = None
        for source, places in self._by_source:
            values = np.asarray(column(self.sources[source]))[self.row[places]]
            if found is None:
                found = np.empty(len(self), values.dtype)
            elif found.dtype != values.dtype:
                found = found.astype(np.promote_types(found.dtype, values.dtype), copy=False)
            found[places] = values
        return np.empty(0) if found is None else found

    def texts(self, column: Callable[[FeatureFile], Sequence[str]]) -> list[str]:
        """The same for texts, which stay the objects that they are."""
        found = [""] * len(self)
        for source, places in self._by_source:
            values, rows = column(self.sources[source]), self.row[places].tolist()
            for place, row in zip(places.tolist(), rows, strict=True):
                found[place] = values[row]
        return found

    @cached_property
    def _by_source(self) -> list[tuple[int, np.ndarray]]:
        """Each source that has any of the videos, with their places in this table."""
        order = np.argsort(self.source, kind="stable")
        used, first = np.unique(self.source[order], return_index=True)
        return list(zip(used.tolist(), np.split(order, first[1:]), strict=True)) if len(used) else []

    @property
    def used(self) -> list[FeatureFile]:
        """The files that any of the videos come from."""
        return [self.sources[source] for source, _ in self._by_source]

    @property
    def counts(self) -> np.ndarray:
        """Clips of each video (N,)."""
        return self.of_each(lambda f: np.diff(f.offsets)).astype(np.int64)

    @property
    def status(self) -> list[str]:
        """Of each video."""
        return self.texts(lambda f: f.videos.status)

    @property
    def note(self) -> list[str]:
        """Of each video."""
        return self.texts(lambda f: f.videos.note)

    @property
    def facts(self) -> dict[str, np.ndarray]:
        """VIDEO_FIELDS, each (N,)."""
        return {name: self.of_each(partial(_fact, name)) for name in VIDEO_FIELDS}

    def row_types(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """Shape and type of one row of each of ROWS. Raises FeatureFileError where the files do not agree."""
        first, *others = [self._row_types(file) for file in self.used] or [{}]
        for file, found in zip(self.used[1:], others, strict=True):
            if found != first:
                raise FeatureFileError(
                    f"{file.path}: its rows are not of the shape or type of those of {self.used[0].path}; {REMEDY}"
                )
        return first

    @staticmethod
    def _row_types(file: FeatureFile) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        places = {name: place for name in ROWS if (place := file.row_place(name)) is not None}
        types = {name: (place.shape[1:], place.dtype) for name, place in places.items()}
        return types | {f"clips/{name}": ((), np.dtype(dtype)) for name, dtype in CLIP_FIELDS.items()}

    def rows(self, name: str) -> Iterator[tuple[int, bytes]]:
        """The rows of one of ROWS, video after video, as (n, bytes); a long video comes in several pieces."""
        start, places = self.of_each(lambda f: f.offsets[:-1]).tolist(), [f.row_place(name) for f in self.sources]
        types = {name: dtype for name, (_, dtype) in self.row_types().items()}
        with _Readers([f.path for f in self.sources]) as readers:
            columns = (self.source.tolist(), start, self.counts.tolist())
            for n, (source, first, count) in enumerate(zip(*columns, strict=True)):
                place = places[source]
                if place.dtype != types[name]:  # another width of its kind
                    facts = getattr(self.sources[source].clips, name.removeprefix("clips/"))
                    yield n, facts[first : first + count].tobytes()
                    continue
                begin = place.offset + first * place.row_bytes
                end = begin + count * place.row_bytes
                while begin < end:
                    data = readers.read(source, begin, min(BLOCK_BYTES, end - begin))
                    yield n, data
                    begin += len(data)

    def check(self, sums: Sequence[int]) -> None:
        """Compare checksums of what was copied with those of the files. Raises FeatureFileError naming the damaged."""
        for source, places in self._by_source:
            file = self.sources[source]
            if file.checksums is not None:
                wanted = file.checksums[self.row[places]]
                damaged = places[wanted != np.asarray(sums, np.uint32)[places]]
                if len(damaged):
                    raise damaged_videos(file, [self.ids[n] for n in damaged])


def damaged_videos(file: FeatureFile, ids: Sequence[str]) -> FeatureFileError:
    """The error that names videos of a file that do not fit their checksums."""
    more = f" and {len(ids) - FEW:,} more" if len(ids) > FEW else ""
    names, do = ", ".join(map(repr, ids[:FEW])), "does" if len(ids) == 1 else "do"
    return FeatureFileError(f"{file.path}: damaged: {names}{more} {do} not fit the checksum; {REMEDY}")


def gather(sources: Sequence[FeatureFile], *, keep: Callable[[FeatureFile, int], bool] | None = None) -> GatheredVideos:
    """Each video's rows in the first source that has it, of the rows that `keep` accepts."""
    found: dict[str, int] = {}  # id -> source and row in one number, since tuples would cost most of the memory
    for number, source in enumerate(sources):
        for n, video_id in enumerate(source.ids):
            if video_id not in found and (keep is None or keep(source, n)):
                found[video_id] = number << 32 | n
    ids = sorted(found, key=id_key)
    codes = np.fromiter((found[video_id] for video_id in ids), np.int64, len(ids))
    return GatheredVideos(ids, sources, codes >> 32, codes & 0xFFFFFFFF)


def _fact(name: str, file: FeatureFile) -> np.ndarray:
    return getattr(file.videos, name)


class _Readers:
    """Several files to read pieces of, few of them open at once."""

    def __init__(self, paths: Sequence[Path]):
        self.paths = paths
        self.opened: OrderedDict[int, int] = OrderedDict()

    def __enter__(self) -> "_Readers":
        return self

    def __exit__(self, *exception) -> None:
        for descriptor in self.opened.values():
            os.close(descriptor)

    def read(self, number: int, offset: int, size: int) -> bytes:
        """At least one and at most `size` bytes of a file. Raises FeatureFileError at its end."""
        if number not in self.opened:
            if len(self.opened) == OPEN_FILES:
                os.close(self.opened.popitem(last=False)[1])
            self.opened[number] = os.open(self.paths[number], os.O_RDONLY | os.O_CLOEXEC)
        self.opened.move_to_end(number)
        data = os.pread(self.opened[number], size, offset)
        if not data:
            raise FeatureFileError(f"{self.paths[number]}: cut short while it was read; {REMEDY}")
        return data
