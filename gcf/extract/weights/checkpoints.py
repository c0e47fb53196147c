"""Read weights from checkpoint files, in every published layout, of which nothing but tensors is believed.

A file may be a bare state dict, or a dict that holds it as `state_dict` or `model_state` beside optimizer and epoch;
names may carry DataParallel's `module.`. Pickles of torch before and after 1.6, read in a process of their own, and
safetensors.
"""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from gcf.data.schema import NAME_BYTES
from gcf.data.text import cut
from gcf.errors import WeightsError
from gcf.extract.weights.file_kind import file_kind
from gcf.extract.weights.pickled import ADVICE, read_pickle

WRAPPERS = ("state_dict", "model_state")
PARALLEL_PREFIX = "module."
COUNTER = "num_batches_tracked"  # torch before 0.4.1 had none, and evaluation never reads it
SHOWN = 3  # keys that an error names before it only counts


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Parameter name -> tensor on the CPU, prefix removed.

    Raises WeightsError for a file that is absent, damaged, not a checkpoint, that holds anything to be executed, or
    that takes more time or memory than one of its size may.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    try:
        state = unwrapped(_read_safetensors(path) if _is_safetensors(path) else _read_pickle(path))
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    while state and all(name.startswith(PARALLEL_PREFIX) for name in state):
        state = {name.removeprefix(PARALLEL_PREFIX): tensor for name, tensor in state.items()}
    return state


def load_strictly(network: nn.Module, state: dict[str, Tensor], *, source: str) -> None:
    """Give a network built on the meta device its tensors, float32: each name and shape must be there, and no other.

    `source` names the file in errors. Raises WeightsError that lists what is missing, what is too much, and which
    shapes differ.
    """
    expected = network.state_dict()
    missing = [name for name in expected if name not in state and not name.endswith(COUNTER)]
    extra = [name for name in state if name not in expected]
    shared = [name for name in expected if name in state]
    reshaped = [
        f"{cut(name)}: expected {_described(expected[name])}, found {_described(state[name])}"
        for name in shared
        if expected[name].shape != state[name].shape
        or expected[name].is_floating_point() != state[name].is_floating_point()
    ]
    faults = [("missing", missing), ("not of this network", extra), ("of another shape", reshaped)]
    if any(names for _, names in faults):
        listed = "; ".join(f"{len(names)} {what} ({_first(names)})" for what, names in faults if names)
        raise WeightsError(
            f"{source} does not fit: {len(shared) - len(reshaped)} of {len(expected)} tensors agree; {listed}"
        )
    filled = {name: state[name].to(dtype=expected[name].dtype).contiguous() for name in shared}
    filled |= {name: torch.zeros((), dtype=torch.int64) for name in expected if name not in state}  # the counters
    network.load_state_dict(filled, strict=True, assign=True)


def _is_safetensors(path: Path) -> bool:
    return path.suffix == ".safetensors" or file_kind(path) == "safetensors"


def _read_safetensors(path: Path) -> dict:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise WeightsError(f"not a readable safetensors file ({cut(error, most=200)}); download it again") from error


def _read_pickle(path: Path) -> dict:
    kind = file_kind(path)
    if kind not in ("zip", "pickle"):
        found = {"web page": "a web page, perhaps a login or quota page", "": "no checkpoint that is known"}[kind]
        size = path.stat().st_size
        raise WeightsError(f"{'an empty file' if size == 0 else found} ({size} bytes); download it again")
    return read_pickle(path)


def unwrapped(content: object) -> dict[str, Tensor]:
    """The state dict that was read, bare or inside of what was. Raises WeightsError, without a path, for any other."""
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not content:
        raise WeightsError(f"holds no state dict, neither bare nor under {' or '.join(WRAPPERS)}; {ADVICE}")
    _check_names(content)
    strangers = [name for name, value in content.items() if not _is_dense(value)]
    if strangers:
        raise WeightsError(
            f"{len(strangers)} of {len(content)} entries are no tensors ({_first(strangers)}); "
            f"a state dict is expected, bare or under {' or '.join(WRAPPERS)}"
        )
    return dict(content)


def _check_names(state: dict) -> None:
    """Names are text of bounded length; others are not even shown, which may take for ever."""
    kinds = sorted({type(name).__name__ for name in state if not isinstance(name, str)})
    if kinds:
        raise WeightsError(f"names of tensors that are no text but {_first(kinds)}; {ADVICE}")
    longest = max(state, key=len)
    if len(longest) > NAME_BYTES:
        raise WeightsError(
            f"a name of {len(longest):,} characters, {cut(longest)}; {NAME_BYTES:,} are the most; {ADVICE}"
        )


def _is_dense(value: object) -> bool:
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        return False
    return value.device.type == "cpu" and not (value.is_quantized or value.is_nested)


def _described(tensor: Tensor) -> str:
    kind = "" if tensor.is_floating_point() else f" {tensor.dtype}".replace("torch.", "")
    return f"{cut(tuple(tensor.shape))}{kind}"


def _first(names: list[str]) -> str:
    return ", ".join(map(cut, names[:SHOWN])) + (", ..." if len(names) > SHOWN else "")


def state_sha256(state: dict[str, Tensor]) -> str:
    """Hex digest of names, types, shapes and values of a state dict, whatever its order."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
