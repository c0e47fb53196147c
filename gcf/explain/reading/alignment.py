"""Where the points of a feature map lie on the network's input.

A layer that steps by s and pads half its kernel looks, with its output i, around its input s * i. If all do, the map's
point i sees the input around pixel s * i, with s the product of the strides: the first point lies on the first pixel,
not in the middle of the first of equal parts. On 4 x 4 maps of 112 pixels that is 14 pixels of difference.
"""

from torch import nn

from gcf.extract.backbones.temporal import STRIDED, triple


def grid_strides(
    network: nn.Module, clip: tuple[int, int, int], grid: tuple[int, int, int]
) -> tuple[int | None, int | None, int | None]:
    """Stride of a map's grid (T', h, w) on clips (T, H, W), axis by axis; None where points are not at 0, s, 2 s, ...

    None means that a stepping layer is not padded by half its kernel, as where patches are cut out, or that the
    strides of the network's convolutions and pools do not explain the size of the map.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, STRIDED)]
    return tuple(_stride(layers, axis, clip[axis], grid[axis]) for axis in range(3))


def _stride(layers: list[nn.Module], axis: int, length: int, points: int) -> int | None:
    """The stride along one axis, `length` long, on which there are so many points."""
    stepping = [layer for layer in layers if triple(layer.stride)[axis] > 1]
    if any(triple(layer.kernel_size)[axis] != 2 * _padding(layer)[axis] + 1 for layer in stepping):
        return None
    products = {1}
    for layer in stepping:  # each once or, in a branch beside it, not at all
        products |= {p * triple(layer.stride)[axis] for p in products if p < length}
    return min((p for p in products if -(-length // p) == points), default=None)


def _padding(layer: nn.Module) -> tuple[int, int, int]:
    """A stepping layer's padding; in words it can only be "valid", which is none."""
    return (0, 0, 0) if isinstance(layer.padding, str) else triple(layer.padding)
