"""The gate: one number between 0 and 1 per clip (equations 2 and 3)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def squeeze(fused: Tensor) -> Tensor:
    """z of equation 2, the mean over the channels, in float32 whatever the input: (B, C, W) -> (B, C).

    Nothing may centre the channels before this: after a LayerNorm every z is 0 and the gate sees nothing.
    """
    return fused.mean(dim=-1, dtype=torch.promote_types(fused.dtype, torch.float32))


class ClipsGate(nn.Module):
    """Squeeze-excite across the clips of a video, as printed: fused (B, C, W), mask (B, C) -> alpha (B, C).

    Built for `num_clips` slots, and the only part that knows their order. A video with fewer clips leaves z at 0 in
    the rest; one with more has to be sampled first (ValueError).
    """

    def __init__(self, num_clips: int, *, reduction: int):
        super().__init__()
        self.num_clips = num_clips
        self.reduce = nn.Linear(num_clips, max(1, num_clips // reduction), bias=False)  # W_1
        self.expand = nn.Linear(max(1, num_clips // reduction), num_clips, bias=False)  # W_2

    def forward(self, fused: Tensor, mask: Tensor) -> Tensor:
        """Return alpha, 0 on padding."""
        count = fused.shape[1]
        if count > self.num_clips:
            raise ValueError(f"this gate has {self.num_clips} slots, got {count} clips; choose clips or gate='token'")
        z = F.pad(squeeze(fused).masked_fill(~mask, 0), (0, self.num_clips - count))  # (B, num_clips)
        z = z.to(self.reduce.weight.dtype)
        alpha = torch.sigmoid(self.expand(F.relu(self.reduce(z))))
        return alpha[:, :count].masked_fill(~mask, 0)


class TokenGate(nn.Module):
    """One small MLP shared by all clips, for any number of them: fused (B, C, W), mask (B, C) -> alpha (B, C).

    Not in the paper: its gate fixes the number of clips.
    """

    def __init__(self, width: int, *, reduction: int):
        super().__init__()
        self.reduce = nn.Linear(width, max(1, width // reduction), bias=False)
        self.expand = nn.Linear(max(1, width // reduction), 1, bias=False)

    def forward(self, fused: Tensor, mask: Tensor) -> Tensor:
        """Return alpha, 0 on padding."""
        scores = self.expand(F.relu(self.reduce(fused))).squeeze(-1)  # (B, C)
        return torch.sigmoid(scores).masked_fill(~mask, 0)
