"""Files that are complete or absent: written under a temporary name, synced, renamed last."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

TEMPORARY = ".tmp"  # suffix of an unfinished file; anything that bears it may be deleted when no process is at work


@contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Yield a binary file that takes the place of `path` when the block ends well, and vanishes when it does not.

    The bytes are on the disk before the name is: the file is synced, renamed, then its folder is synced.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):  # a disk that fails may refuse this, too; `left_behind` finds it later
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def left_behind(folder: Path, name: str = "") -> list[Path]:
    """Unfinished files in a folder, of one final name or of any."""
    pattern = re.compile(rf"\.{re.escape(name) if name else '.+'}\.\d+{re.escape(TEMPORARY)}")
    return [path for path in folder.iterdir() if pattern.fullmatch(path.name)]


def sync_folder(folder: str | os.PathLike) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
