"""How sure a mean is: the bootstrap, over videos or groups of them."""

from collections.abc import Iterator

import numpy as np

from gcf.head.tables.statistics import CONFIDENCE

RESAMPLES = 5000

BLOCK = 1 << 21  # units drawn at once, 16 MB


def mean_interval(values: np.ndarray, unit: np.ndarray, *, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the mean of values (n,), whose units (n,) are drawn as a whole."""
    _, unit = np.unique(unit, return_inverse=True)
    sums, sizes = np.bincount(unit, weights=values), np.bincount(unit)
    means = np.concatenate(list(_draws(sums, sizes, np.random.default_rng(seed))))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _draws(sums: np.ndarray, sizes: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Means over units drawn with replacement, RESAMPLES in all, some at a time."""
    step = max(1, BLOCK // len(sums))
    for start in range(0, RESAMPLES, step):
        drawn = rng.integers(len(sums), size=(min(step, RESAMPLES - start), len(sums)))
        yield sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
