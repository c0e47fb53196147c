"""The leak audit where half of the videos are one blank clip: seconds, and the most memory that the process held.

    python benchmarks/leaks.py [--videos 6000 20000] [--width 2048] [--cv 5]

Every number of videos is audited by a process of its own. `before` is what that process held with the file open; the
pages of the mapped file count in both.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from gcf.data.features import FeatureFile
from gcf.data.leaks import audit_leaks
from gcf.data.schema import Clips, FeatureContent, VideoFeatures, VideoInfo
from gcf.data.splits import folds, holdout
from gcf.data.writer import write_features

CLASSES = 20
ROLES = ("train", "train", "train", "val", "test")


def write(path: Path, count: int, width: int) -> None:
    """One clip a video; every second video is blank, to the bit."""
    rng = np.random.default_rng(0)
    blank = rng.random((1, 1, width), np.float32)
    clips = Clips(np.zeros(1), np.full(1, 16), np.zeros(1), np.full(1, 0.64))
    videos = [
        VideoFeatures(
            f"{n:06d}.mp4",
            (blank if n % 2 else rng.random((1, 1, width), np.float32)).astype(np.float16),
            None,
            clips,
            VideoInfo(25.0, 16, 320, 240, 0.64, 1000 + n, 1),
        )
        for n in range(count)
    ]
    labels, subsets = [n // 2 % CLASSES for n in range(count)], [ROLES[n // 2 % len(ROLES)] for n in range(count)]
    names = [f"class {k}" for k in range(CLASSES)]
    write_features(path, FeatureContent({"views": 1}, videos, labels=labels, classes=names, subsets=subsets))


def peak() -> float:
    """MB that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def audit(path: Path, cv: int) -> None:
    """One line on one file."""
    features = FeatureFile(path)
    splits = folds(features.labels, features.groups, scheme=cv) if cv else None
    splits = splits or [holdout(features.labels, features.subsets, features.groups)]
    before, begun = peak(), time.monotonic()
    found = audit_leaks(features, splits, groups=features.groups)
    seconds = time.monotonic() - begun
    print(
        f"{features.num_videos:7,} videos, {len(splits)} splits: {seconds:6.1f} s, {peak():5.0f} MB (before: "
        f"{before:.0f}), {found.num_near_duplicates:,} pairs alike, {len(found.near_duplicates)} told",
        flush=True,
    )


def main() -> None:
    """A line for each number of videos."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, nargs="+", default=[6000, 20000])
    parser.add_argument("--width", type=int, default=2048, help="of the descriptors")
    parser.add_argument("--cv", type=int, default=0, help="folds, instead of train, val and test")
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.file:
        audit(args.file, args.cv)
        return
    with tempfile.TemporaryDirectory() as folder:
        for count in args.videos:
            path = Path(folder) / f"{count}.h5"
            write(path, count, args.width)
            subprocess.run([sys.executable, __file__, "--file", str(path), "--cv", str(args.cv)], check=True)


if __name__ == "__main__":
    main()
