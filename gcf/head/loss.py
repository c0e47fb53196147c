"""The training loss: cross-entropy plus the sparsity of the gate (equations 9 and 10)."""

import torch.nn.functional as F
from torch import Tensor

from gcf.head.output import HeadOutput


def training_loss(
    output: HeadOutput, mask: Tensor, labels: Tensor, *, sparsity: float, class_weights: Tensor | None = None
) -> Tensor:
    """Scalar loss of a batch: what a head said of it, mask (B, C), labels (B,) int64, class_weights (K,) or None.

    The sparsity term sums alpha over the real clips of a video and is averaged over the batch. A clip classifier
    learns from every real clip by itself, each bearing its video's label.
    """
    if output.clip_logits is not None:
        return clip_loss(output.clip_logits, mask, labels, class_weights)
    loss = F.cross_entropy(output.logits, labels, class_weights)
    return loss if output.gate is None else loss + sparsity * gate_sparsity(output.gate)


def clip_loss(clip_logits: Tensor, mask: Tensor, labels: Tensor, class_weights: Tensor | None) -> Tensor:
    """Cross-entropy over all real clips of the batch, whatever stands on padding: clip_logits (B, C, K)."""
    own = labels.unsqueeze(1).expand(mask.shape)  # (B, C)
    losses = F.cross_entropy(clip_logits.flatten(0, 1), own.flatten(), class_weights, reduction="none")
    share = mask.flatten() if class_weights is None else class_weights[own.flatten()] * mask.flatten()
    return losses.masked_fill(~mask.flatten(), 0).sum() / share.sum()


def gate_sparsity(gate: Tensor) -> Tensor:
    """L_s of equation 10 with alpha (B, C) already 0 on padding: the sum over a video's clips, the mean over videos."""
    return gate.sum(dim=1).mean()
