"""What a process and its descendants hold: resident memory, open descriptors, threads, children, read from /proc."""

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

PAGE = os.sysconf("SC_PAGESIZE")


def family(pid: int) -> list[int]:
    """A process and its descendants, it first."""
    found, todo = [], [pid]
    while todo:
        pid = todo.pop(0)
        found.append(pid)
        try:
            for task in Path(f"/proc/{pid}/task").iterdir():
                todo += map(int, (task / "children").read_text().split())
        except OSError:  # ended in the meantime
            continue
    return found


def resident(pid: int) -> int:
    """Bytes of resident memory of one process; 0 when it is gone. Pages that processes share count in each."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except OSError:
        return 0


def command_line(pid: int) -> bytes:
    """The program of a process and its arguments; nothing when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@dataclass(frozen=True)
class Held:
    """Bytes, open descriptors and threads of one process, and how many children it has."""

    memory: int
    descriptors: int
    threads: int
    children: int

    def most(self, other: "Held") -> "Held":
        """The larger of each number."""
        return Held(*(max(pair) for pair in zip(self.numbers, other.numbers, strict=True)))

    @property
    def numbers(self) -> tuple[int, int, int, int]:
        """In the order of the fields."""
        return self.memory, self.descriptors, self.threads, self.children


def held() -> Held:
    """What this process holds; its children are counted also when they are dead and not yet waited for."""
    tasks = list(Path("/proc/self/task").iterdir())
    children = 0
    for task in tasks:
        try:
            children += len((task / "children").read_text().split())
        except OSError:  # a thread that ended in the meantime
            continue
    descriptors = len(os.listdir("/proc/self/fd")) - 1  # one is that of the listing
    return Held(resident(os.getpid()), descriptors, len(tasks), children)


@dataclass
class Peaks:
    """The most bytes seen at once: of the main process, of its largest descendant, of all together.

    `late`: what the main process held when a child was last seen, that is at the end of its work.
    """

    main: int = 0
    late: int = 0
    largest_child: int = 0
    together: int = 0

    def sample(self, pid: int) -> None:
        """Look once. A child that is about to start a program still shows its parent's pages and is left out."""
        ours = command_line(pid)
        main, *children = (resident(p) for p in family(pid) if p == pid or command_line(p) != ours)
        self.main, self.together = max(self.main, main), max(self.together, main + sum(children))
        self.largest_child = max(self.largest_child, *children, 0)
        self.late = main if children else self.late

    def __str__(self) -> str:
        numbers = (self.main, self.late, self.largest_child, self.together)
        words = "main {:.0f} MB, at last {:.0f} MB, largest decoder {:.0f} MB, together {:.0f} MB"
        return words.format(*(n / 1e6 for n in numbers))


def watch(process: subprocess.Popen, *, seconds: float = float("inf"), every: float = 0.05) -> Peaks:
    """Sample a process until it ends. Raises TimeoutError where it takes more than `seconds`; it is left running."""
    peaks, ends = Peaks(), time.monotonic() + seconds
    while process.poll() is None:
        peaks.sample(process.pid)
        if time.monotonic() > ends:
            raise TimeoutError(f"process {process.pid} is still there after {seconds:g} s")
        time.sleep(every)
    return peaks
