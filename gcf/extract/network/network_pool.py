"""Batches side by side: on a processor one thread each, two a CUDA device, so that one is copied while one runs."""

import copy
import queue
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

import numpy as np
import torch
from torch import Tensor

from gcf.extract.network.clip_network import ClipNetwork, choose_device

LANES = {"cuda": 2, "mps": 1, "xpu": 1}  # of a device; a processor has one for each thread

Rows = tuple[np.ndarray, np.ndarray | None]


class NetworkPool:
    """Threads that run whole batches through copies of networks; which of them takes a batch changes no number.

    On processors every lane computes with one thread. Threads that share a batch would wait for each other at the end
    of every step, the longer the more the decoders want the same processors; and one thread gives the same bits
    whatever their number. Several networks, all on the same kind of device, share the lanes.
    """

    def __init__(self, networks: Sequence[ClipNetwork], devices: Sequence[str] = ()):
        self.threads = torch.get_num_threads()
        kind = networks[0].device.type
        each = LANES.get(kind, self.threads)
        self.free = [_places(network, devices[1:], each) for network in networks]
        self.count = self.free[0].qsize()
        self.pool = ThreadPoolExecutor(self.count, initializer=_begin, initargs=(kind == "cpu",))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception) -> None:
        self.pool.shutdown(cancel_futures=True)
        torch.set_num_threads(self.threads)  # the last word of any thread is what later threads begin with

    def submit(self, pixels: np.ndarray, network: int = 0, *, method: str = "__call__") -> Future:
        """Give a batch (n, T, H, W, 3) uint8 to the network of that index when a lane is free.

        method: what is asked for, rows by `__call__` or maps by `feature_map`.
        """
        return self.pool.submit(self._run, pixels, self.free[network], method)

    def _run(self, pixels: np.ndarray, free: "queue.SimpleQueue[ClipNetwork]", method: str) -> Rows | Tensor:
        network = free.get()
        compute = getattr(network, method)
        try:
            with torch.inference_mode():
                if network.device.type != "cuda":
                    return compute(pixels)
                with torch.cuda.device(network.device), torch.cuda.stream(torch.cuda.Stream(network.device)):
                    found = compute(pixels)
                    torch.cuda.current_stream().synchronize()  # a map is read by another stream
                    return found
        finally:
            free.put(network)


def _places(network: ClipNetwork, devices: Sequence[str], each: int) -> "queue.SimpleQueue[ClipNetwork]":
    """The network and its twins on further devices, `each` of them so many times: one for every lane."""
    places: queue.SimpleQueue[ClipNetwork] = queue.SimpleQueue()
    for place in [network, *(twin(network, name) for name in devices)] * each:
        places.put(place)
    return places


def twin(network: ClipNetwork, device: str) -> ClipNetwork:
    """The same network on another device."""
    return ClipNetwork(
        copy.deepcopy(network.backbone),
        device=choose_device(device),
        precision=network.precision,
        batch_size=network.batch_size,
    )


def _begin(on_processor: bool) -> None:
    if on_processor:
        torch.set_num_threads(1)
