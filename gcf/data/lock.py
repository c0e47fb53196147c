"""Locks that end with the process that holds them, however it ends."""

import errno
import fcntl
import logging
import os
import socket
from pathlib import Path

from gcf.errors import RefusedError

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # of some network disks

log = logging.getLogger("gcf")


def take_lock(path: Path, *, of: Path) -> int:
    """Make and lock a file, and its folder if need be; closing the descriptor ends the lock.

    of: what is locked. Raises RefusedError where another process holds the lock, OSError where the
    file cannot be made or written.
    """
    while True:
        path.parent.mkdir(exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            _lock(lock, of)
            if _is_at(lock, path):  # and not one that its holder has removed in the meantime
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def _lock(lock: int, of: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 200, 0).decode(errors="replace")
        raise RefusedError(f"{of}: in use by {holder}; wait for it, or stop it") from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        log.warning("%s: this storage has no locks; see to it that no other process works on it", of)
    os.truncate(lock, 0)
    os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)


def _is_at(lock: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), os.stat(path))
    except FileNotFoundError:
        return False
