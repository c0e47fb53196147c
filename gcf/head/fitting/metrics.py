"""Figures of merit from log probabilities; fractions, never percent."""

import numpy as np
from sklearn.metrics import accuracy_score, average_precision_score, log_loss, recall_score, top_k_accuracy_score

FEW = 5  # classes or fewer, of which five say nothing
NEARLY_ONE = -np.finfo(np.float32).smallest_subnormal.astype(np.float64)  # log p of a logit beyond 103 is 0 in float32


def score(log_probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float | int]:
    """Metrics of n videos: log_probabilities (n, K), labels (n,) -> top1, top5, mean_class, loss, k right of n.

    mean_class is the mean recall over the classes that occur; top5 is 1 where there are five classes or fewer.

    With labels (n, K) bool, all classes of each video, log_probabilities are of each class by itself. top1 is then
    hit@1, the share of videos of which the most probable class is one, and top5 that of which one of the five most
    probable is. "map" is the mean average precision over the classes that occur, mean_class the same; the loss is the
    binary cross-entropy, summed over the classes.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2:
        return _multi_label(log_probabilities, labels)
    n, num_classes = log_probabilities.shape
    predicted = log_probabilities.argmax(axis=1)
    classes = np.arange(num_classes)
    few = num_classes <= FEW
    return {
        "top1": float(accuracy_score(labels, predicted)),
        "top5": 1.0 if few else float(top_k_accuracy_score(labels, log_probabilities, k=5, labels=classes)),
        "mean_class": float(
            recall_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0)
        ),
        "loss": float(log_loss(labels, _probabilities(log_probabilities), labels=classes)),
        "k": int((predicted == labels).sum()),
        "n": n,
    }


def _multi_label(logs: np.ndarray, targets: np.ndarray) -> dict[str, float | int]:
    n, num_classes = logs.shape
    right = is_right(logs.argmax(axis=1), targets)
    five = (
        np.argpartition(-logs, FEW - 1, axis=1)[:, :FEW] if num_classes > FEW else np.tile(range(num_classes), (n, 1))
    )
    precision = float(
        np.mean([average_precision_score(t, s) for t, s in zip(targets.T, logs.T, strict=True) if t.any()])
    )
    return {
        "top1": float(right.mean()),
        "top5": float(np.take_along_axis(targets, five, axis=1).any(axis=1).mean()),
        "map": precision,
        "mean_class": precision,
        "loss": binary_loss(logs, targets),
        "k": int(right.sum()),
        "n": n,
    }


def is_right(predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether the predicted class (..., n) is the video's, labels (n,), or one of its, labels (n, K): bool (..., n)."""
    return predicted == labels if labels.ndim == 1 else labels[np.arange(len(labels)), predicted] > 0


def binary_loss(log_probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Binary cross-entropy, summed over classes, averaged over videos, as in training: both arguments (n, K).

    log(1 - p) comes from log p without forming p, which rounds to 1 long before its logarithm rounds to 0.
    """
    logs = log_probabilities.astype(np.float64)
    of_absent = np.log(-np.expm1(np.minimum(logs, NEARLY_ONE)))
    return float(-np.where(targets, logs, of_absent).sum(axis=1).mean())


def _probabilities(log_probabilities: np.ndarray) -> np.ndarray:
    """In float64 and summing to 1 again, as scikit-learn insists."""
    values = np.exp(log_probabilities.astype(np.float64))
    return values / values.sum(axis=1, keepdims=True)
