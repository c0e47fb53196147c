"""The training loss: cross-entropy plus the sparsity of the gate (equations 9 and 10)."""

import torch.nn.functional as F
from torch import Tensor

from gcf.head.models.output import HeadOutput, num_real


def training_loss(
    output: HeadOutput,
    mask: Tensor,
    labels: Tensor,
    *,
    sparsity: float,
    sparse_clips: int | None = None,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Scalar loss of a batch: what a head said of it, mask (B, C), labels (B,) int64, class_weights (K,) or None.

    With labels (B, K) float32, 1 for each class of a video, it is the binary cross-entropy of every class by itself,
    summed over the classes and averaged over the videos; class_weights multiply that of the videos which show the
    class. Summed, because the recipe's rate and weight decay are for the gradients of a softmax: of a mean over K each
    class gets 1 / K of them, and with 40 classes planted in clips mAP stopped at 0.47 where the sum reached 0.97.

    The sparsity term sums alpha over the real clips of a video (one of more than `sparse_clips` counts as one of so
    many) and is averaged over the batch. A clip classifier learns from every real clip by itself, each bearing its
    video's labels.
    """
    if output.clip_logits is not None:
        return clip_loss(output.clip_logits, mask, labels, class_weights)
    if labels.ndim == 1:
        loss = F.cross_entropy(output.logits, labels, class_weights)
    else:
        loss = _of_classes(output.logits, labels, class_weights).mean()
    return loss if output.gate is None else loss + sparsity * gate_sparsity(output.gate, mask, most=sparse_clips)


def clip_loss(clip_logits: Tensor, mask: Tensor, labels: Tensor, class_weights: Tensor | None) -> Tensor:
    """Cross-entropy over all real clips of the batch, whatever stands on padding: clip_logits (B, C, K)."""
    if labels.ndim == 2:
        losses = _of_classes(clip_logits, labels.unsqueeze(1).expand_as(clip_logits), class_weights)  # (B, C)
        return losses.masked_fill(~mask, 0).sum() / mask.sum()
    own = labels.unsqueeze(1).expand(mask.shape)  # (B, C)
    losses = F.cross_entropy(clip_logits.flatten(0, 1), own.flatten(), class_weights, reduction="none")
    share = mask.flatten() if class_weights is None else class_weights[own.flatten()] * mask.flatten()
    return losses.masked_fill(~mask.flatten(), 0).sum() / share.sum()


def _of_classes(logits: Tensor, labels: Tensor, class_weights: Tensor | None) -> Tensor:
    """The binary cross-entropies of all classes (..., K) added up: (...)."""
    losses = F.binary_cross_entropy_with_logits(logits, labels, pos_weight=class_weights, reduction="none")
    return losses.sum(dim=-1)


def gate_sparsity(gate: Tensor, mask: Tensor | None = None, *, most: int | None = None) -> Tensor:
    """L_s of equation 10 with alpha (B, C) already 0 on padding: the sum over a video's clips, the mean over videos.

    most: a video of more real clips, by its mask (B, C), counts as one of so many with the same mean of alpha.
    """
    sums = gate.sum(dim=1)
    if most is not None and mask is not None:
        sums = sums * (most / num_real(mask).squeeze(1)).clamp(max=1)
    return sums.mean()
