"""A network's first convolution on raw pixels: 2 x 2 blocks of them as channels, mean and std in its weights.

A convolution with stride 2 over 3 channels keeps matrix units idle. Over blocks it has stride 1, a quarter of the
positions to slide over and four times the channels, and is the same function: in resnext101 it took half the time.
"""

import torch
from torch import Tensor, nn

from gcf.extract.convolution import with_weights

BLOCK, COLOURS = 2, 3
CHANNELS = 16  # of a block: 2 x 2 pixels of 3 colours, and 4 zeros, because 16 are faster than 12
MIDDLE = 128  # taken from every pixel: -128..127 is exact in bfloat16 and small beside the weights' rounding


class PixelBlocks:
    """Pixels (B, T, H, W, 3) uint8 -> the input of `convolution`, (B, 16, T + 2p, H', W'), padded as p asks.

    first: the network's first convolution, which would read normalised clips. Raises ValueError for one that is not a
    plain strided convolution of RGB clips.
    """

    def __init__(self, first: nn.Conv3d, recipe: dict):
        if first.in_channels != COLOURS or first.groups != 1 or set(first.dilation) != {1}:
            raise ValueError("not a plain convolution of colours")
        if first.stride[1:] != (BLOCK, BLOCK) or first.padding_mode != "zeros" or isinstance(first.padding, str):
            raise ValueError(f"not a convolution that takes every second pixel: {first}")
        self.kernel, self.padding = first.kernel_size, first.padding
        scale, shift = _normalisation(recipe)  # what the network sees of a pixel: scale * (pixel - 128) + shift
        weight = first.weight if recipe["channel_order"] == "RGB" else first.weight.flip(1)
        bias = torch.zeros(len(weight)) if first.bias is None else first.bias
        bias = bias + torch.einsum("ocijk,c->o", weight, shift)
        self.convolution = with_weights(
            first,
            self._blocks(weight * scale.view(1, -1, 1, 1, 1)),
            bias,
            stride=(first.stride[0], 1, 1),
            padding=(0, 0, 0),
        )
        self.outside = (-shift / scale).repeat(BLOCK * BLOCK)  # the padding's zeros, in pixels

    def _blocks(self, weight: Tensor) -> Tensor:
        """(O, 3, t, h, w) -> (O, 16, t, h', w'): taps that fall on one block become its channels."""
        out, _, frames, height, width = weight.shape
        before = [self._before(n) - self.padding[n] for n in (1, 2)]
        after = [-(before[0] + height) % BLOCK, -(before[1] + width) % BLOCK]
        padded = nn.functional.pad(weight, (before[1], after[1], before[0], after[0]))
        blocks = padded.unflatten(4, (-1, BLOCK)).unflatten(3, (-1, BLOCK))  # (O, 3, t, h', 2, w', 2)
        channels = blocks.permute(0, 4, 6, 1, 2, 3, 5).reshape(out, -1, frames, blocks.shape[3], blocks.shape[5])
        return nn.functional.pad(channels, (0, 0, 0, 0, 0, 0, 0, CHANNELS - channels.shape[1]))

    def _before(self, axis: int) -> int:
        """Padding before the first pixel, to whole blocks."""
        return -(-self.padding[axis] // BLOCK) * BLOCK

    def __call__(self, pixels: Tensor, dtype: torch.dtype) -> Tensor:
        """The convolution's input; H and W must be even."""
        count, frames, height, width, _ = pixels.shape
        along = self.padding[0]
        sides = [self._side(size, axis) for size, axis in ((height, 1), (width, 2))]
        blocks = torch.zeros(count, frames + 2 * along, *sides, CHANNELS, dtype=dtype)
        blocks[..., : len(self.outside)] = self.outside.to(dtype)
        top, left = (self._before(axis) // BLOCK for axis in (1, 2))
        inside = blocks[:, along : along + frames, top : top + height // BLOCK, left : left + width // BLOCK]
        signed = pixels.bitwise_xor(MIDDLE).view(torch.int8)  # pixel - 128
        pairs = signed.view(count, frames, height // BLOCK, BLOCK, width // BLOCK, BLOCK * COLOURS)
        inside[..., : len(self.outside)].unflatten(4, (BLOCK, -1)).copy_(pairs.transpose(3, 4))
        return blocks.permute(0, 4, 1, 2, 3)

    def _side(self, size: int, axis: int) -> int:
        """Blocks along an axis, so that the convolution gives what the first one gave."""
        outputs = (size + 2 * self.padding[axis] - self.kernel[axis]) // BLOCK + 1
        return outputs - 1 + self.convolution.kernel_size[axis]


def _normalisation(recipe: dict) -> tuple[Tensor, Tensor]:
    """Per colour in the order of the pixels, RGB: the network sees scale * (pixel - 128) + shift."""
    mean, std = torch.tensor(recipe["mean"]), torch.tensor(recipe["std"])
    if recipe["channel_order"] == "BGR":
        mean, std = mean.flip(0), std.flip(0)
    scale = recipe["pixel_max"] / 255.0 / std
    return scale, MIDDLE * scale - mean / std
