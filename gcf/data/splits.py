"""Which videos train, which select the model, which test: published subsets, or folds of our own.

Groups never straddle a split, but for those that a published list itself divides; videos without a
label (-1) never appear, and `val` is never empty: training needs it.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gcf.data.schema import SUBSETS
from gcf.data.stratify import carve, find_units, spread
from gcf.errors import AnnotationError, UsageError

VAL_FRACTION = 0.2


@dataclass(frozen=True)
class Split:
    """One way to divide the labelled videos: int64 indices of videos, each sorted, without overlap."""

    name: str
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def judging_subset(subsets: Iterable[str]) -> str:
    """The subset that judges where nobody says: "test", or, with "train" and no "test", "val".

    subsets: those of the labelled videos.
    """
    there = set(subsets)
    return "val" if {"train", "val"} <= there and "test" not in there else "test"


def holdout(
    labels: Sequence[int],
    subsets: Sequence[str],
    groups: Sequence[str],
    *,
    seed: int = 0,
    val_fraction: float = VAL_FRACTION,
    divided: Collection[str] = (),
) -> Split:
    """The split that the data set's own subsets make; all three arguments are (N,).

    A video without a subset trains, unless others are marked `train`: then it was left out on purpose (HMDB-51 marks
    some 0) and takes no part. Where no video is marked `val`, about `val_fraction` of the training videos become it, by
    whole groups, every class alike; a class with one group stays in training. `test` may be empty.

    divided: groups that may lie in two of the subsets; what is carved keeps them whole as well.

    Raises AnnotationError where another group lies in two subsets, nothing is left to train on, or
    no `val` can be set aside.
    """
    numbers, names = _checked(labels, groups)
    marked = _roles(numbers, subsets)
    if "train" not in marked:
        marked[(marked == "") & (numbers >= 0)] = "train"
    _refuse_straddling("holdout", names, marked, divided=divided)
    return _split("holdout", numbers, marked, names, val_fraction=val_fraction, seed=[seed])


def published(
    labels: Sequence[int],
    groups: Sequence[str],
    splits: Mapping[str, Sequence[str]],
    *,
    seed: int = 0,
    divided: Collection[str] = (),
) -> list[Split]:
    """The data set's published splits, each given as the subsets (N,) of all videos, '' for those it leaves out.

    `val` comes out of `train` where a split has none; `divided` is that of `holdout`. Raises
    AnnotationError as `holdout` does, where a split has no test video, and where there are no splits.
    """
    if not splits:
        raise AnnotationError("the annotations publish no splits (UCF-101 and HMDB-51 lists do); use folds instead")
    numbers, names = _checked(labels, groups)
    found = []
    for number, (name, subsets) in enumerate(splits.items()):
        roles = _roles(numbers, subsets)
        _refuse_straddling(name, names, roles, divided=divided)
        split = _split(name, numbers, roles, names, val_fraction=VAL_FRACTION, seed=[seed, number])
        if not len(split.test):
            raise AnnotationError(f"split {name}: none of its test videos is here with a label")
        found.append(split)
    return found


def folds(labels: Sequence[int], groups: Sequence[str], *, scheme: str | int, seed: int = 0) -> list[Split]:
    """Cross-validation: each labelled video is tested once; `val` is carved from each fold's training videos.

    scheme "group": one fold per group, in natural order, named after it (a video without group is its own). scheme K:
    K folds of whole groups, every class as even as groups allow.

    Raises AnnotationError where there are too few groups, or a fold's training videos cannot spare a `val`; UsageError
    where K is below 2.
    """
    numbers, all_groups = _checked(labels, groups)
    (used,) = np.nonzero(numbers >= 0)
    own = [all_groups[i] for i in used]
    if isinstance(scheme, int):
        names, fold = _even_folds(numbers[used], own, scheme, seed)
    elif scheme == "group":
        names, fold = _group_folds(used, own)
    else:
        raise ValueError(f"scheme must be 'group' or a number of folds, got {scheme!r}")
    tested = np.full(len(numbers), -1)
    tested[used] = fold
    splits = []
    for number, name in enumerate(names):
        roles = np.where(tested == number, "test", np.where(tested >= 0, "train", ""))
        splits.append(_split(name, numbers, roles, all_groups, val_fraction=VAL_FRACTION, seed=[seed, number]))
    return splits


def straddling_groups(groups: Sequence[str], subsets: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The groups that lie in more than one subset, and in which; '' is no group and no subset.

    >>> straddling_groups(["g01", "g01", "g02", ""], ["train", "test", "test", "train"])
    {'g01': ('test', 'train')}
    """
    found: dict[str, set[str]] = {}
    for group, subset in zip(groups, subsets, strict=True):
        if group and subset:
            found.setdefault(group, set()).add(subset)
    return {group: tuple(sorted(parts)) for group, parts in sorted(found.items()) if len(parts) > 1}


def _checked(labels: Sequence[int], groups: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    numbers = np.asarray(labels, dtype=np.int64)
    if len(groups) != len(numbers):
        raise ValueError(f"{len(numbers)} labels but {len(groups)} groups")
    if not (numbers >= 0).any():
        raise AnnotationError("no video has a label; give annotations, or folders that name the classes")
    return numbers, list(groups)


def _roles(labels: np.ndarray, subsets: Sequence[str]) -> np.ndarray:
    """The subset of each video (N,), '' for those without a label."""
    if len(subsets) != len(labels):
        raise ValueError(f"{len(labels)} labels but {len(subsets)} subsets")
    if unknown := set(subsets) - set(SUBSETS):
        raise ValueError(f"unknown subsets {sorted(unknown)}")
    return np.where(labels >= 0, np.array(subsets, dtype="<U5"), "")


def _split(
    name: str, labels: np.ndarray, roles: np.ndarray, groups: list[str], *, val_fraction: float, seed: list[int]
) -> Split:
    """Indices from roles (N,) 'train' | 'val' | 'test' | '' (no part), with a `val` in any case."""
    train, val, test = (np.nonzero(roles == role)[0] for role in ("train", "val", "test"))
    if not len(train):
        raise AnnotationError(f"split {name}: no labelled video to train on; mark some as train")
    if not len(val):
        train, val = _carve_val(name, train, labels, groups, fraction=val_fraction, seed=seed)
    return Split(name, train, val, test)


def _refuse_straddling(
    name: str,
    groups: list[str],
    roles: np.ndarray,
    *,
    divided: Collection[str],
) -> None:
    straddling = straddling_groups(groups, roles.tolist())
    found = {group: parts for group, parts in straddling.items() if group not in divided}
    if found:
        shown = [f"{group!r} in {' and '.join(parts)}" for group, parts in list(found.items())[:5]]
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise AnnotationError(
            f"split {name}: {len(found)} groups lie in two subsets: {', '.join(shown)}{more}; keep each group in one "
            "subset, or write the groups that hold for these videos into a group column"
        )


def _carve_val(
    name: str, train: np.ndarray, labels: np.ndarray, groups: list[str], *, fraction: float, seed: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    if not 0 < fraction < 1:
        raise ValueError(f"need a val_fraction between 0 and 1, got {fraction}")
    units = find_units(labels[train], [groups[i] for i in train])
    aside = carve(units, fraction, rng=np.random.default_rng(seed))
    if aside is None:
        raise AnnotationError(
            f"split {name}: no val can be set aside from {len(train)} training videos in {units.num} groups, because "
            "no class occurs in two groups; add videos, or mark some as val"
        )
    return train[~aside], train[aside]


def _group_folds(used: np.ndarray, groups: list[str]) -> tuple[list[str], np.ndarray]:
    """Names of the folds, and the fold of each used video."""
    if not any(groups):
        raise AnnotationError("no video has a group to leave out; give a group column, or a number of folds")
    keys = [group or f"video {i}" for i, group in zip(used, groups, strict=True)]
    names = sorted(set(keys), key=_natural)
    if len(names) < 2:
        raise AnnotationError(f"all videos are of group {names[0]!r}; leaving it out leaves nothing to train on")
    position = {name: number for number, name in enumerate(names)}
    return names, np.array([position[key] for key in keys])


def _even_folds(labels: np.ndarray, groups: list[str], num_folds: int, seed: int) -> tuple[list[str], np.ndarray]:
    if num_folds < 2:
        raise UsageError(f"{num_folds} folds: at least 2 are needed")
    units = find_units(labels, groups)
    if num_folds > units.num:
        raise AnnotationError(f"{num_folds} folds of only {units.num} groups; ask for {units.num} folds at most")
    names = [f"{number + 1} of {num_folds}" for number in range(num_folds)]
    return names, spread(units, num_folds, rng=np.random.default_rng([seed]))


def _natural(text: str) -> list[tuple[bool, int, str]]:
    """Sort key: 'g9' before 'g10'."""
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", text)]
