"""The heads once more, over all slots alike: for runtimes that know no boolean indexing.

GCF-Net computes the real clips alone. With zeros in the other slots every product gives the same, because nothing
before the mean over the clips has a bias; only no branch and no shape depends on the mask. `onnx_export` proves it
for each head that it writes.
"""

import copy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gcf.head.models.baselines import ClipHead, MeanHead
from gcf.head.models.ensemble import MeanOfHeads
from gcf.head.models.fusion import FusionLayer, attention_weights
from gcf.head.models.gcf_net import GCFNet
from gcf.head.models.output import HeadOutput, num_real
from gcf.head.models.standard import Reduced, Standardised


class DenseHead(nn.Module):
    """A trained head in eval mode: descriptors (B, C, D), mask (B, C) -> the HeadOutput that the head itself gives."""

    def __init__(self, head: nn.Module):
        super().__init__()
        self.head = _dense(head)

    def forward(self, descriptors: Tensor, mask: Tensor) -> HeadOutput:
        """Whatever stands in the padded slots counts as 0."""
        if isinstance(self.head, MeanOfHeads | Reduced | Standardised):
            return self.head(descriptors, mask)
        clips = descriptors.masked_fill(~mask.unsqueeze(-1), 0)  # (B, C, D)
        if isinstance(self.head, ClipHead):
            return HeadOutput(self.head.average(self.head.classifier(clips), mask))
        if isinstance(self.head, MeanHead):
            return _mean(self.head, clips, mask)
        return _gcf_net(self.head, clips, mask) if isinstance(self.head, GCFNet) else self.head(clips, mask)


def _dense(head: nn.Module) -> nn.Module:
    """The head, with dense ones where it is made of heads."""
    if isinstance(head, MeanOfHeads):
        return MeanOfHeads([DenseHead(one) for one in head.heads], exclusive=head.exclusive)
    if isinstance(head, Reduced | Standardised):
        whole = copy.deepcopy(head)
        whole.head = DenseHead(head.head)
        return whole
    return head


def _mean(head: MeanHead, clips: Tensor, mask: Tensor) -> HeadOutput:
    shares = clips / num_real(mask).unsqueeze(-1)
    evidence = F.linear(shares, head.classifier.weight)
    return HeadOutput(head.classifier(shares.sum(dim=1)), evidence=evidence)


def _gcf_net(head: GCFNet, clips: Tensor, mask: Tensor) -> HeadOutput:
    """Equations 1 to 8, as in `GCFNet.forward`."""
    inputs = clips if head.project is None else head.project(clips)  # s (B, C, width_in)
    fused, attention = inputs, None
    layers = [] if head.fusion is None else cast(list[FusionLayer], list(head.fusion.layers))
    for layer in layers:
        attention = attention_weights(layer.query(fused), layer.key(fused), mask, normalise=layer.normalise)
        fused = layer.output(attention @ layer.value(fused))  # b (B, C, d)
    gate = None if head.gate is None else head.gate(fused, mask)  # alpha (B, C)
    share = mask.to(fused.dtype) / num_real(mask)  # 1 / C on real clips
    weights = share if gate is None else gate * share
    mixed = weights.unsqueeze(-1) * fused  # g_i / C
    if head.config.residual == "fused":
        mixed = mixed + share.unsqueeze(-1) * fused
    elif head.config.residual != "none":
        added = inputs if head.residual is None else head.residual(inputs)
        mixed = mixed + share.unsqueeze(-1) * added
    return HeadOutput(head.classifier(mixed.sum(dim=1)), gate, head.classifier(mixed), attention)


def example(num_clips: int, descriptor_width: int, *, num_videos: int, seed: int) -> tuple[Tensor, Tensor]:
    """Random descriptors (B, C, D) and mask (B, C): the first video full, loud noise in the slots of padding."""
    generator = torch.Generator().manual_seed(seed)
    descriptors = torch.randn(num_videos, num_clips, descriptor_width, generator=generator)
    counts = torch.randint(1, num_clips + 1, (num_videos, 1), generator=generator)
    counts[0] = num_clips
    mask = torch.arange(num_clips) < counts
    return torch.where(mask.unsqueeze(-1), descriptors, 1e4 * descriptors), mask
