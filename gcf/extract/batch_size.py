"""How many clips a forward pass takes: decided by the network and the device, so that every run of it agrees."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

ON_GPU = 32
ON_PROCESSOR = 4  # in float32
MOST, LEAST = 8, 2
# Bytes, chosen by the rates of five networks (benchmarks/README.md). Above 32 MiB the C library hands every block back
# to the system at once, which zeroes it anew for each layer of each batch (glibc, DEFAULT_MMAP_THRESHOLD_MAX).
LARGEST_MAP = 40 << 20


def batch_size_of(map_values: int, *, device: torch.device, bytes_each: int) -> int:
    """Clips a pass, from the values of a clip's largest feature map; a power of two on processors in half precision.

    Not measured at the start: it decides the last bits, and shards and repeated runs must agree on it.

    >>> batch_size_of(144 * 16 * 56 * 56, device=torch.device("cpu"), bytes_each=2)
    2
    """
    if device.type != "cpu":
        return ON_GPU
    if bytes_each == 4:
        return ON_PROCESSOR
    size = MOST
    while size > LEAST and size * map_values * bytes_each > LARGEST_MAP:
        size //= 2
    return size


@contextmanager
def largest_map(network: nn.Module) -> Iterator[list[int]]:
    """While it is open, the one item of the list is the most values a clip that any layer's output has had."""
    largest = [0]

    def look(module: nn.Module, given: tuple, output: object) -> None:  # noqa: ARG001 - a hook's signature
        if isinstance(output, Tensor) and output.ndim == 5:  # (B, M, T, H, W)
            largest[0] = max(largest[0], output[0].numel())

    hooks = [module.register_forward_hook(look) for module in network.modules()]
    try:
        yield largest
    finally:
        for hook in hooks:
            hook.remove()
