"""Batches side by side: on a processor one thread each, on GPUs two a device, so that one is copied while one runs."""

import copy
import queue
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

import numpy as np
import torch

from gcf.extract.network import ClipNetwork, choose_device

GPU_LANES = 2

Rows = tuple[np.ndarray, np.ndarray | None]


class Lanes:
    """Threads that run whole batches through copies of networks; which of them takes a batch changes no number.

    On processors every lane computes with one thread. Threads that share a batch would wait for each other at the end
    of every step, the longer the more the decoders want the same processors; and one thread gives the same bits
    whatever their number. Several networks, all on the same kind of device, share the lanes.
    """

    def __init__(self, networks: Sequence[ClipNetwork], devices: Sequence[str] = ()):
        self.threads = torch.get_num_threads()
        on_gpu = networks[0].device.type == "cuda"
        self.free = [_places(network, devices[1:], GPU_LANES if on_gpu else self.threads) for network in networks]
        self.count = self.free[0].qsize()
        self.pool = ThreadPoolExecutor(self.count, initializer=_begin, initargs=(on_gpu,))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception) -> None:
        self.pool.shutdown(cancel_futures=True)
        torch.set_num_threads(self.threads)  # the last word of any thread is what later threads begin with

    def submit(self, pixels: np.ndarray, network: int = 0) -> "Future[Rows]":
        """Run a batch (n, T, H, W, 3) uint8 through the network of that index when a lane is free."""
        return self.pool.submit(self._run, pixels, self.free[network])

    def _run(self, pixels: np.ndarray, free: "queue.SimpleQueue[ClipNetwork]") -> Rows:
        network = free.get()
        try:
            with torch.inference_mode():
                if network.device.type != "cuda":
                    return network(pixels)
                with torch.cuda.device(network.device), torch.cuda.stream(torch.cuda.Stream(network.device)):
                    return network(pixels)
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


def _begin(on_gpu: bool) -> None:
    if not on_gpu:
        torch.set_num_threads(1)
