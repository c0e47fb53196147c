"""X3D: XS, S, M and L; names and shapes of facebookresearch/pytorchvideo pytorchvideo/models/x3d.py.

Feichtenhofer, X3D: Expanding Architectures for Efficient Video Recognition, CVPR 2020. XS, S and M are one network that
was trained on clips of different length and size; L is deeper.
"""

import math

from torch import Tensor, nn

from gcf.extract.backbones.base import Backbone

# The paper's X2D base network and its expansion; pytorchvideo models/x3d.py create_x3d has the same figures
DEPTHS, WIDTHS = (1, 2, 5, 3), (12, 24, 48, 96)
WIDTH_FACTOR, INNER_FACTOR, SQUEEZE = 2.0, 2.25, 1 / 16
DEPTH_FACTORS = {"x3d_xs": 2.2, "x3d_s": 2.2, "x3d_m": 2.2, "x3d_l": 5.0}
DESCRIPTOR_WIDTH = 2048
DIVISOR = 8  # of every width


def rounded_width(width: float) -> int:
    """The nearest multiple of 8, at least 8, and the next one where that would take away more than a tenth.

    >>> [rounded_width(inner / 16) for inner in (54, 108, 216, 432)]
    [8, 8, 16, 32]
    """
    rounded = max(DIVISOR, int(width + DIVISOR / 2) // DIVISOR * DIVISOR)
    return rounded + DIVISOR if rounded < 0.9 * width else rounded


class X3DStem(nn.Module):
    """3x3 over space, then 5 over time, each channel by itself; the published names have xy and t changed over."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Sequential()
        self.conv.conv_t = nn.Conv3d(3, width, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False)
        self.conv.conv_xy = nn.Conv3d(width, width, (5, 1, 1), 1, (2, 0, 0), groups=width, bias=False)
        self.norm = nn.BatchNorm3d(width)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, width, T, ceil(H/2), ceil(W/2))."""
        return self.activation(self.norm(self.conv(x)))


class SqueezeExcite(nn.Module):
    """Every channel scaled by 0..1, decided by all channels' means."""

    def __init__(self, width: int):
        super().__init__()
        squeezed = rounded_width(width * SQUEEZE)
        self.block = nn.Sequential(
            nn.Conv3d(width, squeezed, 1), nn.ReLU(inplace=True), nn.Conv3d(squeezed, width, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, T, H, W) -> the same."""
        return x * self.block(x.mean(dim=(2, 3, 4), keepdim=True))


class X3DBottleneck(nn.Module):
    """Widen, convolve every channel by itself, perhaps squeeze and excite, narrow."""

    def __init__(self, width_in: int, width_out: int, *, stride: int, excites: bool):
        super().__init__()
        inner = int(INNER_FACTOR * width_out)
        self.conv_a = nn.Conv3d(width_in, inner, 1, bias=False)
        self.norm_a = nn.BatchNorm3d(inner)
        self.act_a = nn.ReLU(inplace=True)
        self.conv_b = nn.Conv3d(inner, inner, 3, (1, stride, stride), 1, groups=inner, bias=False)
        self.norm_b = nn.Sequential(nn.BatchNorm3d(inner), *([SqueezeExcite(inner)] if excites else []))
        self.act_b = nn.SiLU(inplace=True)
        self.conv_c = nn.Conv3d(inner, width_out, 1, bias=False)
        self.norm_c = nn.BatchNorm3d(width_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width_in, T, H, W) -> (B, width_out, T, H', W')."""
        x = self.act_a(self.norm_a(self.conv_a(x)))
        x = self.act_b(self.norm_b(self.conv_b(x)))
        return self.norm_c(self.conv_c(x))


class X3DBlock(nn.Module):
    """A bottleneck beside a shortcut: a convolution where the size changes, with a norm where the width does."""

    def __init__(self, width_in: int, width_out: int, *, stride: int, excites: bool):
        super().__init__()
        if stride != 1 or width_in != width_out:
            self.branch1_conv = nn.Conv3d(width_in, width_out, 1, (1, stride, stride), bias=False)
        if width_in != width_out:
            self.branch1_norm = nn.BatchNorm3d(width_out)
        self.branch2 = X3DBottleneck(width_in, width_out, stride=stride, excites=excites)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width_in, T, H, W) -> (B, width_out, T, H', W')."""
        return self.activation(self._shortcut(x) + self.branch2(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        x = self.branch1_conv(x) if hasattr(self, "branch1_conv") else x
        return self.branch1_norm(x) if hasattr(self, "branch1_norm") else x


class X3DStage(nn.Module):
    """Blocks in a row: the first halves the frames' size, every second one squeezes and excites, from the first on."""

    def __init__(self, width_in: int, width_out: int, depth: int):
        super().__init__()
        first = X3DBlock(width_in, width_out, stride=2, excites=True)
        further = [X3DBlock(width_out, width_out, stride=1, excites=n % 2 == 0) for n in range(1, depth)]
        self.res_blocks = nn.Sequential(first, *further)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width_in, T, H, W) -> (B, width_out, T, ceil(H/2), ceil(W/2))."""
        return self.res_blocks(x)


class ProjectedPool(nn.Module):
    """The layers before and after the pool, under their published names; X3D calls them."""

    def __init__(self, width_in: int, inner: int):
        super().__init__()
        self.pre_conv = nn.Conv3d(width_in, inner, 1, bias=False)
        self.pre_norm = nn.BatchNorm3d(inner)
        self.pre_act = nn.ReLU(inplace=True)
        self.post_conv = nn.Conv3d(inner, DESCRIPTOR_WIDTH, 1, bias=False)
        self.post_act = nn.ReLU(inplace=True)


class X3DHead(nn.Module):
    """Pool, dropout, classifier."""

    def __init__(self, width_in: int, inner: int, num_classes: int):
        super().__init__()
        self.pool = ProjectedPool(width_in, inner)
        self.dropout = nn.Dropout(0.5)
        self.proj = nn.Linear(DESCRIPTOR_WIDTH, num_classes)


class X3D(Backbone):
    """Feature map (B, 432, T, ceil(H/32), ceil(W/32)), as it is before the pool: no layer steps over frames.

    The original pools windows of its trained clip (frames x map of the training crop), then projects each to 2048
    channels with a ReLU. Here the window is always the whole map: the same on clips of the trained size, where the
    original has that one window, and defined on all others.
    """

    def __init__(self, *, num_classes: int, depth_factor: float):
        super().__init__()
        widths = [rounded_width(width * WIDTH_FACTOR) for width in WIDTHS]
        entries = [widths[0], *widths]  # the stem is as wide as the first stage
        depths = [math.ceil(depth * depth_factor) for depth in DEPTHS]
        stages = [X3DStage(*sizes) for sizes in zip(entries[:-1], widths, depths, strict=True)]
        head = X3DHead(widths[-1], int(INNER_FACTOR * widths[-1]), num_classes)
        self.blocks = nn.ModuleList([X3DStem(widths[0]), *stages, head])

    def feature_map(self, clips: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W) -> (B, 432, T, ceil(H/32), ceil(W/32))."""
        for block in self.blocks[:-1]:
            clips = block(clips)
        pool = self.blocks[-1].pool
        return pool.pre_act(pool.pre_norm(pool.pre_conv(clips)))

    def descriptor(self, feature_map: Tensor) -> Tensor:
        """(B, 432, T', H', W') -> (B, 2048): the mean over positions, projected."""
        pool = self.blocks[-1].pool
        return pool.post_act(pool.post_conv(feature_map.mean(dim=(2, 3, 4), keepdim=True))).flatten(1)

    def classify(self, descriptor: Tensor) -> Tensor:
        """(B, 2048) -> (B, K)."""
        head = self.blocks[-1]
        return head.proj(head.dropout(descriptor))


def build(name: str, *, num_classes: int, width: float | None = None) -> X3D:  # noqa: ARG001 - one width
    """The untrained network of a name."""
    return X3D(num_classes=num_classes, depth_factor=DEPTH_FACTORS[name])
