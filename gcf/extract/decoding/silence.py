"""How long a process has been silent by its own fault: what it waits for a disk or a processor is not counted."""

import os
from dataclasses import dataclass

TICKS = os.sysconf("SC_CLK_TCK")  # a second
STATE, USER, SYSTEM, DISK = 0, 11, 12, 39  # proc(5), stat: fields 3, 14, 15 and 42, counted after the name


@dataclass(frozen=True)
class _Stat:
    """A moment of a process: its state, the seconds it has worked, and those it has waited for a disk."""

    state: str
    worked: float
    waited: float


class OwnTime:
    """How much of the silence of a process is its own: call after every piece of it.

    One in uninterruptible wait (a disk, a network disk) could not, and one that is ready to run only while it had a
    processor. Where the system does not tell, all of them count.
    """

    def __init__(self, pid: int, *, proc: str = "/proc"):
        self.path, self.last = f"{proc}/{pid}/stat", None

    def __call__(self, seconds: float) -> float:
        """In how many of the last `seconds` it could have worked."""
        last, now = self.last, _read(self.path)
        self.last = now
        if now and now.state == "D":
            return 0.0
        if not now or not last:
            return seconds
        if now.state == "R":
            return min(seconds, now.worked - last.worked)
        return max(0.0, seconds - (now.waited - last.waited))


def _read(path: str) -> _Stat | None:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()  # the name before may hold anything
        ticks = [int(fields[number]) for number in (USER, SYSTEM, DISK)]
    except (OSError, ValueError, IndexError):
        return None
    return _Stat(fields[STATE], (ticks[0] + ticks[1]) / TICKS, ticks[2] / TICKS)
