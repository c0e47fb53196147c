"""What a disk can refuse, said in one line."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from gcf.data.atomic import NO_ROOM
from gcf.errors import RefusedError, StoppedError


@contextmanager
def disk_faults(path: str | os.PathLike) -> Iterator[None]:
    """Turn an OSError of writing `path` into StoppedError where there is no room, else into RefusedError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in NO_ROOM:
            raise StoppedError(f"{path}: no room on the disk ({reason}); free some and run again") from error
        raise RefusedError(f"{path}: cannot be written ({reason}); name another folder") from error
