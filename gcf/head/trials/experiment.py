"""An experiment: every arm on every split with every seed, on batches that all arms share."""

import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
from tqdm import tqdm

from gcf.data.splits import Split
from gcf.head.fitting.batches import Batch, Descriptors
from gcf.head.fitting.fit import StackTraining, evaluation_rng, reason
from gcf.head.fitting.gate_health import gate_note
from gcf.head.fitting.labelled import LabelledFeatures
from gcf.head.fitting.precision import PrecisionChoice, precision_notes
from gcf.head.fitting.prediction import Prediction
from gcf.head.fitting.residency import MAP, usable_device
from gcf.head.fitting.schedule import most_passes
from gcf.head.fitting.stack import LONGEST_GRADIENT, Stack
from gcf.head.fitting.start import Start
from gcf.head.fitting.threads import Steps, ThreadPool, is_small, one_thread, side_by_side
from gcf.head.models.build import build_shape
from gcf.head.models.config import TrainConfig
from gcf.head.trials.arms import Arm
from gcf.head.trials.outcome import Failure, Outcome, SplitOutcome
from gcf.head.trials.plan import BatchGroup, Training, plan_split
from gcf.head.trials.result_cache import NoCache, ResultCache
from gcf.head.trials.results import EvaluationSet, SeedResult, merge
from gcf.head.trials.split_result import SplitResult
from gcf.head.trials.split_session import ClosedFormFit, SplitSession

log = logging.getLogger(__name__)
Listener = Callable[[str, int, str, dict], None]  # of validations: arm, seed, split, history row


class Experiment:
    """What all arms share: data, splits, training settings, and where a trained head starts.

    keep_heads: the trained heads, and all probabilities, are wanted. listener is told of every
    validation. cache has the results of earlier runs, and gets those of this one.
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
        cache: ResultCache | None = None,
    ):
        self.data, self.splits, self.train, self.start = data, splits, train, start
        self.keep_heads, self.listener, self.cache = keep_heads, listener, cache or NoCache()
        self.descriptors = Descriptors(data.features, device=usable_device(train.device))
        self.evaluation_set = EvaluationSet.of(data, splits)
        self.precision = PrecisionChoice(train.precision, self.descriptors.device)
        self.cache.expect(self.descriptors.residency.kind)

    def run(self, arms: Sequence[Arm], seeds: Sequence[int]) -> Outcome:
        """All arms on all splits with all seeds; progress on standard error, if a terminal.

        The seeds of an arm are trained as one stack, arms with the same head and settings share
        their training, and arms with the same clips share their batches. Several splits are trained
        side by side, each by one thread.
        """
        log.info(self.descriptors.residency.describe())
        earlier = [self._earlier(arms, seeds, number) for number in range(len(self.splits))]
        self._report_earlier(earlier, wanted=len(arms) * len(seeds) * len(earlier))
        plans = [plan_split(arms, seeds, self.train, there=found.results) for found in earlier]
        workers = self._workers()
        alone = workers > 1 or self._is_small(arms, copies=len(seeds))
        with Steps(total=self._num_steps(plans), unit="step", file=sys.stderr, disable=None) as bar:
            train_split = partial(self._train_split, plans, bar=bar, alone=alone)
            new = dict(side_by_side(range(len(plans)), train_split, workers=workers, cancel=bar.cancel))
        outcomes = [found.joined(new[number]) for number, found in enumerate(earlier)]
        failures = {f.arm: f.reason for outcome in outcomes for f in outcome.failures}
        results = {}
        for arm in arms:
            if arm.name not in failures:
                results[arm.name] = [self._merged(arm, seed, outcomes) for seed in seeds]
        heads = {}
        for number, outcome in enumerate(outcomes):
            heads |= {(*key, number): head for key, head in outcome.heads.items()}
        notes = [*_notes(results), *self._order_notes(seeds)]
        return Outcome(results=results, failures=failures, heads=heads, notes=notes)

    def _merged(self, arm: Arm, seed: int, outcomes: Sequence[SplitOutcome]) -> SeedResult:
        parts = [outcome.results[arm.name, seed] for outcome in outcomes]
        return merge(seed, parts, self.splits, self.evaluation_set)

    def _order_notes(self, seeds: Sequence[int]) -> list[str]:
        """Where seeds share more of the order of batches than was asked for."""
        own = self.train.batch_order == "own" and len(seeds) > 1
        if not own or self.descriptors.residency.kind != MAP:
            return []
        return [
            "Blocks of the file were read in one order for all seeds; inside them each seed had an order of its own."
        ]

    def _earlier(self, arms: Sequence[Arm], seeds: Sequence[int], number: int) -> SplitOutcome:
        """What earlier runs found on one split.

        Of a stack that was not kept whole nothing counts: the run was killed meanwhile, and a part of
        the stack, trained alone, would have other last digits.
        """
        results = {}
        for arm in arms:
            found = {seed: self.cache.get(arm, seed, number) for seed in seeds}
            for seed, result in found.items():
                if result is not None and self._is_whole(arm, number, result.stack, found):
                    results[arm.name, seed] = result
        return SplitOutcome(results=results)

    def _is_whole(
        self,
        arm: Arm,
        number: int,
        stack: Sequence[int],
        found: Mapping[int, SplitResult | None],
    ) -> bool:
        """Whether the results of all heads of a stack are there; found: those of the seeds asked for."""

        def is_there(seed: int) -> bool:
            result = found[seed] if seed in found else self.cache.get(arm, seed, number)
            return result is not None

        return all(map(is_there, stack))

    def _report_earlier(self, earlier: Sequence[SplitOutcome], *, wanted: int) -> None:
        """Say how much is there already, and tell the listener of its validations."""
        reused = sum(len(outcome.results) for outcome in earlier)
        if reused:
            log.info("%d of %d results of an arm, a split and a seed are there already", reused, wanted)
        if self.listener is None:
            return
        for split, outcome in zip(self.splits, earlier, strict=True):
            for (arm, seed), result in outcome.results.items():
                for row in result.history:
                    self.listener(arm, seed, split.name, row)

    def _train_split(
        self, plans: Sequence[Sequence[BatchGroup]], number: int, *, bar: tqdm, alone: bool
    ) -> SplitOutcome:
        """Train and judge what one split still needs. alone: compute with this thread only."""
        outcome = SplitOutcome()
        workers = 1
        if self.descriptors.device.type == "cpu" and not alone:
            workers = torch.get_num_threads()
        with one_thread(alone), ThreadPool(workers) as threads:
            for group in plans[number]:
                session = self._session(number, group.settings, threads)
                outcome = outcome.joined(self._train_group(session, group, number, bar))
        return outcome

    def _session(self, number: int, settings: TrainConfig, threads: ThreadPool) -> SplitSession:
        return SplitSession(
            self.data,
            self.descriptors,
            self.splits[number],
            settings,
            evaluated=self.evaluation_set.subset,
            threads=threads,
        )

    def _train_group(self, session: SplitSession, group: BatchGroup, number: int, bar: tqdm) -> SplitOutcome:
        """Train what the arms of a group read, all in one pass, and judge the arms."""
        needed, names = group.needed, group.names
        prepared = session.threads.map(
            lambda t: self._prepared_or_failure(session, t, names[t], needed[t]), list(needed)
        )
        of_training = dict(zip(needed, prepared, strict=True))
        stacks = [one for one in prepared if isinstance(one, StackTraining)]
        session.train(stacks, bar=bar, listener=self._listener_of(group, self.splits[number].name))
        failed = {training: _why_failed(one) for training, one in of_training.items()}
        of_arm = {arm: failed.get(group.trainings[arm]) for arm in group.seeds}
        failures = [Failure(arm.name, why) for arm, why in of_arm.items() if why is not None]
        outcome = SplitOutcome(failures=tuple(failures))
        for seeds, arms in group.same_seeds().items():
            trained = {a: of_training.get(group.trainings[a]) for a in arms if of_arm[a] is None}
            outcome = outcome.joined(self._judge(session, trained, seeds, number))
        return outcome

    def _prepared_or_failure(
        self, session: SplitSession, training: Training, name: str, seeds: Sequence[int]
    ) -> StackTraining | ClosedFormFit | Failure:
        """A training ready to begin, or why there can be none."""
        if self.keep_heads:  # the one head that was asked for: its fault is the command's
            return self._prepared(session, training, name, seeds)
        try:
            return self._prepared(session, training, name, seeds)
        except Exception as error:
            return Failure(name, reason(error))

    def _prepared(
        self, session: SplitSession, training: Training, name: str, seeds: Sequence[int]
    ) -> StackTraining | ClosedFormFit:
        if training.head.kind == "logreg":
            return session.fit_closed_form(training, seeds)
        make = partial(session.stack, training, seeds, self.start)
        precision = self.precision.of(name, partial(self._for_trial, session, training))
        orders = [self.train.seed] * len(seeds)
        if training.settings.batch_order == "own":
            orders = seeds
        stack = make(precision.used)
        facts = precision.to_json()
        facts["recipe"] = stack.settings.recipe
        if stack.settings.rate < training.settings.of_head(training.head).rate:
            facts["first_lr"] = stack.settings.rate
            facts["descriptor_length"] = session.moments.length
        return StackTraining(name, stack, stack.settings, orders, facts=facts)

    def _for_trial(self, session: SplitSession, training: Training) -> tuple[Callable[[str], Stack], Iterator[Batch]]:
        """The run's first seed and the first split: so what is tried depends on no other training."""
        seed, settings = self.train.seed, session.settings
        first = self._session(0, settings, session.threads)
        rng = evaluation_rng(seed)
        videos = rng.permutation(self.splits[0].train)
        batches = first.batches.in_order(videos, settings.batch_size, rng=rng)
        return partial(first.stack, training, [seed], self.start), batches

    def _judge(
        self,
        session: SplitSession,
        trained: Mapping[Arm, StackTraining | ClosedFormFit | None],
        seeds: Sequence[int],
        number: int,
    ) -> SplitOutcome:
        """Predict with arms that were trained with these seeds, and keep the results.

        None stands for the backbone's own classifier.
        """
        stacks = {arm: training.stack for arm, training in trained.items() if training is not None}
        predictions, failures = self._predictions(session, list(trained), stacks, seeds)
        steps = self._steps_in_a_pass(number, session.settings)
        labels = self.evaluation_set.labels[self.evaluation_set.folds == number]
        results, heads = {}, {}
        for arm, of_seeds in predictions.items():
            records = [None] * len(seeds)
            if arm in stacks:
                records = trained[arm].trained(steps)
            for member, seed in enumerate(seeds):
                prediction, temperature = of_seeds[member]
                try:
                    result = SplitResult.of(
                        records[member],
                        prediction,
                        labels,
                        temperature=temperature,
                        whole=self.keep_heads,
                        stack=seeds,
                    )
                except ValueError as error:
                    failures.append(Failure(arm.name, str(error)))
                    break
                results[arm.name, seed] = result
                self.cache.put(arm, seed, number, result)
                if self.keep_heads and arm in stacks:
                    heads[arm.name, seed] = stacks[arm].head(member).cpu()
        return SplitOutcome(results=results, heads=heads, failures=tuple(failures))

    def _predictions(
        self,
        session: SplitSession,
        arms: Sequence[Arm],
        stacks: Mapping[Arm, Stack],
        seeds: Sequence[int],
    ) -> tuple[dict[Arm, list[tuple[Prediction, float | None]]], list[Failure]]:
        """What the arms predict; an arm whose head faults fails alone."""
        try:
            return session.predict(arms, stacks, seeds), []
        except Exception as error:
            if len(arms) == 1:
                return {}, [Failure(arms[0].name, reason(error))]
        predictions, failures = {}, []
        for arm in arms:
            of_arm, failure = self._predictions(session, [arm], stacks, seeds)
            predictions |= of_arm
            failures += failure
        return predictions, failures

    def _listener_of(self, group: BatchGroup, split: str) -> Callable[[str, int, dict], None] | None:
        """Passes the validations of a group's trainings on: name of the arm, member, row."""
        if self.listener is None:
            return None
        names = group.names
        seeds_of = {names[training]: seeds for training, seeds in group.needed.items()}
        return lambda arm, member, row: self.listener(arm, seeds_of[arm][member], split, row)

    def _workers(self) -> int:
        """Splits at a time: processors are better shared by splits than by products."""
        if self.descriptors.device.type != "cpu" or self.descriptors.residency.kind == MAP:
            return 1
        return min(torch.get_num_threads(), len(self.splits))

    def _is_small(self, arms: Sequence[Arm], *, copies: int) -> bool:
        """Whether no step of any training is worth a second thread."""
        if self.descriptors.device.type != "cpu":
            return False
        videos = min(self.train.batch_size, max(len(split.train) for split in self.splits))
        return all(
            is_small(
                videos=videos,
                clips=arm.settings(self.train).num_clips,
                parameters=copies * self._num_parameters(arm),
            )
            for arm in arms
        )

    def _num_parameters(self, arm: Arm) -> int:
        if arm.head is None:
            return 0
        try:
            shape = build_shape(arm.head, self.descriptors.width, len(self.data.classes))
        except Exception:  # building it for good says what is wrong
            return 0
        return sum(p.numel() for p in shape.parameters())

    def _steps_in_a_pass(self, number: int, settings: TrainConfig) -> int:
        return math.ceil(len(self.splits[number].train) / settings.batch_size)

    def _num_steps(self, plans: Sequence[Sequence[BatchGroup]]) -> int:
        """Optimisation steps at most, those of arms that share their batches counted once."""
        total = 0
        for number, groups in enumerate(plans):
            for group in groups:
                steps = self._steps_in_a_pass(number, group.settings)
                schedules = {t.settings.of_head(t.head).numbers.schedule for t in group.needed}
                total += steps * max((most_passes(steps, group.settings.epochs, s) for s in schedules), default=0)
        return total


def _why_failed(training: StackTraining | ClosedFormFit | Failure) -> str | None:
    """The reason, None where all went well."""
    return training.reason if isinstance(training, Failure) else training.failure


def _notes(results: Mapping[str, Sequence[SeedResult]]) -> list[str]:
    """What was chosen by itself, from the records, so that results of earlier runs say it too."""
    records = {}
    for name, of_arm in results.items():
        trained = [run for result in of_arm for run in result.trained if run is not None]
        records[name] = [run.record for run in trained]
    return [*precision_notes(records), *_length_notes(records), *_recipe_notes(records), *_gate_notes(results, records)]


def _is_other(of_arm: Sequence[dict]) -> bool:
    return any(record.get("recipe", "paper") != "paper" for record in of_arm)


def _recipe_notes(records: Mapping[str, Sequence[dict]]) -> list[str]:
    """Which arms were trained otherwise than as the paper says."""
    other = [name for name, of_arm in records.items() if _is_other(of_arm)]
    if len(other) == sum(map(bool, records.values())):
        return ["Trained with the recipe adamw."] if other else []
    return [f"Trained with the recipe adamw, all others with the paper's: {', '.join(other)}."] if other else []


def _gate_notes(results: Mapping[str, Sequence[SeedResult]], records: Mapping[str, Sequence[dict]]) -> list[str]:
    """Where a gate says nothing of its clips."""
    notes = {}
    for name, of_arm in results.items():
        gates = [result.metrics["gate"] for result in of_arm if result.metrics.get("gate")]
        notes[name] = gate_note(gates, records[name])
    return [f"{name}: {note}" for name, note in notes.items() if note]


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
