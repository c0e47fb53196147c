"""Every arm on every split with every seed, over the same clips of the same videos in the same order."""

import itertools
import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn
from tqdm import tqdm

from gcf.data.splits import Split
from gcf.head.arms import Arm
from gcf.head.batches import Descriptors
from gcf.head.build import build_shape
from gcf.head.config import TrainConfig
from gcf.head.fit import Course, Listener, evaluation_rng
from gcf.head.labelled import LabelledFeatures
from gcf.head.precision import LARGE_STEP, TRIAL_STEPS, PrecisionTrial, has_bfloat16, step_size, try_bfloat16
from gcf.head.residency import MAP, usable_device
from gcf.head.results import Judged, SeedResult, Verdict, pool
from gcf.head.schedule import most_passes
from gcf.head.sitting import Sitting, SplitOutcome, Training, shared_settings
from gcf.head.stack import Stack
from gcf.head.threads import is_small, one_thread, side_by_side
from gcf.head.transfer import Start

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Outcome:
    """results: one per seed for each arm that did not fail; failures: why the others did, by arm.

    heads: {(arm, seed, split): the trained head}, where they were asked for. notes: what was chosen by itself.
    """

    results: dict[str, list[SeedResult]]
    failures: dict[str, str]
    heads: dict[tuple[str, int, int], nn.Module] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Trial:
    """What all arms share: data, splits, training settings, and where a trained head starts.

    keep_heads: the trained heads, and all probabilities, are wanted. listener hears of every validation.
    """

    def __init__(
        self,
        data: LabelledFeatures,
        splits: Sequence[Split],
        train: TrainConfig,
        start: Start,
        *,
        keep_heads: bool = False,
        listener: Listener | None = None,
    ):
        self.data, self.splits, self.train, self.start = data, splits, train, start
        self.keep_heads, self.listener = keep_heads, listener
        self.descriptors = Descriptors(data.features, device=usable_device(train.device))
        log.info(self.descriptors.residency.describe())
        self.judged = Judged.of(data, splits)
        self.trials: dict[Training, PrecisionTrial] = {}

    def run(self, arms: Sequence[Arm], seeds: Sequence[int]) -> Outcome:
        """All arms on all splits with all seeds; progress on standard error where that is a terminal.

        The seeds of an arm are trained as one stack, arms with the same head and settings share their training, and
        arms with the same clips share their batches. Several splits are judged side by side, each by one thread.
        """
        diets = self._diets(arms)
        self._try_precisions(diets, seeds)
        workers = self._workers()
        with tqdm(total=self._steps(diets), unit="step", file=sys.stderr, disable=None, leave=False) as bar:
            judge = partial(self._judge, diets, seeds, bar, workers)
            found = dict(side_by_side(range(len(self.splits)), judge, workers=workers))
        by_split = [found[number] for number in range(len(self.splits))]
        failures = {name: why for outcome in by_split for name, why in outcome.failures.items()}
        results = {
            arm.name: [self._pool(arm.name, seed, by_split) for seed in seeds]
            for arm in arms
            if arm.name not in failures
        }
        heads = {(*key, number): head for number, outcome in enumerate(by_split) for key, head in outcome.heads.items()}
        return Outcome(results, failures, heads, self._notes())

    def _diets(self, arms: Sequence[Arm]) -> list[dict[Arm, Training]]:
        """The arms with what they read, those together that share their batches."""
        trainings = {arm: Training(arm.head, arm.settings(self.train)) for arm in arms}
        diets: dict[tuple, dict[Arm, Training]] = {}
        for arm, training in trainings.items():
            diets.setdefault(training.diet, {})[arm] = training
        return list(diets.values())

    def _sitting(self, diet: dict[Arm, Training], number: int) -> Sitting:
        settings = shared_settings(list(diet.values()), self.train)
        return Sitting(self.data, self.descriptors, self.splits[number], settings, judged=self.judged.subset)

    def _judge(
        self, diets: Sequence[dict[Arm, Training]], seeds: Sequence[int], bar: tqdm, workers: int, number: int
    ) -> SplitOutcome:
        """Train what the arms read on one split, and let it speak for them."""
        outcome = SplitOutcome()
        with one_thread(workers > 1 or self._is_small(diets, len(seeds))):
            for diet in diets:
                self._judge_diet(diet, seeds, bar, number, outcome)
        return outcome

    def _judge_diet(
        self, diet: dict[Arm, Training], seeds: Sequence[int], bar: tqdm, number: int, outcome: SplitOutcome
    ) -> None:
        sitting = self._sitting(diet, number)
        courses = {
            training: Course(training.head.name, self._stack(sitting, training, seeds), training.settings)
            for training in dict.fromkeys(diet.values())
            if training.head is not None
        }
        sitting.train(list(courses.values()), bar=bar, listener=self.listener)
        failed = {training: course.failure for training, course in courses.items() if course.failure is not None}
        outcome.failures |= {arm.name: failed[training] for arm, training in diet.items() if training in failed}
        well = [arm for arm, training in diet.items() if training not in failed]
        stacks = {arm: courses[diet[arm]].stack for arm in well if arm.head is not None}
        said = sitting.ask(well, stacks, seeds)
        steps = self._steps_in_a_pass(number, sitting.settings)
        for arm in well:
            records = courses[diet[arm]].trained(steps) if arm in stacks else [None] * len(seeds)
            for member, (seed, record, (what, temperature)) in enumerate(zip(seeds, records, said[arm], strict=True)):
                outcome.verdicts[arm.name, seed] = Verdict(record, what, temperature)
                if self.keep_heads and arm in stacks:
                    outcome.heads[arm.name, seed] = stacks[arm].head(member).cpu()

    def _stack(self, sitting: Sitting, training: Training, seeds: Sequence[int], precision: str | None = None) -> Stack:
        return sitting.stack(training, seeds, self.start, precision or self.trials[training].used)

    def _try_precisions(self, diets: Sequence[dict[Arm, Training]], seeds: Sequence[int]) -> None:
        """Decide for every training, on the first split, whether its linear layers multiply in bfloat16."""
        for diet in diets:
            sitting = self._sitting(diet, 0)
            settings = sitting.settings
            rng = evaluation_rng(settings.seed)
            passing = sitting.batches.in_order(self.splits[0].train, settings.batch_size, rng=rng)
            first = list(itertools.islice(passing, TRIAL_STEPS)) if self._may_round() else []
            for training in diet.values():
                if training.head is not None and training not in self.trials:
                    self.trials[training] = self._try(sitting, training, seeds, first)

    def _may_round(self) -> bool:
        return self.train.precision != "fp32" and has_bfloat16(self.descriptors.device)

    def _try(self, sitting: Sitting, training: Training, seeds: Sequence[int], first: Sequence) -> PrecisionTrial:
        if self.train.precision == "bf16" and not first:
            return PrecisionTrial("bf16", None)
        if not first:
            return PrecisionTrial("fp32", None)
        stack = self._stack(sitting, training, seeds, "fp32")
        size = step_size(stack, videos=len(first[0].mask), clips=first[0].mask.shape[1])
        if self.train.precision == "auto" and size < LARGE_STEP:
            return PrecisionTrial("fp32", None)
        found = try_bfloat16(partial(self._stack, sitting, training, seeds), first)
        return PrecisionTrial("bf16", found.worst) if self.train.precision == "bf16" else found

    def _pool(self, arm: str, seed: int, by_split: Sequence[SplitOutcome]) -> SeedResult:
        result = pool(seed, [outcome.verdicts[arm, seed] for outcome in by_split], self.splits, self.judged)
        return result if self.keep_heads else result.slim()

    def _workers(self) -> int:
        """Splits at a time: processors are better shared by splits than by products."""
        on_cpu = self.descriptors.device.type == "cpu" and self.descriptors.residency.kind != MAP
        return min(torch.get_num_threads(), len(self.splits)) if on_cpu else 1

    def _is_small(self, diets: Sequence[dict[Arm, Training]], copies: int) -> bool:
        """Whether no step of any training is worth a second thread."""
        videos = min(self.train.batch_size, max(len(split.train) for split in self.splits))
        return self.descriptors.device.type == "cpu" and all(
            is_small(videos=videos, clips=training.settings.num_clips, parameters=copies * self._parameters(training))
            for diet in diets
            for training in diet.values()
        )

    def _parameters(self, training: Training) -> int:
        if training.head is None:
            return 0
        shape = build_shape(training.head, self.descriptors.width, len(self.data.classes))
        return sum(p.numel() for p in shape.parameters())

    def _steps_in_a_pass(self, number: int, settings: TrainConfig) -> int:
        return math.ceil(len(self.splits[number].train) / settings.batch_size)

    def _steps(self, diets: Sequence[dict[Arm, Training]]) -> int:
        """Optimisation steps at most, those of arms that share their batches counted once."""
        total = 0
        for diet in diets:
            settings = shared_settings(list(diet.values()), self.train)
            for number in range(len(self.splits)):
                steps = self._steps_in_a_pass(number, settings)
                total += steps * most_passes(steps, settings.epochs)
        return total

    def _notes(self) -> list[str]:
        tried = [trial.describe(training.head.name) for training, trial in self.trials.items()]
        return list(dict.fromkeys(note for note in tried if note))
