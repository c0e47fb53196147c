"""The training loss: cross-entropy plus the sparsity of the gate (equations 9 and 10)."""

import torch.nn.functional as F
from torch import Tensor, nn

from gcf.head.baselines import ClipHead


def training_loss(head: nn.Module, descriptors: Tensor, mask: Tensor, labels: Tensor, *, sparsity: float) -> Tensor:
    """Scalar loss of a batch: descriptors (B, C, D), mask (B, C), labels (B,) int64.

    The sparsity term sums alpha over the real clips of a video and is averaged over the batch. The clip classifier
    learns from every real clip by itself, each bearing its video's label.
    """
    if isinstance(head, ClipHead):
        return F.cross_entropy(head.classifier(descriptors[mask]), labels.repeat_interleave(mask.sum(dim=1)))
    output = head(descriptors, mask)
    loss = F.cross_entropy(output.logits, labels)
    return loss if output.gate is None else loss + sparsity * gate_sparsity(output.gate)


def gate_sparsity(gate: Tensor) -> Tensor:
    """L_s of equation 10 with alpha (B, C) already 0 on padding: the sum over a video's clips, the mean over videos."""
    return gate.sum(dim=1).mean()
