"""Where the descriptors are while heads train: on the device, in memory, or in the file, by what there is room for."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from gcf.errors import UsageError

SHARE = 0.5  # of the free memory that descriptors may take; weights, gradients and batches need some, too
DEVICE, MEMORY, MAP = "device", "memory", "map"
GROUP_FILES = {  # by controllers: "" is version 2
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


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


def free_memory() -> int:
    """Bytes that this process may still take: what is free, or what a control group around it leaves where less."""
    found = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():  # counts the page cache as free, which it is
        fields = dict(line.split(":") for line in meminfo.read_text().splitlines())
        found = int(fields.get("MemAvailable", f"{found // 1024} kB").split()[0]) * 1024
    return min([found, *_group_rooms(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))])


def _group_rooms(membership: Path, mount: Path) -> Iterator[int]:
    """Bytes left in each limited control group that holds this process (Linux, Documentation/admin-guide: cgroup-v1
    memory.rst and cgroup-v2.rst): limit less use, where file pages that can be dropped count as free."""
    lines = membership.read_text().splitlines() if membership.exists() else []
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers not in GROUP_FILES:
            continue
        limit, used, droppable = GROUP_FILES[controllers]
        own = mount / controllers / place.strip("/")
        for group in (own, *own.parents):
            try:
                most = (group / limit).read_text().strip()
                held = int((group / used).read_text())
                pages = dict(entry.split() for entry in (group / "memory.stat").read_text().splitlines())
            except (OSError, ValueError):  # beyond the mount, or hidden from a container
                continue
            if most != "max":
                yield max(0, int(most) - held + int(pages.get(droppable, 0)))


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
