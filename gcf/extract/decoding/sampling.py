"""Which frames of a video its clips show: all of them, or those at a wanted rate. Times in, frames out; reads no video.

A cutter is told of the frames one after another: an item of any kind, when it appears and when the next one does, in
seconds, never going back. `prepare` turns an item into what a clip keeps of it and is called once for each frame that
is shown: what is not shown is never prepared, and no more than one clip is held.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

SAMPLINGS = ("native", "trained")
MOST_FPS = 1000.0  # beyond any camera whose videos are watched, far above what the rounding of times can tell apart
ROUNDING = 1e-9  # seconds: time stamps are fractions, their sums are not

Item, Kept = TypeVar("Item"), TypeVar("Kept")


def rate_of(sampling: str | float) -> float | None:
    """The frames a second that a sampling names, at most 1000; None for native and trained, which name none.

    >>> rate_of("trained"), rate_of("7.5")
    (None, 7.5)

    Raises ValueError for what is neither.
    """
    if sampling in SAMPLINGS:
        return None
    rate = float("nan" if isinstance(sampling, bool) else sampling)
    if not 0 < rate <= MOST_FPS:
        raise ValueError(f"need a rate from above 0 to {MOST_FPS:g}, got {sampling!r}")
    return rate


@dataclass
class Cut(Generic[Kept]):
    """One clip: what it keeps of its real frames, in order, the number of the first, and its span in seconds."""

    start_frame: int
    start: float
    end: float
    shown: list[Kept] = field(default_factory=list)


class EveryFrame(Generic[Item, Kept]):
    """Clips of `num_frames` consecutive frames, whatever their times; the last may have fewer.

    >>> cutter = EveryFrame(2, prepare=str.upper)
    >>> [cut.shown for name in "abc" for cut in cutter.take(name, 0, 1)], [cut.shown for cut in cutter.finish()]
    ([['A', 'B']], [['C']])
    """

    def __init__(self, num_frames: int, *, prepare: Callable[[Item], Kept]):
        self.num_frames, self.prepare = num_frames, prepare
        self.cut: Cut[Kept] | None = None
        self.number = -1

    def take(self, item: Item, begins: float, ends: float) -> Iterator[Cut[Kept]]:
        """The next frame; gives the clip that it fills."""
        self.number += 1
        self.cut = self.cut or Cut(self.number, begins, ends)
        self.cut.shown.append(self.prepare(item))
        self.cut.end = ends
        if len(self.cut.shown) == self.num_frames:
            yield self.cut
            self.cut = None

    def finish(self) -> Iterator[Cut[Kept]]:
        """What is left once there are no more frames."""
        if self.cut:
            yield self.cut


class AtRate(Generic[Item, Kept]):
    """Clips of `num_frames` moments, 1 / fps seconds apart, each shown by the frame nearest to it, the earlier of two.

    A clip spans num_frames / fps seconds and starts where the one before it ended. Where no frame lies within half a
    step of that moment, as in a gap, it starts with the first frame after it: a gap makes no clips, however long, and
    there are never more clips than frames. Inside a clip, a frame is shown again until another one is nearer, so that
    a slow video shows frames twice, as a player would. The last clip has the moments before the end of the video.

    >>> cutter = AtRate(2, fps=15, prepare=int)
    >>> [cut.shown for n in range(10) for cut in cutter.take(n, n / 30, (n + 1) / 30)]
    [[0, 2], [4, 6]]
    >>> [cut.shown for cut in cutter.finish()]
    [[8]]
    """

    def __init__(self, num_frames: int, *, fps: float, prepare: Callable[[Item], Kept]):
        self.num_frames, self.step, self.prepare = num_frames, 1 / fps, prepare
        self.cut: Cut[Kept] | None = None
        self.full: list[Cut[Kept]] = []  # wait to learn whether the video lasts to their end; one, but where time stops
        self.free: float | None = None  # where the last clip ended; None before the first
        self.number = -1

    def take(self, item: Item, begins: float, ends: float) -> Iterator[Cut[Kept]]:
        """The next frame; gives the clips that are certain now."""
        self.number += 1
        self.item, self.begins, self.ends, self.kept = item, begins, ends, None
        self._fill(min((begins + ends) / 2 + ROUNDING, ends))  # the moments until which no other frame is nearer
        while self.full and self.full[0].end <= ends:
            yield self.full.pop(0)

    def finish(self) -> Iterator[Cut[Kept]]:
        """What is left once there are no more frames: the last of them is shown until it ends."""
        if self.number < 0:
            return
        self._fill(self.ends - ROUNDING, start=False)  # a clip of that frame alone would show nothing new
        for cut in filter(None, (*self.full, self.cut)):
            cut.end = min(cut.end, self.ends)
            yield cut

    def _fill(self, until: float, *, start: bool = True) -> None:
        """Show the frame in hand at every moment up to `until`; start: in a new clip too."""
        while (start or self.cut) and (moment := self._moment()) is not None and moment <= until:
            self._show(moment)
            if len(self.cut.shown) == self.num_frames:
                self.free = self.cut.end
                self.full.append(self.cut)
                self.cut = None

    def _moment(self) -> float | None:
        """The next moment to be shown; None where no clip can start with the frame in hand."""
        if self.cut:
            return self.cut.start + len(self.cut.shown) * self.step
        if self.free is None:
            return self.begins
        late = self.begins - self.free
        if late <= -self.step / 2:
            return None
        return self.free if late <= self.step / 2 else self.begins

    def _show(self, moment: float) -> None:
        if self.cut is None:
            self.cut = Cut(self.number, moment, moment + self.num_frames * self.step)
        if self.kept is None:
            self.kept = self.prepare(self.item)
        self.cut.shown.append(self.kept)
