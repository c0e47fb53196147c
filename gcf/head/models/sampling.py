"""Which clips of a video a head sees: ints in, ints out."""

import numpy as np


def choose_clips(
    counts: np.ndarray,
    num_clips: int,
    policy: str,
    *,
    padding: str = "mask",
    rng: np.random.Generator | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose clips in every video: counts (B,) of clips -> indices (B, C) int64 in their order, mask (B, C).

    "first" takes the first ones, "uniform" the middles of equal parts, "random" distinct ones (needs `rng`), "all"
    every clip whatever `num_clips` says, "central" the one of C-Clip. C is `num_clips`, or the longest video's count
    where that is smaller or the policy is "all". A shorter video fills its slots by looping; the mask says which are
    real. With padding "loop" all are, and C is `num_clips` whatever the videos have, so that "all"
    is a ValueError.

    >>> choose_clips(np.array([20, 3]), 4, "uniform")[0].tolist()
    [[2, 7, 12, 17], [0, 1, 2, 0]]
    >>> choose_clips(np.array([3]), 4, "uniform")[1].tolist()
    [[True, True, True]]
    >>> choose_clips(np.array([3]), 4, "uniform", padding="loop")[1].tolist()
    [[True, True, True, True]]
    """
    counts = np.asarray(counts, dtype=np.int64)
    if counts.size == 0 or counts.min() < 1:
        raise ValueError("need at least one video, and a clip in each")
    if policy == "central":
        return central_clip(counts)[:, None], np.ones((len(counts), 1), dtype=bool)
    width = _num_slots(int(counts.max()), num_clips, policy, padding)
    slots, column = np.arange(width), counts[:, None]
    indices, mask = slots % column, (slots < column) | (padding == "loop")
    longer = counts > width
    if longer.any() and policy == "uniform":
        indices[longer] = (2 * slots + 1) * column[longer] // (2 * width)
    elif longer.any() and policy == "random":
        if rng is None:
            raise ValueError("the policy 'random' needs a generator")
        indices[longer] = _distinct(counts[longer], width, rng)
    return indices, mask


def _num_slots(longest: int, num_clips: int, policy: str, padding: str) -> int:
    """C of `choose_clips`, for a batch whose longest video has so many clips."""
    if padding == "loop":
        if policy == "all":
            raise ValueError("the policy 'all' names no number of clips to loop to")
        return num_clips
    return longest if policy == "all" else min(num_clips, longest)


def _distinct(counts: np.ndarray, width: int, rng: np.random.Generator) -> np.ndarray:
    """`width` different indices below each count, in order: the places of the smallest of random keys."""
    keys = rng.random((len(counts), counts.max()))
    keys[np.arange(keys.shape[1]) >= counts[:, None]] = np.inf
    return np.sort(np.argpartition(keys, width - 1, axis=1)[:, :width], axis=1)


def central_clip(counts: np.ndarray) -> np.ndarray:
    """Index of the central clip of videos with that many clips, (n - 1) // 2: the earlier of two middle ones.

    The earlier, because the last clip of a video may be padded, and of two clips it is the last.

    >>> central_clip(np.array([1, 2, 5])).tolist()
    [0, 0, 2]
    """
    return (np.asarray(counts, dtype=np.int64) - 1) // 2
