"""Does a test video stand among the training videos, under another name? An audit of splits, before they judge."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

import numpy as np
from threadpoolctl import threadpool_limits

from gcf.data.duplicates import Pairs, least_cosine, mean_descriptors, near_pairs, whiten
from gcf.data.features import FeatureFile
from gcf.data.splits import Split, straddling_groups

SHOWN = 50
ROLES = ("", "train", "val", "test")
TEST = ROLES.index("test")
CELLS = 1 << 20  # pairs looked at together
DECIMALS = 4  # of a cosine


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


@threadpool_limits.wrap(limits=1, user_api="blas")  # threads that share small products wait, on busy machines for long
def audit_leaks(
    features: FeatureFile, splits: Sequence[Split], *, groups: Sequence[str], labels: np.ndarray | None = None
) -> LeakAudit:
    """Look for groups, files and near-duplicates that a split puts on two sides; groups and labels are (N,).

    labels: the file's own where None. Time grows with the product of the sides (seconds for 20,000 videos), memory with
    the number of videos, neither with the number of pairs that are found.
    """
    roles = np.zeros((len(splits), features.num_videos), dtype=np.int8)
    for row, split in zip(roles, splits, strict=True):
        for role in ROLES[1:]:
            row[getattr(split, role)] = ROLES.index(role)
    used = np.flatnonzero(roles.any(axis=0))  # from here on, numbers of videos count these
    labels = np.asarray(features.labels if labels is None else labels)[used]
    cast = _Cast([split.name for split in splits], [features.ids[n] for n in used], roles[:, used])
    files, num_files = _same_files(cast, features.videos.size[used], features.videos.num_frames[used])
    vectors = whiten(mean_descriptors(features, used), labels)
    sides, num_pairs = _sides(cast.roles)
    threshold = least_cosine(vectors.shape[1], num_pairs)
    near = () if threshold is None else near_pairs(vectors, sides, threshold)
    alike, num_alike = _most_alike(cast, near, threshold)
    return LeakAudit(
        shared_groups=cast.shared_groups([groups[int(n)] for n in used])[:SHOWN],
        shared_ids=list(map(_without_similarity, cast.records(files))),
        near_duplicates=cast.records(alike),
        num_shared_ids=num_files,
        num_near_duplicates=num_alike,
        threshold=threshold,
        checked_pairs=0 if threshold is None else num_pairs,
    )


def _without_similarity(pair: dict) -> dict:
    return {key: pair[key] for key in ("a", "b", "split", "subsets")}


@dataclass(frozen=True, eq=False)
class _Cast:
    """Who plays what: the names of S splits, the ids of n videos, and their roles (S, n), numbers into ROLES."""

    splits: list[str]
    ids: list[str]
    roles: np.ndarray

    @cached_property
    def _parts(self) -> np.ndarray:
        """Of each video 1 for every split that uses it, then for every split and role that it has there: (n, 4 S)."""
        roles = self.roles.T
        return np.concatenate([roles > 0, *(roles == role for role in range(1, len(ROLES)))], axis=1, dtype=np.float32)

    def divided(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Which of videos (F,) and videos (G,) some split puts on two sides: (F, G) bool.

        Such splits are those that use both less those in which both have the same role.
        """
        signs = np.repeat([1, -1], [len(self.splits), (len(ROLES) - 1) * len(self.splits)]).astype(np.float32)
        return self._parts[first] @ (signs * self._parts[second]).T > 0

    def records(self, pairs: Pairs) -> list[dict]:
        """Pairs that some split puts on two sides, each under one such split, one with a test side first."""
        one, other = self.roles[:, pairs.first], self.roles[:, pairs.second]  # (S, P)
        divided = (one != other) & (one > 0) & (other > 0)
        chosen = (divided * (1 + ((one == TEST) | (other == TEST)))).argmax(axis=0)
        return [
            {
                "a": self.ids[pairs.first[p]],
                "b": self.ids[pairs.second[p]],
                "split": self.splits[split],
                "subsets": [ROLES[one[split, p]], ROLES[other[split, p]]],
                "similarity": float(pairs.similarity[p]),
            }
            for p, split in enumerate(chosen.tolist())
        ]

    def shared_groups(self, groups: Sequence[str]) -> list[dict]:
        """The groups (n,) that lie in several subsets of a split."""
        shared = []
        for split, row in zip(self.splits, self.roles, strict=True):
            subsets_of = straddling_groups(groups, [ROLES[role] for role in row])
            for group, subsets in subsets_of.items():
                shared.append({"group": group, "split": split, "subsets": list(subsets)})
        return shared


def _same_files(cast: _Cast, sizes: np.ndarray, num_frames: np.ndarray) -> tuple[Pairs, int]:
    """The first pairs that only folder or ending tell apart and a split divides, and how many there are."""
    alike: dict[tuple, list[int]] = {}
    stems = (PurePosixPath(i).stem for i in cast.ids)
    for n, key in enumerate(zip(stems, sizes.tolist(), num_frames.tolist(), strict=True)):
        alike.setdefault(key, []).append(n)
    shown, count = np.zeros((2, 0), np.int64), 0
    for videos in (np.array(of_key) for of_key in alike.values() if len(of_key) > 1):
        step = max(1, CELLS // len(videos))
        for start in range(0, len(videos), step):
            block = videos[start : start + step]
            divided = np.triu(cast.divided(block, videos[start:]), 1)  # each pair once
            count += int(np.count_nonzero(divided))
            if shown.shape[1] < SHOWN:
                rows, columns = np.nonzero(divided)
                shown = np.concatenate([shown, [block[rows], videos[start:][columns]]], axis=1)[:, :SHOWN]
    return Pairs(shown[0], shown[1], np.ones(shown.shape[1])), count


def _most_alike(
    cast: _Cast, near: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], threshold: float | None
) -> tuple[Pairs, int]:
    """The most alike pairs that a split divides, equal ones by their names, and how many there are.

    near: as `near_pairs` gives them. A pair is one whole number by which it is sorted: its cosine in the decimals that
    are shown, from above, then the places of the two names in their order. Where all are copies, all are as alike: once
    there are enough, only pairs whose first name comes before those of the found can take a place.
    """
    n, unit, count = len(cast.ids), 10**DECIMALS, 0
    by_name = np.array(sorted(range(n), key=cast.ids.__getitem__), np.int64)
    place, best = np.argsort(by_name), np.zeros(0, np.int64)
    for first, second, cosines in near:
        found = (cosines >= threshold) & cast.divided(first, second)
        count += int(np.count_nonzero(found))
        if len(best) == SHOWN:
            least, last = 2 * unit - best.max() // n**2, best.max() % n**2 // n
            floor = np.where(place[first] > last, least + 0.4, least - 0.6) / unit  # a rounding wider than needed
            found &= cosines >= floor[:, None].astype(np.float32)
        rows, columns = np.nonzero(found)
        steps = np.rint(unit * cosines[rows, columns].astype(np.float64)).astype(np.int64)
        keys = ((2 * unit - steps) * n + place[first][rows]) * n + place[second][columns]
        best = np.concatenate([best, keys])
        if len(best) > SHOWN:
            best = np.partition(best, SHOWN)[:SHOWN]
    rest, second = np.divmod(np.sort(best), max(1, n))
    steps, first = np.divmod(rest, max(1, n))
    return Pairs(by_name[first], by_name[second], (2 * unit - steps) / unit), count


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
