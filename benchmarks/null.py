"""How often is a difference called significant where there is none? Two identical arms that differ in their seeds only.

    python benchmarks/null.py [--pairs 200] [--videos 400] [--head gcf-16] [--epochs 30]

One head is trained with 2 x PAIRS seeds on a synthetic feature file; seed i and seed PAIRS + i are compared as if they
were two arms, then five seeds of the one with five of the other. At 5 %, an exact test may err in 5 % of the cases; as
counts are discrete, it cannot reach more than the attainable level beside it.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.stats import binom

import gcf
from gcf.data.schema import Clips, FeatureContent, VideoFeatures, VideoInfo
from gcf.data.writer import write_features
from gcf.head.config import HeadConfig
from gcf.head.statistics import paired_difference

LEVEL, WIDTH, CLASSES, SCENE = 0.05, 32, 5, 4
SMALL = HeadConfig("gcf-16", width=16, key_width=4)


def write_cache(path: Path, num_videos: int) -> None:
    """Overlapping classes in scenes of four videos that share part of their noise; every second scene tests."""
    rng = np.random.default_rng(0)
    centres = 0.8 * rng.standard_normal((CLASSES, WIDTH))
    scenes = 0.7 * rng.standard_normal((-(-num_videos // SCENE), WIDTH))
    videos, labels = [], rng.integers(CLASSES, size=num_videos)
    for n, label in enumerate(labels):
        count = int(rng.integers(4, 11))
        own = centres[label] + scenes[n // SCENE] + rng.standard_normal(WIDTH)
        rows = own + 2 * rng.standard_normal((count, 1, WIDTH))
        starts = np.arange(count) * 16
        clips = Clips(starts, np.full(count, 16), starts / 25, (starts + 16) / 25)
        info = VideoInfo(25.0, count * 16, 64, 48, count * 16 / 25, 1000, 1)
        videos.append(VideoFeatures(f"v{n:05d}.mp4", rows, None, clips, info))
    write_features(
        path,
        FeatureContent(
            recipe={"backbone": "none"},
            videos=videos,
            labels=labels.tolist(),
            classes=[f"class {k}" for k in range(CLASSES)],
            subsets=["test" if n // SCENE % 2 else "train" for n in range(num_videos)],
            groups=[f"scene {n // SCENE}" for n in range(num_videos)],
        ),
    )


def train(args: argparse.Namespace, folder: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Right or wrong (2 x pairs, n) on every test video, the videos' ids (n,) and their groups."""
    write_cache(folder / "null.h5", args.videos)
    features = gcf.FeatureFile(folder / "null.h5")
    head = SMALL if args.head == SMALL.name else args.head
    gcf.train_head(features, folder / "run", head=head, seeds=2 * args.pairs, epochs=args.epochs)
    saved = np.load(folder / "run" / "predictions.npz")
    group_of = dict(zip(features.ids, features.groups, strict=True))
    correct = saved["probabilities"].argmax(axis=2) == saved["labels"]
    return correct, saved["ids"], [group_of[str(i)] for i in saved["ids"]]


def attainable(discordant: int) -> float:
    """The largest p of McNemar's exact test at or below 5 % with so many discordant videos; 0 with too few."""
    levels = 2 * binom.cdf(np.arange(discordant // 2 + 1), discordant, 0.5)
    return float(max(levels[levels <= LEVEL], default=0.0))


def report(name: str, correct: np.ndarray, videos: np.ndarray, groups: list[str], seeds: int) -> None:
    """Compare the first half of the runs (R, n) with the second, `seeds` runs an arm; print how often p is small."""
    first, second = np.split(correct, 2)
    arms = [half[: len(half) // seeds * seeds].reshape(-1, seeds, half.shape[1]) for half in (first, second)]
    by_video = [paired_difference(one, other, videos) for one, other in zip(*arms, strict=True)]
    by_group = [paired_difference(one, other, videos, groups) for one, other in zip(*arms, strict=True)]
    level = np.mean([attainable(found.gained + found.lost) for found in by_video])
    print(
        f"{name}: {len(by_video)} comparisons, {np.mean([f.gained + f.lost for f in by_video]):.1f} discordant videos"
    )
    for label, ps in (
        ("p by video", [found.p for found in by_video]),
        ("p by group", [found.p for found in by_group]),
        ("mcnemar_p ", [found.mcnemar_p for found in by_video]),
    ):
        print(f"  {label}  {np.mean([p <= LEVEL for p in ps]):6.1%} significant at 5 %")
    print(f"  attainable with these counts (McNemar) {level:.1%}")
    for label, found in (("by video", by_video), ("by group", by_group)):
        print(f"  95 % interval {label} holds 0 in {np.mean([f.low <= 0 <= f.high for f in found]):.1%}")


def main() -> None:
    """Print the false positives with one seed an arm and with five."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--videos", type=int, default=400)
    parser.add_argument("--head", default=SMALL.name)
    parser.add_argument("--epochs", type=int, default=30)
    args, begun = parser.parse_args(), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        correct, videos, groups = train(args, Path(name))
    print(f"{args.head}, {len(correct)} seeds, top-1 {correct.mean():.1%} on {len(videos)} videos")
    report("one seed an arm", correct, videos, groups, 1)
    if args.pairs >= 5:
        report("five seeds an arm", correct, videos, groups, 5)
    print(f"{time.monotonic() - begun:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
