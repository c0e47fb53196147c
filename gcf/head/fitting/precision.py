"""bfloat16 products where the hardware has them, and a trial that shows what they change."""

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gcf.head.fitting.batches import Batch
from gcf.head.fitting.stack import Stack

LARGE_STEP = (
    5e8  # multiply-accumulates of one head's step; below, float32 is quick enough and the same on every machine
)
TRIAL_STEPS = 10
TOLERANCE = 0.01  # of the loss; two seeds differ by more in the first steps


@dataclass(frozen=True)
class PrecisionTrial:
    """used: "fp32" or "bf16". worst: largest relative difference of the loss in the first steps, None if not tried."""

    used: str
    worst: float | None

    def to_json(self) -> dict:
        """For the record of a training."""
        return {"precision": self.used, "precision_difference": self.worst}


def has_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 faster than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    cpuinfo = Path("/proc/cpuinfo")
    return device.type == "cpu" and cpuinfo.exists() and "amx_bf16" in cpuinfo.read_text()


class PrecisionChoice:
    """fp32 or bf16 for every training of a run, decided once for each by one head on batches of the first split.

    wanted "auto": bf16 where a step is large, the hardware has it and the trial agrees; "bf16": in any case, and the
    trial only says what it changes.
    """

    def __init__(self, wanted: str, device: torch.device):
        self.wanted, self.may = wanted, wanted != "fp32" and has_bfloat16(device)
        self.trials: dict[str, PrecisionTrial] = {}
        self.lock = threading.Lock()

    def of(self, name: str, prepare: Callable[[], tuple[Callable[[str], Stack], Iterator[Batch]]]) -> PrecisionTrial:
        """What the training called `name` multiplies in.

        `prepare` gives what makes a fresh stack of one head of it, and training batches; it is called once at most,
        whatever thread comes first.
        """
        with self.lock:
            if name not in self.trials:
                self.trials[name] = self._try(*prepare()) if self.may else PrecisionTrial(self._untried, None)
            return self.trials[name]

    @property
    def _untried(self) -> str:
        return "bf16" if self.wanted == "bf16" else "fp32"

    def _try(self, make: Callable[[str], Stack], passing: Iterator[Batch]) -> PrecisionTrial:
        first = next(passing)
        videos, clips = first.mask.shape
        if self.wanted == "auto" and step_size(make("fp32"), videos=videos, clips=clips) < LARGE_STEP:
            return PrecisionTrial("fp32", None)
        found = try_bfloat16(make, [first, *itertools.islice(passing, TRIAL_STEPS - 1)])
        return PrecisionTrial("bf16", found.worst) if self.wanted == "bf16" else found


def precision_notes(records: Mapping[str, Sequence[dict]]) -> list[str]:
    """What was tried, in sentences, from the records of each arm's trainings; none where nothing had to be."""
    said = []
    for used, meant in (("bf16", "bfloat16"), ("fp32", "float32")):
        worst = {}
        for name, of_arm in records.items():
            tried = [record for record in of_arm if record.get("precision") == used]
            differences = [record["precision_difference"] for record in tried]
            if differences and None not in differences:
                worst[name] = max(differences)
        if worst:
            said.append(
                f"Linear layers of {', '.join(worst)} multiplied in {meant} while training: in {TRIAL_STEPS} steps in "
                f"both precisions the loss differed by {100 * max(worst.values()):.2g} % at most. Figures are judged "
                "in float32."
            )
    return said


def step_size(stack: Stack, *, videos: int, clips: int) -> float:
    """Multiply-accumulates of one training step of the heads of a stack: forward, and twice as much backward."""
    return 3.0 * videos * clips * stack.size


def try_bfloat16(make: Callable[[str], Stack], batches: Sequence[Batch]) -> PrecisionTrial:
    """Take the same first steps in float32 and bfloat16 and compare the losses; `make` gives a fresh stack."""
    low, high = make("bf16"), make("fp32")
    worst = 0.0
    for batch in batches:
        one, other = low.step(batch), high.step(batch)
        difference = ((one - other).abs() / other.abs().clamp(min=1e-6)).max().item()
        worst = max(worst, difference if difference == difference else float("inf"))  # NaN is no agreement
    return PrecisionTrial("bf16" if worst <= TOLERANCE else "fp32", worst)
