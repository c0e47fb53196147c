"""What a head costs beside its backbone: parameters and multiply-accumulates per video."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gcf.head.build import build_head
from gcf.head.config import HeadConfig


@dataclass(frozen=True)
class HeadComplexity:
    """parameters; macs: those of the layers with weights, which is what the paper's table counts; products_macs: the
    two matrix products with the attention weights, which have none.
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

    def count(_layer: nn.Linear, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal layer_macs
        layer_macs += inputs[0].numel() * output.shape[-1]

    for layer in head.modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_hook(count)
    descriptors, mask = torch.zeros(1, num_clips, descriptor_width), torch.ones(1, num_clips, dtype=torch.bool)
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        head(descriptors, mask)
    parameters = sum(p.numel() for p in head.parameters())
    return HeadComplexity(parameters, layer_macs, flops.get_total_flops() // 2 - layer_macs)
