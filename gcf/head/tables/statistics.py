"""Is one arm better than another, on other videos and trained again? From the same videos, over several seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom, t

CONFIDENCE = 0.95
LEVEL = 1 - CONFIDENCE  # a difference with a smaller p counts as shown
POWER = 0.8
LEAST_SEEDS = 2  # of an arm whose training has chance in it: one run does not show how runs differ


@dataclass(frozen=True)
class PairedDifference:
    """How much better an arm is than the reference, in fractions of the videos judged, and how sure that is.

    delta, and low to high, its 95 % interval; p: of no difference, below 5 % exactly where that interval leaves 0 out.
    mcnemar_p: of these trained heads over videos alone. gained, lost: videos that went from wrong to right, and from
    right to wrong. units: the groups of videos, or videos, that the interval and p rest on. smallest: the least
    difference that they would call shown here; detectable: the true one that they would find in four of five cases.
    missing: why there is no interval and no p (None then, as smallest and detectable); None where there are.
    """

    delta: float
    low: float | None
    high: float | None
    p: float | None
    mcnemar_p: float
    gained: int
    lost: int
    units: int
    smallest: float | None
    detectable: float | None
    missing: str | None = None


def paired_difference(
    correct: np.ndarray,
    reference: np.ndarray,
    videos: np.ndarray,
    groups: Sequence[str] | None = None,
    *,
    by_chance: tuple[bool, bool] = (True, True),
) -> PairedDifference:
    """Compare two arms on the same n predictions: correct (S, n), reference (R, n) bool, videos (n,) ids, groups (n,).

    The question is whether the difference would come out again with other videos *and* another training. What varies
    independently are units, whole groups ('' is a video of its own), since the videos of one scene succeed and fail
    together (a video that is judged in several splits stays whole too), and the seeds of either arm, which are not
    paired. by_chance: whether training the arm again can come out otherwise; where it cannot, its rows are all the
    same, count as one run, and add nothing to the variance. The test is a t test, see `standard_error`.

    mcnemar_p is McNemar's exact test over videos, where a video counts as gained when the arm is right on it more
    often, over all seeds and splits, than the reference.
    """
    correct, reference = np.atleast_2d(correct), np.atleast_2d(reference)
    if correct.shape[1:] != reference.shape[1:] or correct.shape[1] != len(videos) or not len(videos):
        raise ValueError(f"shapes differ or are empty: {correct.shape}, {reference.shape}, {len(videos)} videos")
    arms = [runs if chance else runs[:1] for runs, chance in zip((correct, reference), by_chance, strict=True)]
    video = unit_numbers(videos)
    unit = video if groups is None else unit_numbers(videos, groups)
    sizes = np.bincount(unit)
    delta = float(arms[0].mean() - arms[1].mean())
    gained, lost = _flips(*arms, video)
    missing = why_missing(arms, by_chance, len(sizes))
    found = dict.fromkeys(("low", "high", "p", "smallest", "detectable"))
    if missing is None:
        per_unit = [_per_unit(runs, unit) for runs in arms]
        added = 2 * len(videos) / (video.max() + 1)  # judgements of two videos
        error, freedom = standard_error([r.mean(axis=1) for r in arms], _of_units(per_unit, sizes, added), len(sizes))
        found = _judgement(delta, error, freedom, kept=len(videos) / (len(videos) + added))
    return PairedDifference(
        delta=delta,
        mcnemar_p=mcnemar_p(gained, lost),
        gained=gained,
        lost=lost,
        units=len(sizes),
        missing=missing,
        **found,
    )


def unit_numbers(videos: np.ndarray, groups: Sequence[str] | None = None) -> np.ndarray:
    """The number (n,) of the unit that each judgement belongs to: its group, or its video where it has none."""
    unit = np.unique(np.asarray(videos), return_inverse=True)[1]
    if groups is None:
        return unit
    groups = np.asarray(groups)
    if groups.shape != unit.shape:
        raise ValueError(f"{len(unit)} videos but {len(groups)} groups")
    of_group = np.unique(groups, return_inverse=True)[1]
    return np.unique(np.where(groups == "", unit, unit.max() + 1 + of_group), return_inverse=True)[1]


def _per_unit(values: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Sums (S, U) of values (S, n) over the judgements of each unit."""
    return np.stack([np.bincount(unit, weights=row) for row in values])


def _flips(correct: np.ndarray, reference: np.ndarray, video: np.ndarray) -> tuple[int, int]:
    """How many videos an arm is right on more often than the reference, and how many less often."""
    ours, theirs = (_per_unit(runs, video).sum(axis=0) for runs in (correct, reference))
    ahead = ours * len(reference) - theirs * len(correct)  # whole numbers, whatever the numbers of runs
    return int((ahead > 0).sum()), int((ahead < 0).sum())


def why_missing(arms: Sequence[np.ndarray], by_chance: Sequence[bool], units: int) -> str | None:
    """Why there can be no interval and no p, in a sentence; None where there can."""
    if any(chance and len(runs) < LEAST_SEEDS for runs, chance in zip(arms, by_chance, strict=True)):
        return (
            "One seed does not show how much another training would differ: no interval and no p. Two seeds (--seeds "
            f"{LEAST_SEEDS}) would do; five find smaller differences."
        )
    if units < 2:
        return "All videos are of one group: no interval and no p. Two groups would do; ten find smaller differences."
    return None


def _of_units(arms: Sequence[np.ndarray], sizes: np.ndarray, added: float) -> float:
    """What units add to the variance of the difference; arms: (S, U) and (R, U) right ones of each run and unit.

    One video gained and one lost are added, as by Bonett and Price (2012), Adjusted Wald confidence interval for a
    difference of binomial proportions based on paired data, JEBS 37, 479-488: without them few discordant videos pass
    for certainty. sizes (U,): the judgements of each unit; added: those of two videos.
    """
    judged, correction = sizes.sum(), len(sizes) / (len(sizes) - 1)
    gains = arms[0].mean(axis=0) - arms[1].mean(axis=0)
    apart = correction * ((gains - gains.sum() / judged * sizes) ** 2).sum()
    for runs in arms:
        own = runs - runs.mean(axis=0)
        own -= own.sum(axis=1, keepdims=True) / judged * sizes
        apart -= correction * chance_of_runs((own**2).sum(axis=1))
    return (max(apart, 0.0) + added**2 / 2) / (judged + added) ** 2


def chance_of_runs(squares: np.ndarray) -> float:
    """What seeds and units vary together in the mean over runs: squares (S,), of each run's own part in its units."""
    return float(squares.sum() / (len(squares) - 1) / len(squares)) if len(squares) > 1 else 0.0


def standard_error(scores: Sequence[np.ndarray], of_units: float, units: int) -> tuple[float, float]:
    """The standard error of a difference of two arms and its degrees of freedom; scores: (S,) and (R,), of each run.

    The model is that of studies in which several readers judge the same cases, other readers in either arm: Hillis
    (2014), A marginal-mean ANOVA approach for analyzing multireader multicase radiological imaging data, Statistics in
    Medicine 33, 330-360, where readers are seeds and cases are units. The variance is that of the runs' scores over the
    number of runs, of each arm, which has the chance of seeds within units in it; and `of_units`, what units add to
    it, at least 0. The degrees of freedom are Satterthwaite's.
    """
    several = [runs for runs in scores if len(runs) > 1]
    parts = np.array([*(runs.var(ddof=1) / len(runs) for runs in several), of_units])
    freedoms = np.array([*(len(runs) - 1 for runs in several), units - 1])
    variance = parts.sum()
    if not variance:
        return 0.0, float(units - 1)
    return float(variance**0.5), float(variance**2 / (parts**2 / freedoms).sum())


def interval(delta: float, error: float, freedom: float) -> tuple[float, float]:
    """The 95 % interval of a difference, low and high."""
    reach = float(t.ppf(1 - LEVEL / 2, freedom)) * error
    return delta - reach, delta + reach


def _judgement(delta: float, error: float, freedom: float, *, kept: float) -> dict[str, float]:
    """Interval, p and the differences that could be seen; kept: the share of delta that the added videos leave."""
    low, high = interval(kept * delta, error, freedom)
    reach = (high - low) / 2
    return {
        "low": low,
        "high": high,
        "p": float(2 * t.sf(kept * abs(delta) / error, freedom)),
        "smallest": reach / kept,
        "detectable": (reach + float(t.ppf(POWER, freedom)) * error) / kept,
    }


def sign_flip_p(gains: np.ndarray) -> float:
    """Exact two-sided p: the share of all sign patterns of these integers (U,) whose sum is as far from 0.

    Units with the same |gain| m add up to m times a binomial count, so the distribution of the sum is a convolution
    of a few binomials, however many units there are.

    >>> sign_flip_p(np.array([1, 1, 1, 0]))
    0.25
    """
    sizes, counts = np.unique(np.abs(gains[gains != 0]), return_counts=True)
    distribution = np.ones(1)  # of the sum over the units with a plus, from 0 to total
    for size, count in zip(sizes, counts, strict=True):
        part = np.zeros(size * count + 1)
        part[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
        distribution = np.convolve(distribution, part)
    total = len(distribution) - 1
    far = np.abs(2 * np.arange(total + 1) - total) >= abs(int(gains.sum()))
    return float(min(1.0, distribution[far].sum()))


def mcnemar_p(gained: int, lost: int) -> float:
    """McNemar's exact p: a discordant video goes either way with probability 1/2; two-sided.

    >>> round(mcnemar_p(5, 0), 4)
    0.0625
    """
    return float(min(1.0, 2 * binom.cdf(min(gained, lost), gained + lost, 0.5)))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p values: each stays below 5 % only as long as any false one among all would in 5 % of cases.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(ps, kind="stable")
    steps = np.asarray(ps, dtype=float)[order] * np.arange(len(ps), 0, -1)
    adjusted = np.empty(len(ps))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted.tolist()
