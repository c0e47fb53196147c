"""What heads say of videos: log probabilities, and how their gates behaved."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gcf.head.batches import Batch, ClipBatches
from gcf.head.stack import Stack

BATCH_SIZE = 128
SATURATED = 0.05  # a gate this close to 0 or 1 hardly learns any more


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
            logs[number].append(log_probabilities(logits, batch.labels))
            for member, of_head in enumerate(health[number]):
                of_head.add(None if gates is None else gates[member], batch.mask)
    return [
        [Prediction(values, h.fractions()) for values, h in zip(_joined(parts), of_stack, strict=True)]
        for parts, of_stack in zip(logs, health, strict=True)
    ]


def log_probabilities(logits: Tensor, labels: Tensor) -> Tensor:
    """Of classes that exclude each other (labels (B,)) or not (labels (B, K)): logits (..., K) -> the same shape."""
    return logits.log_softmax(dim=-1) if labels.ndim == 1 else torch.nn.functional.logsigmoid(logits)


def _joined(parts: Sequence[Tensor]) -> np.ndarray:
    return torch.cat(list(parts), dim=1).cpu().numpy()


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
