"""Does a test video stand among the training videos, under another name? An audit of splits, before they judge."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import PurePosixPath

import numpy as np

from gcf.data.duplicates import Pairs, least_cosine, mean_descriptors, near_pairs, whiten
from gcf.data.features import FeatureFile
from gcf.data.splits import Split, straddling_groups

SHOWN = 50
ROLES = ("", "train", "val", "test")
TEST = ROLES.index("test")
CELLS = 1 << 24  # roles looked at together


@dataclass(frozen=True)
class LeakAudit:
    """What lies on two sides of a split although it may be one thing; plain JSON values.

    shared_groups: {group, split, subsets}. shared_ids: {a, b, split, subsets}, files of one name but for folder and
    ending, of the same size and number of frames. near_duplicates: {a, b, split, subsets, similarity}, the most alike
    first; their cosine is at least `threshold` (see `gcf.data.duplicates`), None where there are too few videos to
    tell. Each pair stands under one split, if there is one where the other side is test. The lists end after 50, the
    counts do not. checked_pairs: pairs of videos whose descriptors were compared.
    """

    shared_groups: list[dict]
    shared_ids: list[dict]
    near_duplicates: list[dict]
    num_shared_ids: int
    num_near_duplicates: int
    threshold: float | None
    checked_pairs: int

    def notes(self) -> list[str]:
        """What was found, in sentences; none where nothing was."""
        notes = []
        if self.shared_groups:
            names = ", ".join(f"{g['group']!r} ({' and '.join(g['subsets'])})" for g in self.shared_groups[:3])
            more = ", ..." if len(self.shared_groups) > 3 else ""
            notes.append(f"Groups lie in several subsets of a split: {names}{more}.")
        if self.shared_ids:
            notes.append(
                f"{_pairs(self.num_shared_ids)} of the same name, size and number of frames in different subsets, like "
                f"{_shown(self.shared_ids[0])}: the same file twice?"
            )
        if self.near_duplicates:
            worst = self.near_duplicates[0]
            notes.append(
                f"{_pairs(self.num_near_duplicates)} in different subsets more alike than different videos are "
                f"(whitened cosine from {self.threshold:.2f} on), most of all {_shown(worst)}: "
                f"{worst['similarity']:.2f}. Look at them; put copies into one group, or take them out."
            )
        return notes


def audit_leaks(
    features: FeatureFile, splits: Sequence[Split], *, groups: Sequence[str], labels: np.ndarray | None = None
) -> LeakAudit:
    """Look for groups, files and near-duplicates that a split puts on two sides; groups and labels are (N,).

    labels: the file's own where None. Time grows with the product of the sides (seconds for 13,000 videos).
    """
    roles = np.zeros((len(splits), features.num_videos), dtype=np.int8)
    for row, split in zip(roles, splits, strict=True):
        for role in ROLES[1:]:
            row[getattr(split, role)] = ROLES.index(role)
    used = np.flatnonzero(roles.any(axis=0))  # from here on, numbers of videos count these
    labels = np.asarray(features.labels if labels is None else labels)[used]
    cast = _Cast([split.name for split in splits], [features.ids[n] for n in used], roles[:, used])
    files = list(cast.apart(_same_files(cast.ids, features.videos.size[used], features.videos.num_frames[used])))
    vectors = whiten(mean_descriptors(features, used), labels)
    sides, num_pairs = _sides(cast.roles)
    threshold = least_cosine(vectors.shape[1], num_pairs)
    alike, num_alike = [], 0
    if threshold is not None:
        for pairs in near_pairs(vectors, sides, threshold):
            found = list(cast.apart(pairs))
            num_alike += len(found)
            alike = sorted(alike + found, key=lambda entry: (-entry["similarity"], entry["a"], entry["b"]))[:SHOWN]
    return LeakAudit(
        shared_groups=cast.shared_groups([groups[n] for n in used])[:SHOWN],
        shared_ids=[{key: pair[key] for key in ("a", "b", "split", "subsets")} for pair in files[:SHOWN]],
        near_duplicates=alike,
        num_shared_ids=len(files),
        num_near_duplicates=num_alike,
        threshold=threshold,
        checked_pairs=0 if threshold is None else num_pairs,
    )


@dataclass(frozen=True, eq=False)
class _Cast:
    """Who plays what: the names of S splits, the ids of n videos, and their roles (S, n), numbers into ROLES."""

    splits: list[str]
    ids: list[str]
    roles: np.ndarray

    def apart(self, pairs: Pairs) -> Iterator[dict]:
        """The pairs that some split puts on two sides, each under one such split, one with a test side first."""
        step = max(1, CELLS // len(self.splits))
        for start in range(0, len(pairs.first), step):
            first, second = pairs.first[start : start + step], pairs.second[start : start + step]
            one, other = self.roles[:, first], self.roles[:, second]  # (S, P)
            divided = (one != other) & (one > 0) & (other > 0)
            rank = divided * (1 + ((one == TEST) | (other == TEST)))
            chosen = rank.argmax(axis=0)
            for p in np.flatnonzero(divided.any(axis=0)).tolist():
                split = int(chosen[p])
                yield {
                    "a": self.ids[first[p]],
                    "b": self.ids[second[p]],
                    "split": self.splits[split],
                    "subsets": [ROLES[one[split, p]], ROLES[other[split, p]]],
                    "similarity": round(float(pairs.similarity[start + p]), 4),
                }

    def shared_groups(self, groups: Sequence[str]) -> list[dict]:
        """The groups (n,) that lie in several subsets of a split."""
        return [
            {"group": group, "split": split, "subsets": list(subsets)}
            for split, row in zip(self.splits, self.roles, strict=True)
            for group, subsets in straddling_groups(groups, [ROLES[role] for role in row]).items()
        ]


def _same_files(ids: Sequence[str], sizes: np.ndarray, num_frames: np.ndarray) -> Pairs:
    """The pairs of videos that only folder or ending tell apart."""
    alike: dict[tuple, list[int]] = {}
    for n, key in enumerate(
        zip((PurePosixPath(i).stem for i in ids), sizes.tolist(), num_frames.tolist(), strict=True)
    ):
        alike.setdefault(key, []).append(n)
    found = np.array([pair for of_key in alike.values() for pair in combinations(of_key, 2)], dtype=np.int64)
    first, second = found.reshape(-1, 2).T
    return Pairs(first, second, np.ones(len(first)))


def _sides(roles: np.ndarray) -> tuple[Iterable[tuple[np.ndarray, np.ndarray]], int]:
    """Which videos to compare with which, and how many pairs that makes: roles (S, n).

    With one split its sides are compared. With several, all pairs are, once, whichever splits divide them.
    """
    n = roles.shape[1]
    if len(roles) == 1:
        train, val, test = (np.flatnonzero(roles[0] == role) for role in range(1, 4))
        sides = [(test, np.concatenate([train, val])), (val, train)]
        return sides, sum(len(left) * len(right) for left, right in sides)
    return _halves(0, n), n * (n - 1) // 2


def _halves(start: int, stop: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs of a range, each once: those between its halves, then those within each."""
    if stop - start > 1:
        middle = (start + stop) // 2
        yield np.arange(start, middle), np.arange(middle, stop)
        yield from _halves(start, middle)
        yield from _halves(middle, stop)


def _pairs(count: int) -> str:
    return f"{count} pair{'s' if count > 1 else ''} of videos"


def _shown(entry: dict) -> str:
    (one, other), split = entry["subsets"], entry["split"]
    return f"{entry['a']!r} ({one}) and {entry['b']!r} ({other}) in split {split}"
