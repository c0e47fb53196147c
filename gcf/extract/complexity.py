"""What a backbone costs: parameters, and multiply-accumulates counted by torch while a clip goes through."""

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from gcf.errors import UsageError
from gcf.extract.backbones.loading import build_network
from gcf.extract.backbones.registry import find_backbone


@dataclass(frozen=True)
class BackboneComplexity:
    """Cost of one clip of `num_frames` frames of `size` x `size` pixels; `macs` of convolutions and matrix products."""

    name: str
    num_classes: int
    num_frames: int
    size: int
    params: int
    macs: int


def backbone_complexity(
    name: str, *, num_classes: int | None = None, num_frames: int = 16, size: int = 112
) -> BackboneComplexity:
    """Count on the meta device: shapes only, no arithmetic, well under a second.

    >>> backbone_complexity("mobilenetv2").params
    3122648

    Raises UsageError for an unknown name, or for a clip that the network cannot take.
    """
    spec = find_backbone(name)
    num_classes = spec.num_classes if num_classes is None else num_classes
    with torch.device("meta"):
        network = build_network(spec, num_classes=num_classes).eval()
        clip = torch.empty(1, 3, num_frames, size, size)
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            network(clip)
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"{name} takes no clip of {num_frames} frames of {size} x {size} pixels ({error})") from error
    params = sum(parameter.numel() for parameter in network.parameters())
    macs = counter.get_total_flops() // 2  # the counter takes a multiplication and an addition for two
    return BackboneComplexity(spec.name, num_classes, num_frames, size, params, macs)
