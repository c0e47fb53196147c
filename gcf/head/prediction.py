"""What heads say of videos: log probabilities, and how their gates behaved."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gcf.head.batches import Batch, ClipBatches
from gcf.head.gate_health import GateHealth
from gcf.head.stack import Stack

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
) -> list[list[Prediction]]:
    """What every active head of every stack says of the same clips: a list per stack, of its heads in order.

    The same state of `rng` draws the same random clips.
    """
    return speak(stacks, batches.in_order(videos, BATCH_SIZE, rng=rng, policy=policy))


def speak(stacks: Sequence[Stack], passing: Iterable[Batch]) -> list[list[Prediction]]:
    """The same for batches that are there already."""
    logs: list[list[Tensor]] = [[] for _ in stacks]
    health = [[GateHealth() for _ in stack.active] for stack in stacks]
    for batch in passing:
        for number, stack in enumerate(stacks):
            logits, gates = stack.outputs(batch)
            logs[number].append(log_probabilities(logits, exclusive=batch.labels.ndim == 1))
            for member, of_head in enumerate(health[number]):
                of_head.add(None if gates is None else gates[member], batch.mask)
    return [
        [Prediction(values, h.fractions()) for values, h in zip(_joined(parts), of_stack, strict=True)]
        for parts, of_stack in zip(logs, health, strict=True)
    ]


def log_probabilities(logits: Tensor, *, exclusive: bool) -> Tensor:
    """Of classes of which a video has one, or of each by itself: logits (..., K) -> the same shape."""
    return logits.log_softmax(dim=-1) if exclusive else torch.nn.functional.logsigmoid(logits)


def _joined(parts: Sequence[Tensor]) -> np.ndarray:
    return torch.cat(list(parts), dim=1).cpu().numpy()
