"""What every head returns, and how heads read the real clips of a batch."""

from dataclasses import dataclass

from torch import Tensor

SPARE = 0.25  # more padding than this is worth leaving out, fewer padded clips are computed along as zeros


@dataclass(frozen=True, eq=False)
class HeadOutput:
    """A head's answer for B videos of C clips and K classes; what a head does not have is None.

    logits (B, K). gate (B, C) in (0, 1), 0 on padding. evidence (B, C, K), each clip's exact share of the logits:
    its sum over the clips is the logits, the classifier's bias apart; computed in eval mode only.
    attention (B, C, C), row i says how much clip i takes from each clip j; of the last layer where there are several.
    clip_logits (B, C, K) of a head that learns from every clip by itself.
    """

    logits: Tensor
    gate: Tensor | None = None
    evidence: Tensor | None = None
    attention: Tensor | None = None
    clip_logits: Tensor | None = None


def num_real(mask: Tensor) -> Tensor:
    """Real clips per video: mask (B, C) -> (B, 1), at least 1 so that a video without any gives zeros, not NaN."""
    return mask.sum(dim=1, keepdim=True).clamp(min=1)


def real_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the real clips, whatever stands in the others: values (B, C, W), mask (B, C) -> (B, W)."""
    return values.masked_fill(~mask.unsqueeze(-1), 0).sum(dim=1) / num_real(mask)


def real_rows(values: Tensor, mask: Tensor) -> Tensor:
    """The real clips as rows for a layer: values (B, C, W), mask (B, C) -> (R, W), to be put back by `spread`.

    Where there is little padding it is kept, as rows of zeros: R is then B * C, and nothing has to be moved.
    """
    if not _dense(mask):
        return values[mask]
    return (values if bool(mask.all()) else values.masked_fill(~mask.unsqueeze(-1), 0)).flatten(0, 1)


def spread(rows: Tensor, mask: Tensor) -> Tensor:
    """Put rows of `real_rows` back into their slots: rows (R, W), mask (B, C) -> (B, C, W), 0 on padding.

    What is computed from a row of zeros must be zeros: the layers in between have no bias.
    """
    if _dense(mask):
        return rows.unflatten(0, mask.shape)
    return rows.new_zeros(*mask.shape, rows.shape[-1]).index_put((mask,), rows)


def _dense(mask: Tensor) -> bool:
    return int((~mask).sum()) <= SPARE * mask.numel()
