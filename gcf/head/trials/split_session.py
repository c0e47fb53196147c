"""One split and the arms that share its batches: trained together, then they predict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from gcf.data.splits import Split
from gcf.errors import UsageError
from gcf.head.fitting.backbone_clips import backbone_columns, backbone_log_probabilities
from gcf.head.fitting.batches import ClipBatches, Descriptors
from gcf.head.fitting.calibration import fit_temperature
from gcf.head.fitting.fit import Listener, StackTraining, Trained, evaluation_rng, fit
from gcf.head.fitting.labelled import LabelledFeatures
from gcf.head.fitting.logreg import fit_logreg
from gcf.head.fitting.prediction import BATCH_SIZE, Prediction, predict
from gcf.head.fitting.stack import Stack
from gcf.head.fitting.start import Start
from gcf.head.fitting.threads import ThreadPool
from gcf.head.models.build import build_head
from gcf.head.models.config import HeadConfig, TrainConfig
from gcf.head.models.output import real_mean
from gcf.head.models.standard import Moments, Reduced, Standardised, rate_share
from gcf.head.trials.arms import Arm
from gcf.head.trials.plan import Training

TRIED, LEAST_LOGIT = 32, 1e-5  # videos that a head is tried on; from smaller logits thousands of steps lead nowhere


@dataclass(frozen=True, eq=False)
class ClosedFormFit:
    """A head that was fitted in one go, in the place of a StackTraining: the same for every seed."""

    stack: Stack
    record: dict
    failure: str | None = None

    def trained(self, _steps: int) -> list[Trained]:
        """Its record, without a history."""
        return [Trained(self.record, [])] * len(self.stack.active)


class SplitSession:
    """Trains heads on one split of labelled videos, and predicts with arms that share their batches.

    settings: the run's, with what the arms share. evaluated: the subset they are judged on, "test"
    or "val".
    """

    def __init__(
        self,
        data: LabelledFeatures,
        descriptors: Descriptors,
        split: Split,
        settings: TrainConfig,
        *,
        evaluated: str,
        threads: ThreadPool,
    ):
        self.data, self.split, self.settings, self.threads = data, split, settings, threads
        self.videos = getattr(split, evaluated)
        self.calibrates = evaluated != "val" and data.targets is None
        self.batches = ClipBatches(
            descriptors,
            data.truth,
            num_clips=settings.num_clips,
            policy=settings.clip_policy,
            padding=settings.padding,
        )

    def stack(self, training: Training, seeds: Sequence[int], start: Start, precision: str) -> Stack:
        """Freshly built heads of a training, one per seed, ready to be trained together."""
        width, num_classes = self.batches.descriptors.width, len(self.data.classes)
        head = start.shape(training.head, training.settings, exclusive=not self.data.multi_label)
        heads = [start.prepare(self._standardised(build_head(head, width, num_classes, seed=seed))) for seed in seeds]
        heads = [module.to(self.batches.device) for module in heads]
        stack = Stack(
            heads,
            self._settings(training.settings, head, start),
            precision=precision,
            class_weights=self._class_weights(training),
            foreign=training.head.kind == "plugin",
            seeds=seeds,
        )
        stack.try_together(width, self.batches.labels[self.split.train[:2]])
        if head.kind == "gcf" and head.fusion == "average":
            self._check_reach(stack, head)
        return stack

    def _standardised(self, head: nn.Module) -> nn.Module:
        """The head with mean, scale and principal components of the training clips, where it reads those."""
        standardised = isinstance(head, Standardised)
        if standardised:
            head.mean, head.scale = self.moments.mean, self.moments.scale
        inside = head.head if standardised else head
        if isinstance(inside, Reduced):
            basis = self.batches.descriptors.basis(self.split.train, inside.basis.shape[1])
            inside.basis = basis if standardised else basis / self.moments.scale
        return head

    @property
    def moments(self) -> Moments:
        """Those of the clips of the training videos."""
        return self.batches.descriptors.moments(self.split.train)

    def _settings(self, settings: TrainConfig, head: HeadConfig, start: Start) -> TrainConfig:
        """The head's recipe, with a lower rate for SGD where none is given and descriptors that are read as they are
        are longer than usual.
        """
        given, settings = settings.lr, settings.of_head(head)
        scales = settings.numbers.optimiser != "sgd"  # AdamW's steps do not grow with the descriptors
        if scales or head.standardised or given is not None or start.head is not None:
            return settings
        share = rate_share(self.moments.length)
        return settings if share == 1 else replace(settings, lr=share * settings.rate)

    def _check_reach(self, stack: Stack, head: HeadConfig) -> None:
        """Raise UsageError where scores that are divided by C alone leave nothing of the descriptors for the logits.

        Each layer multiplies three of its inputs, so that N layers raise what is below 1 to the power 3^N.
        """
        batch = self.batches.load(self.split.train[:TRIED], rng=evaluation_rng(self.settings.seed))
        largest = float(stack.outputs(batch)[0].abs().max())
        if largest < LEAST_LOGIT:
            fewer = ", or fewer layers" if head.layers > 1 else ""
            raise UsageError(
                f"head {head.name}: fusion average with layers {head.layers} starts from logits of {largest:.0e}, too "
                f"small to learn from: each layer multiplies three of its inputs; take fusion softmax{fewer}"
            )

    def fit_closed_form(self, training: Training, seeds: Sequence[int]) -> ClosedFormFit:
        """Logistic regression on the mean descriptors of the training videos, chosen on `val`."""
        truth, train, val = self.data.truth, self.split.train, self.split.val
        found, record = fit_logreg(
            self._means(train),
            truth[train],
            self._means(val),
            truth[val],
            len(self.data.classes),
            balanced="balanced" in (training.settings.class_weights, training.settings.sampling),
        )
        head = build_head(training.head, self.batches.descriptors.width, len(self.data.classes))
        head.load_state_dict(found)
        return ClosedFormFit(Stack([head.to(self.batches.device)] * len(seeds), training.settings), record)

    def train(self, trainings: Sequence[StackTraining], *, bar: tqdm, listener: Listener | None) -> None:
        """Train all in one pass."""
        if not trainings:
            return
        fit(
            trainings,
            self.batches,
            self.split,
            self.settings,
            bar=bar,
            listener=listener,
            threads=self.threads,
        )

    def predict(
        self, arms: Sequence[Arm], stacks: Mapping[Arm, Stack], seeds: Sequence[int]
    ) -> dict[Arm, list[tuple[Prediction, float | None]]]:
        """Each arm's prediction of the evaluated videos with each seed, and its temperature, from `val`."""
        predictions: dict[Arm, list[tuple[Prediction, float | None]]] = {}
        for policy in dict.fromkeys(arm.policy for arm in arms):
            alike = [arm for arm in arms if arm.policy == policy]
            evaluated = self._predictions(alike, stacks, self.videos, policy, seeds)
            on_val = {}
            if self.calibrates:
                on_val = self._predictions(alike, stacks, self.split.val, policy, seeds)
            for arm in alike:
                temperatures = [None] * len(evaluated[arm])
                if on_val:
                    temperatures = [self._temperature(prediction) for prediction in on_val[arm]]
                predictions[arm] = list(zip(evaluated[arm], temperatures, strict=True))
        return predictions

    def _predictions(
        self,
        arms: Sequence[Arm],
        stacks: Mapping[Arm, Stack],
        videos: np.ndarray,
        policy: str | None,
        seeds: Sequence[int],
    ) -> dict[Arm, list[Prediction]]:
        distinct = list(dict.fromkeys(stacks[arm] for arm in arms if arm in stacks))  # arms may share a training
        rng = evaluation_rng(self.settings.seed)
        outputs = predict(distinct, self.batches, videos, rng=rng, policy=policy, threads=self.threads)
        of_stack = dict(zip(distinct, outputs, strict=True))
        predictions = {arm: of_stack[stacks[arm]] for arm in arms if arm in stacks}
        for arm in arms:
            if arm.head is None:
                rng, columns = evaluation_rng(self.settings.seed), backbone_columns(self.data)
                logs = backbone_log_probabilities(self.batches, videos, columns, rng=rng, policy=policy)
                predictions[arm] = [Prediction(logs, {})] * len(seeds)
        return predictions

    def _temperature(self, prediction: Prediction) -> float:
        return fit_temperature(prediction.log_probabilities, self.data.labels[self.split.val])

    def _means(self, videos: np.ndarray) -> np.ndarray:
        """Mean descriptors (n, D) of the chosen clips."""
        passing = self.batches.in_order(videos, BATCH_SIZE, rng=evaluation_rng(self.settings.seed))
        return torch.cat([real_mean(batch.descriptors, batch.mask) for batch in passing]).cpu().numpy()

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
