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
import psutil

from gcf.extract.decoding.find import VideoPath, find_videos

MOST_COMPANY = 0.5  # cores


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


class Company:
    """Other work on this machine: the load before, and the cores that it has taken since. Take it before any work."""

    def __init__(self):
        self.load = os.getloadavg()[0]
        self.begun, self.busy, self.own = time.monotonic(), _busy(), sum(os.times()[:4])

    @property
    def cores(self) -> float:
        """How many cores other programs have kept busy, on average."""
        own = sum(os.times()[:4]) - self.own
        return max(0.0, (_busy() - self.busy - own) / (time.monotonic() - self.begun))

    @property
    def quiet(self) -> bool:
        """Whether ratios mean anything: beside other work the slower side suffers more."""
        return max(self.load, self.cores) <= MOST_COMPANY

    def __str__(self) -> str:
        return f"load before {self.load:.2f}, other programs meanwhile {self.cores:.2f} cores"


def _busy() -> float:
    """Processor seconds that all programs of this machine have taken."""
    times = psutil.cpu_times()
    return times.user + times.nice + times.system


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
