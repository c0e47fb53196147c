"""The result of one arm on one split with one seed: enough for every figure, without the head."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gcf.head.fitting.calibration import with_temperature
from gcf.head.fitting.fit import Trained
from gcf.head.fitting.metrics import score
from gcf.head.fitting.prediction import Prediction

MOST_VALUES = 5_000_000  # log probabilities (n, K) beyond 20 MB are not kept: 30,000 videos of 600 classes are 72 MB
ARRAYS = ("predicted", "true_log_probability", "confidence")
OPTIONAL_ARRAYS = ("calibrated", "log_probabilities")
FACTS = ("metrics", "gate", "training", "temperature", "stack")  # what JSON takes


@dataclass(frozen=True, eq=False)
class SplitResult:
    """How an arm was trained and what it predicts for the n evaluated videos of one split.

    predicted (n,) int32; true_log_probability (n,) (multi-label: the mean over the video's
    classes); confidence (n,), the probability of the predicted class, and calibrated (n,), the same
    after the temperature; log_probabilities (n, K) float32, None where they are too many to keep
    and nothing needs them: mAP does. metrics are those of the whole (n, K). training: the record
    and the history, None for the backbone's own classifier. stack: the seeds of all heads that were
    trained as one with it; last digits depend on how many they are.
    """

    metrics: dict
    gate: dict[str, float]
    training: dict | None
    temperature: float | None
    predicted: np.ndarray
    true_log_probability: np.ndarray
    confidence: np.ndarray
    calibrated: np.ndarray | None = None
    log_probabilities: np.ndarray | None = None
    stack: Sequence[int] = ()

    @classmethod
    def of(
        cls,
        trained: Trained | None,
        prediction: Prediction,
        labels: np.ndarray,
        *,
        temperature: float | None = None,
        whole: bool = False,
        stack: Sequence[int] = (),
    ) -> "SplitResult":
        """From a training and its prediction of the videos with these labels (n,) or (n, K).

        whole: keep all log probabilities, however many. Raises ValueError where the head's logits
        are not numbers.
        """
        logs = prediction.log_probabilities
        if np.isnan(logs).any():
            raise ValueError("the head's logits are not numbers")
        true_logs = logs[np.arange(len(logs)), labels] if labels.ndim == 1 else _mean_of_classes(logs, labels)
        calibrated = None
        if temperature is not None:
            calibrated = np.exp(with_temperature(logs, temperature).max(axis=1)).astype(np.float32)
        kept = whole or labels.ndim > 1 or logs.size <= MOST_VALUES
        training = None
        if trained is not None:
            training = {"record": trained.record, "history": trained.history}
        return cls(
            metrics=score(logs, labels),
            gate=prediction.gate,
            training=training,
            temperature=temperature,
            predicted=logs.argmax(axis=1).astype(np.int32),
            true_log_probability=true_logs,
            confidence=np.exp(logs.max(axis=1)),
            calibrated=calibrated,
            log_probabilities=logs if kept else None,
            stack=list(stack),
        )

    @property
    def history(self) -> list[dict]:
        """One row per validation of its training."""
        return [] if self.training is None else self.training["history"]

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Its arrays by name, those that there are."""
        named = {name: getattr(self, name) for name in ARRAYS + OPTIONAL_ARRAYS}
        return {name: array for name, array in named.items() if array is not None}

    @property
    def facts(self) -> dict:
        """All else."""
        return {name: getattr(self, name) for name in FACTS}


def _mean_of_classes(logs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.where(labels, logs, 0).sum(axis=1) / np.maximum(labels.sum(axis=1), 1)
