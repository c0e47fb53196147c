"""What is kept of one arm on one split with one seed: enough for every figure, without the head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import recall_score

from gcf.head.fit import Trained
from gcf.head.metrics import score
from gcf.head.prediction import Prediction
from gcf.head.store import StoredResult

MOST_VALUES = 5_000_000  # log probabilities (n, K) beyond 20 MB are not kept: 30,000 videos of 600 classes are 72 MB
ALWAYS = ("predicted", "true_log_probability", "confidence")
WHERE_THERE = ("calibrated", "log_probabilities")


@dataclass(frozen=True, eq=False)
class KeptResult:
    """How an arm was trained and what it said of the n judged videos of one split.

    predicted (n,) int32; true_log_probability (n,); confidence (n,), the probability of the predicted class, and
    calibrated (n,), the same after the temperature; log_probabilities (n, K) float32, None where they are too many to
    keep and nothing needs them: mAP does. metrics are those of the whole (n, K). training: the record and the history,
    None for the backbone's own classifier.
    """

    metrics: dict
    gate: dict[str, float]
    training: dict | None
    temperature: float | None
    predicted: np.ndarray
    true_log_probability: np.ndarray
    confidence: np.ndarray
    calibrated: np.ndarray | None
    log_probabilities: np.ndarray | None

    @classmethod
    def of(
        cls,
        trained: Trained | None,
        said: Prediction,
        metrics: Mapping,
        *,
        true_log_probability: np.ndarray,
        calibrated: np.ndarray | None = None,
        temperature: float | None = None,
        whole: bool = False,
    ) -> "KeptResult":
        """From a training, its prediction of the judged videos, and the metrics of that; whole: keep all of it."""
        logs = said.log_probabilities
        return cls(
            metrics=dict(metrics),
            gate=said.gate,
            training=None if trained is None else {"record": trained.record, "history": trained.history},
            temperature=temperature,
            predicted=logs.argmax(axis=1).astype(np.int32),
            true_log_probability=true_log_probability,
            confidence=np.exp(logs.max(axis=1)),
            calibrated=calibrated,
            log_probabilities=logs if whole or logs.size <= MOST_VALUES else None,
        )

    def to_stored(self) -> StoredResult:
        """For the store."""
        arrays = {name: getattr(self, name) for name in ALWAYS + WHERE_THERE}
        record = {name: getattr(self, name) for name in ("metrics", "gate", "training", "temperature")}
        return StoredResult({name: array for name, array in arrays.items() if array is not None}, record)

    @classmethod
    def from_stored(cls, stored: StoredResult) -> "KeptResult":
        """The same, number for number."""
        arrays = {name: stored.arrays[name] for name in ALWAYS}
        arrays |= {name: stored.arrays.get(name) for name in WHERE_THERE}
        return cls(**stored.record, **arrays)


def pooled(parts: Sequence[KeptResult], labels: np.ndarray) -> dict[str, float | int]:
    """The metrics of all splits together, as `score` gives them, from the parts and the labels (n,) of all in order.

    Needs no log probabilities: what is a mean over videos stays one, and recall needs the predicted classes alone. Only
    mAP, of labels (n, K), needs them.
    """
    if labels.ndim == 2:
        return score(np.concatenate([part.log_probabilities for part in parts]), labels)
    sizes = [part.metrics["n"] for part in parts]
    predicted = np.concatenate([part.predicted for part in parts])
    means = {n: float(np.average([p.metrics[n] for p in parts], weights=sizes)) for n in ("top1", "top5", "loss")}
    recall = recall_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0)
    return means | {"mean_class": float(recall), "k": sum(part.metrics["k"] for part in parts), "n": sum(sizes)}
