"""Damaged copies of files of weights through `load_backbone`, which every command calls: refused in a line, or right.

All in one process, since a command takes longer to start than a file to read; the pickles among them are read by a
process each, as ever.
"""

import logging
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from mutations import write_mutants
from safetensors.torch import load_file, save_file
from torch import Tensor

from gcf.data.text import cut
from gcf.errors import WeightsError
from gcf.extract.backbones import load_backbone

BACKBONE = "mobilenetv2_0.2x"
LONGEST = 1000  # characters of a message beside the path
AT_ONCE = 2


@dataclass(frozen=True)
class Fate:
    """What became of a mutant, in words without its name; what was wrong with that, or ''; and how long it took."""

    state: str
    problem: str
    seconds: float


def sources_of(folder: Path) -> list[Path]:
    """One small network's weights as a zip, as a pickle of torch before 1.6, and as safetensors; five classes each."""
    network = load_backbone(BACKBONE, weights="random")
    state = {n: t[:5].clone() if n.startswith("classifier") else t for n, t in network.state_dict().items()}
    zipped, old, safe = (folder / name for name in ("zip.pth", "old.pth", "safe.safetensors"))
    torch.save({"state_dict": state, "epoch": 3}, zipped)
    torch.save({"state_dict": state, "epoch": 3}, old, _use_new_zipfile_serialization=False)
    save_file(state, safe)
    return [zipped, old, safe]


def fate_of(path: Path) -> Fate:
    """Load one mutant and judge what comes of it."""
    begun = time.monotonic()
    try:
        network = load_backbone(BACKBONE, weights=path)
    except WeightsError as error:
        said = str(error).removeprefix(str(path)).removeprefix(": ")
        return Fate(f"refused: {_class_of(said)}", _fault_of(said, path), time.monotonic() - begun)
    except Exception as error:  # anything else would be a traceback to its user
        problem = f"{path.name}: {type(error).__name__}: {cut(error)}"
        return Fate("an error", problem, time.monotonic() - begun)
    seconds = time.monotonic() - begun
    same = _same(network.state_dict(), _plainly_read(path))
    return Fate("read", "" if same else f"{path.name}: read, with other values than the file's", seconds)


def _class_of(said: str) -> str:
    """A refusal without what is particular to one file."""
    for words in ("does not fit", "not a readable safetensors file", "asks to run", "no text", "no tensors"):
        if words in said:
            return words
    return cut(said.split(" (")[0].split(";")[0], most=60)


def _fault_of(said: str, path: Path) -> str:
    if "\n" in said or "weights_only" in said or len(said) > LONGEST:
        return f"{path.name}: refused in other words than one line of its own: {cut(said)}"
    return ""


def _plainly_read(path: Path) -> dict[str, Tensor]:
    """The same file by torch or safetensors alone, in this process."""
    if path.suffix == ".safetensors":
        return load_file(path)
    content = torch.load(path, map_location="cpu", weights_only=True)
    return content.get("state_dict", content)


def _same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Equal bits, NaNs included, under the same names."""
    return first.keys() == second.keys() and all(
        tensor.numpy().tobytes() == second[name].numpy().tobytes() for name, tensor in first.items()
    )


def run(numbers: Sequence[int], *, seed: int) -> list[str]:
    """Load the mutants of these numbers, print a table of what became of them, and give the problems."""
    logging.getLogger("gcf").setLevel(logging.ERROR)  # no line for each file of unknown origin
    with tempfile.TemporaryDirectory() as name:
        mutants = Path(name) / "mutants"
        mutants.mkdir()
        paths = list(write_mutants(mutants, sources_of(Path(name)), numbers, seed=seed))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            fates = list(pool.map(fate_of, paths))
    for state, count in Counter(fate.state for fate in fates).most_common():
        print(f"{count:5}  {state}")
    slowest = max(fate.seconds for fate in fates)
    print(f"{len(fates)} mutants of weights, the slowest took {slowest:.0f} s")
    return [fate.problem for fate in fates if fate.problem]
