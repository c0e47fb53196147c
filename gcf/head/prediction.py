"""What a head says of videos: log probabilities, and how its gate behaved."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gcf.head.batches import ClipBatches
from gcf.head.output import HeadOutput

BATCH_SIZE = 128
SATURATED = 0.05  # a gate this close to 0 or 1 hardly learns any more


@dataclass(frozen=True, eq=False)
class Prediction:
    """log_probabilities (n, K) float32 of n videos in order; gate: its health as fractions, {} without a gate."""

    log_probabilities: np.ndarray
    gate: dict[str, float]


def predict(
    head: nn.Module, batches: ClipBatches, videos: np.ndarray, *, rng: np.random.Generator, policy: str | None = None
) -> Prediction:
    """Run a head over videos in eval mode (and put it back): the same `rng` state draws the same random clips."""
    logs, health, training = [], GateHealth(), head.training
    head.eval()
    try:
        with torch.inference_mode():
            for batch in batches.in_order(videos, BATCH_SIZE, rng=rng, policy=policy):
                output: HeadOutput = head(batch.descriptors, batch.mask)
                logs.append(output.logits.float().log_softmax(dim=-1))
                health.add(output.gate, batch.mask)
    finally:
        head.train(training)
    return Prediction(torch.cat(logs).cpu().numpy(), health.fractions())


class GateHealth:
    """Collects how open the gate is: the sparsity term pushes it towards 0, and 0.5 may select no clip at all."""

    def __init__(self):
        self.sums: Tensor | None = None
        self.clips = self.videos = 0

    def add(self, gate: Tensor | None, mask: Tensor) -> None:
        """Take in alpha (B, C) of one batch."""
        if gate is None:
            return
        alpha = gate[mask]
        found = torch.stack(
            [
                alpha.sum(),
                (alpha > 0.5).sum(),
                ((alpha < SATURATED) | (alpha > 1 - SATURATED)).sum(),
                (gate > 0.5).any(dim=1).sum(),
            ]
        )
        self.sums = found if self.sums is None else self.sums + found
        self.clips += len(alpha)
        self.videos += len(gate)

    def fractions(self) -> dict[str, float]:
        """Mean alpha and shares; {} where there was no gate."""
        if self.sums is None:
            return {}
        total, above, saturated, selecting = self.sums.tolist()
        return {
            "mean_alpha": total / self.clips,
            "share_above_half": above / self.clips,
            "share_saturated": saturated / self.clips,
            "videos_with_clip_above_half": selecting / self.videos,
        }
