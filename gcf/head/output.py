"""What every head returns, and the mean over real clips that they share."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class HeadOutput:
    """A head's answer for B videos of C clips and K classes; what a head does not have is None.

    logits (B, K). gate (B, C) in (0, 1), 0 on padding. evidence (B, C, K), each clip's exact share of the logits:
    its sum over the clips is the logits, the classifier's bias apart; computed in eval mode only.
    attention (B, C, C), row i says how much clip i takes from each clip j; of the last layer where there are several.
    """

    logits: Tensor
    gate: Tensor | None = None
    evidence: Tensor | None = None
    attention: Tensor | None = None


def num_real(mask: Tensor) -> Tensor:
    """Real clips per video: mask (B, C) -> (B, 1), at least 1 so that a video without any gives zeros, not NaN."""
    return mask.sum(dim=1, keepdim=True).clamp(min=1)


def real_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the real clips, whatever stands in the others: values (B, C, W), mask (B, C) -> (B, W)."""
    return values.masked_fill(~mask.unsqueeze(-1), 0).sum(dim=1) / num_real(mask)
