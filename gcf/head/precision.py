"""bfloat16 products where the hardware has them, and a trial that shows what they change."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gcf.head.batches import Batch
from gcf.head.stack import Stack

LARGE_STEP = 5e9  # multiply-accumulates of a step; below, float32 is quick enough and the same on every machine
TRIAL_STEPS = 10
TOLERANCE = 0.01  # of the loss; two seeds differ by more in the first steps


@dataclass(frozen=True)
class PrecisionTrial:
    """used: "fp32" or "bf16". worst: largest relative difference of the loss in the first steps, None if not tried."""

    used: str
    worst: float | None

    def describe(self, name: str) -> str:
        """The outcome for a head in a sentence; '' where there was nothing to decide."""
        if self.worst is None:
            return ""
        found = f"in {TRIAL_STEPS} steps in both precisions the loss of {name} differed by {100 * self.worst:.2g} %"
        if self.used == "bf16":
            return f"Linear layers multiplied in bfloat16: {found} at most. Figures are judged in float32."
        return f"Linear layers multiplied in float32: {found}, more than {100 * TOLERANCE:g} %."


def has_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 faster than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    cpuinfo = Path("/proc/cpuinfo")
    return device.type == "cpu" and cpuinfo.exists() and "amx_bf16" in cpuinfo.read_text()


def step_size(stack: Stack, *, videos: int, clips: int) -> float:
    """Multiply-accumulates of one training step of all heads of a stack: forward, and twice as much backward."""
    return 3.0 * videos * clips * sum(value.numel() for value in stack.weights.values())


def try_bfloat16(make: Callable[[str], Stack], batches: Sequence[Batch]) -> PrecisionTrial:
    """Take the same first steps in float32 and bfloat16 and compare the losses; `make` gives a fresh stack."""
    low, high = make("bf16"), make("fp32")
    worst = 0.0
    for batch in batches:
        one, other = low.step(copy.copy(batch)), high.step(batch)
        difference = ((one - other).abs() / other.abs().clamp(min=1e-6)).max().item()
        worst = max(worst, difference if difference == difference else float("inf"))  # NaN is no agreement
    return PrecisionTrial("bf16" if worst <= TOLERANCE else "fp32", worst)
