"""What the measurements of extraction share: videos on a fast disk, and rates. Imports no torch."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av

from gcf.extract.find import VideoPath, find_videos


@dataclass(frozen=True)
class Rate:
    """Clips a second by the clock, and milliseconds of processor time a clip."""

    clips: int
    seconds: float
    processor: float

    @property
    def a_second(self) -> float:
        """Clips a second."""
        return self.clips / self.seconds

    def __str__(self) -> str:
        return f"{self.a_second:7.1f} clips/s {1e3 * self.processor / self.clips:7.1f} core-ms/clip"


def measured(work: Callable[[], int]) -> Rate:
    """The rate of `work`, which returns a number of clips; children that have ended count."""
    begun, used = time.perf_counter(), os.times()
    clips = work()
    now = os.times()
    processor = sum(now[:4]) - sum(used[:4])
    return Rate(clips, time.perf_counter() - begun, processor)


@contextmanager
def local_copies(folder: str | Path, count: int) -> Iterator[list[VideoPath]]:
    """At most `count` videos, spread over those found, as copies that lie on no slow disk."""
    found = find_videos([folder])
    with tempfile.TemporaryDirectory() as name:
        copies = []
        for n, video in enumerate(found[:: max(1, len(found) // count)][:count]):
            copy = Path(name) / f"{n}{Path(video.path).suffix}"
            copy.write_bytes(Path(video.path).read_bytes())
            copies.append(VideoPath(str(copy), copy.name))
        yield copies


def median_frames(videos: list[VideoPath]) -> float:
    """Frames of a video, in the median."""
    return statistics.median(_num_frames(video.path) for video in videos)


def _num_frames(path: str) -> int:
    with av.open(path) as container:
        return sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))
