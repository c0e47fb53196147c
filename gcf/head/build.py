"""A head from its config, with weights that a seed decides."""

import torch
from torch import nn

from gcf.head.baselines import ClipHead, MeanHead
from gcf.head.config import HeadConfig
from gcf.head.gcf_net import GCFNet


def build_head(config: HeadConfig, descriptor_width: int, num_classes: int, *, seed: int = 0) -> nn.Module:
    """A head on the CPU, in training mode: the same seed gives the same weights, and no global state is touched."""
    head = build_shape(config, descriptor_width, num_classes).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in head.modules():
            if isinstance(layer, nn.Linear):  # no head has weights elsewhere; the range is torch's own for a Linear
                bound = layer.in_features**-0.5
                for parameter in layer.parameters(recurse=False):
                    parameter.uniform_(-bound, bound, generator=generator)
    return head


def build_shape(config: HeadConfig, descriptor_width: int, num_classes: int) -> nn.Module:
    """A head without storage, on the meta device: names and shapes only."""
    with torch.device("meta"):
        if config.kind == "mean":
            return MeanHead(descriptor_width, num_classes)
        if config.kind == "clip":
            return ClipHead(descriptor_width, num_classes)
        return GCFNet(config, descriptor_width, num_classes)
