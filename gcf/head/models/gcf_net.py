"""GCF-Net and its single-module ablations: clip descriptors of a video -> class logits (equations 1 to 8).

Hsiao, Chen, Ho: GCF-Net: Gated Clip Fusion Network for Video Action Recognition, ECCV Workshops 2020
(arXiv 2102.01285). No public code exists; the widths of the presets are reconstructed from prose and Table 3.
"""

from torch import Tensor, nn

from gcf.head.models.config import HeadConfig
from gcf.head.models.fusion import Fusion
from gcf.head.models.gate import ClipsGate, TokenGate
from gcf.head.models.output import HeadOutput, num_real, real_rows, spread


class GCFNet(nn.Module):
    """descriptors (B, C, D) float, mask (B, C) True on real clips -> HeadOutput with all its parts.

    No layer has a bias (the equations have none): padding stays 0 throughout, and the evidence of the clips adds up
    to the logits with nothing left over.
    """

    def __init__(self, config: HeadConfig, descriptor_width: int, num_classes: int):
        super().__init__()
        self.config = config
        width_in = config.width if config.input_projection else descriptor_width
        width = width_in if config.fusion == "none" else config.width
        if config.residual == "input" and width_in != width:
            raise ValueError(
                f"residual 'input' adds {width_in} to {width} channels; project the input, or use 'linear'"
            )
        self.project = nn.Linear(descriptor_width, width_in, bias=False) if config.input_projection else None
        self.fusion = None
        if config.fusion != "none":
            self.fusion = Fusion(
                width_in,
                width,
                layers=config.layers,
                key_width=config.key_width,
                output=config.output_projection,
                normalise=config.fusion,
            )
        self.gate = self._gate(config, width)
        self.residual = nn.Linear(width_in, width, bias=False) if config.residual == "linear" else None  # W_r
        self.classifier = nn.Linear(width, num_classes, bias=False)  # W_c

    @staticmethod
    def _gate(config: HeadConfig, width: int) -> nn.Module | None:
        if config.gate == "clips":
            return ClipsGate(config.gate_clips, reduction=config.gate_reduction)
        return TokenGate(width, reduction=config.gate_reduction) if config.gate == "token" else None

    def forward(self, descriptors: Tensor, mask: Tensor) -> HeadOutput:
        """Whatever stands in the padded slots, the result is that of the real clips alone."""
        real = self._rows(descriptors, mask)  # (R, width_in)
        fused, attention = (spread(real, mask), None) if self.fusion is None else self.fusion(real, mask)  # b (B, C, d)
        gate, weights, share = self._weigh(fused, mask)
        video = (weights.to(fused.dtype).unsqueeze(1) @ fused).squeeze(1)  # v
        added = self._other_residual(real, mask)
        if added is not None:
            video = video + added.sum(dim=1) * share
        logits = self.classifier(video)  # W_c v, equation 8
        if self.training:
            return HeadOutput(logits, gate, None, attention)
        return HeadOutput(logits, gate, self._evidence(weights, fused, added, share), attention)

    def traced_evidence(self, descriptors: Tensor, mask: Tensor) -> Tensor:
        """What each clip puts into the logits, wherever fusion carries it: (B, C, D), (B, C) -> (B, C, K).

        `evidence` asks at b_i, where every clip speaks for the whole video already and all say much the same. With
        attention and gate held as they are, v is also a sum over the clips s_j before the fusion, so that

            logit_k = sum_j (sum_i w_i A_ij) (W_c W_z W_v s_j)_k,   w_i = alpha_i / C, or (1 + alpha_i) / C

        and its terms add up to the logits just as exactly. With several layers A is A^N ... A^1; a residual that is
        not b_i adds the clip's own. Without fusion it is `evidence`.
        """
        real = self._rows(descriptors, mask)
        if self.fusion is None:
            fused, whole, own = spread(real, mask), None, spread(real, mask)
        else:
            fused, whole, own = self.fusion.trace(real, mask)
        _, weights, share = self._weigh(fused, mask)
        if whole is not None:
            weights = (weights.to(whole.dtype).unsqueeze(1) @ whole).squeeze(1)  # sum_i w_i A_ij
        return self._evidence(weights, own, self._other_residual(real, mask), share)

    def _rows(self, descriptors: Tensor, mask: Tensor) -> Tensor:
        """s_i of the real clips: (B, C, D), (B, C) -> (R, width_in)."""
        real = real_rows(descriptors, mask)  # (R, D)
        return real if self.project is None else self.project(real)

    def _weigh(self, fused: Tensor, mask: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """The gate alpha (B, C) or None, how much each b_i counts in v (B, C), and 1 / C (B, 1)."""
        gate = None if self.gate is None else self.gate(fused, mask)
        share = 1 / num_real(mask).to(fused.dtype)
        weights = mask * share if gate is None else gate * share  # alpha_i / C, equations 4 to 7
        if self.config.residual == "fused":
            weights = weights + mask * share  # r_i = (1 + alpha_i) b_i needs no second copy of b
        return gate, weights, share

    def _evidence(self, weights: Tensor, clips: Tensor, added: Tensor | None, share: Tensor) -> Tensor:
        """Shares of the logits (B, C, K): of clips (B, C, d) by their weights (B, C), and of the residual added."""
        evidence = weights.unsqueeze(-1) * self.classifier(clips)
        return evidence if added is None else evidence + self.classifier(added) * share.unsqueeze(-1)

    def _other_residual(self, real: Tensor, mask: Tensor) -> Tensor | None:
        """The residual of equation 6 where it is not b_i: (B, C, d), or None."""
        if self.config.residual in ("fused", "none"):
            return None
        return spread(real if self.residual is None else self.residual(real), mask)
