"""Residual clip networks of 50 and 101 layers: full, grouped and factored bottlenecks.

Names and shapes are those of the published checkpoints: okankop/Efficient-3DCNNs models/resnext.py, and
kenshohara/3D-ResNets-PyTorch models/resnet.py and models/resnet2p1d.py. The GCF-Net paper's R(2+1)D was never
published: it is Efficient-3DCNNs' ResNet-101 with each 3x3x3 split as the paper says, which gives its Table 3's size.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from gcf.extract.backbones.base import Backbone

DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}  # blocks per stage
STEM_WIDTH = 64
HARA_STEM_MIDDLE = 110  # resnet2p1d.py: 3 * 64 * 7^3 // (3 * 7^2 + 7 * 64), as many weights as 7x7x7
DESCRIPTOR_WIDTH = 2048


@dataclass(frozen=True)
class ResNetLayout:
    """What tells the networks apart. `widths`: of the middle convolution, per stage; blocks give `expansion` times it.

    split: "no" = one 3x3x3; "equal" = 1x3x3 then 3x1x1 of the same width; "matched" = the same with as many weights
    as the 3x3x3 had, and a stem split likewise.
    """

    depth: int
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    expansion: int = 4
    groups: int = 1
    split: str = "no"


def convolution(width_in: int, width_out: int, *, kernel, stride=1, groups: int = 1) -> nn.Conv3d:
    """A bias-free convolution, padded so that stride 1 keeps the size."""
    padding = tuple(k // 2 for k in kernel)
    return nn.Conv3d(width_in, width_out, kernel, stride, padding, groups=groups, bias=False)


def matched_width(width: int) -> int:
    """Inner width that gives 1x3x3 then 3x1x1 the weights of a 3x3x3 from `width` to `width`.

    >>> matched_width(64)
    144
    """
    return 27 * width * width // (9 * width + 3 * width)


class ResNetBottleneck(nn.Module):
    """1x1x1 down, a 3x3x3, 1x1x1 up, added to the input or to its projection (shortcut type B)."""

    def __init__(self, width_in: int, width: int, *, layout: ResNetLayout, stride: int):
        super().__init__()
        width_out = width * layout.expansion
        self.conv1 = convolution(width_in, width, kernel=(1, 1, 1))
        self.bn1 = nn.BatchNorm3d(width)
        self.add_middle(width, layout=layout, stride=stride)
        self.conv3 = convolution(width, width_out, kernel=(1, 1, 1))
        self.bn3 = nn.BatchNorm3d(width_out)
        self.downsample = None
        if stride != 1 or width_in != width_out:
            projection = convolution(width_in, width_out, kernel=(1, 1, 1), stride=stride)
            self.downsample = nn.Sequential(projection, nn.BatchNorm3d(width_out))

    def add_middle(self, width: int, *, layout: ResNetLayout, stride: int) -> None:
        """The convolution that looks around, and its norm."""
        self.conv2 = convolution(width, width, kernel=(3, 3, 3), stride=stride, groups=layout.groups)
        self.bn2 = nn.BatchNorm3d(width)

    def middle(self, x: Tensor) -> Tensor:
        """(B, width, T, H, W) -> (B, width, T', H', W')."""
        return F.relu(self.bn2(self.conv2(x)), inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width_in, T, H, W) -> (B, width * expansion, T', H', W')."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn3(self.conv3(self.middle(y)))
        return F.relu(y + shortcut, inplace=True)


class FactoredBottleneck(ResNetBottleneck):
    """A bottleneck that looks around in space first (1x3x3), then in time (3x1x1)."""

    def add_middle(self, width: int, *, layout: ResNetLayout, stride: int) -> None:
        """Two convolutions, each with its norm."""
        between = matched_width(width) if layout.split == "matched" else width
        self.conv2_s = convolution(width, between, kernel=(1, 3, 3), stride=(1, stride, stride))
        self.bn2_s = nn.BatchNorm3d(between)
        self.conv2_t = convolution(between, width, kernel=(3, 1, 1), stride=(stride, 1, 1))
        self.bn2_t = nn.BatchNorm3d(width)

    def middle(self, x: Tensor) -> Tensor:
        """(B, width, T, H, W) -> (B, width, T', H', W')."""
        x = F.relu(self.bn2_s(self.conv2_s(x)), inplace=True)
        return F.relu(self.bn2_t(self.conv2_t(x)), inplace=True)


class ResNet(Backbone):
    """Stem, pool, four stages of bottlenecks; feature map (B, 2048, ceil(T/16), ceil(H/32), ceil(W/32))."""

    def __init__(self, layout: ResNetLayout, *, num_classes: int):
        super().__init__()
        self.add_stem()
        self.maxpool = nn.MaxPool3d(kernel_size=3, stride=2, padding=1)
        block = ResNetBottleneck if layout.split == "no" else FactoredBottleneck
        width_in = STEM_WIDTH
        for stage, (depth, width) in enumerate(zip(DEPTHS[layout.depth], layout.widths, strict=True), start=1):
            blocks = []
            for index in range(depth):
                stride = 2 if stage > 1 and index == 0 else 1
                blocks.append(block(width_in, width, layout=layout, stride=stride))
                width_in = width * layout.expansion
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.fc = nn.Linear(DESCRIPTOR_WIDTH, num_classes)

    def add_stem(self) -> None:
        """7x7x7 with stride 2 in space only."""
        self.conv1 = convolution(3, STEM_WIDTH, kernel=(7, 7, 7), stride=(1, 2, 2))
        self.bn1 = nn.BatchNorm3d(STEM_WIDTH)

    def stem(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, 64, T, H/2, W/2)."""
        return F.relu(self.bn1(self.conv1(clips)), inplace=True)

    def feature_map(self, clips: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W) -> (B, 2048, T', H', W')."""
        x = self.maxpool(self.stem(clips))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def classify(self, descriptor: Tensor) -> Tensor:
        """(B, 2048) -> (B, K)."""
        return self.fc(descriptor)


class FactoredStemResNet(ResNet):
    """The same with a stem of 1x7x7 then 7x1x1."""

    def add_stem(self) -> None:
        """Space with stride 2, then time."""
        self.conv1_s = convolution(3, HARA_STEM_MIDDLE, kernel=(1, 7, 7), stride=(1, 2, 2))
        self.bn1_s = nn.BatchNorm3d(HARA_STEM_MIDDLE)
        self.conv1_t = convolution(HARA_STEM_MIDDLE, STEM_WIDTH, kernel=(7, 1, 1))
        self.bn1_t = nn.BatchNorm3d(STEM_WIDTH)

    def stem(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, 64, T, H/2, W/2)."""
        x = F.relu(self.bn1_s(self.conv1_s(clips)), inplace=True)
        return F.relu(self.bn1_t(self.conv1_t(x)), inplace=True)


LAYOUTS = {
    "resnext101": ResNetLayout(101, widths=(128, 256, 512, 1024), expansion=2, groups=32),
    "r3d_50": ResNetLayout(50),
    "r3d_101": ResNetLayout(101),
    "r2plus1d_50": ResNetLayout(50, split="matched"),
    "r2plus1d_101": ResNetLayout(101, split="equal"),
    "r2plus1d_101_hara": ResNetLayout(101, split="matched"),
}


def build(name: str, *, num_classes: int, width: float | None = None) -> ResNet:  # noqa: ARG001 - no widths here
    """The untrained network of that registry name."""
    layout = LAYOUTS[name]
    return (FactoredStemResNet if layout.split == "matched" else ResNet)(layout, num_classes=num_classes)
