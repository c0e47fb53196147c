"""Inter-clip fusion: every clip takes from every clip, past and future (equations 1, 11 and 12)."""

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from gcf.head.models.output import real_rows, spread


def attention_weights(queries: Tensor, keys: Tensor, mask: Tensor, *, normalise: str = "softmax") -> Tensor:
    """A of equation 1: queries and keys (B, C, E), mask (B, C) -> (B, C, C), rows and columns of padding are 0.

    With several heads they are (B, H, C, E) and the mask (B, 1, C).

    "softmax" over the real clips j (Vaswani), or "average": the scores divided by their number, the paper's N(s) = C
    (Wang's non-local block).
    """
    scores = queries @ keys.mT / keys.shape[-1] ** 0.5  # (B, C, C)
    real_keys = mask.unsqueeze(-2)
    if normalise == "softmax":
        # The lowest number rather than -inf: a video without any real clip must not turn into NaN.
        weights = scores.masked_fill(~real_keys, torch.finfo(scores.dtype).min).softmax(dim=-1)
    else:
        weights = scores / real_keys.sum(dim=-1, keepdim=True).clamp(min=1)
    return weights.masked_fill(~(real_keys & mask.unsqueeze(-1)), 0)


class FusionLayer(nn.Module):
    """One layer of equation 1: rows of real clips (R, width_in) and mask (B, C) -> b (B, C, width), A (B, C, C).

    No projection has a bias, so padded slots hold 0.
    """

    def __init__(self, width_in: int, width: int, *, key_width: int, output: bool = True, normalise: str = "softmax"):
        super().__init__()
        self.normalise = normalise
        self.query = nn.Linear(width_in, key_width, bias=False)  # W_q
        self.key = nn.Linear(width_in, key_width, bias=False)  # W_k
        self.value = nn.Linear(width_in, width, bias=False)  # W_v
        self.output = nn.Linear(width, width, bias=False) if output else nn.Identity()  # W_z

    def forward(self, real: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return b of equation 1, and A."""
        queries, keys, values = (spread(layer(real), mask) for layer in (self.query, self.key, self.value))
        attention = attention_weights(queries, keys, mask, normalise=self.normalise)
        return self.output(attention @ values), attention

    def carry(self, real: Tensor) -> Tensor:
        """What a clip brings along, whoever takes it: W_z W_v s_j, rows (R, width_in) -> (R, width)."""
        return self.output(self.value(real))


class Fusion(nn.Module):
    """N layers, B^1 = fuse(S), B^n = fuse(B^(n-1)): real clips (R, width_in) -> (B, C, width), last attention."""

    def __init__(self, width_in: int, width: int, *, layers: int = 1, **settings):
        super().__init__()
        widths = [width_in] + [width] * layers
        self.layers = nn.ModuleList(FusionLayer(a, b, **settings) for a, b in pairwise(widths))

    def forward(self, real: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return b of the last layer and its attention."""
        fused, attention = self.layers[0](real, mask)
        for layer in self.layers[1:]:
            fused, attention = layer(real_rows(fused, mask), mask)
        return fused, attention

    def trace(self, real: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where b comes from: b (B, C, width), whole (B, C, C) and own (B, C, width), with b = whole @ own.

        Attention mixes clips, W_v and W_z mix channels, so the two may be told apart however many layers there are:
        whole = A^N ... A^1, and own_j is what all the layers' matrices make of s_j alone. Only A itself is no longer
        seen as depending on the clips.
        """
        first, *others = cast(list[FusionLayer], list(self.layers))
        fused, whole = first(real, mask)
        own = first.carry(real)
        for layer in others:
            fused, attention = layer(real_rows(fused, mask), mask)
            whole, own = attention @ whole, layer.carry(own)
        return fused, whole, spread(own, mask)
