"""Dividing videos so that groups stay whole and classes spread evenly: the arithmetic under `gcf.data.splits`.

scikit-learn's StratifiedGroupKFold does nearly this; it refuses classes smaller than the number of folds, may keep all
of a class from training, and needs groups x classes x folds steps, too many for 400,000 videos of 600 classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def rarest_classes(targets: np.ndarray) -> np.ndarray:
    """One class for each video that may have several: targets (N, K) bool -> (N,), -1 where it has none.

    The one that the fewest videos have, for that is the one which a division by any other would scatter worst.

    >>> rarest_classes(np.array([[True, True], [True, False], [False, False]])).tolist()
    [1, 0, -1]
    """
    counts = targets.sum(axis=0, dtype=np.int32)
    rarest = np.where(targets, counts, np.iinfo(np.int32).max).argmin(axis=1)
    return np.where(targets.any(axis=1), rarest, -1)


@dataclass(frozen=True)
class Units:
    """What cannot be divided: a group, or one video that has none."""

    of_video: np.ndarray  # (N,) unit of each video
    contents: list[list[tuple[int, int]]]  # per unit: (class, number of its videos)
    class_sizes: list[int]  # videos per class
    class_units: list[int]  # units in which the class occurs

    @property
    def num(self) -> int:
        """How many there are."""
        return len(self.contents)

    def has_class_elsewhere(self, unit: int) -> bool:
        """Whether some class of a unit occurs in others, too."""
        return any(self.class_units[label] > 1 for label, _ in self.contents[unit])


def find_units(labels: np.ndarray, groups: Sequence[str]) -> Units:
    """The units of labels (N,) and groups (N,), '' for a video that is its own unit."""
    of_video = np.empty(len(labels), dtype=np.int64)
    names: dict[str | int, int] = {}
    for i, group in enumerate(groups):
        of_video[i] = names.setdefault(group or i, len(names))
    classes = np.unique(labels, return_inverse=True)[1].reshape(-1)
    pairs, counts = np.unique(np.stack([of_video, classes], axis=1), axis=0, return_counts=True)
    contents: list[list[tuple[int, int]]] = [[] for _ in names]
    for (unit, label), count in zip(pairs.tolist(), counts.tolist(), strict=True):
        contents[unit].append((label, count))
    return Units(of_video, contents, np.bincount(classes).tolist(), np.bincount(pairs[:, 1]).tolist())


def spread(units: Units, num_folds: int, *, rng: np.random.Generator) -> np.ndarray:
    """The fold of each video (N,): every class as even over the folds as whole units allow.

    Units go one by one, the largest first, to the fold that has the smallest share of their classes; none stays empty
    while there are units enough. A class is not gathered in one fold where that can be seen in time.
    """
    sizes = np.bincount(units.of_video, minlength=units.num)
    order = sorted(rng.permutation(units.num).tolist(), key=lambda unit: -sizes[unit])
    held = [[0] * num_folds for _ in units.class_sizes]  # videos of each class in each fold
    filled = [0] * num_folds
    fold_of_unit = np.empty(units.num, dtype=np.int64)
    for unit in order:
        gathered, share = [0] * num_folds, [0.0] * num_folds  # classes that would be whole in a fold; share of classes
        for c, count in units.contents[unit]:
            size = units.class_sizes[c]
            for fold, there in enumerate(held[c]):
                gathered[fold] += there + count == size
                share[fold] += count * there / size
        best = min(zip(gathered, share, filled, range(num_folds), strict=True))[-1]
        for c, count in units.contents[unit]:
            held[c][best] += count
        filled[best] += sizes[unit]
        fold_of_unit[unit] = best
    return fold_of_unit[units.of_video]


def carve(units: Units, fraction: float, *, rng: np.random.Generator) -> np.ndarray | None:
    """Which videos to set aside (N,) bool: about `fraction` of all and of every class, in whole units.

    In random order, a unit is set aside when that leaves each of its classes something and brings nearer to `fraction`
    both the total and its classes (in squares, relative to their sizes); in a second round, when the gain of one
    outweighs the loss of the other. Where no unit qualifies, the least bad one is taken, if need be with the last of a
    class. None where that too is in vain: no class occurs in two units.
    """
    order = rng.permutation(units.num).tolist()
    aside = _Aside(units, fraction)
    for strict in (True, False):
        for unit in order:
            whole, classes = aside.changes(unit)
            gains = whole < 0 and classes < 0 if strict else whole + classes < 0
            if gains and unit not in aside.chosen and not aside.emptied(unit):
                aside.take(unit)
    if not aside.chosen:
        useful = [unit for unit in order if units.has_class_elsewhere(unit)]
        if not useful:
            return None
        aside.take(min(useful, key=lambda unit: (aside.emptied(unit), sum(aside.changes(unit)))))
    return np.isin(units.of_video, list(aside.chosen))


class _Aside:
    """The units that are set aside, and what one more would change."""

    def __init__(self, units: Units, fraction: float) -> None:
        self.units, self.fraction = units, fraction
        self.chosen: set[int] = set()
        self.held = [0] * len(units.class_sizes)
        self.filled, self.total = 0, sum(units.class_sizes)

    def take(self, unit: int) -> None:
        self.chosen.add(unit)
        for c, count in self.units.contents[unit]:
            self.held[c] += count
            self.filled += count

    def emptied(self, unit: int) -> int:
        """Classes that would have nothing left."""
        return sum(self.held[c] + count == self.units.class_sizes[c] for c, count in self.units.contents[unit])

    def changes(self, unit: int) -> tuple[float, float]:
        """What the unit adds to (set aside - fraction * size)^2 / size: of the total, and summed over its classes."""
        content = self.units.contents[unit]
        whole = self._change(sum(count for _, count in content), self.filled, self.total)
        return whole, sum(self._change(count, self.held[c], self.units.class_sizes[c]) for c, count in content)

    def _change(self, more: int, held: int, size: int) -> float:
        return more * (2 * (held - self.fraction * size) + more) / size
