"""Figures of merit from log probabilities; fractions, never percent."""

import numpy as np
from sklearn.metrics import accuracy_score, log_loss, recall_score, top_k_accuracy_score


def score(log_probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float | int]:
    """Metrics of n videos: log_probabilities (n, K), labels (n,) -> top1, top5, mean_class, loss, k right of n.

    mean_class is the mean recall over the classes that occur; top5 is 1 where there are five classes or fewer.
    """
    labels = np.asarray(labels)
    n, num_classes = log_probabilities.shape
    predicted = log_probabilities.argmax(axis=1)
    classes = np.arange(num_classes)
    few = num_classes <= 5
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


def _probabilities(log_probabilities: np.ndarray) -> np.ndarray:
    """In float64 and summing to 1 again, as scikit-learn insists."""
    values = np.exp(log_probabilities.astype(np.float64))
    return values / values.sum(axis=1, keepdims=True)
