"""Is classifying new videos as fast as extracting them? `gcf extract` and `gcf predict` on the same ones, in turns.

    python benchmarks/predict.py VIDEOS [--count 60] [--rounds 3] [--backbone NAME] [--weights ID]

VIDEOS is a folder with a sub-folder per class; COUNT of its videos, spread evenly, are used. A head is trained on them
first. Every time is that of the whole command, start-up included: by the clock, and of the processors, decoders
included, which says more on a machine that others use. The command that goes first changes from round to round. What
`predict` says of the videos is compared with what it says of the feature file.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import gcf
from gcf.extract.decoding.find import find_videos


def timed(*arguments: object) -> tuple[np.ndarray, str]:
    """Seconds (2,) that a command of gcf takes, by the clock and of the processors, and what it printed."""
    command, begun = [sys.executable, "-m", "gcf.cli", *map(str, arguments)], os.times()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}")
    took = np.subtract(os.times(), begun)  # user, system, children's user, children's system, clock
    return np.array([took[4], took[2] + took[3]]), done.stdout


def words(took: np.ndarray) -> str:
    """Both times."""
    return f"{took[0]:.1f} s, {took[1]:.1f} s of processors"


def chosen(folder: Path, count: int, listed: Path) -> Path:
    """A list of `count` videos of the folder."""
    found = find_videos([folder])
    listed.write_text("".join(f"{v.path}\n" for v in found[:: max(1, len(found) // count)][:count]))
    return listed


def main() -> None:
    """Print the time of each run, the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", type=Path)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backbone", default="shufflenetv2_0.25x")
    parser.add_argument("--weights", default="primitives")
    args = parser.parse_args()
    network = ["--backbone", args.backbone, "--weights", args.weights]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        videos = chosen(args.videos, args.count, folder / "videos.txt")
        timed("extract", videos, folder / "f.h5", *network)
        features = gcf.FeatureFile(folder / "f.h5")
        print(f"{features.num_videos} videos, {features.num_clips} clips, {args.backbone} ({args.weights})")
        gcf.train_head(features, folder / "run", epochs=2)
        start, _ = timed("predict", folder / "run", folder / "f.h5")
        print(f"predict from the feature file, all of it start-up: {words(start)}", flush=True)
        taken = {"extract": [], "predict": []}
        for n in range(args.rounds):
            commands = {
                "extract": ["extract", videos, folder / f"{n}.h5", *network],
                "predict": ["predict", folder / "run", videos, *network, "--jsonl"],
            }
            for what in sorted(commands, reverse=n % 2 == 1):
                took, said = timed(*commands[what])
                taken[what].append(took)
                print(f"round {n + 1}  {what}  {words(took)}", flush=True)
                if what == "predict":
                    now = {p["id"]: p for p in map(json.loads, said.splitlines())}
        _, said = timed("predict", folder / "run", folder / "f.h5", "--json")
        stored = {p["id"]: p for p in json.loads(said)["videos"]}
        first, second = (np.median(taken[what], axis=0) for what in ("extract", "predict"))
        print(f"median: extract {words(first)}; predict {words(second)}")
        print("ratio: {:.2f} by the clock, {:.2f} of processors".format(*second / first))
        print(f"the same answers from videos and feature file: {'yes, to the last bit' if now == stored else 'NO'}")


if __name__ == "__main__":
    main()
