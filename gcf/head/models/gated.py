"""A gated clip fusion whose gate works: it chooses clips before they are fused, against an empty clip of weight 1.

The gate of GCF-Net as printed hardly moves: its squeeze leaves a number of 0.02 that differs by 0.005 between clips,
its gradient is smaller than the weight decay, and fusion makes clips alike before it sees them. Here one small network
looks at every clip by itself, before the fusion, and an empty clip (descriptor 0, weight 1) stands beside those of the
video, in the attention and in the mean, so that alpha has a unit: a clip that says nothing for the class is pushed
towards 0, one that does towards 1.

    p_i = W_in z_i                                            z: what the head reads (`standard.Reduced`)
    alpha_i = sigmoid(w_2 . relu(W_1 p_i + b_1) + b_2)
    A_ij = alpha_j e_ij / (1 + sum_j' alpha_j' e_ij'),  e_ij = exp(tau cos(W_q h_i, W_k h_j))
    h_i = p_i + W_v sum_j A_ij p_j                            W_v starts at 0; further layers the same from h
    v = sum_i alpha_i h_i / (1 + sum_i alpha_i)
    logits = W_c v + b

In training the fusion is left out for half of the videos (h_i = p_i).
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gcf.head.models.config import HeadConfig
from gcf.head.models.output import HeadOutput, without_padding

SHARPNESS = 8.0  # tau
DROPPED_FUSION = 0.5


class ClipGate(nn.Module):
    """One small network for all clips: (B, C, W) -> logits of alpha (B, C)."""

    def __init__(self, width: int):
        super().__init__()
        self.hidden = nn.Linear(width, max(1, width // 4))
        self.score = nn.Linear(max(1, width // 4), 1)

    def forward(self, clips: Tensor) -> Tensor:
        """Return the logits."""
        return self.score(F.relu(self.hidden(clips))).squeeze(-1)


class MaskedFusion(nn.Module):
    """One layer: what clip i takes from clips j, whom alpha opens. With an empty clip, taking nothing is possible."""

    def __init__(self, width: int, key_width: int):
        super().__init__()
        self.query = nn.Linear(width, key_width, bias=False)
        self.key = nn.Linear(width, key_width, bias=False)
        self.value = Zeroed(width, width, bias=False)

    def attention(self, clips: Tensor, alpha: Tensor) -> Tensor:
        """A (B, C, C) of clips (B, C, W) and alpha (B, C): rows add up to less than 1, the rest is the empty clip's."""
        queries, keys = F.normalize(self.query(clips), dim=-1), F.normalize(self.key(clips), dim=-1)
        weights = alpha.unsqueeze(1) * (SHARPNESS * (queries @ keys.mT)).exp()
        return weights / (1 + weights.sum(dim=-1, keepdim=True))


class Zeroed(nn.Linear):
    """A linear layer that starts at 0: what is added to its input is nothing, at first."""

    def initialise(self, _generator: torch.Generator) -> None:
        """Fill it."""
        self.weight.zero_()


class GatedClipFusion(nn.Module):
    """descriptors (B, C, D) float, mask (B, C) True on real clips -> HeadOutput with all its parts.

    Any number of clips, in any order. Padding has alpha 0: neither key nor value, and not in v. `gate` "none" opens
    all real clips (alpha 1), `fusion` "none" leaves h = p.
    """

    def __init__(self, config: HeadConfig, descriptor_width: int, num_classes: int):
        super().__init__()
        width = config.width
        self.project = nn.Linear(descriptor_width, width, bias=False)  # W_in
        self.gate = ClipGate(width) if config.gate != "none" else None
        layers = config.layers if config.fusion != "none" else 0
        self.layers = nn.ModuleList(MaskedFusion(width, config.key_width) for _ in range(layers))
        self.classifier = nn.Linear(width, num_classes)  # W_c

    def draw(self, shape: tuple[int, int], generator: torch.Generator) -> tuple[Tensor, ...]:
        """For which of B videos (B,) a training step keeps the fusion."""
        return ((torch.rand(shape[0], generator=generator) >= DROPPED_FUSION).float(),)

    def forward(self, descriptors: Tensor, mask: Tensor, fusion: Tensor | None = None) -> HeadOutput:
        """Whatever stands in the padded slots, the result is that of the real clips alone. fusion: of `draw`."""
        clips = self.project(without_padding(descriptors, mask))  # p (B, C, W)
        alpha = self._alpha(clips, mask)
        hidden, seen = self._fuse(clips, alpha, fusion)
        weights = _weights(alpha)
        logits = self.classifier((weights.unsqueeze(1) @ hidden).squeeze(1))
        evidence = None
        if not self.training:
            evidence = F.linear(weights.unsqueeze(-1) * hidden, self.classifier.weight)
        gate = None if self.gate is None else alpha
        attention = seen[-1].masked_fill(~mask.unsqueeze(-1), 0) if seen else None
        return HeadOutput(logits, gate, evidence, attention)

    def traced_evidence(self, descriptors: Tensor, mask: Tensor) -> Tensor:
        """What each clip puts into the logits, wherever fusion carries it: (B, C, D), (B, C) -> (B, C, K).

        With alpha and the attention held as they are, v is a sum over the clips p_j, and so each clip's share is
        exact: the shares add up to the logits less the bias, as those of `evidence` do.
        """
        clips = self.project(without_padding(descriptors, mask))
        alpha = self._alpha(clips, mask)
        seen = self._fuse(clips, alpha, None)[1]
        parts = self._traced(clips, _weights(alpha), seen)
        return F.linear(parts, self.classifier.weight)

    @property
    def _layers(self) -> list[MaskedFusion]:
        return cast(list[MaskedFusion], list(self.layers))

    def _alpha(self, clips: Tensor, mask: Tensor) -> Tensor:
        """alpha (B, C), 0 on padding."""
        return mask.to(clips.dtype) if self.gate is None else self.gate(clips).sigmoid().masked_fill(~mask, 0)

    def _fuse(self, clips: Tensor, alpha: Tensor, fusion: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """h of the last layer (B, C, W), and the attention (B, C, C) of every layer."""
        hidden, seen = clips, []
        for layer in self._layers:
            seen.append(layer.attention(hidden, alpha))
            taken = layer.value(seen[-1] @ hidden)
            hidden = hidden + (taken if fusion is None else taken * fusion.view(-1, 1, 1))
        return hidden, seen

    def _traced(self, clips: Tensor, weights: Tensor, seen: list[Tensor]) -> Tensor:
        """What each clip brings into v (B, C, W): their sum is v.

        h^n = h^(n-1) + W_v^n A^n h^(n-1); A acts on clips, W_v on channels. So v, the h^N weighted, is the
        sum over the subsets of the layers: the weights carried back through the A of a subset, times the p_j through
        its W_v.
        """
        parts: list[tuple[Tensor, list[int]]] = [(weights, [])]
        for number in reversed(range(len(seen))):
            parts += [((rows.unsqueeze(1) @ seen[number]).squeeze(1), [number, *chosen]) for rows, chosen in parts]
        total = torch.zeros_like(clips)
        for rows, chosen in parts:
            own = clips
            for number in chosen:
                own = self._layers[number].value(own)
            total = total + rows.unsqueeze(-1) * own
        return total


def _weights(alpha: Tensor) -> Tensor:
    """How much each h_i counts in v, beside the empty clip: (B, C) -> (B, C)."""
    return alpha / (1 + alpha.sum(dim=1, keepdim=True))
