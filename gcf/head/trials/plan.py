"""What is to be trained on a split: groups of arms that share their batches, and the seeds that are not there yet."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from gcf.head.models.config import HeadConfig, TrainConfig
from gcf.head.trials.arms import Arm

SHARED = (  # settings that decide the batches: trainings alike in them share these
    "num_clips",
    "clip_policy",
    "padding",
    "batch_size",
    "epochs",
    "sampling",
    "batch_order",
)


@dataclass(frozen=True)
class Training:
    """A head with its settings: trained once for all arms that read it.

    Without a head, the backbone's own classifier.
    """

    head: HeadConfig | None
    settings: TrainConfig

    @property
    def batch_key(self) -> tuple:
        """What decides its batches."""
        return tuple(getattr(self.settings, name) for name in SHARED)


@dataclass(frozen=True, eq=False)
class BatchGroup:
    """Arms that share their batches: what each reads, and the seeds that it still needs.

    settings: the run's, with what the arms share. Arms that read one training need the same seeds.
    """

    settings: TrainConfig
    trainings: Mapping[Arm, Training]
    seeds: Mapping[Arm, tuple[int, ...]]

    @property
    def names(self) -> dict[Training, str]:
        """The arm that each training is reported under."""
        return {self.trainings[arm]: arm.name for arm in self.seeds}

    @property
    def needed(self) -> dict[Training, tuple[int, ...]]:
        """The seeds of each training of a head."""
        of_training = {self.trainings[arm]: seeds for arm, seeds in self.seeds.items()}
        return {training: seeds for training, seeds in of_training.items() if training.head is not None}

    def same_seeds(self) -> dict[tuple[int, ...], list[Arm]]:
        """Arms by the seeds that they need: those are asked together."""
        found: dict[tuple[int, ...], list[Arm]] = {}
        for arm, seeds in self.seeds.items():
            found.setdefault(seeds, []).append(arm)
        return found


def plan_split(
    arms: Sequence[Arm],
    seeds: Sequence[int],
    train: TrainConfig,
    *,
    there: Collection[tuple[str, int]],
) -> list[BatchGroup]:
    """What has to be trained on a split, given the results (arm, seed) that are there already.

    Arms that share their batches are one group; a group without work is left out.
    """
    alike: dict[tuple, dict[Arm, Training]] = {}
    for arm in arms:
        training = Training(arm.head, arm.settings(train))
        alike.setdefault(training.batch_key, {})[arm] = training
    groups = []
    for key, trainings in alike.items():
        settings = replace(train, **dict(zip(SHARED, key, strict=True)))
        needed = _needed_seeds(trainings, seeds, there)
        if needed:
            groups.append(BatchGroup(settings=settings, trainings=trainings, seeds=needed))
    return groups


def _needed_seeds(
    trainings: Mapping[Arm, Training], seeds: Sequence[int], there: Collection[tuple[str, int]]
) -> dict[Arm, tuple[int, ...]]:
    """The seeds that each arm still needs; arms that read the same training need the same."""
    lacking: dict[Training, set[int]] = {}
    for arm, training in trainings.items():
        lacking.setdefault(training, set()).update(s for s in seeds if (arm.name, s) not in there)
    needed = {}
    for arm, training in trainings.items():
        of_arm = tuple(seed for seed in seeds if seed in lacking[training])
        if of_arm:
            needed[arm] = of_arm
    return needed
