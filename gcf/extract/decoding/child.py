"""Processes of gcf's own for what strangers made: how one is started, and what binds it."""

import ctypes
import resource
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def command(module: str, *args: str) -> list[str]:
    """What runs a module's `main(*args)` in a Python of its own that finds the same modules.

    Ctrl-C is left to the parent, also while the modules are loaded.
    """
    deaf = "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    code = f"{deaf}; sys.path[:] = {sys.path!r}; from {module} import main; main(*sys.argv[1:])"
    return [sys.executable, "-c", code, *args]


def confine(memory: int) -> None:
    """Die with the parent, leave signals to it, and hold at most `memory` bytes that are this process's alone.

    Terminals and batch schedulers signal all processes of a job at once; one that obeyed would count as crashed.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


def end_of(process: subprocess.Popen, *, seconds: float) -> str:
    """How a process has ended, which has that many seconds left to do so."""
    try:
        code = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return "closed its pipe"
    return f"crashed (signal {-code})" if code < 0 else f"ended with exit code {code}"
