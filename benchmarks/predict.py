"""Is classifying new videos as fast as extracting them? `gcf extract` and `gcf predict` on the same ones, in turns.

    python benchmarks/predict.py VIDEOS [--count 60] [--rounds 3] [--backbone NAME] [--weights ID]

VIDEOS is a folder with a sub-folder per class; COUNT of its videos, spread evenly, are used. A head is trained on them
first. Every time is that of the whole command, start-up included; the command that goes first changes from round to
round. What `predict` says of the videos is compared with what it says of the feature file.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import gcf
from gcf.extract.find import find_videos


def seconds(*arguments: object) -> tuple[float, str]:
    """How long a command of gcf takes from start to end, and what it printed; ends the benchmark where it fails."""
    command, begun = [sys.executable, "-m", "gcf.cli", *map(str, arguments)], time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}")
    return time.monotonic() - begun, done.stdout


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
        seconds("extract", videos, folder / "f.h5", *network)
        features = gcf.FeatureFile(folder / "f.h5")
        print(f"{features.num_videos} videos, {features.num_clips} clips, {args.backbone} ({args.weights})")
        gcf.train_head(features, folder / "run", epochs=2)
        start, _ = seconds("predict", folder / "run", folder / "f.h5")
        print(f"start-up, head and all, and the rows of the feature file: {start:.1f} s")
        taken = {"extract": [], "predict": []}
        for n in range(args.rounds):
            commands = {
                "extract": ["extract", videos, folder / f"{n}.h5", *network],
                "predict": ["predict", folder / "run", videos, *network, "--jsonl"],
            }
            for what in sorted(commands, reverse=n % 2 == 1):
                took, said = seconds(*commands[what])
                taken[what].append(took)
                print(f"round {n + 1}  {what}  {took:.1f} s, {features.num_clips / took:.1f} clips/s")
                if what == "predict":
                    now = {p["id"]: p for p in map(json.loads, said.splitlines())}
        _, said = seconds("predict", folder / "run", folder / "f.h5", "--json")
        stored = {p["id"]: p for p in json.loads(said)["videos"]}
        first, second = (statistics.median(taken[what]) for what in ("extract", "predict"))
        print(f"median: extract {first:.1f} s, predict {second:.1f} s, ratio {second / first:.2f}")
        print(f"the same answers from videos and feature file: {'yes, to the last bit' if now == stored else 'NO'}")


if __name__ == "__main__":
    main()
