"""Feature files of the same videos side by side, as one: descriptors of several backbones (two-stream style)."""

import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from gcf.data.features import FeatureFile
from gcf.data.recipe import JOINED, recipe_sha256
from gcf.data.schema import Clips, id_key
from gcf.errors import RefusedError, UsageError

Source = FeatureFile | str | os.PathLike


class JoinedDescriptors:
    """The descriptors of several files along the last axis, read when asked for: shape (T, V, sum of D)."""

    def __init__(self, parts: Sequence[FeatureFile], part_rows: Sequence[np.ndarray | None], num_rows: int):
        self.parts, self.part_rows = parts, part_rows
        arrays = [part.descriptors for part in parts]
        self.shape = (num_rows, arrays[0].shape[1], sum(a.shape[2] for a in arrays))
        self.dtype = np.result_type(*(a.dtype for a in arrays))

    def __len__(self) -> int:
        return self.shape[0]

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """The descriptors of these rows (...) -> (..., V, sum of D)."""
        places = [rows if own is None else own[rows] for own in self.part_rows]
        found = [part.gather(place) for part, place in zip(self.parts, places, strict=True)]
        return np.concatenate(found, axis=-1, dtype=self.dtype)


class JoinedFeatures:
    """What `join_features` gives: the videos that lie in all `parts`, with the attributes of a FeatureFile.

    part_rows: for each part the (T,) numbers of its rows that the joined rows are, None where they are all of its
    rows in their order. Labels, subsets, groups, clips and facts are the first part's. There are no clip logits.
    left_out: videos that lie in some of the parts and failed in none; those that failed in a part are in `failures`.
    """

    logits = backbone_classes = None

    def __init__(self, parts: Sequence[FeatureFile]):
        self.parts = tuple(parts)
        self.path: Path = parts[0].path
        self.recipe = {JOINED: [part.recipe for part in parts]}
        self.recipe_sha256 = recipe_sha256(self.recipe)
        shared = set(parts[0].ids).intersection(*(part.ids for part in parts[1:]))
        self.ids = [name for name in parts[0].ids if name in shared]
        if not self.ids:
            raise RefusedError(f"{_names(parts)}: no video is in all of them; join files of the same videos")
        self._places = [_places(part.ids, self.ids) for part in parts]  # (N,) in each part
        self._check_views()
        for part, videos in zip(parts[1:], self._places[1:], strict=True):
            self._check_clips(part, videos)
            self._check_annotations(part, videos)
        rows = [_rows_of(part, videos) for part, videos in zip(parts, self._places, strict=True)]
        identity = [np.array_equal(r, np.arange(part.num_clips)) for r, part in zip(rows, parts, strict=True)]
        self.part_rows = tuple(None if same else r for same, r in zip(identity, rows, strict=True))
        self.descriptors = JoinedDescriptors(self.parts, self.part_rows, len(rows[0]))
        self._take_facts(parts[0], self._places[0], rows[0])
        failed = {name: error for part in reversed(parts) for name, error in part.failures}
        self.failures = [(name, failed[name]) for name in sorted(failed, key=id_key)]
        self.left_out = len({name for part in parts for name in part.ids} - set(self.ids) - set(failed))

    def _take_facts(self, first: FeatureFile, videos: np.ndarray, rows: np.ndarray) -> None:
        """What the first part says of the joined videos and their clips."""
        self.offsets = np.concatenate([[0], np.cumsum(_counts(first)[videos])])
        self.clips = Clips(**{name: values[rows] for name, values in vars(first.clips).items()})
        self.videos = SimpleNamespace(**{name: _chosen(values, videos) for name, values in vars(first.videos).items()})
        self.labels, self.classes = first.labels[videos], first.classes
        self.subsets, self.groups = _chosen(first.subsets, videos), _chosen(first.groups, videos)

    @property
    def num_videos(self) -> int:
        """N, the videos that lie in all parts."""
        return len(self.ids)

    @property
    def num_clips(self) -> int:
        """T, the clips of these videos."""
        return len(self.descriptors)

    def check_clips(self) -> None:
        """Raise FeatureFileError where a fact of a clip of any part cannot be."""
        for part in self.parts:
            part.check_clips()

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """The descriptors of these rows (...) -> (..., V, sum of D)."""
        return self.descriptors.gather(rows)

    def read_ahead(self, start: int, stop: int) -> None:
        """Ask the system to read rows start to stop of all parts into its cache while other work goes on."""
        for part, own in zip(self.parts, self.part_rows, strict=True):
            first, last = (start, stop - 1) if own is None else (int(own[start]), int(own[stop - 1]))
            part.read_ahead(first, last + 1)

    def _check_views(self) -> None:
        views = [part.descriptors.shape[1] for part in self.parts]
        if len(set(views)) > 1:
            raise RefusedError(f"{_names(self.parts)}: {views} views; extract again with the same --views")

    def _check_clips(self, part: FeatureFile, videos: np.ndarray) -> None:
        """Clip by clip the same frames, or RefusedError with the first video and what differs."""
        first = self.parts[0]
        ours, theirs = _counts(first)[self._places[0]], _counts(part)[videos]
        other = np.flatnonzero(ours != theirs)
        if len(other):
            n = other[0]
            self._refuse(part, n, f"{ours[n]} clips against {theirs[n]}")
        starts = [f.clips.start_frame[_rows_of(f, v)] for f, v in ((first, self._places[0]), (part, videos))]
        apart = np.flatnonzero(starts[0] != starts[1])
        if len(apart):
            row = apart[0]
            n = np.searchsorted(np.cumsum(ours), row, side="right")
            self._refuse(part, n, f"a clip from frame {starts[0][row]} against one from frame {starts[1][row]}")

    def _check_annotations(self, part: FeatureFile, videos: np.ndarray) -> None:
        """A label, subset or group that a further part has is the first one's."""
        first = self.parts[0]
        for what, read in (
            ("label", lambda f, n: f.classes[f.labels[n]] if f.labels[n] >= 0 else ""),
            ("subset", lambda f, n: f.subsets[n]),
            ("group", lambda f, n: f.groups[n]),
        ):
            for n, (own, other) in enumerate(zip(self._places[0], videos, strict=True)):
                ours, theirs = read(first, own), read(part, other)
                if theirs and ours != theirs:
                    self._refuse(part, n, f"{what} {ours!r} against {theirs!r}")

    def _refuse(self, part: FeatureFile, n: int, difference: str) -> None:
        first = self.parts[0].path
        raise RefusedError(
            f"{first} and {part.path} do not agree about video {self.ids[n]!r}: {difference}; "
            "join files that were extracted from the same videos, with the same clips and annotations"
        )


def join_features(sources: Sequence[Source]) -> JoinedFeatures:
    """Join feature files of the same videos along the descriptor axis; the first one's annotations hold.

    Videos that are not in all files are left out, and counted. Raises UsageError for fewer than two files, and
    RefusedError where the files disagree about clips, views or annotations.
    """
    if isinstance(sources, Source) or len(sources) < 2:
        raise UsageError("joining takes two feature files or more")
    return JoinedFeatures([s if isinstance(s, FeatureFile) else FeatureFile(s) for s in sources])


def open_features(source: Source | JoinedFeatures | Sequence[Source]) -> FeatureFile | JoinedFeatures:
    """One feature file, or several joined; what is open already is given back."""
    if isinstance(source, str | os.PathLike):
        return FeatureFile(source)
    if isinstance(source, Sequence):
        return open_features(source[0]) if len(source) == 1 else join_features(source)
    return source


def _counts(part: FeatureFile) -> np.ndarray:
    return np.diff(part.offsets)


def _rows_of(part: FeatureFile, videos: np.ndarray) -> np.ndarray:
    """The row numbers of these videos' clips, one video after the other."""
    counts = _counts(part)[videos]
    before = np.cumsum(counts) - counts
    return np.arange(counts.sum()) + np.repeat(part.offsets[videos] - before, counts)


def _chosen(values: Sequence, places: np.ndarray) -> Sequence:
    return values[places] if isinstance(values, np.ndarray) else [values[n] for n in places]


def _names(parts: Sequence[FeatureFile]) -> str:
    return ", ".join(str(part.path) for part in parts)


def _places(ids: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Where names are among ids (N,)."""
    numbers = {name: number for number, name in enumerate(ids)}
    return np.array([numbers[name] for name in names])
