"""Every arm on every split with every seed; the batches of a seed are the same for every arm."""

import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn
from tqdm import tqdm

from gcf.data.splits import Split
from gcf.head.arms import Arm
from gcf.head.batches import Batch, Descriptors
from gcf.head.build import build_shape
from gcf.head.config import TrainConfig
from gcf.head.fit import Course, evaluation_rng, reason
from gcf.head.keeper import Keeper, NoKeeper
from gcf.head.kept import KeptResult
from gcf.head.labelled import LabelledFeatures
from gcf.head.precision import PrecisionChoice, precision_notes
from gcf.head.residency import MAP, usable_device
from gcf.head.results import Judged, SeedResult, keep, pool
from gcf.head.schedule import most_passes
from gcf.head.sitting import Sitting, Solved, Training, shared_settings
from gcf.head.stack import LONGEST_GRADIENT, Stack
from gcf.head.threads import Team, is_small, one_thread, side_by_side
from gcf.head.transfer import Start

log = logging.getLogger(__name__)
Diet = Mapping[Arm, Training]  # arms that share their batches, with what each reads
Listener = Callable[[str, int, str, dict], None]  # of validations: arm, seed, name of the split, history row


@dataclass(eq=False)
class Outcome:
    """results: one per seed for each arm that did not fail; failures: why the others did, by arm.

    heads: {(arm, seed, split): the trained head}, where they were asked for. notes: what was chosen by itself.
    """

    results: dict[str, list[SeedResult]]
    failures: dict[str, str]
    heads: dict[tuple[str, int, int], nn.Module]
    notes: list[str]


@dataclass(eq=False)
class SplitOutcome:
    """What one split gave: results and heads by (arm, seed), failures by arm."""

    kept: dict[tuple[str, int], KeptResult] = field(default_factory=dict)
    heads: dict[tuple[str, int], nn.Module] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


class Trial:
    """What all arms share: data, splits, training settings, and where a trained head starts.

    keep_heads: the trained heads, and all probabilities, are wanted. listener hears of every validation. keeper has
    the results of earlier runs, and gets those of this one.
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
        keeper: Keeper | None = None,
    ):
        self.data, self.splits, self.train, self.start = data, splits, train, start
        self.keep_heads, self.listener, self.keeper = keep_heads, listener, keeper or NoKeeper()
        self.descriptors = Descriptors(data.features, device=usable_device(train.device))
        self.judged = Judged.of(data, splits)
        self.precision = PrecisionChoice(train.precision, self.descriptors.device)
        self.keeper.expect(self.descriptors.residency.kind)

    def run(self, arms: Sequence[Arm], seeds: Sequence[int]) -> Outcome:
        """All arms on all splits with all seeds; progress on standard error where that is a terminal.

        The seeds of an arm are trained as one stack, arms with the same head and settings share their training, and
        arms with the same clips share their batches. Several splits are judged side by side, each by one thread.
        """
        log.info(self.descriptors.residency.describe())
        diets = self._diets(arms)
        by_split = [self._earlier(arms, seeds, number) for number in range(len(self.splits))]
        reused, wanted = sum(len(o.kept) for o in by_split), len(arms) * len(seeds) * len(by_split)
        if reused:
            log.info("%d of %d results of an arm, a split and a seed are there already", reused, wanted)
        self._retell(by_split)
        workers = self._workers()
        with tqdm(total=self._steps(diets, seeds, by_split), unit="step", file=sys.stderr, disable=None) as bar:
            judge = partial(self._judge, diets, seeds, by_split, bar, workers)
            for _ in side_by_side(range(len(self.splits)), judge, workers=workers):
                pass
        failures = {name: why for outcome in by_split for name, why in outcome.failures.items()}
        results = {
            arm.name: [
                pool(seed, [outcome.kept[arm.name, seed] for outcome in by_split], self.splits, self.judged)
                for seed in seeds
            ]
            for arm in arms
            if arm.name not in failures
        }
        heads = {(*key, number): head for number, outcome in enumerate(by_split) for key, head in outcome.heads.items()}
        return Outcome(results, failures, heads, [*_notes(results), *self._order_notes(seeds)])

    def _order_notes(self, seeds: Sequence[int]) -> list[str]:
        """Where seeds share more of the order of batches than was asked for."""
        own = self.train.batch_order == "own" and len(seeds) > 1
        if not own or self.descriptors.residency.kind != MAP:
            return []
        return [
            "Blocks of the file were read in one order for all seeds; inside them each seed had an order of its own."
        ]

    def _retell(self, by_split: Sequence[SplitOutcome]) -> None:
        """Let the listener hear of the validations of earlier runs."""
        for split, outcome in zip(self.splits, by_split, strict=True):
            for (arm, seed), result in outcome.kept.items() if self.listener is not None else ():
                for row in () if result.training is None else result.training["history"]:
                    self.listener(arm, seed, split.name, row)

    def _diets(self, arms: Sequence[Arm]) -> list[Diet]:
        """The arms with what they read, those together that share their batches."""
        diets: dict[tuple, dict[Arm, Training]] = {}
        for arm in arms:
            training = Training(arm.head, arm.settings(self.train))
            diets.setdefault(training.diet, {})[arm] = training
        return list(diets.values())

    def _earlier(self, arms: Sequence[Arm], seeds: Sequence[int], number: int) -> SplitOutcome:
        """What earlier runs found out about one split."""
        found = {(arm.name, seed): self.keeper.get(arm, seed, number) for arm in arms for seed in seeds}
        return SplitOutcome({key: result for key, result in found.items() if result is not None})

    def _judge(
        self,
        diets: Sequence[Diet],
        seeds: Sequence[int],
        by_split: Sequence[SplitOutcome],
        bar: tqdm,
        workers: int,
        number: int,
    ) -> None:
        """Train what the arms read on one split, and let it speak for them."""
        alone = workers > 1 or self._is_small(diets, len(seeds))
        on_cpu = self.descriptors.device.type == "cpu"
        with one_thread(alone), Team(torch.get_num_threads() if on_cpu and not alone else 1) as team:
            for diet in diets:
                missing = _missing(diet, seeds, by_split[number])
                if missing:
                    self._judge_diet(diet, missing, bar, number, by_split[number], team)

    def _judge_diet(
        self,
        diet: Diet,
        missing: Mapping[Arm, Sequence[int]],
        bar: tqdm,
        number: int,
        outcome: SplitOutcome,
        team: Team,
    ) -> None:
        """missing: the seeds that an arm still needs; arms that read one training need the same ones."""
        settings = shared_settings(list(diet.values()), self.train)
        split, judged = self.splits[number], self.judged.subset
        sitting = Sitting(self.data, self.descriptors, split, settings, judged=judged, team=team)
        seeds_of = {diet[arm]: seeds for arm, seeds in missing.items()}
        names = {diet[arm]: arm.name for arm in missing}
        trainings = [training for training in seeds_of if training.head is not None]
        made = team.map(lambda t: self._course_or_reason(sitting, t, names[t], seeds_of[t]), trainings)
        courses = {t: course for t, course in zip(trainings, made, strict=True) if not isinstance(course, str)}
        listener = None if self.listener is None else partial(self._hear, seeds_of, names, self.splits[number].name)
        sitting.train([c for c in courses.values() if isinstance(c, Course)], bar=bar, listener=listener)
        failed = {training: why for training, why in zip(trainings, made, strict=True) if isinstance(why, str)}
        failed |= {training: course.failure for training, course in courses.items() if course.failure is not None}
        outcome.failures |= {arm.name: failed[diet[arm]] for arm in missing if diet[arm] in failed}
        for arms_seeds in dict.fromkeys(map(tuple, seeds_of.values())):
            arms = [arm for arm, seeds in missing.items() if tuple(seeds) == arms_seeds and diet[arm] not in failed]
            self._take(sitting, {arm: courses.get(diet[arm]) for arm in arms}, arms_seeds, number, outcome)

    def _course_or_reason(
        self, sitting: Sitting, training: Training, name: str, seeds: Sequence[int]
    ) -> Course | Solved | str:
        """A course, or why there can be none."""
        if self.keep_heads:  # the one head that was asked for: its fault is the command's
            return self._course(sitting, training, name, seeds)
        try:
            return self._course(sitting, training, name, seeds)
        except Exception as error:
            return reason(error)

    def _course(self, sitting: Sitting, training: Training, name: str, seeds: Sequence[int]) -> Course | Solved:
        if training.head.kind == "logreg":
            return sitting.solve(training, seeds)
        make = partial(sitting.stack, training, seeds, self.start)
        precision = self.precision.of(name, partial(self._for_trial, sitting, training))
        orders = seeds if training.settings.batch_order == "own" else [self.train.seed] * len(seeds)
        stack = make(precision.used)
        facts = precision.to_json()
        if stack.settings.rate < training.settings.rate:
            facts |= {"first_lr": stack.settings.rate, "descriptor_length": sitting.moments.length}
        return Course(name, stack, stack.settings, orders, facts=facts)

    def _for_trial(self, sitting: Sitting, training: Training) -> tuple[Callable[[str], Stack], Iterator[Batch]]:
        """The run's first seed and the first split: what is tried does not depend on what is still to be trained."""
        split, seed = self.splits[0], self.train.seed
        first = Sitting(
            self.data, self.descriptors, split, sitting.settings, judged=self.judged.subset, team=sitting.team
        )
        rng = evaluation_rng(seed)
        passing = first.batches.in_order(rng.permutation(split.train), sitting.settings.batch_size, rng=rng)
        return partial(first.stack, training, [seed], self.start), passing

    def _take(
        self,
        sitting: Sitting,
        courses: Mapping[Arm, Course | Solved | None],
        seeds: Sequence[int],
        number: int,
        outcome: SplitOutcome,
    ) -> None:
        """Ask arms that were trained with these seeds, and keep what they say."""
        stacks = {arm: course.stack for arm, course in courses.items() if course is not None}
        steps = self._steps_in_a_pass(number, sitting.settings)
        labels = self.judged.labels[self.judged.folds == number]
        for arm, answers in self._answers(sitting, list(courses), stacks, seeds, outcome).items():
            records = courses[arm].trained(steps) if arm in stacks else [None] * len(seeds)
            for member, (seed, record, (said, temperature)) in enumerate(zip(seeds, records, answers, strict=True)):
                try:
                    kept = keep(record, said, labels, temperature=temperature, whole=self.keep_heads)
                except ValueError as error:
                    outcome.failures[arm.name] = str(error)
                    break
                outcome.kept[arm.name, seed] = kept
                self.keeper.put(arm, seed, number, kept)
                if self.keep_heads and arm in stacks:
                    outcome.heads[arm.name, seed] = stacks[arm].head(member).cpu()

    def _answers(
        self,
        sitting: Sitting,
        arms: Sequence[Arm],
        stacks: Mapping[Arm, Stack],
        seeds: Sequence[int],
        outcome: SplitOutcome,
    ) -> dict[Arm, list]:
        """What the arms say; an arm whose head faults fails, and says nothing."""
        try:
            return sitting.ask(arms, stacks, seeds)
        except Exception as error:
            if len(arms) == 1:
                outcome.failures[arms[0].name] = reason(error)
                return {}
        return {arm: said for a in arms for arm, said in self._answers(sitting, [a], stacks, seeds, outcome).items()}

    def _hear(
        self,
        seeds_of: Mapping[Training, Sequence[int]],
        names: Mapping[Training, str],
        split: str,
        course: str,
        member: int,
        row: dict,
    ) -> None:
        training = next(training for training, name in names.items() if name == course)
        self.listener(course, seeds_of[training][member], split, row)

    def _workers(self) -> int:
        """Splits at a time: processors are better shared by splits than by products."""
        on_cpu = self.descriptors.device.type == "cpu" and self.descriptors.residency.kind != MAP
        return min(torch.get_num_threads(), len(self.splits)) if on_cpu else 1

    def _is_small(self, diets: Sequence[Diet], copies: int) -> bool:
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
        try:
            shape = build_shape(training.head, self.descriptors.width, len(self.data.classes))
        except Exception:  # building it for good says what is wrong
            return 0
        return sum(p.numel() for p in shape.parameters())

    def _steps_in_a_pass(self, number: int, settings: TrainConfig) -> int:
        return math.ceil(len(self.splits[number].train) / settings.batch_size)

    def _steps(self, diets: Sequence[Diet], seeds: Sequence[int], by_split: Sequence[SplitOutcome]) -> int:
        """Optimisation steps at most, those of arms that share their batches counted once."""
        total = 0
        for diet in diets:
            settings = shared_settings(list(diet.values()), self.train)
            for number, outcome in enumerate(by_split):
                if _missing(diet, seeds, outcome):
                    steps = self._steps_in_a_pass(number, settings)
                    total += steps * most_passes(steps, settings.epochs)
        return total


def _notes(results: Mapping[str, Sequence[SeedResult]]) -> list[str]:
    """What was chosen by itself, from the records, so that results of earlier runs say it too."""
    records = {
        name: [run.record for result in found for run in result.trained if run is not None]
        for name, found in results.items()
    }
    return [*precision_notes(records), *_length_notes(records)]


def _length_notes(records: Mapping[str, Sequence[dict]]) -> list[str]:
    """Where descriptors are too long for the recipe's rate, and where gradients still were."""
    notes = []
    for name, of_arm in records.items():
        lowered = [record for record in of_arm if "first_lr" in record]
        if lowered:
            lowest = min(lowered, key=lambda record: record["first_lr"])
            notes.append(
                f"{name}: descriptors are {lowest['descriptor_length']:.3g} long on average, so the rate began at "
                f"{lowest['first_lr']:.2g}; --standardise suits such descriptors better, and --lr sets another rate."
            )
        shortened = sum(record.get("shortened_steps", 0) for record in of_arm)
        if shortened:
            steps = sum(record["steps"] for record in of_arm)
            notes.append(
                f"{name}: in {shortened:,} of {steps:,} steps the gradient was shortened to a length of "
                f"{LONGEST_GRADIENT:g}; take --standardise, or a lower --lr."
            )
    return notes


def _missing(diet: Diet, seeds: Sequence[int], outcome: SplitOutcome) -> dict[Arm, list[int]]:
    """The seeds that each arm still needs, none left out; arms that read the same training need the same."""
    needed: dict[Training, set[int]] = {}
    for arm, training in diet.items():
        lacking = {seed for seed in seeds if (arm.name, seed) not in outcome.kept}
        needed.setdefault(training, set()).update(lacking)
    found = {arm: [seed for seed in seeds if seed in needed[training]] for arm, training in diet.items()}
    return {arm: of_arm for arm, of_arm in found.items() if of_arm}
