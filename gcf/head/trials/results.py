"""The results of arms over all splits: one for each arm and seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import recall_score

from gcf.data.splits import Split
from gcf.head.fitting.fit import Trained
from gcf.head.fitting.labelled import LabelledFeatures
from gcf.head.fitting.metrics import is_right, score
from gcf.head.trials.split_result import SplitResult


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """The videos that heads are evaluated on, one split after the other: videos (n,), folds (n,), labels.

    labels (n,) class numbers, or (n, K) with True for each class of a video. `subset` is "test", or
    "val" where no split has a test video.
    """

    videos: np.ndarray
    folds: np.ndarray
    labels: np.ndarray
    subset: str

    @classmethod
    def of(cls, data: LabelledFeatures, splits: Sequence[Split]) -> "EvaluationSet":
        """The test videos of all splits, or their val videos."""
        subset = "test" if any(len(s.test) for s in splits) else "val"
        parts = [getattr(s, subset) for s in splits]
        videos = np.concatenate(parts)
        folds = np.repeat(np.arange(len(parts)), [len(p) for p in parts])
        return cls(videos=videos, folds=folds, labels=data.truth[videos], subset=subset)

    def right(self, predicted: np.ndarray) -> np.ndarray:
        """Whether the predicted class (..., n) is the video's, or one of them: bool of the same shape."""
        return is_right(predicted, self.labels)


@dataclass(frozen=True, eq=False)
class SeedResult:
    """The results of one arm with one seed on all splits, merged: pooled metrics, and the parts they come from.

    For the n videos in the order of `EvaluationSet`: predicted (n,), true_log_probability (n,)
    (multi-label: the mean over its classes), confidence and calibrated (n,), the probability of the
    predicted class before and after the temperature (None where `val` itself is judged),
    log_probabilities (n, K) or None where they are too many to keep. trained, temperatures: one per
    split.
    """

    seed: int
    metrics: dict
    folds: list[dict]
    trained: list[Trained | None]
    temperatures: list[float | None]
    predicted: np.ndarray
    true_log_probability: np.ndarray
    confidence: np.ndarray
    calibrated: np.ndarray | None
    log_probabilities: np.ndarray | None

    @property
    def by_chance(self) -> bool:
        """Whether training again can come out otherwise: not where a head was fitted in one go, or not trained."""
        return any(trained is not None and trained.history for trained in self.trained)


def merge(seed: int, parts: Sequence[SplitResult], splits: Sequence[Split], evaluated: EvaluationSet) -> SeedResult:
    """The results of one arm and seed on all splits as one."""
    logs = _concatenated([part.log_probabilities for part in parts])
    labels = evaluated.labels
    metrics = pooled_metrics(parts, labels) if labels.ndim == 1 else score(logs, labels)
    if parts[0].gate:
        sizes = [part.metrics["n"] for part in parts]  # videos count alike, in whatever fold they are
        gate = {}
        for name in parts[0].gate:
            gate[name] = float(np.average([part.gate[name] for part in parts], weights=sizes))
        metrics |= {"gate": gate}
    return SeedResult(
        seed=seed,
        metrics=metrics,
        folds=[{"name": split.name} | part.metrics for split, part in zip(splits, parts, strict=True)],
        trained=[None if part.training is None else Trained(**part.training) for part in parts],
        temperatures=[part.temperature for part in parts],
        predicted=np.concatenate([part.predicted for part in parts]),
        true_log_probability=np.concatenate([part.true_log_probability for part in parts]),
        confidence=np.concatenate([part.confidence for part in parts]),
        calibrated=_concatenated([part.calibrated for part in parts]),
        log_probabilities=logs,
    )


def pooled_metrics(parts: Sequence[SplitResult], labels: np.ndarray) -> dict[str, float | int]:
    """The metrics of all splits together, as `score` gives them, from the parts and the labels (n,) of all in order.

    Needs no log probabilities: what is a mean over videos stays one, and recall needs the predicted
    classes alone.
    """
    sizes = [part.metrics["n"] for part in parts]
    predicted = np.concatenate([part.predicted for part in parts])
    means = {}
    for name in ("top1", "top5", "loss"):
        means[name] = float(np.average([part.metrics[name] for part in parts], weights=sizes))
    recall = recall_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0)
    return means | {"mean_class": float(recall), "k": sum(part.metrics["k"] for part in parts), "n": sum(sizes)}


def ensemble(results: Sequence[SeedResult], evaluated: EvaluationSet) -> dict | None:
    """The metrics of the mean probability over the seeds; None with one seed, or where probabilities are not kept."""
    if len(results) < 2 or any(result.log_probabilities is None for result in results):
        return None
    logs = [result.log_probabilities.astype(np.float64) for result in results]
    return score(np.logaddexp.reduce(logs) - np.log(len(logs)), evaluated.labels)  # no probability is too small


def _concatenated(arrays: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """One after the other; None where one is not there."""
    return None if any(array is None for array in arrays) else np.concatenate(arrays)
