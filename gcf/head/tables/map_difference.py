"""Is the mean average precision of one arm better than another's, on other videos and trained again?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from gcf.head.tables.statistics import chance_of_runs, interval, standard_error, why_missing

RESAMPLES = 1000  # each goes through the ranking of every class again
BLOCK = 1 << 23  # weights held at once, 64 MB


@dataclass(frozen=True)
class MapDifference:
    """How much higher the mAP of an arm is than the reference's, in fractions, and its 95 % interval low to high; None
    where `statistics.why_missing` says that there can be none.
    """

    delta: float
    low: float | None
    high: float | None


def map_difference(
    ours: np.ndarray, theirs: np.ndarray, units: int, *, by_chance: tuple[bool, bool] = (True, True)
) -> MapDifference:
    """Compare two arms by what `resampled_map` gave of each (S, 1 + resamples) with one seed, over so many units.

    What units add to the variance is seen by drawing them again; the rest is as for an accuracy
    (`statistics.standard_error`), by_chance too.
    """
    arms = [runs if chance else runs[:1] for runs, chance in zip((ours, theirs), by_chance, strict=True)]
    delta = float(arms[0][:, 0].mean() - arms[1][:, 0].mean())
    if why_missing(arms, by_chance, units):
        return MapDifference(delta, None, None)
    of_units = (arms[0][:, 1:].mean(axis=0) - arms[1][:, 1:].mean(axis=0)).var(ddof=1)
    of_units -= sum(chance_of_runs((runs - runs.mean(axis=0))[:, 1:].var(axis=1, ddof=1)) for runs in arms)
    error, freedom = standard_error([runs[:, 0] for runs in arms], max(float(of_units), 0.0), units)
    return MapDifference(delta, *interval(delta, error, freedom))


def resampled_map(
    scores: np.ndarray, targets: np.ndarray, units: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES
) -> np.ndarray:
    """The mAP (S, 1 + resamples) of scores (S, n, K): of the videos as they are, then of each draw of units.

    scores (S, n, K), targets (n, K) bool, units (n,) from 0 (groups of videos, or videos), drawn with replacement. A
    class that none of the drawn videos shows is left out of that mean. The same `seed` draws the same units, so that
    arms can be paired.
    """
    weights = _weights(units, resamples, np.random.default_rng([seed, 0]))
    step = max(1, BLOCK // len(units))
    parts = [weights[:, start : start + step] for start in range(0, weights.shape[1], step)]
    precisions = []
    for of_seed in scores:
        precisions.append(np.concatenate([_mean_precision(of_seed, targets, part) for part in parts]))
    return np.stack(precisions)


def _weights(units: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each video is there (n, 1 + resamples): once, then as often as its unit is drawn."""
    num = int(units.max()) + 1
    drawn = [np.bincount(rng.integers(num, size=num), minlength=num) for _ in range(resamples)]
    return np.stack([np.ones(num, dtype=np.int64), *drawn], axis=1).astype(np.float32)[units]


def _mean_precision(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """mAP (R,) under each column of weights (n, R), over the classes that a video of weight shows."""
    total, classes = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
    for own, target in zip(scores.T, targets.T, strict=True):
        shown = weights[target].sum(axis=0)
        if target.any():
            total += average_precision(own, target, weights) / np.maximum(shown, 1)
            classes += shown > 0
    return total / np.maximum(classes, 1)


def average_precision(scores: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision times the weight of the positives: scores, target (n,), weights (n, R) of counts -> (R,).

    The sum over the positives of the precision among all that score as high or higher. Only there has the weight of
    all to be known, so one sparse product adds it up between each such place and the next.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)  # of those that score alike
    (hits,) = np.nonzero(target[order])
    ends = np.unique(np.flatnonzero(last)[np.searchsorted(np.flatnonzero(last), hits)]) + 1
    everyone = _sums(order[: ends[-1]], np.append(0, ends), weights)
    right = _sums(order[hits], np.append(0, np.searchsorted(hits, ends)), weights)
    precision = right.cumsum(axis=0) / np.maximum(everyone.cumsum(axis=0), 1)
    return np.einsum("gr,gr->r", right, precision, dtype=np.float64)


def _sums(videos: np.ndarray, bounds: Sequence[int], weights: np.ndarray) -> np.ndarray:
    """The weights (n, R) added up over runs of videos, videos[bounds[g] : bounds[g + 1]] each -> (G, R)."""
    ones = np.ones(len(videos), dtype=weights.dtype)
    return csr_array((ones, videos, bounds), shape=(len(bounds) - 1, len(weights))) @ weights
