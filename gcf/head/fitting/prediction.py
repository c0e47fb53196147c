"""Predictions of heads on videos: log probabilities, and how their gates behaved."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gcf.head.fitting.batches import Batch, ClipBatches
from gcf.head.fitting.gate_health import GateHealth
from gcf.head.fitting.stack import Stack
from gcf.head.fitting.threads import ThreadPool

BATCH_SIZE = 128


@dataclass(frozen=True, eq=False)
class Prediction:
    """log_probabilities (n, K) float32 of n videos in order; gate: its health as fractions, {} without a gate."""

    log_probabilities: np.ndarray
    gate: dict[str, float]


def predict(
    stacks: Sequence[Stack],
    batches: ClipBatches,
    videos: np.ndarray,
    *,
    rng: np.random.Generator,
    policy: str | None = None,
    threads: ThreadPool | None = None,
) -> list[list[Prediction]]:
    """Every active head of every stack on the same clips: a list per stack, of its heads in order.

    The same state of `rng` draws the same random clips.
    """
    buffers = []
    for stack in stacks:
        health = [GateHealth() for _ in stack.active]
        buffers.append(_PredictionBuffer(stack, [], health))
    threads = threads or ThreadPool(1)
    for batch in batches.in_order(videos, BATCH_SIZE, rng=rng, policy=policy):
        threads.map(lambda buffer, batch=batch: buffer.add(batch), buffers)
    return [buffer.predictions() for buffer in buffers]


@dataclass(frozen=True, eq=False)
class _PredictionBuffer:
    """The outputs of a stack so far."""

    stack: Stack
    logs: list[Tensor]
    health: list[GateHealth]

    def add(self, batch: Batch) -> None:
        """Predict a batch."""
        logits, gates = self.stack.outputs(batch)
        self.logs.append(log_probabilities(logits, exclusive=batch.labels.ndim == 1))
        for member, of_head in enumerate(self.health):
            of_head.add(None if gates is None else gates[member], batch.mask)

    def predictions(self) -> list[Prediction]:
        """One for each of its heads."""
        logs = torch.cat(self.logs, dim=1).cpu().numpy()
        return [Prediction(values, health.fractions()) for values, health in zip(logs, self.health, strict=True)]


def log_probabilities(logits: Tensor, *, exclusive: bool) -> Tensor:
    """Of classes of which a video has one, or of each by itself: logits (..., K) -> the same shape."""
    return logits.log_softmax(dim=-1) if exclusive else torch.nn.functional.logsigmoid(logits)
