"""Whether a feature file can be believed: all that opening it checks, then its facts and every stored number."""

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from gcf.data.checksums import is_intact
from gcf.data.features import FeatureFile
from gcf.data.plausible import (
    clip_faults,
    counted,
    missing_parts,
    name_faults,
    recipe_faults,
    straddling,
    video_faults,
    where,
)
from gcf.data.recipe import JOINED
from gcf.errors import FeatureFileError

BLOCK_BYTES = 16 << 20  # read at once
SHOWN_AFTER = 2.0  # seconds before there is a bar
PEEK = 16  # values that tell most descriptors from zeros


@dataclass(frozen=True)
class Verified:
    """What verifying found: `faults` make a file unbelievable, `warnings` are odd and may be true.

    missing: what extraction would have written, too, and what follows where it is absent.
    """

    path: Path
    videos: int
    clips: int
    failures: int
    faults: tuple[str, ...]
    warnings: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Nothing contradicts what the file says."""
        return not self.faults

    def to_json(self) -> dict:
        """All of it, with the verdict."""
        return {"sound": self.sound} | asdict(self)

    def describe(self) -> str:
        """In words, one line a fault."""
        found = "all well" if self.sound else f"{len(self.faults)} fault{'s' * (len(self.faults) != 1)}; extract again"
        counts = f"{self.videos:,} videos, {self.clips:,} clips, {self.failures:,} failed"
        lines = [f"{self.path}: {counts}: {found}"]
        lines += [f"  fault    {fault}" for fault in self.faults]
        lines += [f"  warning  {warning}" for warning in self.warnings]
        lines += [f"  missing  {part}" for part in self.missing]
        return "\n".join(lines)


def verify_features(path: str | os.PathLike, *, progress: bool = False) -> Verified:
    """Read all of a feature file and say what in it cannot be; the file is not changed.

    Beyond what FeatureFile checks: every video fits its checksum (where there are any), every descriptor and logit is
    finite, frames and times of clips are possible, names are sorted and nobody's twice, subsets, labels and sizes are
    in range, rows are as the recipe says. Memory does not grow with the file's descriptors. Raises FeatureFileError for
    a file that cannot be opened at all.
    """
    features = open_suspect(path)
    faults = [f for check in (recipe_faults, name_faults, video_faults, clip_faults) for f in check(features)]
    values = _read(features, progress=progress)
    return Verified(
        path=features.path,
        videos=features.num_videos,
        clips=features.num_clips,
        failures=len(features.failures),
        faults=(*faults, *values.faults(features)),
        warnings=(*values.warnings(features), *straddling(features)),
        missing=tuple(missing_parts(features)),
    )


def open_suspect(path: str | os.PathLike) -> FeatureFile:
    """A FeatureFile of one extraction whose facts may be impossible. Raises FeatureFileError for any other."""
    features = FeatureFile(path, suspect=True)
    if JOINED in features.recipe:
        raise FeatureFileError(f"{path}: its recipe is not that of one extraction; extract again")
    return features


def progress_bar(total: int, *, shown: bool) -> tqdm:
    """A bar over clips on standard error, once the work has taken a while."""
    return tqdm(
        total=total, unit="clip", disable=not shown, delay=SHOWN_AFTER, file=sys.stderr, dynamic_ncols=True, leave=False
    )


@dataclass
class _Values:
    """What the rows showed: which have a NaN, an infinity, or zeros alone; which videos never change or are damaged."""

    descriptors: list[np.ndarray] = field(default_factory=list)
    logits: list[np.ndarray] = field(default_factory=list)
    zero: list[np.ndarray] = field(default_factory=list)
    constant: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    def faults(self, features: FeatureFile) -> Iterator[str]:
        if self.damaged:
            yield f"bytes that do not fit their checksum in {counted(self.damaged)} (gcf extract --repair)"
        for what in ("descriptors", "logits"):
            rows = getattr(self, what)
            if rows:
                yield f"{what} that are not finite in {where(features, np.concatenate(rows))}"

    def warnings(self, features: FeatureFile) -> Iterator[str]:
        if self.zero:
            yield f"descriptors of zeros alone in {where(features, np.concatenate(self.zero))}"
        if self.constant:
            yield f"the same descriptors in every clip of {counted(self.constant)}"


def _read(features: FeatureFile, *, progress: bool) -> _Values:
    """Read every row once, video by video: the maps of a video are let go before the next."""
    values = _Values()
    with progress_bar(features.num_clips, shown=progress) as bar:
        for n, start in enumerate(features.offsets[:-1].tolist()):
            video = features.video(n)
            if not is_intact(features, n, video):
                values.damaged.append(video.id)
            _add_descriptors(values, video.id, video.descriptors, start)
            if video.logits is not None:
                for place, block in _blocks(video.logits):
                    _add(values.logits, ~_finite(block), start + place)
            bar.update(len(video.descriptors))
    return values


def _add_descriptors(values: _Values, video_id: str, descriptors: np.ndarray, start: int) -> None:
    """descriptors (C, V, D) of one video, whose first row is `start`."""
    constant = len(descriptors) > 1
    for place, block in _blocks(descriptors):
        _add(values.descriptors, ~_finite(block), start + place)
        zero = _zero(block)
        _add(values.zero, zero, start + place)
        constant = constant and not zero.any() and _repeats(descriptors[0], block)
    if constant:
        values.constant.append(video_id)


def _blocks(rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Consecutive rows of a few megabytes, each block with the place of its first."""
    step = max(1, BLOCK_BYTES // max(1, rows[0].nbytes)) if len(rows) else 1
    for place in range(0, len(rows), step):
        yield place, np.asarray(rows[place : place + step])


def _add(found: list[np.ndarray], mask: np.ndarray, start: int) -> None:
    if mask.any():
        found.append(start + np.flatnonzero(mask))


def _finite(rows: np.ndarray) -> np.ndarray:
    """Which rows (c, ...) are finite throughout: (c,)."""
    return np.isfinite(rows).reshape(len(rows), -1).all(axis=1)


def _zero(rows: np.ndarray) -> np.ndarray:
    """Which clips (c, V, D) have a view of zeros alone: (c,). Few pass the first look, so the second costs nothing."""
    zero = np.asarray(~rows[..., :PEEK].any(axis=-1).all(axis=-1))
    zero[zero] = ~rows[zero].any(axis=-1).all(axis=-1)
    return zero


def _repeats(first: np.ndarray, rows: np.ndarray) -> bool:
    """Whether all rows (c, V, D) are `first` (V, D); told by the last one where they are not."""
    return bool((rows[-1] == first).all() and (rows == first).all())
