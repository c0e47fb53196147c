"""One encoder layer over the clips of a video, then a linear classifier on the mean."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gcf.head.models.config import HeadConfig
from gcf.head.models.fusion import attention_weights
from gcf.head.models.output import HeadOutput, num_real, real_mean, without_padding

MLP_RATIO = 4  # 512 -> 2048 in Vaswani et al. 2017


class TransformerHead(nn.Module):
    """Projection D -> d, positions, one encoder layer, LayerNorm, mean over the real clips, linear classifier.

    Vaswani et al.: Attention Is All You Need, NeurIPS 2017 (arXiv 1706.03762), with the norms in front of the
    sub-layers (Xiong et al. 2020, arXiv 2002.04745) and GELU. Without positions the order of the clips is unknown.
    descriptors (B, C, D), mask (B, C) -> logits (B, K), evidence, attention (B, C, C), the mean over the heads.
    """

    def __init__(self, config: HeadConfig, descriptor_width: int, num_classes: int):
        super().__init__()
        width = config.width
        self.project = nn.Linear(descriptor_width, width)
        self.positions = _positions(config)
        self.attention = SelfAttention(width, heads=config.heads)
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, MLP_RATIO * width), nn.GELU(), nn.Linear(MLP_RATIO * width, width))
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, descriptors: Tensor, mask: Tensor) -> HeadOutput:
        """The evidence of clip i is what it brings after mixing, W_c x_i / C; it sums to the logits less the bias."""
        clips = self.project(without_padding(descriptors, mask))  # (B, C, d)
        if self.positions is not None:
            clips = clips + self.positions(mask).to(clips.dtype)
        mixed, attention = self.attention(self.before_attention(clips), mask)
        clips = clips + mixed
        clips = self.norm(clips + self.mlp(self.before_mlp(clips)))
        logits = self.classifier(real_mean(clips, mask))
        if self.training:
            return HeadOutput(logits, attention=attention)
        shares = without_padding(clips, mask) / num_real(mask).unsqueeze(-1)
        return HeadOutput(logits, evidence=F.linear(shares, self.classifier.weight), attention=attention)


class SelfAttention(nn.Module):
    """Multi-head self-attention among the real clips: (B, C, d), mask (B, C) -> (B, C, d), mean weights (B, C, C).

    Queries, keys and values have no bias: the one of the keys would cancel in the softmax and never learn.
    """

    def __init__(self, width: int, *, heads: int):
        super().__init__()
        if width % heads:
            raise ValueError(f"a width of {width} cannot be shared by {heads} heads: choose a multiple")
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.output = nn.Linear(width, width)

    def forward(self, clips: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Padding is no key; what comes out in the padded slots means nothing."""
        queries, keys, values = (
            layer(clips).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, C, d / H)
            for layer in (self.query, self.key, self.value)
        )
        weights = attention_weights(queries, keys, mask.unsqueeze(1))  # (B, H, C, C)
        mixed = (weights @ values).transpose(1, 2).flatten(2)  # (B, C, d)
        return self.output(mixed), weights.mean(dim=1)


class LearnedPositions(nn.Module):
    """A vector for each of the first `num_clips` real clips of a video: mask (B, C) -> (B, C, width)."""

    def __init__(self, num_clips: int, width: int):
        super().__init__()
        self.table = nn.Embedding(num_clips, width)

    def forward(self, mask: Tensor) -> Tensor:
        """ValueError where there are more clips than vectors."""
        count = self.table.num_embeddings
        if mask.shape[1] > count:
            raise ValueError(f"positions for {count} clips, got {mask.shape[1]}; choose clips or positions='sine'")
        return self.table(ranks(mask))


class SinePositions(nn.Module):
    """Sines and cosines of the clip's number, as in section 3.5 of Vaswani et al.: mask (B, C) -> (B, C, width)."""

    def __init__(self, width: int):
        super().__init__()
        if width % 2:
            raise ValueError(f"sine positions need an even width, got {width}")
        self.width = width

    def forward(self, mask: Tensor) -> Tensor:
        """Even channels hold sines, odd ones cosines."""
        exponents = torch.arange(0, self.width, 2, device=mask.device) / self.width
        angles = ranks(mask).unsqueeze(-1) * 10_000.0**-exponents  # (B, C, width / 2)
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(2)


def ranks(mask: Tensor) -> Tensor:
    """The number of each real clip among the real ones of its video, from 0: mask (B, C) -> (B, C) int64."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)


def _positions(config: HeadConfig) -> nn.Module | None:
    if config.positions == "learned":
        return LearnedPositions(config.gate_clips, config.width)
    return SinePositions(config.width) if config.positions == "sine" else None
