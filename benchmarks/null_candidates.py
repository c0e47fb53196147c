"""The tests that gcf's p was chosen from: two arms, right or wrong (S, n) each, in; p values out.

`python benchmarks/null.py --candidates` counts how often each calls a difference shown where there
is none and where there is one, in drawn tables; `--power` with heads that were trained worse.
"""

from dataclasses import replace
from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np
from null_model import Cell, draw, in_percent, print_cells, print_titles
from scipy.stats import norm, t

from gcf.head.tables.statistics import (
    LEVEL,
    _of_units,
    holm,
    paired_difference,
    sign_flip_p,
    standard_error,
)

CANDIDATES = {
    "a": "seeds exchanged between the arms, all ways",
    "b": "videos and seeds at random, t (gcf's p)",
    "c": "the larger of a and d",
    "d": "signs of videos flipped, all ways (gcf's p before)",
    "e": "b without the two videos that it adds",
}


def candidate_ps(correct: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The p (5,) of each candidate for an arm (S, n) and its reference (S, n), without groups."""
    exchanged = seed_exchange_p(correct.sum(axis=1), reference.sum(axis=1))
    flipped = sign_flip_p(correct.sum(axis=0) - reference.sum(axis=0))
    present = paired_difference(correct, reference, np.arange(correct.shape[1])).p
    larger = max(exchanged, flipped)
    return np.array([exchanged, present, larger, flipped, unadjusted_p(correct, reference)])


def seed_exchange_p(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Exact two-sided p: the share of ways to deal runs to two arms whose sums are as far apart.

    ours, theirs: whole numbers (S,), how many videos each run gets right.

    >>> round(seed_exchange_p(np.array([9, 8, 9, 8, 9]), np.array([5, 6, 5, 7, 5])), 4)
    0.0079
    """
    runs = np.concatenate([ours, theirs]).astype(np.float32)  # exact: sums are far below 2 ** 24
    apart = np.abs(2 * (_ways(len(ours)) @ runs) - runs.sum())
    return float((apart >= abs(int(ours.sum()) - int(theirs.sum()))).mean())


@lru_cache
def _ways(seeds: int) -> np.ndarray:
    """Which of 2 S runs one arm has, (W, 2 S) of 0 and 1: always the first, as arms may swap."""
    others = np.array(list(combinations(range(1, 2 * seeds), seeds - 1)))
    chosen = np.zeros((len(others), 2 * seeds), np.float32)
    chosen[:, 0] = 1
    np.put_along_axis(chosen, others, 1, axis=1)
    return chosen


def unadjusted_p(correct: np.ndarray, reference: np.ndarray) -> float:
    """gcf's test without the gained and the lost video that it adds to the variance."""
    delta, error, freedom = unadjusted_error(correct, reference)
    if not error:
        return float(delta == 0)
    return float(2 * t.sf(abs(delta) / error, freedom))


def unadjusted_error(correct: np.ndarray, reference: np.ndarray) -> tuple[float, float, float]:
    """The difference of two arms, its standard error with no video added, degrees of freedom."""
    of_videos = _of_units([correct, reference], np.ones(correct.shape[1]), added=0.0)
    scores = [runs.mean(axis=1) for runs in (correct, reference)]
    return scores[0].mean() - scores[1].mean(), *standard_error(scores, of_videos, correct.shape[1])


def smallest_p(seeds: int, arms: int) -> str:
    """The smallest p of an exchange of seeds, and what Holm makes of it, in a sentence."""
    ways = comb(2 * seeds, seeds)
    least = 2 / ways
    fate = "an arm can have a star"
    if least * arms >= LEVEL:
        fate = f"no arm can have a star (of {int(LEVEL / least)} one can)"
    told = f"{seeds} seeds: {ways:,} ways to exchange them, p is at least {least:.2g}"
    return f"{told}, and {least * arms:.2g} after Holm over {arms} arms: {fate}."


def compared_cells() -> list[Cell]:
    """Arms equally good: a grid, two with very unlike arms, and one with heads 97 % right."""
    sizes = [(100, 5), (400, 5), (2000, 5), (400, 10)]
    grid = [Cell(n, 0, seeds, spread, 0.4) for n, seeds in sizes for spread in (0.005, 0.046)]
    unlike = [Cell(400, 0, 5, 0.02, 1.0), Cell(2000, 0, 5, 0.01, 1.0)]
    return [*grid, *unlike, Cell(100, 0, 5, 0.005, 0.4, level=norm.ppf(0.97))]


def compare_candidates(sets: int) -> None:
    """Print how often each candidate is wrong, and how often it finds a difference."""
    rng = np.random.default_rng(0)
    print(smallest_p(5, arms=13), smallest_p(10, arms=13), sep="\n", end="\n\n")
    print("\n".join(f"({name}) {what}" for name, what in CANDIDATES.items()), end="\n\n")
    titles = ["test videos", "seeds", "spread", "top-1 %", "own", "test"]
    titles += ["the same: p < 0.05, %", "with a star, %", "equally good: p < 0.05, %"]
    print_titles([*titles, "with a star, %", "2 points, found %", "4 points, found %"])
    for good in compared_cells():
        cells = [replace(good, own=0.0), good, replace(good, points=2), replace(good, points=4)]
        ps = np.array([[table_of_ps(draw(cell, rng)) for _ in range(sets)] for cell in cells])
        names = [f"{good.videos:,}", str(good.seeds), f"{100 * good.spread:.1f}"]
        names += [f"{100 * norm.cdf(good.level):.0f}", f"{good.own:.1f}"]
        for number, candidate in enumerate(CANDIDATES):
            of_kinds = ps[..., number]  # (4 kinds of cell, T, 4 arms)
            shown = [in_percent((kind < LEVEL).mean(axis=1)) for kind in of_kinds]
            stars = [in_percent([min(holm(p)) < LEVEL for p in kind]) for kind in of_kinds[:2]]
            print_cells([*names, candidate, shown[0], stars[0], shown[1], stars[1], *shown[2:]])


def table_of_ps(arms: list[np.ndarray]) -> np.ndarray:
    """The p (4, 5) of each arm by each candidate."""
    return np.array([candidate_ps(arm, arms[0]) for arm in arms[1:]])


def interval_cells() -> list[Cell]:
    """Arms of which few videos are gained or lost; in the last three seeds hardly differ."""
    usual = [Cell(100, own=0.4, points=2), Cell(100, own=0.4, points=2, level=norm.ppf(0.97))]
    still = Cell(100, spread=0.0005, own=0.15, points=2, level=norm.ppf(0.97), of_seed=0.05)
    rare = replace(still, own=0.4, points=1, level=norm.ppf(0.99))
    return [*usual, replace(still, videos=400), still, rare]


def compare_intervals(sets: int) -> None:
    """Print how often the interval of gcf, and one with no video added, hold the difference."""
    rng = np.random.default_rng(0)
    titles = ["test videos", "top-1 %", "of seeds", "own", "worse by, points"]
    print()
    print_titles([*titles, "(b) holds it, %", "(e) holds it, %"])
    for cell in interval_cells():
        held = np.array([held_in(draw(cell, rng), -cell.points / 100) for _ in range(sets)])
        names = [f"{cell.videos:,}", f"{100 * norm.cdf(cell.level):.0f}"]
        names += [str(cell.of_seed), str(cell.own), str(cell.points)]
        print_cells([*names, *map(in_percent, held.T)])


def held_in(arms: list[np.ndarray], truth: float) -> tuple[float, float]:
    """The share of arms whose interval holds the truth: of gcf, and with no video added."""
    held = []
    for arm in arms[1:]:
        present = paired_difference(arm, arms[0], np.arange(arm.shape[1]))
        delta, error, freedom = unadjusted_error(arm, arms[0])
        reach = t.ppf(1 - LEVEL / 2, freedom) * error
        held.append((present.low <= truth <= present.high, abs(delta - truth) <= reach))
    return tuple(np.mean(held, axis=0))
