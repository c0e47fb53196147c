"""Classes whose names differ in letter case or blanks only: named, and made one where that is asked for."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np

from gcf.data.text import spelling_key

SHOWN = 12  # classes in one sentence


class Labelled(Protocol):
    """A dataclass with classes (K names), labels (N,) of them, -1 without, targets (N, K) bool or None, and notes."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def classes(self) -> Sequence[str]:
        """K names."""
        ...

    @property
    def labels(self) -> np.ndarray:
        """(N,)."""
        ...

    @property
    def targets(self) -> np.ndarray | None:
        """(N, K)."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences."""
        ...


AnyLabelled = TypeVar("AnyLabelled", bound=Labelled)


def places_of(names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """The number of the class that each name means, -1 for none: as it is spelled, or by the only class that is alike.

    >>> places_of(["Jump", "run", "sit"], ["jump", "run", "Run"])
    [0, 1, -1]
    """
    exact = {name: number for number, name in enumerate(classes)}
    only = {key: numbers[0] for key, numbers in _alike(classes).items() if len(numbers) == 1}
    return [exact.get(name, only.get(spelling_key(name), -1)) for name in names]


def settle_spellings(labelled: AnyLabelled, *, merge: bool) -> AnyLabelled:
    """The same, with a note that names classes which differ in letter case or blanks only, where there are any.

    merge: they become one class, under the name that most of their videos have (of equals the first).
    """
    groups = [numbers for numbers in _alike(labelled.classes).values() if len(numbers) > 1]
    if not groups:
        return labelled
    counts = _counts(labelled)
    kept = {number: max(numbers, key=counts.__getitem__) for numbers in groups for number in numbers}
    said = [_names(numbers, kept[numbers[0]], labelled.classes, counts) for numbers in groups]
    more = f"; and {len(said) - SHOWN:,} more" if len(said) > SHOWN else ""
    named = "; ".join(said[:SHOWN]) + more
    if not merge:
        note = f"Classes that differ in letter case or blanks only: {named}. --merge-labels makes them one."
        return replace(labelled, notes=(*labelled.notes, note))
    note = f"Classes that differ in letter case or blanks only are taken as one, by the commonest spelling: {named}."
    return replace(_merged(labelled, kept), notes=(*labelled.notes, note))


def _alike(classes: Sequence[str]) -> dict[str, list[int]]:
    """The numbers of the classes under each key."""
    alike = defaultdict(list)
    for number, name in enumerate(classes):
        alike[spelling_key(name)].append(number)
    return alike


def _counts(labelled: AnyLabelled) -> list[int]:
    """How many videos have each class (K,)."""
    if labelled.targets is not None:
        return labelled.targets.sum(axis=0).tolist()
    return np.bincount(labelled.labels[labelled.labels >= 0], minlength=len(labelled.classes)).tolist()


def _names(numbers: Sequence[int], kept: int, classes: Sequence[str], counts: Sequence[int]) -> str:
    """The spellings of one class with their videos, the commonest first."""
    rest = [number for number in numbers if number != kept]
    return " and ".join(f"{classes[number]!r} ({counts[number]:,})" for number in [kept, *rest])


def _merged(labelled: AnyLabelled, kept: dict[int, int]) -> AnyLabelled:
    """With each class that `kept` has in the place of the one that it names."""
    old = np.array([kept.get(number, number) for number in range(len(labelled.classes))])
    stay, new = np.unique(old, return_inverse=True)  # new (K,): the number of each class among those that stay
    labels, targets = np.append(new, -1)[labelled.labels].astype(labelled.labels.dtype), labelled.targets
    if targets is not None:
        targets = np.stack([targets[:, new == number].any(axis=1) for number in range(len(stay))], axis=1)
        labels = np.where(targets.sum(axis=1) == 1, targets.argmax(axis=1), -1).astype(labels.dtype)
    return replace(labelled, classes=tuple(labelled.classes[n] for n in stay), labels=labels, targets=targets)
