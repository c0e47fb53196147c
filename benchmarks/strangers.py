"""Damaged and malicious feature files and heads through the commands that read them: refused in one line, or right.

    python benchmarks/strangers.py [--count 200] [--traced 10] [--seed 0]

Of `count` feature files and as many heads, half have damaged bytes (mutations.py). In the other half a dataset is
another one (type, rank, length, values, a link to another file), or a field of head.json or a tensor says something
odd; odd texts name a file that nobody gave. Each goes through `info`, `verify` and `train-head`, a head through `eval`
and `localize`. A command runs in a fork of this process, which has loaded torch already. A sample runs again under
strace. Exit code 1 where a command died, hung, said more than a line, took memory, or opened what was not named.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
import torch
from forked import KILLED, run_forked
from mutations import KINDS
from opened import OPENED, can_trace, traced
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from caches import easy_cache

from gcf.head.trials import experiment  # noqa: F401  torch and the heads are loaded once, here

DEADLINE = 60.0  # seconds for a command that takes one
MEMORY = 1 << 30  # bytes beside what a command takes on the undamaged file
WELL, REFUSED = (0, 3), 4
OFFSETS = "videos/offset"


def odd_values(decoy: Path) -> list:
    """What a field of JSON may be that it should not."""
    nested: list = []
    for _ in range(500):
        nested = [nested]
    numbers = [0, -5, 2.5, 1e30, 1 << 80, float("nan"), float("inf"), True]
    return [None, "x", "", "a" * 100_000, *numbers, [], {}, nested, str(decoy), f"{decoy}:build", "plugin", ["x", 1]]


def places_of(value, path: tuple = ()) -> Iterator[tuple]:
    """Where in a JSON value there is something to replace."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield (*path, key)
        yield from places_of(child, (*path, key))


def odd_json(path: Path, rng: np.random.Generator, decoy: Path) -> str:
    """Replace one to three values of a JSON file; which."""
    document, names = json.loads(path.read_text()), []
    for _ in range(rng.integers(1, 4)):
        places = list(places_of(document))
        *way, last = places[rng.integers(len(places))]
        parent = document
        for key in way:
            parent = parent[key]
        values = odd_values(decoy)
        parent[last] = values[rng.integers(len(values))]
        names.append("/".join(map(str, (*way, last))))
    path.write_text(json.dumps(document))
    return ", ".join(names)


def odd_tensor(path: Path, rng: np.random.Generator) -> str:
    """Replace a tensor of a safetensors file; which."""
    tensors = load_file(path)
    name = sorted(tensors)[rng.integers(len(tensors))]
    kept = tensors.pop(name)
    changed = [
        None,
        kept.double(),
        kept.long(),
        kept.to(torch.complex64),
        kept[..., None],
        torch.cat([kept.flatten(), kept.flatten()]),
        torch.full_like(kept, float("nan")),
        kept.flatten()[:0],
    ][rng.integers(8)]
    if changed is not None:
        tensors[name] = changed.contiguous()
    save_file(tensors, path)
    return name


def odd_dataset(path: Path, rng: np.random.Generator, decoy: Path) -> str:
    """Replace a dataset of a feature file; which."""
    with h5py.File(path, "r+") as h5:
        names: list[str] = []
        h5.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        name = OFFSETS if rng.random() < 0.2 else sorted(names)[rng.integers(len(names))]
        kept, length = h5[name][()], len(h5[name])
        del h5[name]
        kind = int(rng.integers(12))
        if kind == 0:
            return f"{name} absent"
        if kind == 1:
            h5[name] = h5py.ExternalLink(str(decoy), "data")
        elif kind == 2:
            h5.create_dataset(name, (length,), "f4", external=[(str(decoy), 0, 4 * length)])
        elif kind == 3:
            layout = h5py.VirtualLayout((length,), "f4")
            layout[:] = h5py.VirtualSource(str(decoy), "data", (length,))
            h5.create_virtual_dataset(name, layout)
        elif kind == 4:
            h5.create_dataset(name, (3_000_000_000,), "i8", chunks=(1 << 20,))
        elif kind == 5:
            h5[name] = np.array([b"text"] * length)
        elif kind == 6:
            h5[name] = rng.standard_normal((length, 2)).astype("c8")
        elif kind == 7:
            h5[name] = rng.integers(0, 1 << 63, length, dtype=np.uint64)[::-1]
        elif kind == 8:
            h5[name] = np.full(length, np.nan)
        elif kind == 9:
            h5[name] = kept[: length // 2]
        elif kind == 10 and kept.dtype.kind in "iuf":
            h5[name] = rng.permutation(kept.ravel()).reshape(kept.shape)
        else:
            h5[name] = np.arange(length) + 0.5
    return f"{name} {kind}"


def damaged(path: Path, rng: np.random.Generator) -> str:
    """Damage a file's bytes; how."""
    kind = list(KINDS)[rng.integers(len(KINDS))]
    path.write_bytes(KINDS[kind](bytearray(path.read_bytes()), rng))
    return kind


class Trial:
    """A folder with an undamaged feature file, heads, and what nobody names; and what became of the mutants."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.seed = folder, seed
        self.good, self.decoy, self.said = folder / "good.h5", folder / "decoy.h5", folder / "said"
        easy_cache(self.good)
        with h5py.File(self.decoy, "w") as h5:
            h5["data"] = np.zeros(64, "f4")
        self.heads = {name: folder / name for name in ("gcf-256", "mean", "transformer")}
        for name, head in self.heads.items():
            command = ["train-head", str(self.good), "-o", str(head), "--head", name, "--epochs", "1"]
            if run_forked(command, self.said).code:
                raise SystemExit(self.said.read_text())
        self.outcomes, self.problems, self.most = Counter(), [], 0
        self.usual = max(
            run_forked(command, self.said).memory for command in self.commands(self.good, next(iter(self.heads)))
        )

    def features(self, number: int) -> tuple[Path, str]:
        """A mutant of the feature file, and what was done to it."""
        path, rng = self.folder / "mutant.h5", np.random.default_rng((self.seed, 0, number))
        shutil.copy(self.good, path)
        return path, damaged(path, rng) if number % 2 else odd_dataset(path, rng, self.decoy)

    def head(self, number: int) -> tuple[Path, str]:
        """A mutant of a head, and what was done to it."""
        path, rng = self.folder / "mutant", np.random.default_rng((self.seed, 1, number))
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(list(self.heads.values())[number % len(self.heads)], path)
        facts, weights = path / "head.json", path / "head.safetensors"
        way = rng.integers(5)
        if way < 2:
            return path, odd_json(facts, rng, self.decoy)
        if way == 2:
            return path, odd_tensor(weights, rng)
        victim = facts if way == 3 else weights
        return path, f"{victim.name} {damaged(victim, rng)}"

    def commands(self, features: Path, head: Path | str) -> list[list[str]]:
        """What reads the one, or the other."""
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        if features != self.good:
            training = ["train-head", str(features), "-o", str(out), "--epochs", "1", "--head", "mean"]
            return [["info", str(features)], ["verify", str(features)], training]
        named = str(self.folder / head)
        return [["eval", named, str(features)], ["localize", named, str(features), "-o", str(out)]]

    def judge(self, command: Sequence[str], what: str) -> None:
        """Run one command on a mutant and sort what became of it."""
        ended = run_forked(command, self.said, seconds=DEADLINE)
        code, memory = ("hung" if ended.code == KILLED else ended.code), ended.memory
        text = self.said.read_text(errors="replace")
        lines = [line for line in text.splitlines() if line.startswith("gcf: ")]
        self.outcomes[f"{command[0]}: exit code {code}"] += 1
        self.most = max(self.most, memory)
        place = f"{' '.join(command[:2])} ({what})"
        if code not in (*WELL, REFUSED) or "Traceback" in text or "GCF_TRACEBACK" in text:
            self.problems.append(f"{place}: {code}, {text[-400:]}")
        if code == REFUSED and not lines and command[0] != "verify":  # which says it on standard output
            self.problems.append(f"{place}: refused without a line: {text[-400:]}")
        if max((len(line) for line in lines), default=0) > 2000:
            self.problems.append(f"{place}: a line of {max(map(len, lines)):,} characters")
        if memory > self.usual + MEMORY:
            self.problems.append(f"{place}: held {memory:,} bytes, {self.usual:,} are usual")

    def trace(self, command: Sequence[str], what: str) -> int:
        """Run one command under strace: how many files it opened; none of them may be the decoy, or a system's."""
        log = self.folder / "strace.txt"
        whole = traced([sys.executable, "-m", "gcf.cli", *command], log)
        subprocess.run(whole, check=False, capture_output=True, timeout=20 * DEADLINE)
        names = [match[1] for match in map(OPENED.search, log.read_text(errors="replace").splitlines()) if match]
        self.problems += [
            f"{' '.join(command[:2])} ({what}) opened {self.decoy}" for n in names if n == str(self.decoy)
        ]
        return len(names)


def main() -> None:
    """Print the table of exit codes, and all that was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200, help="feature files, and heads")
    parser.add_argument("--traced", type=int, default=10, help="of each, that run once more under strace")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)  # a fork does not take threads along
    with tempfile.TemporaryDirectory() as name:
        os.environ["GCF_HOME"] = f"{name}/home"
        trial = Trial(Path(name).resolve(), args.seed)
        opened = 0
        for number in range(args.count):
            path, what = trial.features(number)
            head, said = trial.head(number)
            cases = [(c, what) for c in trial.commands(path, "")] + [
                (c, said) for c in trial.commands(trial.good, head)
            ]
            for command, done in cases:
                trial.judge(command, done)
            if number < args.traced and can_trace():
                opened += sum(trial.trace(command, done) for command, done in (cases[0], cases[2], cases[3]))
    for outcome, count in sorted(trial.outcomes.items()):
        print(f"{count:5}  {outcome}")
    print(f"most memory {trial.most / 1e6:,.0f} MB, on undamaged files {trial.usual / 1e6:,.0f} MB")
    if opened:
        print(f"{3 * min(args.traced, args.count)} commands under strace opened {opened:,} files")
    print(
        *(trial.problems or ["each was refused in a line or taken, and nothing was opened that was not named"]),
        sep="\n",
    )
    sys.exit(bool(trial.problems))


if __name__ == "__main__":
    main()
