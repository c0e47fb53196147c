"""What an experiment gave: results, heads, and why some arms have none."""

from dataclasses import dataclass, field

from torch import nn

from gcf.head.trials.results import SeedResult
from gcf.head.trials.split_result import SplitResult


@dataclass(frozen=True)
class Failure:
    """Why an arm gave no result."""

    arm: str
    reason: str


@dataclass(frozen=True, eq=False)
class Outcome:
    """results: one per seed for each arm that did not fail; failures: why the others did, by arm.

    heads: {(arm, seed, split): the trained head}, where they were asked for. notes: what was chosen
    by itself.
    """

    results: dict[str, list[SeedResult]]
    failures: dict[str, str]
    heads: dict[tuple[str, int, int], nn.Module]
    notes: list[str]


@dataclass(frozen=True, eq=False)
class SplitOutcome:
    """What arms gave on one split: results and heads by (arm, seed), and failures."""

    results: dict[tuple[str, int], SplitResult] = field(default_factory=dict)
    heads: dict[tuple[str, int], nn.Module] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()

    def joined(self, other: "SplitOutcome") -> "SplitOutcome":
        """Both; where both know a result, the other's."""
        return SplitOutcome(
            results=self.results | other.results,
            heads=self.heads | other.heads,
            failures=self.failures + other.failures,
        )
