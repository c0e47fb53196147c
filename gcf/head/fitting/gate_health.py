"""How a gate behaves over many videos: open, shut, stuck, or telling clips apart."""

import statistics
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

STILL = 0.02  # a smaller spread of alpha chooses no clip
DEAD, HALF, OPEN = 0.05, 0.5, 0.95  # below the first and above the last a sigmoid hardly learns any more


class GateHealth:
    """Collects how open the gate is: the sparsity term pushes it towards 0, and 0.5 may select no clip at all.

    All stays on the gate's device until `fractions` asks for it, once.
    """

    def __init__(self):
        self.counts: Tensor | None = None  # clips, of them dead, above half, open; videos, of them with a clip above
        self.mean = self.squares = self.least = self.most = None

    def add(self, gate: Tensor | None, mask: Tensor) -> None:
        """Take in alpha (B, C) of one batch, mask (B, C) True on real clips."""
        if gate is None:
            return
        gate = gate.detach().float()
        above = (gate > HALF) & mask
        counts = [mask.sum(), ((gate < DEAD) & mask).sum(), above.sum(), ((gate > OPEN) & mask).sum()]
        counts = torch.stack([*counts, mask.new_tensor(len(gate), dtype=torch.int64), above.any(dim=1).sum()])
        self._add_spread(gate, mask, counts[0])
        self._add_slots(gate.masked_fill(~mask, torch.inf).amin(dim=0), gate.masked_fill(~mask, -torch.inf).amax(dim=0))
        self.counts = counts if self.counts is None else self.counts + counts

    def _add_spread(self, gate: Tensor, mask: Tensor, count: Tensor) -> None:
        """Mean and sum of squares about it, joined batch by batch: sums of squares alone would drown a small spread."""
        mean = gate.masked_fill(~mask, 0).sum() / count
        squares = (gate - mean).masked_fill(~mask, 0).square().sum()
        if self.counts is not None:
            before, gap = self.counts[0], mean - self.mean
            squares = self.squares + squares + gap**2 * (before * count / (before + count))  # Chan, Golub, LeVeque 1983
            mean = self.mean + gap * (count / (before + count))
        self.mean, self.squares = mean, squares

    def _add_slots(self, least: Tensor, most: Tensor) -> None:
        """The least and most alpha (C,) of each place among the clips; infinite where no clip has been."""
        if self.least is not None:
            size = max(len(least), len(self.least))
            least = torch.minimum(_longer(least, size, torch.inf), _longer(self.least, size, torch.inf))
            most = torch.maximum(_longer(most, size, -torch.inf), _longer(self.most, size, -torch.inf))
        self.least, self.most = least, most

    def fractions(self) -> dict[str, float]:
        """Mean and spread of alpha, and shares of clips, of videos and of slots; {} where there was no gate.

        A slot is a place in the order of a video's clips. It is always on where alpha is above 0.5 in every video
        that fills it, dead where below 0.05: such a gate says nothing about the video.
        """
        if self.counts is None:
            return {}
        filled = self.least != torch.inf  # a gate that is not a number counts
        slots = [filled.sum(), ((self.least > HALF) & filled).sum(), ((self.most < DEAD) & filled).sum()]
        found = torch.cat([torch.stack([self.mean, self.squares]), self.counts, torch.stack(slots)]).tolist()
        mean, squares, clips, dead, above, fully, videos, selecting, slots, on, off = found
        return {
            "mean_alpha": mean,
            "std_alpha": (squares / clips) ** 0.5,
            "share_above_half": above / clips,
            "share_saturated": (dead + fully) / clips,
            "share_dead": dead / clips,
            "share_open": fully / clips,
            "videos_with_clip_above_half": selecting / videos,
            "always_on_slots": on / slots,
            "dead_slots": off / slots,
        }


def gate_note(gates: Sequence[dict], records: Sequence[dict]) -> str | None:
    """What a reader must know of a gate that says nothing of its clips, in a sentence; None of one that does.

    gates: `fractions` of its seeds; records: of their trainings.
    """
    spread = max((gate["std_alpha"] for gate in gates if gate), default=STILL)
    if spread >= STILL:
        return None
    mean = sum(gate["mean_alpha"] for gate in gates) / len(gates)
    smaller = [1 / record["gate_gradient"] for record in records if record.get("gate_gradient")]
    times = ""
    if smaller:
        times = f"; its gradient, relative to its weights, is {statistics.median(smaller):,.0f} times smaller than the "
        times += "classifier's"
    return (
        f"the gate has not moved: alpha is {mean:.3f} on average, with a spread of {spread:.3f} over the clips{times}."
    )


def _longer(values: Tensor, size: int, fill: float) -> Tensor:
    return F.pad(values, (0, size - len(values)), value=fill)
