"""A command of gcf in a fork of this process, which has loaded torch already: each run is then a second or less."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gcf.cli

KILLED = -9  # the exit code, as Python has it
EVERY = 0.0005  # seconds between two looks at the process


@dataclass(frozen=True)
class Ended:
    """A command's exit code, KILLED where it was, and the most bytes that it held."""

    code: int
    memory: int


def run_forked(command: Sequence[str], said: Path, *, seconds: float = float("inf")) -> Ended:
    """Run a command, its standard error in the file `said`; it is killed after so many seconds."""
    pid, ends, alive = os.fork(), time.monotonic() + seconds, True
    if not pid:
        for number, name in ((1, os.devnull), (2, str(said))):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        code = 70
        try:
            code = gcf.cli.run(command)
        finally:
            os._exit(code)
    while True:
        done, status, used = os.wait4(pid, os.WNOHANG)
        if done:
            return Ended(os.waitstatus_to_exitcode(status), used.ru_maxrss * 1024)
        if alive and time.monotonic() > ends:
            os.kill(pid, 9)
            alive = False
        time.sleep(EVERY)
