"""ResNet-50 pathways: Slow-R50, R(2+1)D-R50, and the parts that slowfast.py builds its two from.

Names and shapes are those of facebookresearch/pytorchvideo pytorchvideo/models/resnet.py and r2plus1d.py, as
pytorchvideo/models/hub calls them. Feichtenhofer et al., SlowFast Networks for Video Recognition, ICCV 2019; Tran et
al., A Closer Look at Spatiotemporal Convolutions for Action Recognition, CVPR 2018.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from gcf.extract.backbones.base import Backbone

DEPTHS = (3, 4, 6, 3)  # blocks per stage
EXPANSION = 4  # a block's width, by its inner one's


@dataclass(frozen=True)
class Pathway:
    """What tells pathways apart; tuples have an entry per stage.

    width: of the stem and of the first stage's inner convolutions; each stage doubles it. stem_frames, frames: how many
    the stem and conv_a look at. pooled: the stem ends in a pool that halves the frames' size, else the first stage
    does it. factored: conv_b is 3x1x1, then 1x3x3, and steps over time as time_strides has it.
    """

    width: int = 64
    stem_frames: int = 1
    frames: tuple[int, int, int, int] = (1, 1, 3, 3)
    pooled: bool = True
    factored: bool = False
    time_strides: tuple[int, int, int, int] = (1, 1, 1, 1)

    def width_out(self, stage: int) -> int:
        """Channels after a stage, counted from 0; -1 is the stem.

        >>> [Pathway().width_out(stage) for stage in (-1, 0, 1, 2, 3)]
        [64, 256, 512, 1024, 2048]
        """
        return self.width * EXPANSION * 2**stage if stage >= 0 else self.width


SLOW = Pathway()
R2PLUS1D = Pathway(frames=(1, 1, 1, 1), pooled=False, factored=True, time_strides=(1, 1, 2, 2))
PATHWAYS = {"slow_r50": SLOW, "r2plus1d_r50": R2PLUS1D}


def convolution(width_in: int, width_out: int, *, kernel, stride=1) -> nn.Conv3d:
    """A bias-free convolution, padded so that stride 1 keeps the size."""
    return nn.Conv3d(width_in, width_out, kernel, stride, tuple(size // 2 for size in kernel), bias=False)


class PathwayStem(nn.Module):
    """A wide convolution, and a pool where the pathway has one."""

    def __init__(self, pathway: Pathway):
        super().__init__()
        self.conv = convolution(3, pathway.width, kernel=(pathway.stem_frames, 7, 7), stride=(1, 2, 2))
        self.norm = nn.BatchNorm3d(pathway.width)
        self.activation = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)) if pathway.pooled else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, width, T, H', W'): a half of each side, pooled a quarter."""
        return self.pool(self.activation(self.norm(self.conv(x))))


class FactoredConvolution(nn.Module):
    """Time, norm, ReLU, space: first 3x1x1, then 1x3x3; the width stays what it is."""

    def __init__(self, width: int, stride: tuple[int, int, int]):
        super().__init__()
        self.conv_t = convolution(width, width, kernel=(3, 1, 1), stride=(stride[0], 1, 1))
        self.norm = nn.BatchNorm3d(width)
        self.activation = nn.ReLU(inplace=True)
        self.conv_xy = convolution(width, width, kernel=(1, 3, 3), stride=(1, *stride[1:]))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, T, H, W) -> (B, width, T', H', W')."""
        return self.conv_xy(self.activation(self.norm(self.conv_t(x))))


class PathwayBottleneck(nn.Module):
    """Narrow, perhaps looking along time; look around; widen."""

    def __init__(self, width_in: int, pathway: Pathway, stage: int, *, stride: tuple[int, int, int]):
        super().__init__()
        width_out = pathway.width_out(stage)
        inner = width_out // EXPANSION
        self.conv_a = convolution(width_in, inner, kernel=(pathway.frames[stage], 1, 1))
        self.norm_a = nn.BatchNorm3d(inner)
        self.act_a = nn.ReLU(inplace=True)
        if pathway.factored:
            self.conv_b = FactoredConvolution(inner, stride)
        else:
            self.conv_b = convolution(inner, inner, kernel=(1, 3, 3), stride=stride)
        self.norm_b = nn.BatchNorm3d(inner)
        self.act_b = nn.ReLU(inplace=True)
        self.conv_c = convolution(inner, width_out, kernel=(1, 1, 1))
        self.norm_c = nn.BatchNorm3d(width_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width_in, T, H, W) -> (B, width_out, T', H', W')."""
        x = self.act_a(self.norm_a(self.conv_a(x)))
        x = self.act_b(self.norm_b(self.conv_b(x)))
        return self.norm_c(self.conv_c(x))


class PathwayBlock(nn.Module):
    """A bottleneck beside a shortcut, which is projected where the size or the width changes."""

    def __init__(self, width_in: int, pathway: Pathway, stage: int, *, stride: tuple[int, int, int]):
        super().__init__()
        width_out = pathway.width_out(stage)
        self.projects = width_in != width_out or stride != (1, 1, 1)
        if self.projects:
            self.branch1_conv = convolution(width_in, width_out, kernel=(1, 1, 1), stride=stride)
            self.branch1_norm = nn.BatchNorm3d(width_out)
        self.branch2 = PathwayBottleneck(width_in, pathway, stage, stride=stride)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width_in, T, H, W) -> (B, width_out, T', H', W')."""
        shortcut = self.branch1_norm(self.branch1_conv(x)) if self.projects else x
        return self.activation(shortcut + self.branch2(x))


class PathwayStage(nn.Module):
    """Blocks in a row, the first of which may step; joined: channels that come in beside the pathway's own."""

    def __init__(self, pathway: Pathway, stage: int, *, joined: int = 0):
        super().__init__()
        side = 1 if pathway.pooled and stage == 0 else 2
        stride = (pathway.time_strides[stage], side, side)
        first = PathwayBlock(pathway.width_out(stage - 1) + joined, pathway, stage, stride=stride)
        width = pathway.width_out(stage)
        others = (PathwayBlock(width, pathway, stage, stride=(1, 1, 1)) for _ in range(DEPTHS[stage] - 1))
        self.res_blocks = nn.Sequential(first, *others)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width_in + joined, T, H, W) -> (B, width_out, T', H', W')."""
        return self.res_blocks(x)


class PathwayHead(nn.Module):
    """Dropout and classifier, under their published names."""

    def __init__(self, width: int, num_classes: int):
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.proj = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) -> logits (B, K); pytorchvideo's R(2+1)D goes on to their softmax."""
        return self.proj(self.dropout(x))


class PathwayNetwork(Backbone):
    """Stem and four stages; feature map (B, 2048, T', ceil(H/32), ceil(W/32)), T' = T, or ceil(T/4) of R(2+1)D.

    The originals pool windows of their trained clip (8 or 4 x 7 x 7 of the map). Here the window is always the whole
    map: the same on clips of the trained size, and defined on all others.
    """

    def __init__(self, pathway: Pathway, *, num_classes: int):
        super().__init__()
        stages = [PathwayStage(pathway, stage) for stage in range(len(DEPTHS))]
        self.blocks = nn.ModuleList(
            [PathwayStem(pathway), *stages, PathwayHead(pathway.width_out(len(DEPTHS) - 1), num_classes)]
        )

    def feature_map(self, clips: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W) -> (B, 2048, T', H', W')."""
        for block in self.blocks[:-1]:
            clips = block(clips)
        return clips

    def classify(self, descriptor: Tensor) -> Tensor:
        """(B, 2048) -> (B, K)."""
        return self.blocks[-1](descriptor)


def build(name: str, *, num_classes: int, width: float | None = None) -> PathwayNetwork:  # noqa: ARG001 - one width
    """The untrained network of a name."""
    return PathwayNetwork(PATHWAYS[name], num_classes=num_classes)
