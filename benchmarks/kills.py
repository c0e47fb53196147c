"""SIGKILL `gcf extract` at random moments, resume it until it ends, compare the bytes with an undisturbed run.

    python benchmarks/kills.py VIDEOS --backbone mobilenetv2_0.2x --weights random [--kills 20] [--seed 0]

The main process alone or its whole process group is killed, at moments spread evenly over the time that the undisturbed
run took. Parts are committed every second here, not every minute, so that short runs have some to lose.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def start(args: argparse.Namespace, out: Path, workers: int = 1) -> subprocess.Popen:
    """The extraction as a user would run it, in a process group of its own."""
    code = "from gcf.extract import extractor; extractor.PART_SECONDS = 1; from gcf.cli import main; main()"
    command = [sys.executable, "-c", code, "extract", args.videos, str(out), "--backbone", args.backbone]
    command += ["--weights", args.weights, "--workers", str(workers)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def digest(path: Path) -> str:
    """sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """Print one line per run and the verdict; exit 1 when a byte differs or a temporary file is left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos")
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--weights", default="default")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, nargs="*", default=[2, 4])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, differences = random.Random(args.seed), 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begun = time.monotonic()
        start(args, folder / "reference.h5").wait()
        length = time.monotonic() - begun
        reference = digest(folder / "reference.h5")
        print(f"undisturbed: {length:.1f} s, sha256 {reference[:16]}")
        for workers in args.workers:
            start(args, folder / f"{workers}.h5", workers).wait()
            same = digest(folder / f"{workers}.h5") == reference
            differences += not same
            print(f"{workers} workers: {'same bytes' if same else 'DIFFERENT'}")
        kills = 0
        while kills < args.kills:
            out, in_this_run = folder / "killed.h5", 0
            while not out.exists():
                process = start(args, out)
                try:
                    process.wait(rng.uniform(0, length) if kills < args.kills else None)
                except subprocess.TimeoutExpired:
                    (os.kill if kills % 2 else os.killpg)(process.pid, signal.SIGKILL)
                    process.wait()
                    kills, in_this_run = kills + 1, in_this_run + 1
            same = digest(out) == reference
            differences += not same
            print(f"killed {in_this_run} times, then resumed to the end: {'same bytes' if same else 'DIFFERENT'}")
            out.unlink()
        left = [p.name for p in folder.iterdir() if "killed" in p.name]
        print(f"{kills} kills, {differences} differences, left behind: {left or 'nothing'}")
    sys.exit(bool(differences or left))


if __name__ == "__main__":
    main()
