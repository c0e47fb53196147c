"""3D-ShuffleNetV2 with a width multiplier; names and shapes of okankop/Efficient-3DCNNs models/shufflenetv2.py.

`banch` is how the published checkpoints spell it.
"""

import torch
from torch import Tensor, nn

from gcf.extract.backbones.base import Backbone

STEM_WIDTH = 24
STAGE_DEPTHS = (4, 8, 4)
WIDTHS = {  # multiplier: widths of the three stages, width of the last convolution
    0.25: (32, 64, 128, 1024),
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (224, 488, 976, 2048),
}


def pointwise(width_in: int, width_out: int) -> list[nn.Module]:
    """1x1x1 convolution, norm, activation."""
    convolution = nn.Conv3d(width_in, width_out, 1, bias=False)
    return [convolution, nn.BatchNorm3d(width_out), nn.ReLU(inplace=True)]


def channelwise(width: int, *, stride: int) -> list[nn.Module]:
    """3x3x3 convolution of every channel by itself, and its norm."""
    return [nn.Conv3d(width, width, 3, stride, 1, groups=width, bias=False), nn.BatchNorm3d(width)]


def shuffle_halves(x: Tensor) -> Tensor:
    """Interleave the two halves of the channels: 0 1 2 | 3 4 5 -> 0 3 1 4 2 5. (B, M, T, H, W) -> the same."""
    return x.unflatten(1, (2, x.shape[1] // 2)).transpose(1, 2).flatten(1, 2)


class ShuffleUnit(nn.Module):
    """Half the channels pass by, half are convolved; or, with a stride, both halves are made from all the input."""

    def __init__(self, width_in: int, width_out: int, *, stride: int):
        super().__init__()
        half = width_out // 2
        if stride != 1:
            self.banch1 = nn.Sequential(*channelwise(width_in, stride=stride), *pointwise(width_in, half))
        entered = half if stride == 1 else width_in
        self.banch2 = nn.Sequential(
            *pointwise(entered, half), *channelwise(half, stride=stride), *pointwise(half, half)
        )
        self.splits = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """(B, width_in, T, H, W) -> (B, width_out, T', H', W')."""
        if self.splits:
            passed, convolved = x.chunk(2, dim=1)
            halves = (passed, self.banch2(convolved))
        else:
            halves = (self.banch1(x), self.banch2(x))
        return shuffle_halves(torch.cat(halves, dim=1))


class ShuffleNetV2(Backbone):
    """Feature map (B, 1024 or 2048, ceil(T/16), ceil(H/32), ceil(W/32))."""

    def __init__(self, *, num_classes: int, width: float = 2.0):
        super().__init__()
        *stage_widths, last_width = WIDTHS[width]
        stem = nn.Conv3d(3, STEM_WIDTH, 3, (1, 2, 2), 1, bias=False)
        self.conv1 = nn.Sequential(stem, nn.BatchNorm3d(STEM_WIDTH), nn.ReLU(inplace=True))
        self.maxpool = nn.MaxPool3d(kernel_size=3, stride=2, padding=1)
        units, width_in = [], STEM_WIDTH
        for depth, width_out in zip(STAGE_DEPTHS, stage_widths, strict=True):
            for index in range(depth):
                units.append(ShuffleUnit(width_in, width_out, stride=2 if index == 0 else 1))
                width_in = width_out
        self.features = nn.Sequential(*units)
        self.conv_last = nn.Sequential(*pointwise(width_in, last_width))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last_width, num_classes))

    def feature_map(self, clips: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W) -> (B, D, T', H', W')."""
        return self.conv_last(self.features(self.maxpool(self.conv1(clips))))

    def classify(self, descriptor: Tensor) -> Tensor:
        """(B, D) -> (B, K)."""
        return self.classifier(descriptor)


def build(name: str, *, num_classes: int, width: float | None = None) -> ShuffleNetV2:  # noqa: ARG001 - one network
    """The untrained network at a width multiplier (2.0, the paper's, where none is given)."""
    return ShuffleNetV2(num_classes=num_classes, width=2.0 if width is None else width)
