"""A head of your own, the clips' mean beside their maximum: gcf train-head feats.h5 --head example_head.py."""

import torch
from torch import nn

HEAD = {"name": "mean-and-max", "order_aware": False}


class MeanAndMax(nn.Module):
    def __init__(self, descriptor_width, num_classes):
        super().__init__()
        self.classifier = nn.Linear(2 * descriptor_width, num_classes)

    def forward(self, descriptors, mask):  # (B, C, D) and (B, C), True on real clips -> logits (B, K)
        padding = ~mask.unsqueeze(-1)
        mean = descriptors.masked_fill(padding, 0).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        largest = descriptors.masked_fill(padding, -torch.inf).amax(dim=1)
        return self.classifier(torch.cat([mean, largest], dim=-1))


def build(descriptor_width, num_classes):
    return MeanAndMax(descriptor_width, num_classes)
