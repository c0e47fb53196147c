"""How often is a difference called significant where there is none, and how often is one found?

    python benchmarks/null.py --simulate [--sets 1000]
    python benchmarks/null.py --candidates [--sets 1000]
    python benchmarks/null.py [--sets 30] [--head gcf-16] [--epochs 30] [--batch-size 128]
    python benchmarks/null.py --power [--sets 30] [--head gcf-16] [--epochs 30] [--batch-size 128]

Tables of a reference and four arms are made many times, and their p values counted. `--simulate` draws which videos
each run of each arm gets right, from a model with the accuracy, the spread over seeds and the share of videos on which
two seeds of one head differ that trained heads show: whether a run is right on a video depends on how hard the video
(and its group) is for every head, for this arm, and for this seed, each normal. Without `--simulate` heads are trained:
on each synthetic data set one head with 25 seeds, of which five make an arm.

`--candidates` counts what other tests would have said of such drawn tables (null_candidates.py).
`--power` trains heads worse, on fewer videos or in fewer passes, with 20 seeds each, measures by
how much on 10,000 test videos, and counts how often each of these tests finds it with five seeds of
either arm on 100, 400 or 2,000 of them.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from null_candidates import CANDIDATES, candidate_ps, compare_candidates, compare_intervals
from null_model import ARMS, Cell, draw, in_percent, print_cells, print_titles

import gcf
from gcf.data.schema import Clips, FeatureContent, VideoFeatures, VideoInfo
from gcf.data.writer import write_features
from gcf.head.models.config import HeadConfig
from gcf.head.tables.statistics import LEVEL, holm, paired_difference

TRAIN, WIDTH, CLASSES = 120, 32, 5
SIZES = (100, 400, 2000, 10000)
SMALL = HeadConfig("gcf-16", width=16, key_width=4)


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


def write_cache(path: Path, number: int, num_test: int, kept: int = TRAIN) -> None:
    """Overlapping classes; 120 videos, of which the first `kept` train, and num_test that judge."""
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
            subsets=["train"] * kept + [""] * (TRAIN - kept) + ["test"] * num_test,
        ),
    )


def trained_tables(args: argparse.Namespace, folder: Path) -> list[list[np.ndarray]]:
    """Of each data set the reference and four arms, which are one head with other seeds: (5, n) each."""
    tables = []
    for number in range(args.sets):
        write_cache(folder / "null.h5", number, args.videos)
        runs = trained_runs(folder, args, seeds=5 * (ARMS + 1), epochs=args.epochs)
        tables.append(np.split(runs, ARMS + 1))
    return tables


def trained_runs(folder: Path, args: argparse.Namespace, *, seeds: int, epochs: int) -> np.ndarray:
    """Train on the feature file in `folder`: right or wrong (S, n) of each seed and test video."""
    head = SMALL if args.head == SMALL.name else args.head
    settings = {"head": head, "seeds": seeds, "epochs": epochs, "batch_size": args.batch_size}
    features = gcf.FeatureFile(folder / "null.h5")
    gcf.train_head(features, folder / "run", overwrite=True, audit=False, **settings)
    saved = np.load(folder / "run" / "predictions.npz")
    return saved["probabilities"].argmax(axis=2) == saved["labels"]


def train(args: argparse.Namespace) -> None:
    """Print how often arms that are one head, trained with other seeds, are told apart."""
    with tempfile.TemporaryDirectory() as name:
        tables = trained_tables(args, Path(name))
    titles = ["test videos", "top-1 %", "spread over seeds", "two seeds differ on, %", "p < 0.05, %"]
    titles += ["tables with a star, %", "holds 0, %"]
    print_titles(titles)
    for size in (size for size in SIZES if size <= args.videos):
        found = judge(([arm[:, :size] for arm in arms], None) for arms in tables)
        names = [f"{size:,}", *(f"{found[key]:.1f}" for key in ("top1", "spread", "differ"))]
        print_row(names, found, "stars", "holds")


SEEDS, RUNS = 5, 20  # seeds of an arm in a comparison, and those that measure it
JUDGED, MOST = 10000, 20  # test videos that measure an arm, and parts of them judged one by one
WAYS = (  # training videos and share of the passes: the reference; about 1, 2 and 4 points, twice
    (TRAIN, 1.0),
    (112, 1.0),
    (100, 1.0),
    (80, 1.0),
    (TRAIN, 13 / 15),
    (TRAIN, 23 / 30),
    (TRAIN, 2 / 3),
)


def found_by_size(correct: np.ndarray, reference: np.ndarray) -> dict[int, np.ndarray]:
    """The share of comparisons (5,) that each candidate finds, by the number of test videos.

    correct, reference (20, 10000). Five runs of the arm meet five runs of the reference that have
    other seeds, since seeds are not paired; they are judged on parts of the videos that share none.
    """
    ours, theirs = (np.split(runs, RUNS // SEEDS) for runs in (correct, reference))
    pairs = list(zip(ours, theirs[1:] + theirs[:1], strict=True))
    found = {}
    for size in (100, 400, 2000):
        parts = [slice(n * size, (n + 1) * size) for n in range(min(MOST, JUDGED // size))]
        ps = [candidate_ps(one[:, part], other[:, part]) for part in parts for one, other in pairs]
        found[size] = (np.array(ps) < LEVEL).mean(axis=0)
    return found


def power(args: argparse.Namespace) -> None:
    """Print how often arms that were trained worse are found, beside how much worse they are."""
    ways = [(kept, round(share * args.epochs)) for kept, share in WAYS]
    arms = {way: [] for way in ways}  # of each data set: the accuracies (20,), and what was found
    with tempfile.TemporaryDirectory() as name:
        for number in range(args.sets):
            for kept, epochs in ways:
                write_cache(Path(name) / "null.h5", number, JUDGED, kept)
                runs = trained_runs(Path(name), args, seeds=RUNS, epochs=epochs)
                if (kept, epochs) == ways[0]:
                    reference = runs
                arms[kept, epochs].append((runs.mean(axis=1), found_by_size(runs, reference)))
    print_power(arms)


def print_power(arms: dict[tuple[int, int], list]) -> None:
    """The table of power, the reference first; arms: what `power` gathered by videos and passes."""
    titles = ["training videos", "passes", "top-1 %", "spread", "worse by, points", "test videos"]
    print_titles(titles + [f"({name}) p < 0.05, %" for name in CANDIDATES])
    best = None
    for (kept, epochs), sets in arms.items():
        top1 = np.array([runs for runs, _ in sets])  # (T, 20)
        best = top1.mean(axis=1) if best is None else best
        spread = top1.std(axis=1, ddof=1).mean()
        names = [str(kept), str(epochs), f"{100 * top1.mean():.1f}", f"{100 * spread:.1f}"]
        names.append(in_percent(best - top1.mean(axis=1)))
        for size in sets[0][1]:
            shares = np.array([found[size] for _, found in sets])  # (T, 5)
            print_cells([*names, f"{size:,}", *map(in_percent, shares.T)])


def main() -> None:
    """Print one of the four."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kind = parser.add_mutually_exclusive_group()
    for name in ("simulate", "candidates", "power"):
        kind.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--sets", type=int)
    parser.add_argument("--videos", type=int, default=2000)
    parser.add_argument("--head", default=SMALL.name)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=128)
    args, begun = parser.parse_args(), time.monotonic()
    args.sets = args.sets or (1000 if args.simulate or args.candidates else 30)
    if args.simulate:
        simulate(args.sets)
    elif args.candidates:
        compare_candidates(args.sets)
        compare_intervals(args.sets)
    elif args.power:
        power(args)
    else:
        train(args)
    print(f"{time.monotonic() - begun:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
