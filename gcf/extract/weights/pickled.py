"""Foreign pickles, read in a process of their own: time and memory are bounded, and a crash is not ours."""

import math
import os
import subprocess
from pathlib import Path

import torch
from torch import Tensor

from gcf.data.text import cut
from gcf.errors import GcfError, WeightsError
from gcf.extract.decoding import messages
from gcf.extract.decoding.child import command, end_of

ADVICE = "download it again, or have its tensors saved as safetensors"
CHILD = "gcf.extract.weights.unpickle"
START_SECONDS = 120.0  # to import torch on a busy machine
END_SECONDS = 2.0
LEAST_SECONDS, LEAST_SPEED = 60.0, 1 << 20  # without a byte from the process: so many, and one for each MiB of the file
LEAST_MEMORY, LEAST_TENSORS = 1 << 30, 64 << 20  # bytes that the process and all tensors may take, beside
TIMES = 4  # the file's size: names may share a storage, and the file and what lies in it are in memory together
LONGEST_REASON = 1000  # characters
DTYPES = {str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}


def read_pickle(path: Path) -> dict[str, Tensor]:
    """Name -> tensor of the state dict in a pickle of torch's. Takes the time in which torch is imported once more.

    Raises WeightsError, without the path, for what is no such file, or takes more than one may.
    """
    size = path.stat().st_size
    most, deadline = LEAST_TENSORS + TIMES * size, LEAST_SECONDS + size / LEAST_SPEED
    with subprocess.Popen(
        command(CHILD, str(LEAST_MEMORY + TIMES * size)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # it computes nothing
    ) as child:
        try:
            _require_start(child)
            messages.send(child.stdin.fileno(), {"path": os.fsencode(path.absolute()).hex(), "most": most})
            return _receive_state(child.stdout.fileno(), most=most, deadline=deadline)
        except messages.StalledError:
            raise WeightsError(f"refused: reading it takes more than {deadline:.0f} s; {ADVICE}") from None
        except (messages.ClosedError, BrokenPipeError):
            raise WeightsError(
                f"refused: the process that read it {end_of(child, seconds=END_SECONDS)}; {ADVICE}"
            ) from None
        except ValueError as error:
            raise WeightsError(f"refused: the process that read it sent nonsense; {ADVICE}") from error
        finally:
            child.kill()


def _require_start(child: subprocess.Popen) -> None:
    try:
        messages.receive(child.stdout.fileno(), deadline=START_SECONDS)
    except (messages.ClosedError, messages.StalledError, ValueError) as error:
        raise GcfError("the process that reads weights did not start; what it said is above") from error


def _receive_state(inbox: int, *, most: int, deadline: float) -> dict[str, Tensor]:
    """What the process sends, believed as far as it is sound. Raises ValueError for what is not."""
    state: dict[str, Tensor] = {}
    while True:
        head, payload = messages.receive(inbox, deadline=deadline)
        kind, name = head.get("kind"), head.get("name")
        if kind == "end":
            return state
        if kind == "failed":
            raise WeightsError(cut(head.get("error"), most=LONGEST_REASON))
        most -= len(payload)
        if kind != "tensor" or not isinstance(name, str) or name in state or most < 0:
            raise ValueError("neither a tensor, nor the end, nor a reason")
        state[name] = _tensor(head, payload)


def _tensor(head: dict, payload: bytearray) -> Tensor:
    dtype, shape = DTYPES.get(str(head.get("dtype"))), head.get("shape")
    if dtype is None or not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError("a tensor without a type or a shape")
    if math.prod(shape) * dtype.itemsize != len(payload):
        raise ValueError("a tensor of another size than its bytes")
    if not payload:
        return torch.empty(shape, dtype=dtype, device="cpu")
    return torch.frombuffer(payload, dtype=dtype).reshape(shape).clone()  # in memory that is aligned as torch's is
