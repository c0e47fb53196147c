"""How much memory this process may still take, in the machine and in the control groups around it."""

from collections.abc import Iterator
from pathlib import Path

import psutil

MEMBERSHIP, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
GROUP_FILES = {  # by controllers: "" is version 2
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def free_memory() -> int:
    """Bytes that this process may still take: what is free, or what a control group around it leaves where less."""
    return min([psutil.virtual_memory().available, *_group_rooms(MEMBERSHIP, GROUPS)])


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
