"""Tokens of a transformer laid out as a feature map. B clips, N = T' h w tokens of M channels."""

from torch import Tensor


def as_map(tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Tokens (B, N, M), in the order of their (T', h, w) places -> (B, M, T', h, w)."""
    return tokens.transpose(1, 2).unflatten(2, grid)


def map_around(token: Tensor, patches: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """A map (B, M, T', h, w) for a classifier that reads one token (B, 1, M) which belongs to no position.

    It is the patch tokens (B, N, M), all moved by one vector per clip such that their mean is that token: positions
    differ as the patch tokens do, and the mean over positions is what the classifier reads.
    """
    return as_map(patches - patches.mean(dim=1, keepdim=True) + token, grid)
