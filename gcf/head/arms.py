"""Which arms a comparison has."""

from dataclasses import dataclass, replace

from gcf.head.config import HeadConfig, TrainConfig

CENTRAL = "central"


@dataclass(frozen=True)
class Arm:
    """One row of a comparison."""

    name: str
    head: HeadConfig | None
    policy: str | None = None
    changes: tuple[tuple[str, object], ...] = ()

    def settings(self, train: TrainConfig) -> TrainConfig:
        """The run's settings with this arm's changes."""
        return replace(train, **dict(self.changes))
