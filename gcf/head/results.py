"""What arms did: one result per arm and seed, over the videos of all splits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gcf.data.splits import Split
from gcf.head.calibration import with_temperature
from gcf.head.fit import Trained
from gcf.head.kept import KeptResult, pooled
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
class SeedResult:
    """What one arm did with one seed over all splits: pooled metrics, and the parts they come from.

    For the n judged videos in the order of `Judged`: predicted (n,), true_log_probability (n,) (multi-label: the mean
    over its classes), confidence and calibrated (n,), the probability of the predicted class before and after the
    temperature (None where `val` itself is judged), log_probabilities (n, K) or None where they are too many to keep.
    trained, temperatures: one per split.
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


def keep(
    trained: Trained | None, said: Prediction, labels: np.ndarray, *, temperature: float | None, whole: bool
) -> KeptResult:
    """One arm with one seed on one split, judged: labels (n,) or (n, K). whole: keep all probabilities, however many.

    Raises ValueError where the head says what is no number.
    """
    logs = said.log_probabilities
    if np.isnan(logs).any():
        raise ValueError("the head's logits are not numbers")
    own = logs[np.arange(len(logs)), labels] if labels.ndim == 1 else _mean_of_classes(logs, labels)
    calibrated = None
    if temperature is not None:
        calibrated = np.exp(with_temperature(logs, temperature).max(axis=1)).astype(np.float32)
    return KeptResult.of(
        trained,
        said,
        score(logs, labels),
        true_log_probability=own,
        calibrated=calibrated,
        temperature=temperature,
        whole=whole or labels.ndim > 1,
    )


def pool(seed: int, parts: Sequence[KeptResult], splits: Sequence[Split], judged: Judged) -> SeedResult:
    """All splits of one arm and seed as one result."""
    there = [part.log_probabilities for part in parts]
    logs = None if any(values is None for values in there) else np.concatenate(there)
    metrics = pooled(parts, judged.labels) if judged.labels.ndim == 1 else score(logs, judged.labels)
    if parts[0].gate:
        sizes = [part.metrics["n"] for part in parts]  # videos count alike, in whatever fold they are
        metrics["gate"] = {
            name: float(np.average([p.gate[name] for p in parts], weights=sizes)) for name in parts[0].gate
        }
    calibrated = [part.calibrated for part in parts]
    return SeedResult(
        seed,
        metrics,
        [{"name": split.name} | part.metrics for split, part in zip(splits, parts, strict=True)],
        [None if part.training is None else Trained(**part.training) for part in parts],
        [part.temperature for part in parts],
        np.concatenate([part.predicted for part in parts]),
        np.concatenate([part.true_log_probability for part in parts]),
        np.concatenate([part.confidence for part in parts]),
        None if any(values is None for values in calibrated) else np.concatenate(calibrated),
        logs,
    )


def ensemble(results: Sequence[SeedResult], judged: Judged) -> dict | None:
    """The metrics of the mean probability over the seeds; None with one seed, or where probabilities are not kept."""
    if len(results) < 2 or any(result.log_probabilities is None for result in results):
        return None
    logs = [result.log_probabilities.astype(np.float64) for result in results]
    return score(np.logaddexp.reduce(logs) - np.log(len(logs)), judged.labels)  # no probability is too small for a log


def _mean_of_classes(logs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.where(labels, logs, 0).sum(axis=1) / np.maximum(labels.sum(axis=1), 1)
