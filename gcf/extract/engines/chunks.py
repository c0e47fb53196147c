"""The queue of a cluster: chunks of videos, longest first, smaller towards the end; what killed a worker comes back."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from gcf.extract.decoding.find import VideoPath

MAX_VIDEOS = 256  # of a chunk, as of a part
SHARES = 4  # a chunk is at most this fraction of a worker's fair share of what is left: nobody waits long at the end
DEATHS = 3  # of workers at a single video, after which it is given up


@dataclass(frozen=True)
class Chunk:
    """Videos that one worker does in one go; deaths counts the workers that were lost at them."""

    videos: tuple[VideoPath, ...]
    deaths: int = 0


class ChunkQueue:
    """What is left to do. videos: with their sizes in bytes, in any order; least: videos that a chunk has at least."""

    def __init__(self, videos: Sequence[tuple[VideoPath, int]], *, least: int):
        ordered = sorted(videos, key=lambda v: (-v[1], v[0].id))
        self.fresh, self.bytes_left = deque(ordered), sum(size for _, size in ordered)
        self.again: deque[Chunk] = deque()  # lost with a worker once, most likely by no fault of theirs
        self.suspects: deque[Chunk] = deque()  # lost twice and more: last, when all else is safe
        self.least = least

    def __len__(self) -> int:
        """Videos that no worker has."""
        return len(self.fresh) + sum(len(c.videos) for c in (*self.again, *self.suspects))

    def take(self, num_workers: int) -> Chunk | None:
        """The next chunk, or None when there is nothing left to give."""
        if self.again:
            return self.again.popleft()
        if self.fresh:
            return self._cut(num_workers)
        return self.suspects.popleft() if self.suspects else None

    def _cut(self, num_workers: int) -> Chunk:
        share, taken, size = self.bytes_left / (SHARES * max(1, num_workers)), [], 0
        while self.fresh and len(taken) < MAX_VIDEOS and (size < share or len(taken) < self.least):
            video, video_size = self.fresh.popleft()
            taken.append(video)
            size += video_size
        self.bytes_left -= size
        return Chunk(tuple(taken))

    def lost(self, chunk: Chunk, left: Sequence[VideoPath]) -> VideoPath | None:
        """A worker died at a chunk of which `left` is not committed: queue it again, in halves from the second time.

        Returns the video when it is to be given up.
        """
        deaths, left = chunk.deaths + 1, tuple(left)
        if not left:
            return None
        if len(left) == 1 and deaths >= DEATHS:
            return left[0]
        if deaths == 1:
            self.again.append(Chunk(left, deaths))
        elif len(left) == 1:
            self.suspects.append(Chunk(left, deaths))
        else:
            half = len(left) // 2
            self.suspects.extend(Chunk(part, deaths=1) for part in (left[:half], left[half:]))  # counted alone again
        return None
