"""The tables that null.py draws: which videos each run of each arm gets right; and its output."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

ARMS = 4  # beside the reference
LEVEL_OF_ARM, OF_SEED = 0.77, 0.8  # 78 % right, two seeds differ on 21 % of the videos, as trained heads do below
SHARE_OF_GROUP = 0.4  # of what makes videos hard


@dataclass(frozen=True)
class Cell:
    """One kind of table: videos judged, groups of them (0: none), seeds an arm, the spread of accuracy over seeds.

    own: how much harder or easier a video is for one arm than for another (1: as much as videos differ for all);
    points: how much worse the arms are than the reference, in points; level: the normal quantile of
    the share that is right; of_seed: as own, for one seed than for another.
    """

    videos: int
    groups: int = 0
    seeds: int = 5
    spread: float = 0.005
    own: float = 0.0
    points: float = 0.0
    level: float = LEVEL_OF_ARM
    of_seed: float = OF_SEED


def draw(cell: Cell, rng: np.random.Generator) -> list[np.ndarray]:
    """Right or wrong (S, n) of the reference and of each arm."""
    group = np.arange(cell.videos) % cell.groups if cell.groups else None

    def hardness(*runs: int) -> np.ndarray:
        own = rng.standard_normal((*runs, cell.videos))
        if group is None:
            return own
        shared = rng.standard_normal((*runs, cell.groups))[..., group]
        return np.sqrt(1 - SHARE_OF_GROUP) * own + np.sqrt(SHARE_OF_GROUP) * shared

    scale = np.sqrt(1 + cell.of_seed**2 + cell.own**2)
    of_all, found = hardness(), []
    for number in range(ARMS + 1):
        worse = norm.ppf(norm.cdf(cell.level) - cell.points / 100 * (number > 0))
        luck = cell.spread / norm.pdf(cell.level) * rng.standard_normal((cell.seeds, 1))
        of_arm, of_seeds = cell.own * hardness(), cell.of_seed * hardness(cell.seeds)
        found.append(scale * (worse + luck) + of_all + of_arm + of_seeds > 0)
    return found


def in_percent(shares: np.ndarray) -> str:
    """The mean of shares (T,), one of each table or data set, and its standard error."""
    error = np.std(shares, ddof=1) / len(shares) ** 0.5
    return f"{100 * np.mean(shares):.1f} ± {100 * error:.1f}"


def print_cells(cells: list[str]) -> None:
    """One line of a table."""
    print(f"| {' | '.join(cells)} |", flush=True)


def print_titles(titles: list[str]) -> None:
    """The first two lines of a table."""
    print_cells(titles)
    print_cells(["---"] * len(titles))
