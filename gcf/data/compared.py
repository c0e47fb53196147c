"""How far the rows of two feature files are apart: descriptors or logits, clip by clip and view by view."""

from dataclasses import dataclass

import numpy as np

BLOCK_VALUES = 1 << 15  # compared at once in float64: what the caches of a processor hold


@dataclass(frozen=True)
class ClipPlace:
    """A row: clips and views count from 0. view is None for logits, which only the centre view has."""

    video: str
    clip: int
    view: int | None

    def __str__(self) -> str:
        return f"{self.video!r} clip {self.clip}" + ("" if self.view is None else f" view {self.view}")


@dataclass(frozen=True)
class Extreme:
    """The most extreme value, and where it is."""

    value: float
    at: ClipPlace

    def __str__(self) -> str:
        return f"{self.value:.6g} ({self.at})"


@dataclass(frozen=True)
class RowsDifference:
    """What comparing rows found, over the `clips` that were compared.

    differing counts clips with any value that differs, in `videos` videos; not_finite those of them with a NaN or an
    infinity, which the three extremes leave out. absolute: largest |a - b|. relative: the same divided by the largest
    value of either row. cosine: the smallest between two rows. None where nothing differs. shapes: in words, how rows
    differ in shape; rows of two widths are not compared, of views those that both have.
    """

    clips: int
    differing: int
    videos: int
    not_finite: int
    absolute: Extreme | None
    relative: Extreme | None
    cosine: Extreme | None
    shapes: tuple[str, ...]

    @property
    def same(self) -> bool:
        """All that could be compared is equal, and all could be."""
        return not self.differing and not self.shapes

    def describe(self) -> list[str]:
        """In words; no line where nothing differs."""
        lines = list(self.shapes)
        if self.differing:
            odd = f", {self.not_finite:,} of them not finite" if self.not_finite else ""
            lines.append(f"{self.differing:,} of {self.clips:,} clips differ, in {self.videos:,} videos{odd}")
        if self.absolute:
            lines.append(f"largest difference {self.absolute}, relative {self.relative}, least cosine {self.cosine}")
        return lines


class RowsComparison:
    """Gathers what `RowsDifference` says, video by video."""

    def __init__(self, shapes: tuple[str, ...] = ()):
        self.shapes = shapes
        self.clips = self.differing = self.videos = self.not_finite = 0
        self.extremes: dict[str, Extreme] = {}

    def add(self, video: str, ours: np.ndarray, theirs: np.ndarray) -> None:
        """Rows of one video, clip by clip the same ones: (C, V, D), or (C, K) for logits."""
        self.clips += len(ours)
        if _same_bits(ours, theirs):
            return
        before, step = self.differing, max(1, BLOCK_VALUES // max(1, ours[0].size))
        for start in range(0, len(ours), step):
            self._add_block(video, start, ours[start : start + step], theirs[start : start + step])
        self.videos += self.differing > before

    def _add_block(self, video: str, start: int, ours: np.ndarray, theirs: np.ndarray) -> None:
        views = ours.ndim == 3
        a, b = (np.asarray(x, np.float64).reshape(len(x), -1, x.shape[-1]) for x in (ours, theirs))  # (c, V, D)
        with np.errstate(invalid="ignore"):  # infinity less infinity
            gap = np.abs(a - b).max(axis=2)  # (c, V), finite where both rows are
        odd, unequal = ~np.isfinite(gap), gap != 0
        unequal[odd] = ((a[odd] != b[odd]) & ~(np.isnan(a[odd]) & np.isnan(b[odd]))).any(axis=1)
        self.differing += int(unequal.any(axis=1).sum())
        self.not_finite += int((unequal & odd).any(axis=1).sum())
        clips, view = np.nonzero(unequal & ~odd)
        if not len(clips):
            return
        for name, values, worst in _measures(a[clips, view], b[clips, view], gap[clips, view]):
            at = ClipPlace(video, start + int(clips[worst]), int(view[worst]) if views else None)
            self._note(name, float(values[worst]), at)

    def _note(self, name: str, value: float, at: ClipPlace) -> None:
        known = self.extremes.get(name)
        further = known is None or (value < known.value if name == "cosine" else value > known.value)
        if further:
            self.extremes[name] = Extreme(value, at)

    def result(self) -> RowsDifference:
        """What was found so far."""
        return RowsDifference(
            clips=self.clips,
            differing=self.differing,
            videos=self.videos,
            not_finite=self.not_finite,
            absolute=self.extremes.get("absolute"),
            relative=self.extremes.get("relative"),
            cosine=self.extremes.get("cosine"),
            shapes=self.shapes,
        )


def _measures(a: np.ndarray, b: np.ndarray, gap: np.ndarray) -> list[tuple[str, np.ndarray, int]]:
    """Rows (R, D) float64, finite, `gap` (R,) > 0 apart: each measure (R,) and the place of its worst row."""
    largest = np.max([a.max(axis=1), -a.min(axis=1), b.max(axis=1), -b.min(axis=1)], axis=0)
    relative = gap / largest  # unequal rows are not both zero
    squares = [np.einsum("rd,rd->r", x, x) for x in (a, b)]
    product = np.sqrt(squares[0]) * np.sqrt(squares[1])
    cosine = np.einsum("rd,rd->r", a, b) / np.where(product > 0, product, 1)  # 0 where one row is zeros
    return [
        ("absolute", gap, int(gap.argmax())),
        ("relative", relative, int(relative.argmax())),
        ("cosine", np.clip(cosine, -1, 1), int(cosine.argmin())),
    ]


def _same_bits(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Quickly whether rows are the same to the bit, as most are."""
    if ours.dtype != theirs.dtype or not ours.size:
        return not ours.size
    bits = f"u{ours.dtype.itemsize}"
    return bool((ours.view(bits) == theirs.view(bits)).all())
