"""What every head returns, and how heads read the real clips of a batch."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SPARE = 0.25  # more padding than this is worth leaving out, fewer padded clips are computed along as zeros


@dataclass(frozen=True, eq=False)
class HeadOutput:
    """A head's answer for B videos of C clips and K classes; what a head does not have is None.

    logits (B, K). gate (B, C) in (0, 1), 0 on padding. evidence (B, C, K), each clip's exact share of the logits:
    its sum over the clips is the logits, the classifier's bias apart; computed in eval mode only.
    attention (B, C, C), row i says how much clip i takes from each clip j; of the last layer where there are several,
    the mean over its heads. weights (B, C), how much each clip counts in the video's descriptor: they sum to 1 over
    the real clips, unlike a gate, whose values do not depend on each other. clip_logits (B, C, K) of a head that learns
    from every clip by itself.
    """

    logits: Tensor
    gate: Tensor | None = None
    evidence: Tensor | None = None
    attention: Tensor | None = None
    weights: Tensor | None = None
    clip_logits: Tensor | None = None


def part_shapes(videos: int, clips: int, classes: int) -> dict[str, tuple[int, ...]]:
    """The shape of each part of an answer for B videos of C clips and K classes."""
    return {
        "logits": (videos, classes),
        "gate": (videos, clips),
        "evidence": (videos, clips, classes),
        "attention": (videos, clips, clips),
        "weights": (videos, clips),
        "clip_logits": (videos, clips, classes),
    }


def num_real(mask: Tensor) -> Tensor:
    """Real clips per video: mask (B, C) -> (B, 1), at least 1 so that a video without any gives zeros, not NaN."""
    return mask.sum(dim=1, keepdim=True).clamp(min=1)


def real_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the real clips, whatever stands in the others: values (B, C, W), mask (B, C) -> (B, W)."""
    return without_padding(values, mask).sum(dim=1) / num_real(mask)


def without_padding(values: Tensor, mask: Tensor) -> Tensor:
    """A copy with 0 in the padded slots, whatever stood there: values (B, C, W), mask (B, C) -> (B, C, W)."""
    return values.masked_fill(~mask.unsqueeze(-1), 0)


def real_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the real clips: scores (B, C), mask (B, C) -> (B, C), 0 on padding and in a video without clips."""
    lowest = torch.finfo(scores.dtype).min  # not -inf: a video without any real clip must not turn into NaN
    return scores.masked_fill(~mask, lowest).softmax(dim=-1).masked_fill(~mask, 0)


def classify_weighted(
    classifier: nn.Linear, clean: Tensor, weights: Tensor, *, evidence: bool
) -> tuple[Tensor, Tensor | None]:
    """Logits (B, K) of the weighted sum of clips (B, C, W), whose padding is 0; evidence (B, C, K) if asked for.

    The evidence of clip i is its weight (B, C) times W_c s_i: it adds up to the logits less the bias.
    """
    logits = classifier((weights.unsqueeze(1) @ clean).squeeze(1))
    return logits, weights.unsqueeze(-1) * F.linear(clean, classifier.weight) if evidence else None


def real_rows(values: Tensor, mask: Tensor) -> Tensor:
    """The real clips as rows for a layer: values (B, C, W), mask (B, C) -> (R, W), to be put back by `spread`.

    Where there is little padding it is kept, as rows of zeros: R is then B * C, and nothing has to be moved. So it is
    where the mask cannot be looked at: under vmap, where every head has its own.
    """
    try:
        padded = int((~mask).sum())
    except RuntimeError:
        padded = 1
    if padded > SPARE * mask.numel():
        return values[mask]
    return (values.masked_fill(~mask.unsqueeze(-1), 0) if padded else values).flatten(0, 1)


def spread(rows: Tensor, mask: Tensor) -> Tensor:
    """Put rows of `real_rows` back into their slots: rows (R, W), mask (B, C) -> (B, C, W), 0 on padding.

    What is computed from a row of zeros must be zeros: the layers in between have no bias.
    """
    if len(rows) == mask.numel():
        return rows.unflatten(0, mask.shape)
    return rows.new_zeros(*mask.shape, rows.shape[-1]).index_put((mask,), rows)
