"""What arms did: one result per arm and seed, over the videos of all splits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gcf.data.splits import Split
from gcf.head.fit import Trained
from gcf.head.labelled import LabelledFeatures
from gcf.head.metrics import is_right, score
from gcf.head.prediction import Prediction


@dataclass(frozen=True, eq=False)
class Judged:
    """The videos that the splits judge heads on, one split after the other: videos (n,), folds (n,), labels.

    labels (n,) class numbers, or (n, K) with True for each class of a video. `subset` is "test", or "val" where no
    split has a test video.
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
        return cls(videos, np.repeat(np.arange(len(parts)), [len(p) for p in parts]), data.truth[videos], subset)

    def right(self, predicted: np.ndarray) -> np.ndarray:
        """Whether the predicted class (..., n) is the video's, or one of them: bool of the same shape."""
        return is_right(predicted, self.labels)


@dataclass(frozen=True, eq=False)
class Verdict:
    """One head with one seed on one split: how it was trained, what it said of the judged videos, its temperature.

    trained is None for the backbone's own classifier, temperature where `val` itself is judged.
    """

    trained: Trained | None
    said: Prediction
    temperature: float | None


@dataclass(frozen=True, eq=False)
class SeedResult:
    """What one arm did with one seed over all splits: pooled metrics, and the parts they come from.

    For the n judged videos in the order of `Judged`: log_probabilities (n, K), predicted (n,), true_log_probability
    (n,) (multi-label: the mean over its classes), confidence and calibrated (n,), the probability of the predicted
    class before and after the temperature. trained, temperatures: one per split.
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

    def slim(self) -> "SeedResult":
        """Without the (n, K) array: dozens of results have to stay in memory together.

        Where a video may have several classes it stays, for differences in mAP are not to be had from less.
        """
        return self if "map" in self.metrics else replace(self, log_probabilities=None)


def pool(seed: int, verdicts: Sequence[Verdict], splits: Sequence[Split], judged: Judged) -> SeedResult:
    """All splits of one arm and seed as one result."""
    folds = [
        {"name": split.name} | score(verdict.said.log_probabilities, judged.labels[judged.folds == number])
        for number, (split, verdict) in enumerate(zip(splits, verdicts, strict=True))
    ]
    logs = np.concatenate([verdict.said.log_probabilities for verdict in verdicts])
    metrics = score(logs, judged.labels)
    gates = [verdict.said.gate for verdict in verdicts]
    if gates[0]:
        sizes = [fold["n"] for fold in folds]  # videos count alike, in whatever fold they are
        metrics["gate"] = {n: float(np.average([gate[n] for gate in gates], weights=sizes)) for n in gates[0]}
    temperatures = [verdict.temperature for verdict in verdicts]
    calibrated = None
    if None not in temperatures:
        calibrated = np.concatenate([_tempered(v.said.log_probabilities, v.temperature) for v in verdicts])
    return SeedResult(
        seed,
        metrics,
        folds,
        [verdict.trained for verdict in verdicts],
        temperatures,
        logs.argmax(axis=1).astype(np.int32),
        _own(logs, judged.labels),
        np.exp(logs.max(axis=1)),
        calibrated,
        logs,
    )


def _own(logs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    if labels.ndim == 1:
        return logs[np.arange(len(logs)), labels]
    return np.where(labels, logs, 0).sum(axis=1) / np.maximum(labels.sum(axis=1), 1)


def _tempered(logs: np.ndarray, temperature: float) -> np.ndarray:
    """The probability of the predicted class after a temperature: (n, K) -> (n,)."""
    scaled = logs.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    return (1 / np.exp(scaled).sum(axis=1)).astype(np.float32)
