"""Backbones as OpenVINO reads them: converted once, in a process of their own, and kept beside the weights."""

import atexit
import contextlib
import hashlib
import inspect
import json
import logging
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import filelock
import psutil
import torch
from torch import nn

from gcf._version import __version__
from gcf.data.atomic import atomic_file, sync_folder
from gcf.data.memory import free_memory
from gcf.extract.openvino_map import openvino_version
from gcf.extract.weights_cache import home_folder

log = logging.getLogger("gcf")
MODEL, WEIGHTS, CONTENT, TRIALS = "network.xml", "network.bin", "content.json", "trials.json"
MOST_SECONDS, MOST_MEMORY = 600.0, 16 << 30  # bytes; the largest network of the registry takes 20 s and 3 GiB
SHARE_OF_MEMORY = 0.8  # of what is free: beyond that the system itself would end some process
UNUSED_SECONDS = 60 * 86400.0
CHILD = "gcf.extract.convert"


class ConversionError(Exception):
    """A backbone could not be converted; the message says why."""


class NoRoomError(ConversionError):
    """It could not now; at another time it may."""


@dataclass(frozen=True)
class ModelNames:
    """What `load_backbone` is to be given to load a network once more, in another process."""

    backbone: str
    weights: str
    temporal_stride: str


@dataclass(frozen=True)
class Conversion:
    """A converted backbone on the disk, with what its trials have shown on each kind of processor."""

    folder: Path

    @property
    def model(self) -> Path:
        """The file that OpenVINO reads."""
        return self.folder / MODEL

    @property
    def whole(self) -> bool:
        """Whether it is there, and its files are what they were."""
        try:
            return json.loads((self.folder / CONTENT).read_bytes()) == _checksums(self.folder)
        except (OSError, ValueError):
            return False

    def trial(self, key: str) -> float | None:
        """What a trial has shown before; None where there has been none."""
        shown = self._trials().get(key)
        return shown if isinstance(shown, float) else None

    def note_trial(self, key: str, shown: float) -> None:
        """Keep what a trial has shown. Where the folder cannot be written the next run tries again."""
        with contextlib.suppress(OSError), atomic_file(self.folder / TRIALS) as file:
            file.write(json.dumps(self._trials() | {key: shown}, indent=1).encode())

    def _trials(self) -> dict[str, float]:
        try:
            trials = json.loads((self.folder / TRIALS).read_bytes())
        except (OSError, ValueError):
            return {}
        return trials if isinstance(trials, dict) else {}


def conversions_folder() -> Path:
    """Where conversions are kept: beside the weights."""
    return home_folder() / "converted"


def obtain_conversion(backbone: nn.Module, names: ModelNames, shape: tuple[int, ...]) -> Conversion:
    """The conversion of a backbone for clips of a shape (B, T, H, W), made now if there is none.

    Made at most once, whoever asks for it at the same time; whole or not at all, whenever it is stopped. Raises
    ConversionError where it cannot be made, or not within a bound of time and memory; but for memory that is kept, too.
    """
    recipe = backbone.recipe
    place = conversions_folder() / f"{recipe['name']}-{conversion_key(backbone, shape)[:20]}"
    if not Conversion(place).whole:
        with _locked(place) as kept:
            if not Conversion(place).whole:  # nobody has made it meanwhile
                place = _make(names, recipe, shape, place, kept=kept)
    with contextlib.suppress(OSError):
        os.utime(place)  # when it was used last
    return Conversion(place)


def _make(names: ModelNames, recipe: dict, shape: tuple[int, ...], place: Path, *, kept: bool) -> Path:
    """Convert into `place`, or into a temporary folder where nothing can be kept; gives where it is."""
    failed = place.with_name(f"{place.name}.failed")
    if kept and failed.exists():
        raise ConversionError(f"{failed.read_text(errors='replace')} (as before; delete {failed} to try again)")
    if place.exists():
        log.warning("%s: damaged, made again", place)
        shutil.rmtree(place, ignore_errors=True)
    where = f"kept in {place}" if kept else f"for this run alone: {place.parent} cannot be written"
    log.info("%s: converting it for OpenVINO, once (%s)", recipe["name"], where)
    try:
        made = _convert(names, recipe, shape, place if kept else None)
    except NoRoomError:
        raise
    except ConversionError as error:
        with contextlib.suppress(OSError):
            failed.write_text(str(error))
        raise
    _remove_unused(place.parent)
    return made


def conversion_key(backbone: nn.Module, shape: tuple[int, ...]) -> str:
    """Hex digest of all that decides what a conversion holds. How pixels are normalised is no part of it."""
    recipe = backbone.recipe
    decides = {name: recipe.get(name) for name in ("name", "weights_sha256", "plugin_sha256", "temporal_stride")}
    decides["shape"], decides["code"] = shape, _code_sha256(backbone)
    decides["versions"] = {"gcf": __version__, "torch": torch.__version__, "openvino": openvino_version()}
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def _code_sha256(backbone: nn.Module) -> str:
    """Of the files that the network's classes are written in; torch's own are told by its version."""
    classes = {type(module) for module in backbone.modules() if not type(module).__module__.startswith("torch.")}
    files = {inspect.getsourcefile(each) for each in classes}
    digest = hashlib.sha256()
    for path in sorted(filter(None, files)):
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold the lock of a conversion; whether its place can be written to. What a killed conversion left is removed."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder.with_name(f".{folder.name}.lock"))
        lock.acquire()
    except (OSError, NotImplementedError):  # a home that is read only, or a disk without locks
        yield False
        return
    try:
        for left in folder.parent.glob(f".{folder.name}.*.tmp"):
            shutil.rmtree(left, ignore_errors=True)
        yield True
    finally:
        lock.release()


def _convert(names: ModelNames, recipe: dict, shape: tuple[int, ...], folder: Path | None) -> Path:
    """Convert into `folder`, or into a temporary one; gives the one that it is in."""
    if folder is None:
        made = Path(tempfile.mkdtemp(prefix="gcf-converted-"))
        atexit.register(shutil.rmtree, made, ignore_errors=True)
    else:
        made = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        made.mkdir(exist_ok=True)
        _run_child({**asdict(names), "expected": recipe["weights_sha256"], "shape": shape, "model": str(made / MODEL)})
        (made / CONTENT).write_text(json.dumps(_checksums(made)))
        if folder is None:
            return made
        for path in made.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        made.rename(folder)
        sync_folder(folder.parent)
    except OSError as error:
        shutil.rmtree(made, ignore_errors=True)
        raise NoRoomError(f"it cannot be written ({error})") from error
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return folder


def _checksums(folder: Path) -> dict[str, int]:
    """The CRC-32 of both files of a conversion. Raises OSError where they are not there."""
    return {name: zlib.crc32((folder / name).read_bytes()) for name in (MODEL, WEIGHTS)}


def _run_child(task: dict) -> None:
    """Convert in a process of its own, watched: what it takes is bounded, and a crash is its own."""
    code = f"import sys; sys.path[:] = {sys.path!r}; from {CHILD} import main; main()"
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        with contextlib.suppress(BrokenPipeError):  # it has ended already, and its exit code says so
            child.stdin.write(json.dumps(task).encode())
            child.stdin.close()
        _watch(child)
        said = child.stdout.read().decode(errors="replace").strip()
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    if child.returncode:
        raise ConversionError(said or f"its process ended with exit code {child.returncode}")


def _watch(child: subprocess.Popen) -> None:
    """Wait for its end; raises ConversionError where it takes too long or too much memory."""
    ends, most = time.monotonic() + MOST_SECONDS, min(MOST_MEMORY, SHARE_OF_MEMORY * free_memory())
    process = psutil.Process(child.pid)
    while child.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.memory_info().rss > most:
                raise NoRoomError(f"it takes more than {most / (1 << 30):.1f} GiB of memory")
        if time.monotonic() > ends:
            raise ConversionError(f"it takes more than {MOST_SECONDS:.0f} s")
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=0.05)


def _remove_unused(folder: Path) -> None:
    """Take away the conversions that nobody has used for two months, such as those of earlier versions."""
    for model in folder.glob(f"*/{MODEL}"):
        with contextlib.suppress(OSError):
            if time.time() - model.parent.stat().st_mtime > UNUSED_SECONDS:
                shutil.rmtree(model.parent)
