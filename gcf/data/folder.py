"""A folder that one command writes: locked from the start, prepared inside, finished by one file.

What is written lies in a staging folder until all of it is there. Then each file gets its name, and
the one that says that the folder is complete gets it last.
"""

import json
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gcf.data.atomic import FULL, left_behind, sync_folder, temporary_name
from gcf.data.lock import take_lock
from gcf.errors import RefusedError, StoppedError

LOCK, STAGING = ".gcf-lock", "gcf-staging"
BEGUN, READY, CLEARED = ".begun", ".ready", ".cleared"  # how far it is, in the staging folder
MOST_NAMES = 5


@contextmanager
def locked_folder(out: str | os.PathLike) -> Iterator[Path]:
    """Make a folder, see that it can be written, keep others out, and yield where it really lies.

    Links are followed. A folder that was made and got nothing vanishes again. Raises RefusedError
    where another process works on it or it cannot be written, StoppedError for a full disk.
    """
    folder, missing = _resolved(Path(out))
    lock = None
    try:
        lock = _locked(folder, Path(out))
        yield folder
    finally:
        with suppress(OSError):  # a lock file that stays is locked by nobody
            if lock is not None:
                (folder / LOCK).unlink(missing_ok=True)
        if lock is not None:
            os.close(lock)
        with suppress(OSError):  # not empty
            for path in missing:
                path.rmdir()


def _resolved(out: Path) -> tuple[Path, list[Path]]:
    """Where a folder really lies, and which of it and the folders above are to be made."""
    try:
        folder = out.resolve()
        if folder.exists() and not folder.is_dir():
            raise RefusedError(f"{out}: is a file; name a folder")
        return folder, [path for path in (folder, *folder.parents) if not path.exists()]
    except (OSError, RuntimeError) as error:  # RuntimeError: a link that leads to itself
        raise RefusedError(f"{out}: leads nowhere ({error}); name another folder") from error


def _locked(folder: Path, out: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return take_lock(folder / LOCK, of=out)
    except OSError as error:
        if error.errno in FULL:
            raise StoppedError(
                f"{out}: no room on the disk ({error.strerror}), not even to begin; free some and run again"
            ) from error
        raise RefusedError(f"{out}: cannot be written ({error.strerror}); name another folder") from error


def entries(folder: Path) -> list[str]:
    """The names in a folder, without the lock and what writers leave unfinished."""
    unfinished = {path.name for path in left_behind(folder)} | {LOCK}
    return sorted(path.name for path in folder.iterdir() if path.name not in unfinished)


def named(names: Collection[str]) -> str:
    """Some of the names, in words.

    >>> named(["b", "a"])
    'a, b'
    """
    shown = ", ".join(sorted(names)[:MOST_NAMES])
    more = len(names) - MOST_NAMES
    return shown if more < 1 else f"{shown} and {more:,} more"


@contextmanager
def staged(folder: Path, *, last: str, replaces: Collection[Path] = ()) -> Iterator[Path]:
    """Yield a folder, the files of which move into the locked `folder` when the block ends well.

    last: the file that says that all is there. replaces: the files of an earlier run, which go.
    Raises StoppedError where files cannot be moved; they stay then, and the next run moves them.
    """
    staging = temporary_name(folder / STAGING)
    try:
        staging.mkdir()
        going = [str(path.relative_to(folder)) for path in replaces]
        # Now, since nothing more may fit when all is written.
        (staging / BEGUN).write_text(json.dumps(going), encoding="utf-8")
        yield staging
        for file in _files(staging):
            sync_folder(file)  # a file is synced the same way
        (staging / BEGUN).rename(staging / READY)
        sync_folder(staging)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    _move(staging, folder, last)


def clear_staging(folder: Path, *, last: str) -> None:
    """Of runs that were killed in the locked folder: finish what was ready, remove what was not."""
    for staging in left_behind(folder, STAGING):
        if (staging / READY).exists() or (staging / CLEARED).exists():
            _move(staging, folder, last)
        else:
            shutil.rmtree(staging, ignore_errors=True)


def _move(staging: Path, folder: Path, last: str) -> None:
    """Clear the earlier run away, then move the files; may be done again where it was cut off."""
    try:
        if (staging / READY).exists():
            going = json.loads((staging / READY).read_bytes())
            (folder / last).unlink(missing_ok=True)  # from here to the end this is no run
            remove_files([folder / name for name in going], folder)
            (staging / READY).rename(staging / CLEARED)
        for file in sorted(_files(staging), key=lambda path: path == staging / last):
            target = folder / file.relative_to(staging)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
            sync_folder(target.parent)
        shutil.rmtree(staging)
    except (OSError, ValueError) as error:
        raise StoppedError(
            f"{folder}: cannot be finished ({error}); all that was to be written lies in {staging}"
        ) from error


def remove_files(files: Collection[Path], folder: Path) -> None:
    """Remove files below a folder, and the folders between that they leave empty."""
    for path in files:
        path.unlink(missing_ok=True)
        with suppress(OSError):  # not empty
            for parent in path.parents:
                if parent == folder:
                    break
                parent.rmdir()


def _files(staging: Path) -> list[Path]:
    marks = {staging / name for name in (BEGUN, READY, CLEARED)}
    return [path for path in staging.rglob("*") if path.is_file() and path not in marks]
