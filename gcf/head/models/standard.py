"""Descriptors that are standardised before a head reads them, as most training rates expect."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from gcf.head.models.output import HeadOutput

# The length that the clips of the training videos get on average. Steps of rate r on a softmax of linear logits cannot
# run away while r times the largest curvature stays below 2; that is half the square of a descriptor's length at most
# (Boehning, 1992, Multinomial logistic regression algorithm, AISM 44), so that the recipe's rate of 0.1 allows 6.3.
# Descriptors of X3D-XS (UT-Interaction) and ShuffleNetV2 (the demo), less their mean, are 6.2 and 6.9 long.
LENGTH = 6.0
FLAT = 1e-6  # of the largest variance: less is rounding
DROPPED = 0.3  # of the components, in training
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

    def forward(self, descriptors: Tensor, mask: Tensor, *noise: Tensor) -> HeadOutput:
        """Descriptors (B, C, D), mask (B, C) -> what the head says of them; noise: of its `draw`, in training."""
        return self.head(self.standard(descriptors), mask, *noise)

    def draw(self, shape: tuple[int, int], generator: torch.Generator) -> tuple[Tensor, ...]:
        """What the head draws at random for a training step."""
        return self.head.draw(shape, generator)

    def traced_evidence(self, descriptors: Tensor, mask: Tensor) -> Tensor:
        """As `GCFNet.traced_evidence`, for heads that have it."""
        return self.head.traced_evidence(self.standard(descriptors), mask)

    def standard(self, descriptors: Tensor) -> Tensor:
        """(s - mean) / scale."""
        return (descriptors - self.mean) / self.scale


class Reduced(nn.Module):
    """A head that reads principal components of the training clips, partly whitened, in the place of channels.

    basis (D, R) is a buffer, fitted without labels (`principal_basis`) and never trained; before, it is the first R
    channels. In training some components are dropped.
    """

    basis: Tensor
    head: Any

    def __init__(self, head: nn.Module, descriptor_width: int, components: int):
        super().__init__()
        self.head = head
        self.register_buffer("basis", torch.eye(descriptor_width, components))

    def forward(self, descriptors: Tensor, mask: Tensor, kept: Tensor | None = None, *noise: Tensor) -> HeadOutput:
        """Descriptors (B, C, D), mask (B, C) -> what the head says of them; kept, noise: of `draw`, in training."""
        components = descriptors @ self.basis  # (B, C, R)
        return self.head(components if kept is None else components * kept, mask, *noise)

    def draw(self, shape: tuple[int, int], generator: torch.Generator) -> tuple[Tensor, ...]:
        """Which components (B, C, R) a training step keeps, times what keeps their expectation; the head's own."""
        noise = self.head.draw(shape, generator) if draws_noise(self.head) else ()
        kept = torch.rand(*shape, self.basis.shape[1], generator=generator) >= DROPPED
        return (kept / (1 - DROPPED), *noise)

    def traced_evidence(self, descriptors: Tensor, mask: Tensor) -> Tensor:
        """As `GCFNet.traced_evidence`, for heads that have it."""
        return self.head.traced_evidence(descriptors @ self.basis, mask)


def inner_head(head: nn.Module) -> nn.Module:
    """The head behind standardisation and components, or the head itself where there are none."""
    while isinstance(head, Standardised | Reduced):
        head = head.head
    return head


def take_input(head: nn.Module, given: nn.Module) -> None:
    """Let a head read descriptors as another of its shape does: by its mean, scale and components."""
    while isinstance(head, Standardised | Reduced):
        for name, value in given.named_buffers(recurse=False):
            setattr(head, name, value.clone())
        head, given = head.head, cast(nn.Module, given.head)


def draws_noise(head: nn.Module) -> bool:
    """Whether a training step of the head draws random numbers, with its method `draw`."""
    inside = head.head if isinstance(head, Standardised) else head
    return callable(getattr(inside, "draw", None))


def rate_share(length: float) -> float:
    """What of the rate is left for descriptors (of this mean length) that are not standardised: 1 for usual ones.

    The curvature of the loss grows with the square of the length, and the largest stable rate falls with it.

    >>> rate_share(10), rate_share(40)
    (1.0, 0.25)
    """
    return (LONG / max(LONG, length)) ** 2


def principal_basis(rows: Iterable[Tensor], moments: "Moments", count: int) -> Tensor:
    """(D, count): what turns standardised descriptors into their leading principal components, partly whitened.

    Component j is divided by the fourth root of its variance, between as it is (0) and white (the square root), and
    all are brought to a root mean square length of `LENGTH` together. Of chunks (R, D) of the training clips; columns
    of components that do not vary are 0.
    """
    seen = 0
    products = torch.zeros(())
    for chunk in rows:
        exact = (chunk.cpu() - moments.mean) / moments.scale
        seen += len(exact)
        products = products + (exact.mT @ exact).double()
    variances, directions = torch.linalg.eigh(products / seen)  # rising
    variances, directions = variances.flip(0)[:count], directions.flip(1)[:, :count]
    varies = variances > FLAT * variances[0].clamp(min=torch.finfo(torch.float32).tiny)
    length = variances[varies].sqrt().sum().sqrt()  # of components that are partly whitened
    scales = torch.where(varies, variances.clamp(min=0) ** -0.25 * LENGTH / length, 0.0)
    return (directions * scales).float()


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
