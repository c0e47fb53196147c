"""What an arm does class by class: who is taken for whom, what changes against the reference, what it misses."""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import confusion_matrix

from gcf.head.report.run import Predictions

MOST_PAIRS = 10
MOST_CHANGES = 12  # classes at either end of the list
MOST_MISSES = 8


@dataclass(frozen=True)
class Change:
    """One class: its judged videos, the share of them that arm and reference get right, seeds averaged."""

    name: str
    videos: int
    right: float
    before: float

    @property
    def points(self) -> float:
        """The difference in percentage points."""
        return 100 * (self.right - self.before)


@dataclass(frozen=True)
class Miss:
    """A video that is taken for another class: what is said of it, and the probability of its own class."""

    id: str
    true: str
    said: str
    probability: float


def confusion(found: Predictions, arm: str) -> np.ndarray:
    """Counts (K, K) over all seeds: row, the true class; column, what the arm said."""
    predicted = found.predicted[arm]
    labels = np.tile(found.labels, len(predicted))
    return confusion_matrix(labels, predicted.ravel(), labels=np.arange(len(found.classes)))


def confused_pairs(counts: np.ndarray, classes: list[str]) -> list[tuple[str, str, int, int]]:
    """The most frequent errors: true class, what was said, how often, out of how many; frequent ones first."""
    errors = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
    order = np.argsort(-errors, axis=None, kind="stable")[:MOST_PAIRS]
    places = zip(*np.unravel_index(order, counts.shape), strict=True)
    return [(classes[i], classes[j], int(errors[i, j]), int(counts[i].sum())) for i, j in places if errors[i, j]]


def class_changes(found: Predictions, arm: str, reference: str) -> list[Change]:
    """The classes whose share of right videos differs from the reference's, from the most gained to the most lost."""
    changes = []
    for number, name in enumerate(found.classes):
        own = found.labels == number
        if own.any():
            right, before = (float((found.predicted[which][:, own] == number).mean()) for which in (arm, reference))
            changes.append(Change(name, int(own.sum()), right, before))
    return sorted((c for c in changes if c.right != c.before), key=lambda c: -c.points)


def surest_misses(found: Predictions, arm: str) -> list[Miss]:
    """Videos that most seeds get wrong, those first to whose true class the arm gives least."""
    predicted = found.predicted[arm]
    wrong = (predicted != found.labels).mean(axis=0) > 0.5  # (n,)
    own = found.true_probability[arm].mean(axis=0)
    misses = []
    for place in np.argsort(own, kind="stable"):
        if wrong[place] and len(misses) < MOST_MISSES:
            said = np.bincount(predicted[:, place], minlength=len(found.classes))
            said[found.labels[place]] = 0
            true, other = found.classes[found.labels[place]], found.classes[said.argmax()]
            misses.append(Miss(found.ids[place], true, other, float(own[place])))
    return misses
