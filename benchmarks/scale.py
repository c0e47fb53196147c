"""A cache of 400,000 videos: opening it, merging it, and running `gcf extract` again where everything is done.

    python benchmarks/scale.py FOLDER [--videos 400000] [--clips 16] [--width 2048] [--merged-width 32]

Made in FOLDER, and left there for the next time: the videos (as many sparse files of a kilobyte), a finished file whose
rows of --width values are a hole, and shards and parts with rows of --merged-width values, since merging moves every
byte of them. The network is not loaded, all else of `gcf extract` is real: finding the files, asking each for its size
and time, reading the parts, writing the file. Each step runs in a process of its own: seconds of the clock and of the
processor, and the most memory it had.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from gcf.data import writer
from gcf.data.features import FeatureFile
from gcf.data.merge import merge_features
from gcf.data.schema import CLIP_FIELDS, FeatureContent
from gcf.extract import extractor
from gcf.extract.engines import local

A_FOLDER, A_PART, SHARDS = 1000, 256, 4  # videos, videos, files
RECIPE = {"backbone": "made up", "weights": "none", "dtype": "float16", "views": 1, "num_frames": 16, "pixel_max": 1.0}


class MadeUp:
    """The videos start, start + step, ... of `total` as a table for the writer, their rows of zeros."""

    def __init__(self, total: int, clips: int, width: int, *, start: int = 0, stop: int | None = None, step: int = 1):
        self.total = total
        self.numbers = np.arange(start, total if stop is None else min(stop, total), step)
        self.ids = [video_id(n) for n in self.numbers.tolist()]
        self.status, self.note = ["ok"] * len(self.ids), [""] * len(self.ids)
        self.counts, self.width = np.full(len(self.ids), clips), width
        same = {"fps": 25.0, "num_frames": 16 * clips, "width": 320, "height": 240, "duration": 0.64 * clips}
        self.facts = {name: np.full(len(self.ids), value) for name, value in same.items()}
        self.facts |= {"size": np.full(len(self.ids), 1024), "mtime_ns": self.numbers + 10**18}

    def __len__(self) -> int:
        return len(self.ids)

    def row_types(self) -> dict:
        """As GivenVideos."""
        kinds = {f"clips/{name}": ((), np.dtype(dtype)) for name, dtype in CLIP_FIELDS.items()}
        return kinds | {"descriptors": ((1, self.width), np.dtype("float16"))}

    def rows(self, name: str) -> Iterator[tuple[int, bytes]]:
        """As GivenVideos."""
        shape, dtype = self.row_types()[name]
        count = int(self.counts[0])
        at = np.arange(count)
        clips = {"clips/start_frame": at * 16, "clips/num_frames": at * 0 + 16}
        clips |= {"clips/start_time": at * 0.64, "clips/end_time": at * 0.64 + 0.64}
        data = clips.get(name, np.zeros((count, *shape))).astype(dtype).tobytes()
        return ((n, data) for n in range(len(self.ids)))

    def check(self, _) -> None:
        """As GivenVideos."""

    def write(self, path: Path, *, hole: bool = False) -> None:
        """A feature file of them; with `hole` no byte of the descriptors is written."""

        def copy(file, offset, table, name, sums) -> None:
            if not (hole and name == "descriptors"):
                return plain(file, offset, table, name, sums)
            for n, data in table.rows(name):
                sums[n] = zlib.crc32(data, sums[n])
            return None

        plain, given = writer._copy, writer.GivenVideos
        writer._copy, writer.GivenVideos = copy, lambda videos, _: videos
        labels = [n // A_FOLDER for n in self.numbers.tolist()]  # as the folders say, so that nothing is to be changed
        classes = [f"c{n:04d}" for n in range(-(-self.total // A_FOLDER))]
        try:
            writer.write_features(path, FeatureContent(RECIPE, self, labels=labels, classes=classes))
        finally:
            writer._copy, writer.GivenVideos = plain, given


def video_id(n: int) -> str:
    """Folder and file, in an order that sorts as the numbers do."""
    return f"c{n // A_FOLDER:04d}/v{n:07d}.mp4"


def make(folder: Path, args: argparse.Namespace) -> None:
    """What the steps read, unless it is there."""
    videos = folder / "videos"
    for n in range(args.videos):
        path = videos / video_id(n)
        if n % A_FOLDER == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with path.open("wb") as file:
                file.truncate(1024)
            os.utime(path, ns=(10**18 + n, 10**18 + n))
    MadeUp(args.videos, args.clips, args.width).write(folder / "finished.h5", hole=True)
    for shard in range(SHARDS):
        MadeUp(args.videos, args.clips, args.merged_width, start=shard, step=SHARDS).write(folder / f"shard{shard}.h5")
    parts = folder / "parts.h5.parts"
    parts.mkdir(exist_ok=True)
    for number, start in enumerate(range(0, args.videos, A_PART), start=1):
        made = MadeUp(args.videos, args.clips, args.merged_width, start=start, stop=start + A_PART)
        made.write(parts / f"part-{number:06d}.h5")


class _NoNetwork:
    recipe = RECIPE

    def __init__(self):
        self.backbone = self


def extract(folder: Path, name: str) -> str:
    """`gcf extract` with no network; nothing is to be decoded."""
    local.load_network = lambda *_, **__: (_NoNetwork(), RECIPE)
    summary = extractor.extract_videos(folder / "videos", folder / name)
    return f"{summary.videos:,} videos, {summary.extracted} decoded now"


def open_finished(folder: Path) -> str:
    """FeatureFile of the whole cache."""
    features = FeatureFile(folder / "finished.h5")
    size, held = features.path.stat().st_size, features.path.stat().st_blocks * 512
    return (
        f"{features.num_videos:,} videos, {features.num_clips:,} clips, {size / 1e9:.1f} GB, {held / 1e9:.2f} on disk"
    )


def merge(folder: Path) -> str:
    """The shards into one."""
    out = folder / "merged.h5"
    out.unlink(missing_ok=True)
    merge_features([folder / f"shard{n}.h5" for n in range(SHARDS)], out)
    size = out.stat().st_size
    out.unlink()
    return f"{SHARDS} shards, {size / 1e9:.2f} GB written"


STEPS: dict[str, Callable[[Path], str]] = {
    "nothing at all (start-up)": lambda _: "",
    "open the finished file": open_finished,
    "merge shards": merge,
    "extract again, all in the finished file": lambda folder: extract(folder, "finished.h5"),
    "extract again, all in parts": lambda folder: extract(folder, "parts.h5"),
}


def main() -> None:
    """Make what is needed, then run the steps one after another."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--videos", type=int, default=400_000)
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--merged-width", type=int, default=32)
    parser.add_argument("--step", choices=["make", *STEPS], help="only this one, in this process")
    args = parser.parse_args()
    args.folder.mkdir(exist_ok=True)
    if args.step == "make":
        make(args.folder, args)
        return
    if args.step:
        begun, used = time.monotonic(), time.process_time()
        said = STEPS[args.step](args.folder)
        seconds, processor = time.monotonic() - begun, time.process_time() - used
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "processor": processor, "peak": peak, "said": said}))
        return
    command = [sys.executable, *sys.argv]
    subprocess.run([*command, "--step", "make"], check=True)
    print(f"{'step':42}{'seconds':>9}{'processor':>11}{'peak MiB':>10}")
    for step in STEPS:
        got = json.loads(subprocess.run([*command, "--step", step], check=True, stdout=subprocess.PIPE).stdout)
        print(f"{step:42}{got['seconds']:9.2f}{got['processor']:11.2f}{got['peak']:10.0f}  {got['said']}", flush=True)


if __name__ == "__main__":
    main()
