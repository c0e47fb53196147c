"""One split, and arms that share their batches: trained together, then asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from gcf.data.splits import Split
from gcf.head.arms import Arm
from gcf.head.backbone_clips import backbone_columns, backbone_log_probabilities
from gcf.head.batches import ClipBatches, Descriptors
from gcf.head.build import build_head
from gcf.head.calibration import fit_temperature
from gcf.head.config import HeadConfig, TrainConfig
from gcf.head.fit import Course, Listener, evaluation_rng, fit
from gcf.head.labelled import LabelledFeatures
from gcf.head.prediction import Prediction, predict
from gcf.head.results import Verdict
from gcf.head.stack import Stack
from gcf.head.transfer import Start

SHARED = ("num_clips", "clip_policy", "batch_size", "epochs", "sampling")  # arms alike in these share their batches


@dataclass(frozen=True)
class Training:
    """A head with its settings: trained once for all arms that read it. Without a head, the backbone's classifier."""

    head: HeadConfig | None
    settings: TrainConfig

    @property
    def diet(self) -> tuple:
        """What decides its batches."""
        return tuple(getattr(self.settings, name) for name in SHARED)


@dataclass(eq=False)
class SplitOutcome:
    """What one split gave: verdicts and heads by (arm, seed), failures by arm."""

    verdicts: dict[tuple[str, int], Verdict] = field(default_factory=dict)
    heads: dict[tuple[str, int], nn.Module] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


class Sitting:
    """A split of labelled videos before arms of one diet. judged: which of its videos they are judged on, "test" or
    "val".
    """

    def __init__(
        self, data: LabelledFeatures, descriptors: Descriptors, split: Split, settings: TrainConfig, *, judged: str
    ):
        self.data, self.split, self.settings = data, split, settings
        self.videos, self.calibrates = getattr(split, judged), judged != "val"
        truth = data.truth
        self.batches = ClipBatches(descriptors, truth, num_clips=settings.num_clips, policy=settings.clip_policy)

    def stack(self, training: Training, seeds: Sequence[int], start: Start, precision: str) -> Stack:
        """Freshly built heads of a training, one per seed, ready to be trained together."""
        width, num_classes = self.batches.descriptors.width, len(self.data.classes)
        head = replace(training.head, exclusive=not self.data.multi_label)
        heads = [
            start.prepare(build_head(head, width, num_classes, seed=seed)).to(self.batches.device) for seed in seeds
        ]
        stack = Stack(heads, training.settings, precision=precision, class_weights=self._class_weights(training))
        stack.try_together(width, self.batches.labels[self.split.train[:2]])
        return stack

    def _class_weights(self, training: Training) -> Tensor | None:
        """Weights (K,) of the loss: inverse to how often a class is trained on, 1 on the mean over the videos.

        Where a video may have several classes, on the mean over its classes too. They do not balance those who show a
        class with those who do not: the weights of rare classes would be in the hundreds, and training diverges.
        """
        if training.settings.class_weights == "none":
            return None
        counts = self.data.class_sizes(self.split.train)
        weights = counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1))
        return torch.tensor(np.where(counts, weights, 0), dtype=torch.float32, device=self.batches.device)

    def train(self, courses: Sequence[Course], *, bar: tqdm, listener: Listener | None) -> None:
        """Train all courses in one pass."""
        fit(courses, self.batches, self.split, self.settings, bar=bar, listener=listener)

    def ask(
        self, arms: Sequence[Arm], stacks: Mapping[Arm, Stack], seeds: Sequence[int]
    ) -> dict[Arm, list[tuple[Prediction, float | None]]]:
        """What each arm says of the judged videos with each seed, and its temperature from what it says of `val`."""
        said: dict[Arm, list[tuple[Prediction, float | None]]] = {}
        for policy in dict.fromkeys(arm.policy for arm in arms):
            alike = [arm for arm in arms if arm.policy == policy]
            on_judged = self._predict(alike, stacks, self.videos, policy, seeds)
            on_val = self._predict(alike, stacks, self.split.val, policy, seeds) if self.calibrates else None
            for arm in alike:
                temperatures = [None] * len(seeds) if on_val is None else map(self._temperature, on_val[arm])
                said[arm] = list(zip(on_judged[arm], temperatures, strict=True))
        return said

    def _predict(
        self,
        arms: Sequence[Arm],
        stacks: Mapping[Arm, Stack],
        videos: np.ndarray,
        policy: str | None,
        seeds: Sequence[int],
    ) -> dict[Arm, list[Prediction]]:
        rng = evaluation_rng(self.settings.seed)
        asked = [arm for arm in arms if arm in stacks]
        said = dict(
            zip(asked, predict([stacks[a] for a in asked], self.batches, videos, rng=rng, policy=policy), strict=True)
        )
        for arm in arms:
            if arm.head is None:
                rng = evaluation_rng(self.settings.seed)
                columns = backbone_columns(self.data)
                logs = backbone_log_probabilities(self.batches, videos, columns, rng=rng, policy=policy)
                said[arm] = [Prediction(logs, {})] * len(seeds)
        return said

    def _temperature(self, prediction: Prediction) -> float | None:
        if self.data.multi_label:
            return None
        return fit_temperature(prediction.log_probabilities, self.data.labels[self.split.val])


def shared_settings(trainings: Sequence[Training], train: TrainConfig) -> TrainConfig:
    """The run's settings with what trainings of one diet have in common."""
    return replace(train, **dict(zip(SHARED, trainings[0].diet, strict=True)))
