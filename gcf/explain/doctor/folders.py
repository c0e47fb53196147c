"""What the disk does: room, writing and file locks where results go, room and writing where weights are kept."""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from gcf.explain.doctor.finding import FAULT, OK, WARNING, Finding

GIB = 1 << 30
# Bytes: a clip of 2048 float16 values takes 4 KiB, so 1 GiB holds 250,000 clips, a day and a half of video at 30 fps
LEAST_ROOM, LITTLE_ROOM = 64 << 20, GIB


def check_room(folder: Path) -> Finding:
    """Free room where results go."""
    free = shutil.disk_usage(folder).free
    says = f"{free / GIB:.1f} GiB free in {folder.resolve()}"
    if free < LITTLE_ROOM:
        return Finding("room", FAULT if free < LEAST_ROOM else WARNING, says, "free some, or name another --folder")
    return Finding("room", OK, says)


def check_weights_room(folder: Path) -> Finding:
    """Room and writing where fetched weights are kept; it need not be there yet, and may be shared and read-only."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    says = f"{free / GIB:.1f} GiB free in {folder}"
    if not os.access(there, os.W_OK | os.X_OK):
        return Finding(
            "weights", WARNING, f"{folder} cannot be written to", "weights already there work; or set GCF_HOME"
        )
    if free < LITTLE_ROOM:
        return Finding("weights", WARNING, says, "a network's weights take up to 0.5 GiB: free some, or set GCF_HOME")
    return Finding("weights", OK, says)


def check_locks(folder: Path) -> Finding:
    """Whether files can be written where results go, and whether a lock (flock) keeps a second program out there.

    Extraction holds one, so that two runs never write one file.
    """
    where = folder.resolve()
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".gcf-doctor-") as file, open(file.name, "rb") as second:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                says = f"flock does not work in {where} ({error.strerror})"
                return Finding("locks", FAULT, says, "write to a local disk; on NFS or Lustre, mount it with locks")
            if not _is_refused(second):
                says = f"a second lock on one file is granted in {where}"
                return Finding("locks", WARNING, says, "never let two runs write the same file there")
    except OSError as error:
        return Finding("locks", FAULT, f"{where} cannot be written to ({error.strerror})", "name another --folder")
    return Finding("locks", OK, f"files can be written and locked in {where}")


def _is_refused(second) -> bool:
    """Whether another opening of a locked file gets no lock of its own."""
    try:
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
