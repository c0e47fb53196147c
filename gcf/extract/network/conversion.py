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
import sysconfig
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

import filelock
import psutil
import torch
from torch import nn

from gcf._version import __version__
from gcf.data.atomic import atomic_file, sync_folder
from gcf.data.home import home_folder
from gcf.data.memory import free_memory
from gcf.extract.decoding.child import command
from gcf.extract.network.openvino_map import openvino_version

log = logging.getLogger("gcf")
MODEL, WEIGHTS, CONTENT, TRIALS = "network.xml", "network.bin", "content.json", "trials.json"
MOST_SECONDS, MOST_MEMORY = 600.0, 16 << 30  # bytes; the largest network of the registry takes 20 s and 3 GiB
SHARE_OF_MEMORY = 0.8  # of what is free: beyond that the system itself would end some process
UNUSED_SECONDS = 60 * 86400.0
LIBRARIES = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
CHILD, LASTING = "gcf.extract.network.convert", 4  # exit code where another attempt would end the same way


class ConversionError(Exception):
    """A backbone could not be converted; the message says why."""


class PassingError(ConversionError):
    """It could not be converted now, for want of memory, disk or a working machine; at another time it may."""


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
    ConversionError where it cannot be made, or not within a bound of time, which is remembered; and PassingError.
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
    if failed.exists():
        raise ConversionError(f"{failed.read_text(errors='replace')} (as before; delete {failed} to try again)")
    if place.exists():
        log.warning("%s: damaged, made again", place)
        shutil.rmtree(place, ignore_errors=True)
    where = f"kept in {place}" if kept else f"for this run alone: {place.parent} cannot be written"
    log.info("%s: converting it for OpenVINO, once (%s)", recipe["name"], where)
    try:
        made = _convert(names, recipe, shape, place if kept else None)
    except PassingError:
        raise
    except ConversionError as error:
        with contextlib.suppress(OSError), atomic_file(failed) as file:
            file.write(str(error).encode())
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
    """Of what decides a network beside its weights: its code, how it is converted, tensors that no checkpoint has."""
    digest = hashlib.sha256(Path(__file__).with_name("convert.py").read_bytes())
    for path in sorted(_code_files(backbone)):
        with contextlib.suppress(OSError):
            digest.update(Path(path).read_bytes())
    kept = backbone.state_dict().keys()
    for name, buffer in backbone.named_buffers():
        if name not in kept:
            digest.update(name.encode() + buffer.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _code_files(backbone: nn.Module) -> set[str]:
    """The files of a network's classes and of their base classes, and what these import from outside of libraries;
    torch's own are told by its version."""
    classes = {each for module in backbone.modules() for each in type(module).__mro__}
    todo = [sys.modules.get(each.__module__) for each in classes if not each.__module__.startswith("torch.")]
    files: set[str] = set()
    while todo:
        module = todo.pop()
        path = getattr(module, "__file__", None)
        if path and path not in files:
            files.add(path)
            todo += [] if path.startswith(LIBRARIES) else _imported(module)
    return files


def _imported(module: ModuleType) -> list[ModuleType]:
    """The modules outside of libraries that a module has taken something from. Packages of gcf are left out: what is an
    attribute of theirs depends on what else this process has loaded."""
    found = []
    for value in list(vars(module).values()):
        name = value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", None)
        used = sys.modules.get(name) if isinstance(name, str) else None
        path = getattr(used, "__file__", None)
        of_gcf = isinstance(name, str) and name.partition(".")[0] == "gcf" and hasattr(used, "__path__")
        if path and not of_gcf and not path.startswith(LIBRARIES):
            found.append(used)
    return found


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold the lock of a conversion; whether its place can be written to. What a killed conversion left is removed."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder.with_name(f".{folder.name}.lock"), fallback_to_soft=False)
        _acquire(lock)
    except (OSError, NotImplementedError):  # a home that is read only, a disk without locks, a wait without end
        yield False
        return
    try:
        for left in folder.parent.glob(f".{folder.name}.*.tmp"):
            shutil.rmtree(left, ignore_errors=True)
        yield True
    finally:
        lock.release()


def _acquire(lock: filelock.BaseFileLock) -> None:
    """Take the lock, waiting as long as a conversion may take. Raises TimeoutError, which is an OSError."""
    try:
        lock.acquire(timeout=1)
    except filelock.Timeout:
        log.info("another process converts this network; waiting for it")
        lock.acquire(timeout=MOST_SECONDS)


def _convert(names: ModelNames, recipe: dict, shape: tuple[int, ...], folder: Path | None) -> Path:
    """Convert into `folder`, or into a temporary one; gives the one that it is in."""
    try:
        made = _new_folder(folder)
    except OSError as error:
        raise PassingError(f"it cannot be written ({error})") from error
    try:
        _run_child({**asdict(names), "expected": recipe["weights_sha256"], "shape": shape, "model": str(made / MODEL)})
        (made / CONTENT).write_text(json.dumps(_checksums(made)))
        if folder is None:
            return made
        for path in made.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        made.rename(folder)
    except OSError as error:
        shutil.rmtree(made, ignore_errors=True)
        raise PassingError(f"it cannot be written ({error})") from error
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    with contextlib.suppress(OSError):  # it is there already
        sync_folder(folder.parent)
    return folder


def _new_folder(folder: Path | None) -> Path:
    """An empty one beside `folder`, or a temporary one that is gone when this process ends."""
    if folder is None:
        made = Path(tempfile.mkdtemp(prefix="gcf-converted-"))
        atexit.register(shutil.rmtree, made, ignore_errors=True)
        return made
    made = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    made.mkdir()
    return made


def _checksums(folder: Path) -> dict[str, int]:
    """The CRC-32 of both files of a conversion. Raises OSError where they are not there."""
    return {name: zlib.crc32((folder / name).read_bytes()) for name in (MODEL, WEIGHTS)}


def _run_child(task: dict) -> None:
    """Convert in a process of its own, watched: what it takes is bounded, and a crash is its own."""
    child = subprocess.Popen(command(CHILD), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
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
    if child.returncode == LASTING:
        raise ConversionError(said)
    if child.returncode:
        raise PassingError(said or f"its process ended with exit code {child.returncode}")


def _watch(child: subprocess.Popen) -> None:
    """Wait for its end; raises ConversionError where it takes too long or too much memory."""
    ends, most = time.monotonic() + MOST_SECONDS, min(MOST_MEMORY, SHARE_OF_MEMORY * free_memory())
    process = psutil.Process(child.pid)
    while child.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.memory_info().rss > most:
                raise PassingError(f"it takes more than {most / (1 << 30):.1f} GiB of memory")
        if time.monotonic() > ends:
            raise ConversionError(f"it takes more than {MOST_SECONDS:.0f} s")
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=0.05)


def _remove_unused(folder: Path) -> None:
    """Take away what nobody has used for two months, such as conversions of earlier versions."""
    for path in (*folder.glob("*.failed"), *(model.parent for model in folder.glob(f"*/{MODEL}"))):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > UNUSED_SECONDS:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
