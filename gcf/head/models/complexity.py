"""What a head costs beside its backbone: parameters and multiply-accumulates per video."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gcf.head.models.build import build_head
from gcf.head.models.config import HeadConfig


@dataclass(frozen=True)
class HeadComplexity:
    """parameters; macs: those of the layers with weights, which is what the paper's table counts; products_macs: the
    matrix products of clips with attention or other weights that are computed, not learned.
    """

    parameters: int
    macs: int
    products_macs: int


def head_complexity(
    config: HeadConfig, descriptor_width: int, num_classes: int, *, num_clips: int = 10
) -> HeadComplexity:
    """Count one video of `num_clips` real clips, with torch's flop counter (2 flops a MAC)."""
    head = build_head(config, descriptor_width, num_classes)
    layer_macs = 0

    def count(layer: nn.Linear | nn.GRU, inputs: tuple, _output: object) -> None:
        nonlocal layer_macs
        given = inputs[0].data if isinstance(layer, nn.GRU) else inputs[0]  # a packed sequence holds its clips there
        rows = given.numel() // given.shape[-1]
        layer_macs += rows * sum(p.numel() for p in layer.parameters(recurse=False) if p.ndim == 2)

    for layer in head.modules():
        if isinstance(layer, nn.Linear | nn.GRU):
            layer.register_forward_hook(count)
    descriptors, mask = torch.zeros(1, num_clips, descriptor_width), torch.ones(1, num_clips, dtype=torch.bool)
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        head(descriptors, mask)
    parameters = sum(p.numel() for p in head.parameters())
    return HeadComplexity(parameters, layer_macs, flops.get_total_flops() // 2 - layer_macs)
