"""Is one arm better than another? Paired over the same videos and seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom, norm

RESAMPLES = 5000
CONFIDENCE = 0.95
LEVEL = 1 - CONFIDENCE  # a difference with a smaller p counts as shown
POWER = 0.8
BLOCK = 1 << 22  # counts drawn at once, 32 MB


@dataclass(frozen=True)
class PairedDifference:
    """How much better an arm is than the reference, in fractions of the videos judged, and how sure that is.

    delta, and low to high, its 95 % interval. p: of no difference, over units (groups of videos, or videos).
    mcnemar_p: the same over videos. gained, lost: videos that went from wrong to right, and from right to wrong.
    units: how many the interval and p rest on. smallest: the least difference that McNemar's test would call
    significant among as many discordant videos; detectable: the true difference that it would find in four of five
    test sets like this; None where no difference could be. Both take videos as independent.
    """

    delta: float
    low: float
    high: float
    p: float
    mcnemar_p: float
    gained: int
    lost: int
    units: int
    smallest: float | None
    detectable: float | None


def paired_difference(
    correct: np.ndarray,
    reference: np.ndarray,
    videos: np.ndarray,
    groups: Sequence[str] | None = None,
    *,
    seed: int = 0,
) -> PairedDifference:
    """Compare two arms on the same n predictions: correct, reference (S, n) bool, videos (n,) ids, groups (n,).

    What varies independently are the units: whole groups ('' is a video of its own), since the videos of one scene
    succeed and fail together; a video that is judged in several splits stays whole too. The interval is a percentile
    bootstrap that draws units and seeds again, both with replacement. p is the exact two-sided sign-flip permutation
    test over units, seeds added up. mcnemar_p is McNemar's exact test over videos, where a video counts as gained when
    the arm is right on it more often, over all seeds and splits, than the reference.

    Both p values are about these trained heads on other videos. That training again with other seeds may come out
    otherwise is in the interval alone, and there only with several seeds.
    """
    correct, reference = np.atleast_2d(correct), np.atleast_2d(reference)
    if correct.shape != reference.shape or correct.shape[1] != len(videos) or not len(videos):
        raise ValueError(f"shapes differ or are empty: {correct.shape}, {reference.shape}, {len(videos)} videos")
    differences = correct.astype(np.int64) - reference.astype(np.int64)  # (S, n)
    gains, sizes = _per_unit(differences, unit_numbers(videos, groups))
    low, high = _bootstrap(gains, sizes, np.random.default_rng(seed))
    of_video = _per_unit(differences, unit_numbers(videos))[0].sum(axis=0)
    gained, lost = int((of_video > 0).sum()), int((of_video < 0).sum())
    return PairedDifference(
        delta=float(differences.mean()),
        low=low,
        high=high,
        p=sign_flip_p(gains.sum(axis=0)),
        mcnemar_p=mcnemar_p(gained, lost),
        gained=gained,
        lost=lost,
        units=len(sizes),
        smallest=smallest_difference(gained + lost, len(of_video)),
        detectable=detectable_difference(gained + lost, len(of_video)),
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


def _per_unit(differences: np.ndarray, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums (S, U) of differences (S, n) over the judgements of each unit, and how many those are (U,)."""
    sums = np.stack([np.bincount(unit, weights=row) for row in differences])
    return np.rint(sums).astype(np.int64), np.bincount(unit)


def _bootstrap(gains: np.ndarray, sizes: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """The percentile interval of the difference; gains (S, U), sizes (U,).

    Units with the same gains and size cannot be told apart in the sum: it is enough to draw how many of each kind
    there are, and of thousands of videos under a few seeds there are few kinds.
    """
    num_seeds, units = gains.shape
    kinds, counts = np.unique(np.vstack([gains, sizes]), axis=1, return_counts=True)  # (S + 1, kinds)
    found, step = [], max(1, BLOCK // len(counts))
    for start in range(0, RESAMPLES, step):
        draws = min(step, RESAMPLES - start)
        sums = rng.multinomial(units, counts / units, size=draws) @ kinds.T.astype(float)  # (draws, S + 1)
        seeds = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=draws)  # (draws, S)
        found.append((sums[:, :-1] * seeds).sum(axis=1) / (num_seeds * sums[:, -1]))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(found), [tail, 1 - tail])
    return float(low), float(high)


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


def smallest_difference(discordant: int, videos: int) -> float | None:
    """The least |difference| of which `mcnemar_p` is below 5 % if so many of the videos are discordant.

    None below six discordant videos: even if all of them go one way, p is 0.06 or more.

    >>> smallest_difference(6, 100), smallest_difference(5, 100)
    (0.06, None)
    """
    lost = np.arange(discordant // 2 + 1)
    shown = lost[2 * binom.cdf(lost, discordant, 0.5) < LEVEL]
    return (discordant - 2 * int(shown[-1])) / videos if len(shown) else None


def detectable_difference(discordant: int, videos: int) -> float | None:
    """The true difference that McNemar's test at 5 % finds with a power of 80 %, if that share of videos differs.

    Connor (1987), Sample size for testing differences in proportions for the paired-sample design, Biometrics 43:
    n = (z_a sqrt(s) + z_b sqrt(s - d^2))^2 / d^2 for a share s of discordant videos and a difference d. With
    x = d / sqrt(s) this is quadratic: (n + z_b^2) x^2 - 2 z_a sqrt(n) x + z_a^2 - z_b^2 = 0, solved for d here.
    None where that d would exceed s, for a difference cannot.
    """
    share, z_a, z_b = discordant / videos, norm.ppf(1 - LEVEL / 2), norm.ppf(POWER)
    inner = videos + z_b**2 - z_a**2
    if inner < 0:
        return None
    found = share**0.5 * (z_a * videos**0.5 + z_b * inner**0.5) / (videos + z_b**2)
    return float(found) if found < share else None


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
