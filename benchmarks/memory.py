"""Peak memory of `gcf extract` for a 1-minute and a 10-minute video, or for few and many short ones: it must not grow.

    python benchmarks/memory.py [--backbone mobilenetv2_0.2x]
    python benchmarks/memory.py --videos 100 1000 10000

The short videos, a clip each, are a hundred files under as many names (hard links) as are asked for, and go through
the plug-in of the tests; what matters there is the main process alone. Its peak is that of loading torch, which varies
by tens of MB; what it holds at the end of the work says more, once some hundred videos have warmed up its allocators.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from watched import Peaks, watch

RATE = 25
TINY = Path(__file__).resolve().parents[1] / "tests" / "tiny_backbone.py"


def write_video(path: Path, num_frames: int, *, size: tuple[int, int] = (240, 320), seed: int = 0) -> None:
    """A synthetic video of drifting noise, H.264, (H, W) `size`, 25 frames a second."""
    height, width = size
    noise = np.random.default_rng(seed).integers(0, 256, (height, width * 2, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for index in range(num_frames):
            pixels = np.ascontiguousarray(noise[:, index % width :][:, :width])
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_short_videos(folder: Path, count: int, *, distinct: int = 100) -> None:
    """`count` names of `distinct` videos of one clip, in folders of a thousand."""
    folder.mkdir()
    for n in range(min(count, distinct)):
        write_video(folder / f".{n}.mp4", 16, size=(48, 64), seed=n)
    for n in range(count):
        place = folder / f"{n // 1000:03d}" / f"v_short_video_{n:06d}.mp4"
        place.parent.mkdir(exist_ok=True)
        place.hardlink_to(folder / f".{n % distinct}.mp4")


def peak(command: list[str]) -> tuple[Peaks, float]:
    """The most memory that a command and its children held, sampled every 50 ms, and its seconds."""
    begun = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        peaks = watch(process)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return peaks, time.monotonic() - begun


def by_length(folder: Path, backbone: str) -> None:
    """One line for a minute, one for ten, and the growth of all processes together."""
    peaks = {}
    for minutes in (1, 10):
        video = folder / f"{minutes}.mp4"
        write_video(video, 60 * minutes * RATE)
        command = [sys.executable, "-m", "gcf.cli", "extract", str(video), str(folder / f"{minutes}.h5")]
        peaks[minutes], seconds = peak([*command, "--backbone", backbone, "--weights", "random"])
        print(f"{minutes:2} min: peak {peaks[minutes].together / 1e6:.0f} MB, {seconds:.0f} s")
    growth = peaks[10].together - peaks[1].together
    print(f"growth {growth / 1e6:+.0f} MB ({backbone}, random weights)")


def by_count(folder: Path, counts: list[int]) -> None:
    """A line for each number of short videos, and the growth of the main process."""
    peaks = {}
    for count in counts:
        videos = folder / f"videos-{count}"
        write_short_videos(videos, count)
        command = [sys.executable, "-m", "gcf.cli", "extract", str(videos), str(folder / f"{count}.h5")]
        peaks[count], seconds = peak([*command, "--backbone", str(TINY)])
        print(f"{count:7,} videos: {peaks[count]}, {seconds:.0f} s", flush=True)
    fewest, most = min(counts), max(counts)
    for name, words in (("main", "peak"), ("late", "memory at the end of the work")):
        growth = getattr(peaks[most], name) - getattr(peaks[fewest], name)
        each = f", {growth / (most - fewest) / 1e3:.1f} kB a video" if most > fewest else ""
        print(f"growth of the main process's {words}: {growth / 1e6:+.0f} MB{each}")


def main() -> None:
    """Print one line per case and the growth."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="mobilenetv2_0.2x", help="of the long videos")
    parser.add_argument("--videos", type=int, nargs="+", metavar="COUNT", help="short videos, instead of long ones")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.videos:
            by_count(Path(folder), args.videos)
        else:
            by_length(Path(folder), args.backbone)


if __name__ == "__main__":
    main()
