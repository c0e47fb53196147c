"""Read weights from checkpoint files, in every published layout, without ever unpickling anything but tensors.

A file may be a bare state dict, or a dict that holds it as `state_dict` or `model_state` beside optimizer and epoch;
names may carry DataParallel's `module.`. Pickles of torch before and after 1.6, and safetensors.
"""

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gcf.errors import WeightsError
from gcf.extract.file_kind import file_kind

WRAPPERS = ("state_dict", "model_state")
PARALLEL_PREFIX = "module."
COUNTER = "num_batches_tracked"  # torch before 0.4.1 had none, and evaluation never reads it
SHOWN = 3  # keys that an error names before it only counts


def allowed_globals() -> list:
    """What optimizers of the published files hold besides tensors: numpy scalars, under old and new module names."""
    scalar = np._core.multiarray.scalar if hasattr(np, "_core") else np.core.multiarray.scalar
    numeric = [np.dtypes.BoolDType, np.dtypes.Int32DType, np.dtypes.Int64DType]
    numeric += [np.dtypes.Float16DType, np.dtypes.Float32DType, np.dtypes.Float64DType]
    return [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        (np.dtype, "numpy.dtype"),
        *numeric,
    ]


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Parameter name -> tensor on the CPU, prefix removed.

    Raises WeightsError for a file that is absent, damaged, not a checkpoint, or that holds anything to be executed.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    content = _read_safetensors(path) if _is_safetensors(path) else _read_pickle(path)
    state = _unwrap(content, path)
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
        f"{name}: expected {_described(expected[name])}, found {_described(state[name])}"
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
        raise WeightsError(f"{path}: not a readable safetensors file ({error}); download it again") from error


def _read_pickle(path: Path) -> object:
    kind = file_kind(path)
    if kind not in ("zip", "pickle"):
        found = {"web page": "a web page, perhaps a login or quota page", "": "no checkpoint that is known"}[kind]
        size = path.stat().st_size
        raise WeightsError(f"{path}: {'an empty file' if size == 0 else found} ({size} bytes); download it again")
    try:
        with torch.serialization.safe_globals(allowed_globals()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the reader's errors are of many kinds, and each means the same to a user
        raise WeightsError(f"{path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """One line instead of torch's own, which advises to switch the protection off."""
    refused = re.search(r"GLOBAL ([\w.]+)", str(error))
    if refused:
        return (
            f"refused: it asks to run {refused[1]}, and a checkpoint may hold tensors and plain numbers only; "
            "nothing was executed. Do not open it with other tools unless you trust its origin"
        )
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"damaged, cut short, or no checkpoint ({first_line}); download it again"


def _unwrap(content: object, path: Path) -> dict[str, Tensor]:
    """The state dict inside what was read."""
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not content:
        raise WeightsError(f"{path}: holds no state dict, neither bare nor under {' or '.join(WRAPPERS)}")
    strangers = [str(name) for name, value in content.items() if not _is_dense(value)]
    if strangers:
        raise WeightsError(
            f"{path}: {len(strangers)} of {len(content)} entries are no tensors ({_first(strangers)}); "
            f"a state dict is expected, bare or under {' or '.join(WRAPPERS)}"
        )
    return {str(name): tensor for name, tensor in content.items()}


def _is_dense(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided


def _described(tensor: Tensor) -> str:
    kind = "" if tensor.is_floating_point() else f" {tensor.dtype}".replace("torch.", "")
    return f"{tuple(tensor.shape)}{kind}"


def _first(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
