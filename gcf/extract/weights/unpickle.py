"""The process that reads a foreign pickle: sends its tensors, or the reason why there are none to be had."""

import os
import sys

import numpy as np
import psutil
import torch
from torch import Tensor

from gcf.data.text import cut
from gcf.errors import WeightsError
from gcf.extract.decoding import messages
from gcf.extract.decoding.child import confine
from gcf.extract.weights.checkpoints import unwrapped
from gcf.extract.weights.pickled import ADVICE


def main(memory: str) -> None:
    """Read the one file that the inbox names. memory: bytes that it may take beside what torch holds by itself."""
    held = getattr(psutil.Process().memory_info(), "data", 0)  # Linux alone says it, and keeps to the bound
    confine(held + int(memory))
    inbox, outbox = os.dup(sys.stdin.fileno()), os.dup(sys.stdout.fileno())
    try:
        messages.send(outbox, {"kind": "ready"})
        for stream in (sys.stdout, sys.stderr):  # from here on, what goes wrong is a message
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        task, _ = messages.receive(inbox)
        _answer(os.fsdecode(bytes.fromhex(task["path"])), task["most"], outbox)
    except (BrokenPipeError, messages.ClosedError):
        return  # whoever asked is gone


def _answer(path: str, most: int, outbox: int) -> None:
    """Send every tensor and the end, or at any point why it failed. most: bytes of all tensors together."""
    try:
        state = _state(path)
        size = sum(tensor.numel() * tensor.itemsize for tensor in state.values())
        if size > most:
            raise WeightsError(f"its tensors would take {size:,} bytes, far more than the file has; {ADVICE}")
        for name, tensor in state.items():
            _send(outbox, name, tensor)
        last = {"kind": "end"}
    except BrokenPipeError:
        raise
    except Exception as error:  # the reader's errors are of many kinds, and each means the same to a user
        last = {"kind": "failed", "error": _reason(error)}
    messages.send(outbox, last)


def _state(path: str) -> dict[str, Tensor]:
    with torch.serialization.safe_globals(allowed_globals()):
        return unwrapped(torch.load(path, map_location="cpu", weights_only=True))


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


def _send(outbox: int, name: str, tensor: Tensor) -> None:
    """One tensor as its type, shape and bytes, whatever it shares its storage with and how it lies there."""
    tensor = tensor.detach().resolve_conj().resolve_neg().contiguous()
    head = {"kind": "tensor", "name": name, "dtype": str(tensor.dtype), "shape": tensor.shape}
    messages.send(outbox, head, memoryview(tensor.reshape(-1).view(torch.uint8).numpy()))


def _reason(error: Exception) -> str:
    """One line instead of torch's own, which advises to switch the protection off."""
    if isinstance(error, WeightsError):
        return str(error)
    text = str(error)
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in text:
        return f"refused: reading it takes far more memory than a checkpoint of its size; {ADVICE}"
    if "TorchScript" in text:
        return f"refused: a TorchScript archive, which is code; {ADVICE}"
    _, asks, name = text.partition("GLOBAL ")
    if asks:
        return (
            f"refused: it asks to run {cut(name.split()[0])}, and a checkpoint may hold tensors and plain numbers "
            "only; nothing was executed. If you trust its origin, have it saved as safetensors"
        )
    lines = [line for line in text.splitlines() if line.strip() and not _advises(line)]
    found = cut(lines[0] if lines else type(error).__name__, most=200)
    return f"damaged, cut short, or no checkpoint ({found}); {ADVICE}"


def _advises(line: str) -> bool:
    """Whether a line of torch's is about torch, not about the file."""
    return "weights_only" in line or "torch.load" in line
