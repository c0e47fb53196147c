"""A trained run for which its disk had no room: kept in gcf's home until the same command takes it."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from gcf._version import __version__
from gcf.data.atomic import FULL, sync_folder, temporary_name
from gcf.data.home import home_folder
from gcf.data.recipe import canonical_json
from gcf.errors import StoppedError
from gcf.head.runs import METRICS

BLOCK = 4096  # bytes that a file takes at a time


def unplaced_run(content: Mapping) -> Path | None:
    """Where the run is kept that `content` decides, should there be no room; None without a home."""
    text = canonical_json(content | {"gcf": __version__})
    try:
        return home_folder() / "unplaced" / hashlib.sha256(text.encode()).hexdigest()[:32]
    except RuntimeError:  # nobody knows this user's home
        return None


def is_there(kept: Path | None) -> bool:
    """Whether a run is kept there, complete."""
    return kept is not None and (kept / METRICS).is_file()


def take(kept: Path, folder: Path, *, out: Path) -> None:
    """Copy a run that is kept into `folder`."""

    def write(place: Path) -> None:
        for path in kept.rglob("*"):
            if path.is_file():
                target = place / path.relative_to(kept)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)

    write_run(folder, write, out=out, kept_already=kept)


@contextmanager
def forgotten_at_the_end(kept: Path | None) -> Iterator[None]:
    """When the block ends well the run has its place, and is not kept any longer."""
    yield
    if is_there(kept):
        shutil.rmtree(kept, ignore_errors=True)


def write_run(
    folder: Path,
    write: Callable[[Path], object],
    *,
    out: Path,
    kept: Path | None = None,
    kept_already: Path | None = None,
) -> None:
    """Write a run into `folder`; where its disk is full, StoppedError says how much is missing.

    kept: where the run is written then, for the same command to take. kept_already: where that which
    was trained is in any case.
    """
    try:
        _write_synced(folder, write)
        return
    except OSError as error:
        if error.errno not in FULL:
            raise
        room, fault = _room(folder), error
    size = _measured(write) if kept is None else _keep(write, kept)
    where = kept_already if kept is None or size is None else kept
    stays = "what was trained could not be kept, and is trained again"
    if where is not None:
        stays = f"what was trained is kept in {where}, from where it goes on"
    raise StoppedError(
        f"{out}: no room on the disk ({fault.strerror}; {_missing(size, room)}); free some and run the "
        f"same command again: {stays}"
    ) from fault


def _write_synced(folder: Path, write: Callable[[Path], object]) -> None:
    """What a disk refuses only when it is synced is known here, too."""
    write(folder)
    for path in folder.rglob("*"):
        sync_folder(path)


def _keep(write: Callable[[Path], object], kept: Path) -> int | None:
    """Write the run where it is kept; its size, or None where that cannot be."""
    making = temporary_name(kept)
    try:
        making.mkdir(parents=True)
        _write_synced(making, write)
        shutil.rmtree(kept, ignore_errors=True)
        making.rename(kept)
        return _size(kept)
    except OSError:
        shutil.rmtree(making, ignore_errors=True)
        return None


def _measured(write: Callable[[Path], object]) -> int | None:
    """How much a run takes: written where temporary files go; None where that is full, too."""
    with suppress(OSError), tempfile.TemporaryDirectory(prefix="gcf-") as place:
        write(Path(place))
        return _size(Path(place))
    return None


def _size(folder: Path) -> int:
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return sum(-(-size // BLOCK) * BLOCK for size in sizes)


def _room(folder: Path) -> int:
    """What is free on the disk, with what a run in the folder takes already, which will go."""
    return shutil.disk_usage(folder).free + _size(folder)


def _missing(size: int | None, room: int) -> str:
    if size is None:
        return f"{room:,} bytes are there"
    if size > room:
        return f"{size:,} bytes are needed, {size - room:,} are missing"
    return f"{size:,} bytes are needed"  # a quota, which does not show in what is free
