"""What a head says of videos: log probabilities, and how its gate behaved."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from gcf.head.batches import ClipBatches
from gcf.head.gate_health import GateHealth
from gcf.head.output import HeadOutput

BATCH_SIZE = 128


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
