"""How often is a difference called significant where there is none, and how often is one found?

    python benchmarks/null.py --simulate [--sets 1000]
    python benchmarks/null.py [--sets 30] [--head gcf-16] [--epochs 30]

Tables of a reference and four arms are made many times, and their p values counted. `--simulate` draws which videos
each run of each arm gets right, from a model with the accuracy, the spread over seeds and the share of videos on which
two seeds of one head differ that trained heads show: whether a run is right on a video depends on how hard the video
(and its group) is for every head, for this arm, and for this seed, each normal. Without `--simulate` heads are trained:
on each synthetic data set one head with 25 seeds, of which five make an arm.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import norm

import gcf
from gcf.data.schema import Clips, FeatureContent, VideoFeatures, VideoInfo
from gcf.data.writer import write_features
from gcf.head.config import HeadConfig
from gcf.head.statistics import LEVEL, holm, paired_difference

ARMS = 4  # beside the reference
TRAIN, WIDTH, CLASSES = 120, 32, 5
SIZES = (100, 400, 2000, 10000)
SMALL = HeadConfig("gcf-16", width=16, key_width=4)


@dataclass(frozen=True)
class Cell:
    """One kind of table: videos judged, groups of them (0: none), seeds an arm, the spread of accuracy over seeds.

    own: how much harder or easier a video is for one arm than for another (1: as much as videos differ for all);
    points: how much worse the arms are than the reference, in points.
    """

    videos: int
    groups: int = 0
    seeds: int = 5
    spread: float = 0.005
    own: float = 0.0
    points: float = 0.0


LEVEL_OF_ARM, OF_SEED = 0.77, 0.8  # 78 % right, two seeds differ on 21 % of the videos, as trained heads do below
SHARE_OF_GROUP = 0.4  # of what makes videos hard


def draw(cell: Cell, rng: np.random.Generator) -> list[np.ndarray]:
    """Right or wrong (S, n) of the reference and of each arm."""
    group = np.arange(cell.videos) % cell.groups if cell.groups else None

    def hardness(*runs: int) -> np.ndarray:
        own = rng.standard_normal((*runs, cell.videos))
        if group is None:
            return own
        shared = rng.standard_normal((*runs, cell.groups))[..., group]
        return np.sqrt(1 - SHARE_OF_GROUP) * own + np.sqrt(SHARE_OF_GROUP) * shared

    scale = np.sqrt(1 + OF_SEED**2 + cell.own**2)
    of_all, found = hardness(), []
    for number in range(ARMS + 1):
        worse = norm.ppf(norm.cdf(LEVEL_OF_ARM) - cell.points / 100 * (number > 0))
        luck = cell.spread / norm.pdf(LEVEL_OF_ARM) * rng.standard_normal((cell.seeds, 1))
        found.append(scale * (worse + luck) + of_all + cell.own * hardness() + OF_SEED * hardness(cell.seeds) > 0)
    return found


def judge(tables: Iterator[tuple[list[np.ndarray], list[str] | None]]) -> dict[str, float]:
    """In percent: how often p is below 5 %, its standard error over tables, tables with a star, intervals that hold the
    true difference (which is 0 in a null table); and what the runs were like.
    """
    shown, stars, holds, accuracy, differ = [], [], [], [], []
    for arms, groups in tables:
        videos = np.arange(arms[0].shape[1])
        found = [paired_difference(arm, arms[0], videos, groups) for arm in arms[1:]]
        shown.append(np.mean([one.p < LEVEL for one in found]))
        stars.append(min(holm([one.p for one in found])) < LEVEL)
        holds.append(np.mean([one.low <= 0 <= one.high for one in found]))
        accuracy.append(arms[0].mean(axis=1))
        differ.append((arms[0][0] != arms[0][1]).mean())
    error = np.std(shown) / len(shown) ** 0.5
    figures = {"shown": np.mean(shown), "error": error, "stars": np.mean(stars), "holds": np.mean(holds)}
    figures |= {"top1": np.mean(accuracy), "spread": np.mean(np.std(accuracy, axis=1, ddof=1))}
    return {name: 100 * float(value) for name, value in (figures | {"differ": np.mean(differ)}).items()}


def print_row(names: list[str], found: dict[str, float], *figures: str) -> None:
    """One line of a table."""
    told = [f"{found['shown']:.1f} ± {found['error']:.1f}", *(f"{found[name]:.1f}" for name in figures)]
    print(f"| {' | '.join([*names, *told])} |", flush=True)


def simulate(sets: int) -> None:
    """Print the table of false positives, and that of power."""
    rng = np.random.default_rng(0)

    def found(cell: Cell) -> dict[str, float]:
        names = [f"g{n % cell.groups}" for n in range(cell.videos)] if cell.groups else None
        return judge((draw(cell, rng), names) for _ in range(sets))

    print(
        "| test videos | groups | seeds | spread over seeds | arms | p < 0.05, % | tables with a star, % | holds 0, % |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    cells = [(size, 0) for size in SIZES] + [(100, 10), (400, 10), (400, 40)]
    for videos, groups in cells:
        for seeds in (5, 10):
            for spread in (0.005, 0.046):
                for own in (0.0, 0.4):
                    names = [f"{videos:,}", str(groups or "-"), str(seeds), f"{100 * spread:.1f}"]
                    names.append("equally good" if own else "the same")
                    print_row(names, found(Cell(videos, groups, seeds, spread, own)), "stars", "holds")
    print("\n| test videos | seeds | spread over seeds | 1 point, found % | 2 points | 4 points |")
    print("| --- | --- | --- | --- | --- | --- |")
    for videos in SIZES:
        for seeds in (5, 10):
            for spread in (0.005, 0.046):
                power = [found(Cell(videos, 0, seeds, spread, 0.4, points))["shown"] for points in (1, 2, 4)]
                told = " | ".join(f"{value:.0f}" for value in power)
                print(f"| {videos:,} | {seeds} | {100 * spread:.1f} | {told} |", flush=True)


def write_cache(path: Path, number: int, num_test: int) -> None:
    """Overlapping classes; 120 videos to train on, the others to judge."""
    rng = np.random.default_rng(number)
    centres = 0.8 * rng.standard_normal((CLASSES, WIDTH))
    videos, labels = [], rng.integers(CLASSES, size=TRAIN + num_test)
    for n, label in enumerate(labels):
        count = int(rng.integers(4, 11))
        own = centres[label] + 1.2 * rng.standard_normal(WIDTH)
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
            subsets=["train"] * TRAIN + ["test"] * num_test,
        ),
    )


def trained_tables(args: argparse.Namespace, folder: Path) -> list[list[np.ndarray]]:
    """Of each data set the reference and four arms, which are one head with other seeds: (5, n) each."""
    head, tables = SMALL if args.head == SMALL.name else args.head, []
    for number in range(args.sets):
        write_cache(folder / "null.h5", number, args.videos)
        features, out = gcf.FeatureFile(folder / "null.h5"), folder / f"run {number}"
        gcf.train_head(features, out, head=head, seeds=5 * (ARMS + 1), epochs=args.epochs)
        saved = np.load(out / "predictions.npz")
        tables.append(np.split(saved["probabilities"].argmax(axis=2) == saved["labels"], ARMS + 1))
    return tables


def train(args: argparse.Namespace) -> None:
    """Print how often arms that are one head, trained with other seeds, are told apart."""
    with tempfile.TemporaryDirectory() as name:
        tables = trained_tables(args, Path(name))
    titles = ["test videos", "top-1 %", "spread over seeds", "two seeds differ on, %", "p < 0.05, %"]
    titles += ["tables with a star, %", "holds 0, %"]
    print(f"| {' | '.join(titles)} |\n|{' --- |' * len(titles)}")
    for size in (size for size in SIZES if size <= args.videos):
        found = judge(([arm[:, :size] for arm in arms], None) for arms in tables)
        names = [f"{size:,}", *(f"{found[key]:.1f}" for key in ("top1", "spread", "differ"))]
        print_row(names, found, "stars", "holds")


def main() -> None:
    """Print one of the two."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulate", action="store_true")
    parser.add_argument("--sets", type=int)
    parser.add_argument("--videos", type=int, default=2000)
    parser.add_argument("--head", default=SMALL.name)
    parser.add_argument("--epochs", type=int, default=30)
    args, begun = parser.parse_args(), time.monotonic()
    args.sets = args.sets or (1000 if args.simulate else 30)
    simulate(args.sets) if args.simulate else train(args)
    print(f"{time.monotonic() - begun:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
