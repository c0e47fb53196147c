"""The baselines: a linear classifier on the mean descriptor, and one on every clip."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gcf.head.models.output import HeadOutput, num_real, real_mean


class MeanHead(nn.Module):
    """Linear on the mean of the real clips: descriptors (B, C, D), mask (B, C) -> logits (B, K), evidence."""

    def __init__(self, descriptor_width: int, num_classes: int):
        super().__init__()
        self.classifier = nn.Linear(descriptor_width, num_classes)

    def forward(self, descriptors: Tensor, mask: Tensor) -> HeadOutput:
        """The evidence of clip i for class k is w_k . s_i / C; it sums to the logit less the bias."""
        logits = self.classifier(real_mean(descriptors, mask))
        if self.training:
            return HeadOutput(logits)
        shares = descriptors.masked_fill(~mask.unsqueeze(-1), 0) / num_real(mask).unsqueeze(-1)
        return HeadOutput(logits, evidence=F.linear(shares, self.classifier.weight))


class ClipHead(nn.Module):
    """One linear clip classifier; a video's probabilities are the mean of its clips' (D-Clips).

    On the central clip alone (a mask with one real clip) it is C-Clip. The probabilities are softmaxes where the
    classes are `exclusive`, else a sigmoid for each; `logits` are such that the same function of them gives back the
    mean. There is no additive evidence behind it.
    """

    def __init__(self, descriptor_width: int, num_classes: int, *, exclusive: bool = True):
        super().__init__()
        self.classifier = nn.Linear(descriptor_width, num_classes)
        self.exclusive = exclusive

    def forward(self, descriptors: Tensor, mask: Tensor) -> HeadOutput:
        """Descriptors (B, C, D), mask (B, C) -> logits (B, K) of the averaged probabilities; clip logits."""
        clip_logits = self.clip_logits(descriptors, mask).masked_fill(~mask.unsqueeze(-1), 0)
        return HeadOutput(self.average(clip_logits, mask), clip_logits=clip_logits)

    def average(self, clip_logits: Tensor, mask: Tensor) -> Tensor:
        """Logits of a video from those of its clips: (B, C, K), (B, C) -> (B, K)."""
        return (average_probabilities if self.exclusive else average_sigmoids)(clip_logits, mask)

    def clip_logits(self, descriptors: Tensor, mask: Tensor) -> Tensor:
        """Logits of each clip (B, C, K), computed from 0 on padding."""
        return self.classifier(descriptors.masked_fill(~mask.unsqueeze(-1), 0))


def average_sigmoids(clip_logits: Tensor, mask: Tensor) -> Tensor:
    """The logit of the mean sigmoid over the real clips: (B, C, K), (B, C) -> (B, K).

    log p - log(1 - p), where 1 - p is the mean of the sigmoids of the negated logits: neither is ever a difference of
    nearly equal numbers, and their common factor, the number of clips, falls out.
    """
    padding = ~mask.unsqueeze(-1)
    shown, absent = (
        F.logsigmoid(x).masked_fill(padding, -torch.inf).logsumexp(dim=1) for x in (clip_logits, -clip_logits)
    )
    return shown - absent


def average_probabilities(clip_logits: Tensor, mask: Tensor) -> Tensor:
    """Log of the mean softmax over the real clips: (B, C, K), (B, C) -> (B, K), without leaving the log domain."""
    logs = clip_logits.log_softmax(dim=-1).masked_fill(~mask.unsqueeze(-1), -torch.inf)
    return logs.logsumexp(dim=1) - num_real(mask).log()
