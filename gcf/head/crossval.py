"""Every arm on every split with every seed, on the same clips of the same videos in the same order."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from gcf.data.splits import Split
from gcf.head.backbone_clips import backbone_columns, backbone_log_probabilities
from gcf.head.batches import ClipBatches, usable_device
from gcf.head.build import build_head, build_shape
from gcf.head.config import HeadConfig, TrainConfig
from gcf.head.fit import Trained, evaluation_rng, fit
from gcf.head.labelled import LabelledFeatures
from gcf.head.metrics import score
from gcf.head.prediction import Prediction, predict
from gcf.head.threads import is_small, one_thread, side_by_side
from gcf.head.transfer import Start

CENTRAL = "central"


@dataclass(frozen=True)
class Arm:
    """One row of a comparison: a head and the clips it is judged on (None: the policy's; CENTRAL: the central one).

    Without a head, the backbone's own clip classifier speaks, from the cached logits.
    """

    name: str
    head: HeadConfig | None
    policy: str | None = None


@dataclass(frozen=True, eq=False)
class SeedResult:
    """What one arm did with one seed over all splits: pooled metrics, and the parts they come from.

    For the n judged videos in the order of `Judged`: log_probabilities (n, K), predicted (n,), true_log_probability
    (n,). trained: one per split, None for the backbone's own classifier.
    """

    seed: int
    metrics: dict
    folds: list[dict]
    trained: list[Trained | None]
    predicted: np.ndarray
    true_log_probability: np.ndarray
    log_probabilities: np.ndarray | None

    def slim(self) -> "SeedResult":
        """Without the heads and the (n, K) array: dozens of results have to stay in memory together."""
        trained = [None if run is None else replace(run, head=None) for run in self.trained]
        return replace(self, trained=trained, log_probabilities=None)


@dataclass(frozen=True, eq=False)
class Judged:
    """The videos that the splits judge heads on, one split after the other: videos (n,), folds (n,), labels (n,).

    `subset` is "test", or "val" where no split has a test video.
    """

    videos: np.ndarray
    folds: np.ndarray
    labels: np.ndarray
    subset: str

    @classmethod
    def of(cls, data: LabelledFeatures, splits: Sequence[Split]) -> "Judged":
        """The test videos of all splits, or their val videos."""
        subset = "test" if any(len(s.test) for s in splits) else "val"
        parts = [getattr(s, subset) for s in splits]
        videos = np.concatenate(parts)
        return cls(videos, np.repeat(np.arange(len(parts)), [len(p) for p in parts]), data.labels[videos], subset)


@dataclass(frozen=True, eq=False)
class Verdict:
    """One head (or the backbone's classifier) on one split: how it was trained and what it said in each arm's way."""

    trained: Trained | None
    said: dict[str, Prediction]


class Trial:
    """What all arms share: data, splits, training settings, and where a trained head starts."""

    def __init__(self, data: LabelledFeatures, splits: Sequence[Split], train: TrainConfig, start: Start):
        self.data, self.splits, self.train, self.start = data, splits, train, start
        device = usable_device(train.device)
        self.batches = ClipBatches(
            data.features, data.labels, num_clips=train.num_clips, policy=train.clip_policy, device=device
        )
        self.judged = Judged.of(data, splits)
        self.many = False  # trainings: whether they need names to be told apart

    def run(self, arms: Sequence[Arm], seeds: Sequence[int]) -> Iterator[dict[str, SeedResult]]:
        """Yield the results of all arms, seed after seed; progress on standard error where that is a terminal.

        Arms with the same head share its training. Small heads are trained side by side, each by one thread: every
        number is the same as one after the other.
        """
        heads = {arm.head: [a for a in arms if a.head == arm.head] for arm in arms}
        jobs = [(head, number) for head in heads for number in range(len(self.splits))]
        self.many = many = len(jobs) * len(seeds) > 1
        workers = torch.get_num_threads() if many and all(self._is_small(head) for head in heads) else 1
        with (
            _bar("head", None if many else True, total=len(jobs) * len(seeds)) as bar,
            _bar("step", None if workers == 1 else True) as steps,
        ):
            for seed in seeds:
                verdicts, judge = {}, partial(self._judge, heads, seed, steps)
                for job, verdict in side_by_side(jobs, judge, workers=workers):
                    verdicts[job] = verdict
                    bar.update()
                yield {
                    arm.name: self._pool(arm.name, seed, [verdicts[arm.head, n] for n in range(len(self.splits))])
                    for arm in arms
                }

    def _is_small(self, head: HeadConfig | None) -> bool:
        if head is None:
            return True
        shape = build_shape(head, self.batches.width, len(self.data.classes))
        videos = min(self.train.batch_size, max(len(s.train) for s in self.splits))
        parameters = sum(p.numel() for p in shape.parameters())
        on_cpu = self.batches.device.type == "cpu"
        return on_cpu and is_small(videos=videos, clips=self.train.num_clips, parameters=parameters)

    def _judge(
        self,
        heads: Mapping[HeadConfig | None, Sequence[Arm]],
        seed: int,
        bar: tqdm,
        job: tuple[HeadConfig | None, int],
    ) -> Verdict:
        """Train a head on one split and let it speak for its arms; None is the backbone's own clip classifier."""
        head, number = job
        arms = heads[head]
        videos = self.judged.videos[self.judged.folds == number]
        with one_thread(self._is_small(head)):
            if head is None:
                return Verdict(None, {arm.name: self._ask_backbone(videos, arm.policy, seed) for arm in arms})
            module = build_head(head, self.batches.width, len(self.data.classes), seed=seed)
            settings = replace(self.train, seed=seed)
            name = f"{head.name}, seed {seed}, split {self.splits[number].name}" if self.many else ""
            trained = fit(self.start.prepare(module), self.batches, self.splits[number], settings, bar=bar, name=name)
            said = {
                arm.name: predict(trained.head, self.batches, videos, rng=evaluation_rng(seed), policy=arm.policy)
                for arm in arms
            }
            return Verdict(trained, said)

    def _ask_backbone(self, videos: np.ndarray, policy: str | None, seed: int) -> Prediction:
        columns, rng = backbone_columns(self.data), evaluation_rng(seed)
        return Prediction(backbone_log_probabilities(self.batches, videos, columns, rng=rng, policy=policy), {})

    def _pool(self, arm: str, seed: int, verdicts: Sequence[Verdict]) -> SeedResult:
        """All splits of one arm and seed as one result."""
        judged, folds = self.judged, []
        for number, (split, verdict) in enumerate(zip(self.splits, verdicts, strict=True)):
            labels = judged.labels[judged.folds == number]
            folds.append({"name": split.name} | score(verdict.said[arm].log_probabilities, labels))
        logs = np.concatenate([verdict.said[arm].log_probabilities for verdict in verdicts])
        metrics = score(logs, judged.labels)
        gates = [verdict.said[arm].gate for verdict in verdicts]
        if gates[0]:
            sizes = [fold["n"] for fold in folds]  # videos count alike, in whatever fold they are
            metrics["gate"] = {n: float(np.average([gate[n] for gate in gates], weights=sizes)) for n in gates[0]}
        own = logs[np.arange(len(logs)), judged.labels]
        predicted = logs.argmax(axis=1).astype(np.int32)
        return SeedResult(seed, metrics, folds, [v.trained for v in verdicts], predicted, own, logs)


def _bar(unit: str, disable: bool | None, *, total: int | None = None) -> tqdm:
    """Progress on standard error; `disable` None shows it on a terminal only."""
    return tqdm(total=total, unit=unit, desc=f"{unit}s", file=sys.stderr, disable=disable, leave=False)
