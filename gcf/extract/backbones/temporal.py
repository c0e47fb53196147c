"""Take the stride along time out of a network: same weights, one feature-map slice per frame."""

from torch import nn

STRIDED = (nn.Conv3d, nn.MaxPool3d, nn.AvgPool3d)


def triple(size) -> tuple[int, int, int]:
    """A kernel, stride or padding as (T, H, W), however it was given.

    >>> triple(2)
    (2, 2, 2)
    """
    return (size, size, size) if isinstance(size, int) else tuple(size)


def temporal_stride_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Name -> layer, for every convolution and pool that steps over frames."""
    layers = {name: module for name, module in network.named_modules() if isinstance(module, STRIDED)}
    return {name: layer for name, layer in layers.items() if triple(layer.stride)[0] > 1}


def remove_temporal_stride(network: nn.Module) -> None:
    """Give every such layer stride 1 in time, in place; each must be padded so that T then stays T."""
    for name, layer in temporal_stride_layers(network).items():
        kernel, padding = triple(layer.kernel_size)[0], triple(layer.padding)[0]
        if kernel != 2 * padding + 1:
            raise ValueError(f"{name}: kernel {kernel} with padding {padding} in time cannot keep every frame")
        layer.stride = (1, *triple(layer.stride)[1:])
