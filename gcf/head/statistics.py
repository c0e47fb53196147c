"""Is one arm better than another? Paired over the same videos and seeds."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

RESAMPLES = 5000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class PairedDifference:
    """Difference in accuracy as a fraction, its 95 % interval, and the p value of no difference."""

    delta: float
    low: float
    high: float
    p: float


def paired_difference(
    correct: np.ndarray, reference: np.ndarray, videos: np.ndarray, *, seed: int = 0
) -> PairedDifference:
    """Compare two arms on the same n predictions: correct and reference (S, n) bool, videos (n,) ids.

    The interval is a percentile bootstrap that draws videos and seeds again, both with replacement; a video that is
    judged in several splits stays whole. The p value belongs to the exact sign-flip permutation test over videos,
    two-sided, seeds added up (with one seed and one judgement per video it is McNemar's exact test).
    """
    correct, reference = np.atleast_2d(correct), np.atleast_2d(reference)
    if correct.shape != reference.shape or correct.shape[1] != len(videos):
        raise ValueError(f"shapes differ: {correct.shape}, {reference.shape}, {len(videos)} videos")
    _, unit = np.unique(videos, return_inverse=True)
    gains = np.stack([np.bincount(unit, weights=row) for row in correct.astype(float) - reference])  # (S, U)
    sizes = np.bincount(unit)
    low, high = _bootstrap(gains, sizes, np.random.default_rng(seed))
    delta = gains.sum() / (len(gains) * sizes.sum())
    return PairedDifference(float(delta), low, high, sign_flip_p(gains.sum(axis=0).astype(np.int64)))


def _bootstrap(gains: np.ndarray, sizes: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    num_seeds, units = gains.shape
    found = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        drawn = np.bincount(rng.integers(units, size=units), minlength=units)
        seeds = np.bincount(rng.integers(num_seeds, size=num_seeds), minlength=num_seeds)
        found[i] = (seeds @ gains @ drawn) / (num_seeds * (sizes @ drawn))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    return float(low), float(high)


def sign_flip_p(gains: np.ndarray) -> float:
    """Exact two-sided p: the share of all sign patterns of these integers (U,) whose sum is as far from 0.

    Videos with the same |gain| m add up to m times a binomial count, so the distribution of the sum is a convolution
    of a few binomials, however many videos there are.

    >>> sign_flip_p(np.array([1, 1, 1, 0]))
    0.25
    """
    sizes, counts = np.unique(np.abs(gains[gains != 0]), return_counts=True)
    distribution = np.ones(1)  # of the sum, from -total to total
    for size, count in zip(sizes, counts, strict=True):
        part = np.zeros(2 * size * count + 1)
        part[:: 2 * size] = binom.pmf(np.arange(count + 1), count, 0.5)
        distribution = np.convolve(distribution, part)
    total = len(distribution) // 2
    observed = abs(int(gains.sum()))
    far = np.abs(np.arange(-total, total + 1)) >= observed
    return float(min(1.0, distribution[far].sum()))
