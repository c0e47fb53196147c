"""Files that are complete or absent: written under a temporary name, synced, renamed last."""

import errno
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_ROOM = (*FULL, errno.EIO)
TEMPORARY = ".tmp"  # suffix of an unfinished file; anything that bears it may be deleted when no process is at work


@contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Yield a binary file that takes the place of `path` when the block ends well, and vanishes when it does not.

    The bytes are on the disk before the name is: the file is synced, renamed, then its folder is synced.
    """
    path = Path(path)
    temporary = None
    try:
        with _temporary_file(path) as file:
            temporary = Path(file.name)
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):  # a disk that fails may refuse this, too; `left_behind` finds it later
            if temporary is not None:
                temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def temporary_name(path: Path) -> Path:
    """Where `path` is prepared; never twice the same, as the ids of processes may be."""
    return path.with_name(f".{path.name}.{uuid4().hex}{TEMPORARY}")


def _temporary_file(path: Path) -> BinaryIO:
    """A new file, locked for as long as it is open, by which `clear_left_behind` knows it is alive."""
    while True:
        file = temporary_name(path).open("xb")
        with suppress(OSError):  # storage without locks: there nothing is cleared
            fcntl.flock(file, fcntl.LOCK_SH)  # shared: HDF5 reads it before it is closed
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # cleared before it was locked


def left_behind(folder: Path, name: str = "") -> list[Path]:
    """Unfinished files in a folder, of one final name or of any."""
    what = re.escape(name) if name else ".+"
    pattern = re.compile(rf"\.{what}\.(\d+|[0-9a-f]{{32}}){re.escape(TEMPORARY)}")
    return [path for path in folder.iterdir() if pattern.fullmatch(path.name)]


def clear_left_behind(folder: Path) -> None:
    """Delete the unfinished files in a folder whose writers are gone; what is being written stays."""
    for path in left_behind(folder):
        with suppress(OSError), path.open("rb") as file:  # gone, a folder, in use, or no locks here
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def sync_folder(folder: str | os.PathLike) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
