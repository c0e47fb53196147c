"""Descriptors that are standardised before a head reads them, as most training rates expect."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gcf.head.models.output import HeadOutput

# The length that the clips of the training videos get on average. Steps of rate r on a softmax of linear logits cannot
# run away while r times the largest curvature stays below 2; that is half the square of a descriptor's length at most
# (Boehning, 1992, Multinomial logistic regression algorithm, AISM 44), so that the recipe's rate of 0.1 allows 6.3.
# Descriptors of X3D-XS (UT-Interaction) and ShuffleNetV2 (the demo), less their mean, are 6.2 and 6.9 long.
LENGTH = 6.0
LONG = 20.0  # descriptors up to this length are trained on at the recipe's rate as they are


class Standardised(nn.Module):
    """A head that reads (s - mean) / scale, with one mean (D,) and one scale of the training clips.

    Both are buffers: saved with the head, never trained, no parameters. They start as 0 and 1.
    """

    mean: Tensor
    scale: Tensor
    head: Any

    def __init__(self, head: nn.Module, descriptor_width: int):
        super().__init__()
        self.head = head
        self.register_buffer("mean", torch.zeros(descriptor_width))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, descriptors: Tensor, mask: Tensor) -> HeadOutput:
        """Descriptors (B, C, D), mask (B, C) -> what the head says of them."""
        return self.head(self.standard(descriptors), mask)

    def traced_evidence(self, descriptors: Tensor, mask: Tensor) -> Tensor:
        """As `GCFNet.traced_evidence`, for heads that have it."""
        return self.head.traced_evidence(self.standard(descriptors), mask)

    def standard(self, descriptors: Tensor) -> Tensor:
        """(s - mean) / scale."""
        return (descriptors - self.mean) / self.scale


def inner_head(head: nn.Module) -> nn.Module:
    """The head behind the standardisation, or the head itself where there is none."""
    return head.head if isinstance(head, Standardised) else head


def rate_share(length: float) -> float:
    """What of the rate is left for descriptors (of this mean length) that are not standardised: 1 for usual ones.

    The curvature of the loss grows with the square of the length, and the largest stable rate falls with it.

    >>> rate_share(10), rate_share(40)
    (1.0, 0.25)
    """
    return (LONG / max(LONG, length)) ** 2


@dataclass(frozen=True, eq=False)
class Moments:
    """mean (D,) of clips, scale () that brings them to a root mean square length of `LENGTH`; length: theirs as is."""

    mean: Tensor
    scale: Tensor
    length: float

    @classmethod
    def of(cls, rows: Iterable[Tensor]) -> "Moments":
        """Of chunks (R, D), summed in float64: a large mean leaves the differences between rows their digits."""
        count = 0
        total: Tensor | float = 0.0
        squares: Tensor | float = 0.0
        for chunk in rows:
            exact = chunk.double()
            count += len(exact)
            total = total + exact.sum(dim=0)
            squares = squares + exact.square().sum(dim=0)
        mean, second = torch.as_tensor(total / count).cpu(), torch.as_tensor(squares / count).cpu()
        scale = (second - mean.square()).sum().clamp(min=0).sqrt() / LENGTH
        return cls(mean.float(), torch.where(scale > 0, scale, 1.0).float(), float(second.sum().sqrt()))
