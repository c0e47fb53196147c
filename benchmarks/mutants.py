"""Thousands of damaged copies of real videos through `gcf extract`: every one reaches a state, nothing else is touched.

    python benchmarks/mutants.py REAL [--count 2000] [--seed 0] [--batch 250] [--traced 200] [--deadline 1800]
    python benchmarks/mutants.py --weights [--count 100] [--seed 0]

REAL holds odd/ and videos/; the latter are cut to their first 64 pictures, not encoded again, so that a run takes
minutes. Mutants are written a batch at a time and removed after it. The first ones run once more under strace, where
that is permitted. Exit code 1 where a run died, hung, lost or repeated a mutant, or opened what it should not.
With --weights the mutants are of files of weights, see weight_mutants.py: each is refused in a line, or right.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import weight_mutants
from mutations import shorten, write_mutants
from opened import can_trace, foreign, traced
from watched import Peaks, watch

from gcf import FeatureFile
from gcf.data.home import home_folder
from gcf.extract.decoding.find import SUFFIXES
from gcf.extract.decoding.worker import MEMORY_LIMIT

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / "tests" / "tiny_backbone.py"
FINISHED = (0, 3)  # exit codes: all well, some videos failed or partial


@dataclass
class Batch:
    """What became of some mutants: outcomes by mutant, peaks of memory, and what went wrong, in words."""

    outcomes: dict[str, str] = field(default_factory=dict)
    peaks: Peaks = field(default_factory=Peaks)
    problems: list[str] = field(default_factory=list)
    opened: int = 0


def extract(videos: Path, out: Path, *, deadline: float, log: Path | None = None) -> Batch:
    """One run of the command over a folder of mutants; under strace where `log` is given."""
    command = [sys.executable, "-m", "gcf.cli", "extract", str(videos), str(out), "--backbone", str(TINY)]
    command += ["--workers", "2"]
    batch, said = Batch(), out.with_suffix(".txt")
    with (
        said.open("wb") as file,
        subprocess.Popen(traced(command, log) if log else command, stdout=file, stderr=subprocess.STDOUT) as process,
    ):
        try:
            batch.peaks = watch(process, seconds=deadline)
        except TimeoutError as error:
            process.kill()
            batch.problems.append(f"hung: {error}")
    text = said.read_text(errors="replace")
    if process.returncode not in FINISHED or "Traceback" in text:
        batch.problems.append(f"ended with {process.returncode}: {text[-600:]}")
        return batch
    judge(batch, sorted(p.name for p in videos.iterdir()), FeatureFile(out), text)
    if log:
        batch.opened, others = foreign(log, videos, [out.parent, ROOT, home_folder()])
        batch.problems += [f"opened something else: {line}" for line in others[:20]]
    elif batch.peaks.largest_child > 1.5 * MEMORY_LIMIT:  # under strace the main process is a child, too
        batch.problems.append(f"a decoder held {batch.peaks.largest_child:,} bytes")
    return batch


def judge(batch: Batch, names: Sequence[str], features: FeatureFile, said: str) -> None:
    """Sort every mutant into its state; each must have one, and what is not ok must be named once in what was said."""
    states = [(i, "partial" if note else "ok") for i, note in zip(features.ids, features.videos.note, strict=True)]
    states += [(i, f"failed: {reason_class(reason)}") for i, reason in features.failures]
    batch.outcomes = dict(states)
    if sorted(name for name, _ in states) != list(names):
        batch.problems.append(f"{len(states)} states for {len(names)} mutants")
    for name, state in states:
        times = said.count(f"{name!r}: ")
        if times != (state != "ok"):
            batch.problems.append(f"{name} is {state} and named {times} times")
    for name, reason in features.failures:
        if "run the same command again" in reason:  # the words for a video that nothing is known of at the end
            batch.problems.append(f"{name} was forgotten: {reason}")


def reason_class(reason: str) -> str:
    """A failure's reason without what is particular to one file."""
    return re.sub(r"\d+|0x[0-9a-f]+", "N", reason.split(":")[0])[:60]


def sources_of(real: Path, folder: Path) -> list[Path]:
    """The files to damage: odd ones as they are, the longer videos cut short."""
    odd = [p for p in sorted((real / "odd").iterdir()) if p.suffix in SUFFIXES]
    videos = [p for p in sorted((real / "videos").iterdir()) if p.suffix in SUFFIXES]
    return odd + [shorten(p, folder / f"short-{p.name}") for p in videos]


def run(sources: Sequence[Path], numbers: Sequence[int], args: argparse.Namespace, *, trace: bool = False) -> Batch:
    """Write a batch of mutants, extract, remove."""
    with tempfile.TemporaryDirectory() as name:
        videos, results = Path(name).resolve() / "videos", Path(name).resolve() / "results"
        videos.mkdir()
        results.mkdir()
        list(write_mutants(videos, sources, numbers, seed=args.seed))
        log = Path(name) / "strace.txt" if trace else None
        return extract(videos, results / "feats.h5", deadline=args.deadline, log=log)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("real", type=Path, nargs="?", help="the folder of real videos")
    parser.add_argument("--weights", action="store_true", help="damage files of weights, not videos")
    parser.add_argument("--count", type=int, help="2000 videos, or 100 files of weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=250, help="mutants a run of the command")
    parser.add_argument("--traced", type=int, default=200, help="how many run once more under strace")
    parser.add_argument("--deadline", type=float, default=1800, help="seconds after which a run of a batch has hung")
    args = parser.parse_args()
    if (args.real is None) != args.weights:
        parser.error("name the folder of real videos, or say --weights")
    args.count = args.count or (100 if args.weights else 2000)
    return args


def main() -> None:
    """Print a line a batch and the table of outcomes."""
    args = parsed()
    if args.weights:
        problems = weight_mutants.run(range(args.count), seed=args.seed)
        print(*(problems or ["each was refused in one line, or read with the values in it"]), sep="\n")
        sys.exit(bool(problems))
    outcomes, problems = Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        sources = sources_of(args.real, Path(folder))
        for first in range(0, args.count, args.batch):
            begun, numbers = time.monotonic(), range(first, min(first + args.batch, args.count))
            batch = run(sources, numbers, args)
            outcomes.update(batch.outcomes.values())
            problems += batch.problems
            seconds = time.monotonic() - begun
            print(f"{numbers.start:5}-{numbers.stop - 1:<5} {seconds:4.0f} s  {batch.peaks}", flush=True)
        if args.traced and can_trace():
            batch = run(sources, range(min(args.traced, args.count)), args, trace=True)
            problems += batch.problems
            print(f"{len(batch.outcomes)} under strace: {batch.opened:,} files opened")
        elif args.traced:
            print("strace is absent or not permitted: what is opened was not looked at")
    for state, count in sorted(outcomes.items(), key=lambda pair: -pair[1]):
        print(f"{count:5}  {state}")
    print(f"{sum(outcomes.values())} of {args.count} mutants of {len(sources)} files have a state")
    print(
        *(problems or ["no run died or hung, each mutant is named as it should be, nothing else was opened"]), sep="\n"
    )
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
