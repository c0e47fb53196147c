"""SlowFast-R50: one pathway sees every fourth frame, a narrow one all; names of pytorchvideo/models/slowfast.py.

Feichtenhofer et al., SlowFast Networks for Video Recognition, ICCV 2019. The fast pathway tells the slow one what it
has seen after the stem and after every stage but the last.
"""

import numpy as np
import torch
from torch import Tensor, fx, nn

from gcf.errors import UsageError
from gcf.extract.backbones.base import Backbone
from gcf.extract.backbones.pathway import DEPTHS, SLOW, Pathway, PathwayHead, PathwayStage, PathwayStem, convolution

FAST = Pathway(width=8, stem_frames=5, frames=(3, 3, 3, 3))
ALPHA = 4  # fast frames for each slow one
LATERAL_FRAMES, LATERAL_FACTOR = 7, 2  # frames that a lateral connection looks at; channels it makes of one


@fx.wrap
def slow_frames(clips: Tensor) -> Tensor:
    """Of clips (B, 3, T, H, W) the slow pathway's frames (B, 3, T / 4, H, W), spread evenly from the first to the last.

    As in facebookresearch/pytorchvideo tutorials/torchhub_inference_tutorial.ipynb, PackPathway; number n is one of
    4 n to 4 n + 3. Raises UsageError, a ValueError, where T is no multiple of 4: the lateral connections would bring
    another number of frames. Wrapped, because a network that is being traced does not know its T yet.
    """
    frames = clips.shape[2]
    if frames % ALPHA:
        raise UsageError(f"SlowFast takes clips of 4, 8, 12, ... frames, not of {frames}: choose another clip length")
    return clips[:, :, slow_numbers(int(frames))]


def slow_numbers(frames: int) -> list[int]:
    """The numbers of the frames that the slow pathway sees: `torch.linspace(0, frames - 1, frames // 4).long()`, as the
    original has it, on a processor. In numbers, because a GPU or another runtime may round otherwise, to a neighbour.
    """
    count = frames // ALPHA
    step = np.float32(frames - 1) / np.float32(max(count - 1, 1))
    first = [step * np.float32(n) for n in range(max(count // 2, 1))]
    last = [np.float32(frames - 1) - step * np.float32(n) for n in reversed(range(count - len(first)))]
    return [int(number) for number in first + last]


class Lateral(nn.Module):
    """The fast pathway's frames, four at a time, as further channels of the slow one."""

    def __init__(self, width: int):
        super().__init__()
        kernel, stride = (LATERAL_FRAMES, 1, 1), (ALPHA, 1, 1)
        self.conv_fast_to_slow = convolution(width, LATERAL_FACTOR * width, kernel=kernel, stride=stride)
        self.norm = nn.BatchNorm3d(LATERAL_FACTOR * width)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, slow: Tensor, fast: Tensor) -> Tensor:
        """Slow (B, C, T / 4, H, W) and fast (B, width, T, H, W) -> (B, C + 2 width, T / 4, H, W)."""
        return torch.cat((slow, self.activation(self.norm(self.conv_fast_to_slow(fast)))), dim=1)


class Joint(nn.Module):
    """A stem or stage of both pathways, and what the fast one then tells the slow one."""

    def __init__(self, slow: nn.Module, fast: nn.Module, *, width: int | None):
        super().__init__()
        self.multipathway_blocks = nn.ModuleList([slow, fast])
        self.multipathway_fusion = None if width is None else Lateral(width)

    def forward(self, slow: Tensor, fast: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, T / 4, H, W) and (B, c, T, H, W) -> the same, wider and smaller."""
        slow, fast = self.multipathway_blocks[0](slow), self.multipathway_blocks[1](fast)
        return (slow if self.multipathway_fusion is None else self.multipathway_fusion(slow, fast)), fast


class SlowFast(Backbone):
    """Feature map (B, 2048 + 256, T, ceil(H/32), ceil(W/32)): the slow map, every frame four times, and the fast one.

    So its mean over positions is the mean of both: the original pools each pathway's map in windows of its trained
    clip (8 and 32 x 7 x 7) and puts the means in a row. Here the windows are the whole maps: the same on clips of the
    trained size, and defined on all others whose length is a multiple of 4.
    """

    def __init__(self, *, num_classes: int):
        super().__init__()
        last = len(DEPTHS) - 1
        joints = [Joint(PathwayStem(SLOW), PathwayStem(FAST), width=FAST.width)]
        for stage in range(len(DEPTHS)):
            slow = PathwayStage(SLOW, stage, joined=LATERAL_FACTOR * FAST.width_out(stage - 1))
            joints.append(Joint(slow, PathwayStage(FAST, stage), width=FAST.width_out(stage) if stage < last else None))
        head = PathwayHead(SLOW.width_out(last) + FAST.width_out(last), num_classes)
        self.blocks = nn.ModuleList([*joints, nn.Identity(), head])  # in between, the original has its pools

    def feature_map(self, clips: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W), T a multiple of 4 -> (B, 2304, T, H', W')."""
        slow, fast = slow_frames(clips), clips
        for joint in self.blocks[:-2]:
            slow, fast = joint(slow, fast)
        return torch.cat((slow.repeat_interleave(ALPHA, dim=2), fast), dim=1)

    def classify(self, descriptor: Tensor) -> Tensor:
        """(B, 2304) -> (B, K)."""
        return self.blocks[-1](descriptor)


def build(name: str, *, num_classes: int, width: float | None = None) -> SlowFast:  # noqa: ARG001 - one network
    """The untrained network."""
    return SlowFast(num_classes=num_classes)
