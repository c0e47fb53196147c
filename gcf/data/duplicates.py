"""Videos that look alike more than different videos do: copies, recoded or shortened ones, by their mean descriptors.

Plain cosines do not tell a copy from a neighbour: descriptors share a few strong directions, those of the classes above
all, and two scenes of one class come as near as 0.99. So each mean descriptor is taken relative to its class, and these
are whitened: turned to their principal axes, each scaled to the same spread. In that space different videos behave like
random directions, whose largest cosine is known.

Measured with copies put among 60 real videos (X3D-XS, 32 axes, bound 0.69) and 600 synthetic ones (ShuffleNetV2, 256
axes, bound 0.50). Different videos: 0.66 and 0.27 at most. Copies without their first half second: 0.75 to 0.91, all 10
found (real), but none of 12 (synthetic: their motions are as short as a clip); without the last third: 0.50 to 0.92, 6
of 10, and 0.40 to 0.80, 10 of 12; recoded at low quality (H.264, CRF 32): 0.28 to 0.72, 2 of 10, and 0.69 to 0.95, 12
of 12; at half the size and noisy: 0 of 10 and 6 of 12. So plain copies are found in any set, changed ones the better
the more videos there are, and what is not listed is not proven to be clean.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta
from sklearn.decomposition import PCA

from gcf.data.features import FeatureFile

AXES = 256  # principal axes at most; half of the videos where that is fewer, or each would have one of its own
SAMPLE = 4096  # videos that the axes are found from
READ_ROWS = 1024  # clips read at once
LEAST_COSINE = 0.5
FALSE_ALARM = 0.01  # probability that any two of all the pairs are as near by chance
BLOCK_BYTES = 1 << 24  # of cosines at once; what is known of their pairs takes as much again, several times at first


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of videos and how alike they are: first, second (P,) numbers, similarity (P,) cosines."""

    first: np.ndarray
    second: np.ndarray
    similarity: np.ndarray


def mean_descriptors(features: FeatureFile, videos: np.ndarray) -> np.ndarray:
    """Means (n, D) float32 over the clips of each of these videos, centre view."""
    means, offsets, row = np.empty((len(videos), features.descriptors.shape[2]), dtype=np.float32), features.offsets, 0
    apart = (np.diff(videos) != 1) | (np.diff(offsets[videos] // READ_ROWS) != 0)
    for run in np.split(videos, np.flatnonzero(apart) + 1) if len(videos) else ():  # neighbours, read at once
        first = int(offsets[run[0]])
        clips = features.gather(slice(first, int(offsets[run[-1] + 1])))[:, 0]
        for n in run:
            means[row] = clips[offsets[n] - first : offsets[n + 1] - first].mean(axis=0, dtype=np.float32)
            row += 1
    return means


def whiten(means: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Unit vectors (n, A): what sets means (n, D) apart from their class, along A main axes scaled to the same spread.

    labels (n,). What a class has in common goes first: a network that was trained on these classes puts all videos of
    one in nearly the same place. The means are overwritten: they are most of the memory that this takes.
    """
    own = _without_class(means, labels)
    sample = own[np.linspace(0, len(own) - 1, min(len(own), SAMPLE)).astype(int)]
    axes = min(AXES, (len(sample) - len(np.unique(labels))) // 2, means.shape[1])
    if axes < 1 or not np.ptp(sample, axis=0).any():
        return np.zeros((len(means), 0), dtype=np.float32)
    found = PCA(axes, random_state=0, copy=False).fit(sample)
    keep = found.explained_variance_ > 1e-6 * found.explained_variance_[0]  # below is rounding
    scaled = found.components_[keep] / np.sqrt(found.explained_variance_[keep])[:, None]
    vectors = (own @ scaled.T - found.mean_ @ scaled.T).astype(np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def _without_class(means: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Less the mean of their class, in place; less that of all videos where the class has two at most, for two copies
    are their mean.
    """
    means -= means.mean(axis=0)
    order = np.argsort(labels, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        if len(members) > 2:
            means[members] -= means[members].mean(axis=0)
    return means


def least_cosine(axes: int, num_pairs: int) -> float | None:
    """From which cosine on a pair is no chance: random directions stay below it in 99 % of such sets of pairs.

    (1 + cosine) / 2 of two random directions has a beta distribution. None with fewer than three axes.
    """
    if axes < 3 or not num_pairs:
        return None
    half = (axes - 1) / 2
    return max(LEAST_COSINE, float(2 * beta.isf(FALSE_ALARM / num_pairs, half, half) - 1))


def near_pairs(
    vectors: np.ndarray, sides: Iterable[tuple[np.ndarray, np.ndarray]], threshold: float
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield videos of one side (F,), of the other (G,) and their cosines (F, G), where any is at least so alike.

    vectors: unit vectors (n, A); sides: row numbers. Videos that are near none of the other side are left out.
    """
    for left, right in sides:
        others, step = vectors[right].T, max(1, BLOCK_BYTES // (4 * max(1, len(right))))
        for start in range(0, len(left), step):
            block = left[start : start + step]
            cosines = vectors[block] @ others
            near = cosines >= threshold
            rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
            if len(rows):
                yield block[rows], right[columns], cosines[rows][:, columns]
