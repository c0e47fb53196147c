"""Which files and sockets a command opens, by strace, and which of them it has no business with."""

import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

CALLS = "open,openat,openat2,socket,connect,bind"
SYSTEM = ("/proc/", "/dev/", "/sys/", "/usr/", "/lib", "/etc/ld.so.", "/etc/localtime/")
DECODING = ("/proc/", "/dev/null/")  # beside modules loaded late, all that a decoder needs after its first video
LIBRARY = re.compile(r"\.so(\.\d+)*$")
OPENED = re.compile(r'open(?:at|at2)?\((?:AT_FDCWD|\d+)?(?:<[^>]*>)?(?:, )?"((?:[^"\\]|\\.)*)"')


def traced(command: Sequence[str], log: Path) -> list[str]:
    """The command that runs another under strace and writes the calls that open something into `log`."""
    return ["strace", "-f", "-qq", "-s", "512", "-e", f"trace={CALLS}", "-o", str(log), *command]


def can_trace() -> bool:
    """Whether strace is there and permitted."""
    try:
        return not subprocess.run(
            ["strace", "-f", "-o", "/dev/null", "true"], check=False, capture_output=True
        ).returncode
    except OSError:
        return False


def foreign(log: Path, videos: Path, folders: Iterable[Path]) -> tuple[int, list[str]]:
    """How many files were opened, and every call that opened what it has no business with.

    A process that has opened one of `videos` may open others of them and hardly anything else; the rest may open
    `folders`, what Python and the system consist of, and search for libraries in vain. No socket is allowed.
    """
    python = (f"{sys.prefix}/", f"{sys.base_prefix}/")
    allowed = (*SYSTEM, *python, *(f"{p}/" for p in [videos, *folders, *sys.path] if str(p)))
    count, decoders, found = 0, set(), []
    for line in log.read_text(errors="replace").splitlines():
        process, match = line.split()[0], OPENED.search(line)
        if match:
            path, count = f"{match[1]}/", count + 1
            in_vain = "ENOENT" in line and LIBRARY.search(match[1]) and process not in decoders
            if match[1].startswith(f"{videos}/"):
                decoders.add(process)
            elif not path.startswith((*DECODING, *python) if process in decoders else allowed) and not in_vain:
                found.append(line)
        elif re.search(r"\b(socket|connect|bind)\(", line):
            found.append(line)
    return count, found
