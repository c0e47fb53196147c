"""Where the descriptors are while heads train: on the device, in memory, or in the file, by what there is room for."""

from dataclasses import dataclass

import torch

from gcf.data.memory import free_memory
from gcf.errors import UsageError

SHARE = 0.5  # of the free memory that descriptors may take; weights, gradients and batches need some, too
DEVICE, MEMORY, MAP = "device", "memory", "map"


@dataclass(frozen=True)
class Residency:
    """kind: "device", "memory" or "map"; size and room in bytes."""

    kind: str
    size: int
    room: int

    def to_json(self) -> dict:
        """What was chosen; the room changes from run to run and is left out."""
        return {"kind": self.kind, "size": self.size}

    def describe(self) -> str:
        """The choice and its reason in a sentence."""
        where = {
            DEVICE: "copied to the device",
            MEMORY: "copied to memory",
            MAP: "read from the file, in blocks that are shuffled, because they are larger",
        }[self.kind]
        return f"Descriptors of {_size(self.size)} are {where} ({_size(self.room)} may be used)."


def choose_residency(size: int, device: torch.device) -> Residency:
    """The fastest place that has room for `size` bytes of descriptors."""
    if device.type == "cuda":
        room = int(SHARE * torch.cuda.mem_get_info(device)[0])
        if size <= room:
            return Residency(DEVICE, size, room)
    room = int(SHARE * free_memory())
    return Residency(MEMORY if size <= room else MAP, size, room)


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def usable_device(name: str) -> str:
    """`auto` is a GPU where there is one. Raises UsageError for a device that this machine has not."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return name
