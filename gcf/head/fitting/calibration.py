"""Do the probabilities mean what they say? One temperature sets most networks right.

Guo, Pleiss, Sun, Weinberger: On calibration of modern neural networks, 2017 (arXiv 1706.04599).
"""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

BINS = 15  # as in the paper
LOWEST, HIGHEST = 0.05, 20.0  # where every video is right, ever smaller temperatures fit ever better


def with_temperature(log_probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Log probabilities (n, K) of the same logits divided by the temperature; their order stays."""
    return log_softmax(np.asarray(log_probabilities, dtype=np.float64) / temperature, axis=1)


def fit_temperature(log_probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature, between 0.05 and 20, that makes labels (n,) likeliest: log_probabilities (n, K) of `val`."""
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        return -with_temperature(log_probabilities, np.exp(log_temperature))[rows, labels].mean()

    return float(np.exp(minimize_scalar(loss, bounds=np.log([LOWEST, HIGHEST]), method="bounded").x))


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray, *, bins: int = BINS) -> float:
    """Mean gap between confidence (n,), in 0 to 1, and accuracy, correct (n,) bool, over bins of equal width.

    >>> expected_calibration_error(np.full(4, 0.9), np.array([True, False, True, False]))
    0.4
    """
    rows = reliability(confidence, correct, bins=bins)
    gaps = [row["count"] * abs(row["accuracy"] - row["confidence"]) for row in rows]
    return sum(gaps) / len(confidence)


def reliability(confidence: np.ndarray, correct: np.ndarray, *, bins: int = BINS) -> list[dict]:
    """One row per bin that is not empty: low, high (inclusive), count, mean confidence, accuracy."""
    edges = np.linspace(0, 1, bins + 1)
    of_bin = np.digitize(confidence, edges[1:-1], right=True)
    rows = []
    for b in np.unique(of_bin):
        inside = of_bin == b
        row = {"low": float(edges[b]), "high": float(edges[b + 1]), "count": int(inside.sum())}
        row |= {"confidence": float(np.mean(confidence[inside])), "accuracy": float(np.mean(correct[inside]))}
        rows.append(row)
    return rows
