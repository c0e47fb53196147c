"""How much memory this process may still take, in the machine and in the control groups around it."""

import os
from collections.abc import Iterator
from pathlib import Path

MEMINFO, MEMBERSHIP, GROUPS = Path("/proc/meminfo"), Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
GROUP_FILES = {  # by controllers: "" is version 2
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def free_memory() -> int:
    """Bytes that this process may still take: what is free, or what a control group around it leaves where less."""
    found = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if MEMINFO.exists():  # counts the page cache as free, which it is
        fields = dict(line.split(":") for line in MEMINFO.read_text().splitlines())
        found = int(fields.get("MemAvailable", f"{found // 1024} kB").split()[0]) * 1024
    return min([found, *_group_rooms(MEMBERSHIP, GROUPS)])


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
