"""The order in which training sees its videos: ints in, ints out."""

from collections.abc import Iterator

import numpy as np


def draw(videos: np.ndarray, labels: np.ndarray, sampling: str, *, rng: np.random.Generator) -> np.ndarray:
    """The videos of one pass: "shuffle" each once, "balanced" as many, drawn so that every class is as likely.

    labels are those of `videos`. A balanced pass draws with replacement: a rare class repeats, a common one is cut.
    """
    if sampling == "shuffle":
        return rng.permutation(videos)
    _, which, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return rng.choice(videos, size=len(videos), p=1 / (len(counts) * counts[which]))


def blocks(
    videos: np.ndarray, sizes: np.ndarray, *, block: int, window: int, rng: np.random.Generator
) -> Iterator[list[np.ndarray]]:
    """Divide videos into windows of blocks for reading a file that is larger than memory: nearly a shuffle.

    videos in file order, sizes in bytes. A block is a run of neighbours of about `block` bytes, read at one go; a
    window is a random choice of blocks of about `window` bytes in all. Each block, and each video, comes up once.
    Shuffled as a whole, the videos of a window are what a batch is drawn from.
    """
    cuts = np.flatnonzero(np.diff(np.cumsum(sizes) // max(1, block))) + 1
    runs = np.split(videos, cuts)
    weights = [int(part.sum()) for part in np.split(sizes, cuts)]
    chosen: list[np.ndarray] = []
    total = 0
    for number in rng.permutation(len(runs)):
        chosen.append(runs[number])
        total += weights[number]
        if total >= window:
            yield chosen
            chosen, total = [], 0
    if chosen:
        yield chosen
