"""Seeded random weights: for trying the pipeline where no trained ones can be had."""

import math

import torch
from torch import nn

SEED = 0
LAST_NORMS = ("bn3", "norm_c")  # what the networks call the norm that ends a residual branch
RESIDUAL_SCALE = 0.25  # of each branch's last norm: else 33 added blocks outgrow float16


def fill_randomly(network: nn.Module) -> None:
    """Overwrite the convolutions of a freshly built CPU network, in place; the same values on every run.

    He's normal initialisation keeps the size of activations through any depth, where PyTorch's default lets the deep
    networks' descriptors vanish. Draws from its own generator.
    """
    generator = torch.Generator().manual_seed(SEED)
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_in), generator=generator)
        for name in LAST_NORMS:
            last_norm = getattr(module, name, None)
            if isinstance(last_norm, nn.BatchNorm3d):
                nn.init.constant_(last_norm.weight, RESIDUAL_SCALE)
