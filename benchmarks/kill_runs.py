"""SIGKILL the commands of stage two again and again, run them until they end, compare with undisturbed runs.

    python benchmarks/kill_runs.py [--kills 200] [--seed 0]

`train-head`, `ablate` and `localize` (intervals from cached features) are killed at random moments, one to four times
in a row, on a synthetic feature file of 36 videos, and then run to the end by the same command. Their files must be
those of an undisturbed run to the last byte, but for how often the test set was looked at, and nothing else may lie in
the folder, beside it, or in the store of results. A command runs in a fork of this process, which has loaded torch
already. Exit code 1 where a file differs, a run cannot be resumed, or something is left behind.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a fork does not take threads along
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from caches import easy_cache
from forked import KILLED, run_forked

from gcf.explain import localize  # noqa: F401  torch and what the commands need is loaded once, here
from gcf.head import ablation_files, training  # noqa: F401

LOOKED = b"These test videos have been judged on"  # each run that reached the figures is a look
COMMANDS = {
    "train-head": ["train-head", "{features}", "-o", "{out}", "--epochs", "8"],
    "ablate": ["ablate", "{features}", "-o", "{out}", "--head", "mean", "--head", "max", "--seeds", "3"]
    + ["--reference", "mean", "--epochs", "8"],
    "localize": ["localize", "{head}", "{features}", "-o", "{out}"],
}


class Place:
    """A folder with a feature file of its own, where one command runs, is killed, and runs again."""

    def __init__(self, folder: Path, source: Path, head: Path, name: str):
        self.folder, self.out, self.said = folder, folder / "out", folder.parent / "said"
        folder.mkdir()
        shutil.copy(source, folder / "feats.h5")
        names = {"features": folder / "feats.h5", "out": self.out, "head": head}
        self.command = [word.format(**names) for word in COMMANDS[name]]
        os.environ["GCF_HOME"] = str(folder / "home")

    def run(self, until: float = float("inf")) -> int:
        """The exit code, KILLED where it was after `until` seconds."""
        return run_forked(self.command, self.said, seconds=until).code

    def contents(self) -> dict[str, str]:
        """A digest of each file that lies here, by name, but for the ledgers of looks."""
        files = [path for path in sorted(self.folder.rglob("*")) if path.is_file()]
        kept = (path for path in files if "looks" not in path.name and path.parent.name != "looks")
        return {str(path.relative_to(self.folder)): self._digest(path) for path in kept}

    def _digest(self, path: Path) -> str:
        """The sha256 of a file without this folder's name, and without how often the test set was looked at."""
        data = path.read_bytes().replace(str(self.folder).encode(), b"")
        if path.suffix == ".json":
            data = json.dumps(without_looks(json.loads(data))).encode()
        if path.suffix == ".md":
            data = b"".join(line for line in data.splitlines(True) if line.strip() and LOOKED not in line)
        return hashlib.sha256(data).hexdigest()


def without_looks(document: dict) -> dict:
    """A JSON document without the count of looks and the note that says it."""
    notes = [note for note in document.get("notes") or [] if LOOKED.decode() not in note]
    return {name: value for name, value in document.items() if name != "test_looks"} | {"notes": notes}


def different(found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """Names whose content differs, or that are in one alone."""
    return sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))


def main() -> None:
    """Print a line a cycle and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, made, problems = random.Random(args.seed), Counter(), []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name).resolve()
        source, head = root / "source.h5", root / "head"
        easy_cache(source)
        trained = Place(root / "first", source, head, "train-head")
        if trained.run():
            raise SystemExit(trained.said.read_text())
        shutil.copytree(trained.out, head)
        wanted, lengths = {}, {}
        for command in COMMANDS:
            place, begun = Place(root / f"wanted-{command}", source, head, command), time.monotonic()
            if place.run():
                raise SystemExit(place.said.read_text())
            wanted[command], lengths[command] = place.contents(), time.monotonic() - begun
        while made.total() < args.kills:
            command = rng.choice(list(COMMANDS))
            place, kills = Place(root / "killed", source, head, command), 0
            for _ in range(rng.randint(1, 4)):
                code = place.run(rng.uniform(0, lengths[command]))
                lengths[command] *= 1.03 if code == KILLED else 0.9  # however busy the machine is
                kills += code == KILLED
                if code != KILLED:
                    break
            code = place.run() if code == KILLED else code
            if code:
                problems.append(f"{command} after {kills} kills ended with {code}")
            left = different(place.contents(), wanted[command])
            problems += [f"{command} after {kills} kills: {what} differs" for what in left]
            made[command] += kills
            print(f"{command}, {kills} kills, then to the end: {', '.join(left) or 'same files'}", flush=True)
            shutil.rmtree(place.folder)
    print(f"{made.total()} kills {dict(made)}")
    print(*(problems or ["every run ended in the same files, nothing left behind"]), sep="\n")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
