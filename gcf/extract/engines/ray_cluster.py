"""The Ray cluster of an extraction: found or started, kept quiet, and how many workers fit on it."""

import contextlib
import importlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType

from gcf.errors import GcfError, UsageError
from gcf.extract.stream.config import ExtractConfig

CONNECT_SECONDS = 5.0  # for a head node to answer at all; Ray itself would try for two minutes
OBJECT_STORE = 128 << 20  # bytes: nothing but names and counts passes through Ray
log = logging.getLogger("gcf")


@dataclass(frozen=True)
class Cluster:
    """A connection to Ray, and what every worker reserves of a node."""

    ray: ModuleType
    gpus: bool
    cpus: int

    def places(self) -> int:
        """How many workers fit on the nodes that are alive now."""
        return sum(_room(node, self.cpus, gpus=self.gpus) for node in nodes(self.ray))


@contextlib.contextmanager
def connected(config: ExtractConfig) -> Iterator[Cluster]:
    """Connect to the running cluster, or start Ray on this machine; what was started here ends here.

    Raises GcfError where Ray is absent, does not answer, or no worker fits on any node.
    """
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise UsageError("--engine ray needs Ray: pip install 'gcf-net[ray]'") from error
    with _hushed():
        ours = not ray.is_initialized()
        try:
            if ours:
                _connect(ray)
            with signals_held():
                cluster = _measure(ray, config)
            yield cluster
        finally:
            if ours:
                with contextlib.redirect_stdout(None), signals_held():
                    ray.shutdown()


def nodes(ray: ModuleType) -> list[dict]:
    """The nodes that are alive."""
    return [node for node in ray.nodes() if node["Alive"]]


def _connect(ray: ModuleType) -> None:
    """To the cluster that RAY_ADDRESS names, else to the one that runs here, else to one of this machine alone."""
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    address = os.environ.get("RAY_ADDRESS") or "auto"
    if "://" in address:
        raise UsageError(f"RAY_ADDRESS={address}: run gcf on a node of the cluster and give its HOST:PORT, or auto")
    if address != "local":
        try:
            _knock(address)
            with signals_held(), _own_sigterm():
                ray.init(address=address, **quiet)
            return
        except (OSError, ValueError, RuntimeError, OverflowError) as error:
            if address != "auto" or not isinstance(error, ConnectionError):
                where = "the running Ray cluster" if address == "auto" else f"RAY_ADDRESS={address}"
                said = (str(error) or type(error).__name__).splitlines()[0]
                raise GcfError(f"{where}: no connection ({said}); does `ray status` answer on this machine?") from error
        log.info("no Ray cluster is running (RAY_ADDRESS would name one): starting Ray on this machine")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with signals_held(), _own_sigterm():
        ray.init(address="local", include_dashboard=False, object_store_memory=OBJECT_STORE, **quiet)


def _knock(address: str) -> None:
    """Raise OSError or ValueError soon where nobody answers."""
    if address != "auto":
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()


def _measure(ray: ModuleType, config: ExtractConfig) -> Cluster:
    """What each worker is to reserve. Raises UsageError where that is nowhere to be had."""
    resources = [node["Resources"] for node in nodes(ray)]
    with_gpu = [r for r in resources if r.get("GPU", 0) >= 1]
    gpus = bool(with_gpu) if config.device == "auto" else config.device == "cuda"
    if gpus and not with_gpu:
        raise UsageError("--device cuda: no node of the Ray cluster has a GPU; start them with `ray start --num-gpus`")
    cpus = config.worker_cpus or (_cpus_beside_gpu(with_gpu) if gpus else _threads())
    cluster = Cluster(ray, gpus, cpus)
    if not cluster.places():
        most = int(max((r.get("CPU", 0) for r in resources), default=0))
        raise UsageError(
            f"no worker fits on a node of the Ray cluster: each takes {cpus} CPUs{' and a GPU' * gpus}, the nodes have "
            f"{most} at most; give --worker-cpus"
        )
    return cluster


def _room(node: dict, cpus: int, *, gpus: bool) -> int:
    room = int(node["Resources"].get("CPU", 0) // cpus)
    return min(room, int(node["Resources"].get("GPU", 0))) if gpus else room


def _cpus_beside_gpu(with_gpu: list[dict]) -> int:
    """A fair share of the CPUs for each GPU, where they are scarcest."""
    return max(1, int(min(r.get("CPU", 0) // r["GPU"] for r in with_gpu)))


def _threads() -> int:
    """As many as the local engine's network would take; their number changes the speed and no bit."""
    import torch

    return torch.get_num_threads()


@contextlib.contextmanager
def signals_held() -> Iterator[Callable[[], None]]:
    """Keep SIGINT, SIGTERM and SIGHUP back: Ray's compiled code cannot bear an exception from a
    signal's handler, and answers it with SystemError or by waiting for ever (2.60).

    Gives a function, to be called between calls of Ray, that does what a signal has asked for; so does the end of the
    `with`. Who sends a second signal is not kept waiting.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    came, given = [], []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    handlers = {number: handler for number, handler in handlers.items() if callable(handler)}

    def note(number, frame) -> None:
        came.append(number)
        if len(came) > 1:
            given.append(True)
            handlers[number](number, frame)

    def deliver() -> None:
        if came and not given:
            given.append(True)
            handlers[came[0]](came[0], None)

    for number in handlers:
        signal.signal(number, note)
    try:
        yield deliver
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        deliver()


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """ray.init takes SIGTERM over and would leave without a word; keep it as it was."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit:
        if callable(before):
            before(signal.SIGTERM, None)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


class _Hush:
    """Standard output without what Ray's own threads print there of workers that died: the run says it itself."""

    def __init__(self, stream):
        self._stream = stream

    def write(self, text: str) -> int:
        if threading.current_thread().name.startswith("ray_"):
            return len(text)
        return self._stream.write(text)

    def __getattr__(self, name: str):
        return getattr(self._stream, name)


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    hush = _Hush(sys.stdout)
    with contextlib.redirect_stdout(hush):
        yield
