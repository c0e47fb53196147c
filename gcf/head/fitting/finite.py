"""No head is trained on values that are not numbers, or from which nothing can be learned."""

import numpy as np

from gcf.data.protocol import Features
from gcf.errors import FeatureFileError

CHECK_BYTES = 1 << 26
EXPONENT = {2: (np.uint16, 0x7C00), 4: (np.uint32, 0x7F800000)}  # all ones: infinite or not a number


def check_finite(features: Features, videos: np.ndarray) -> None:
    """Raise FeatureFileError naming the videos among these whose descriptors or logits are not all finite.

    And where frames or times of clips cannot be, in whatever video.
    """
    if features.parts[0] is not features:  # joined files: each is checked whole
        for part in features.parts:
            check_finite(part, np.arange(part.num_videos))
        return
    features.check_clips()
    bad = np.zeros(features.num_clips, dtype=bool)
    for array in (features.descriptors, features.logits):
        if array is not None:
            bad |= _not_finite(array.reshape(len(array), -1))
    counts = np.concatenate([[0], np.cumsum(bad)])
    affected = [n for n in videos if counts[features.offsets[n + 1]] > counts[features.offsets[n]]]
    if affected:
        names = ", ".join(features.ids[n] for n in affected[:3])
        raise FeatureFileError(
            f"{features.path}: {len(affected)} videos have NaN or infinite values ({names}"
            f"{', ...' if len(affected) > 3 else ''}); extract them again"
        )


def check_learnable(features: Features, videos: np.ndarray) -> None:
    """Raise FeatureFileError where nothing in the descriptors of these videos tells one clip from another.

    That is where all are zero, all are equal, or what is stored in float16 lies below its digits. The centre view
    counts. Reading ends as soon as a difference is found, mostly with the first videos.
    """
    if features.parts[0] is not features:  # joined files: each is checked whole
        for part in features.parts:
            check_learnable(part, np.arange(part.num_videos))
        return
    if not len(videos):
        return
    low, high = np.full((2, features.descriptors.shape[2]), [[np.inf], [-np.inf]], np.float32)
    for n in videos:
        clips = features.gather(slice(int(features.offsets[n]), int(features.offsets[n + 1])))[:, 0]  # (C, D)
        np.minimum(low, clips.min(axis=0), out=low)
        np.maximum(high, clips.max(axis=0), out=high)
        fault = _nothing_in(low, high, half=clips.dtype == np.float16)
        if not fault:
            return
    raise FeatureFileError(
        f"{features.path}: nothing can be learned: the descriptors of all {len(videos):,} labelled videos {fault}"
    )


def _nothing_in(low: np.ndarray, high: np.ndarray, *, half: bool) -> str:
    """Why descriptors between low and high (D,) are all the same to a head, and what to do; '' where they are not."""
    largest, tiny = np.maximum(np.abs(low), np.abs(high)), np.finfo(np.float16).smallest_normal
    network = "look at the network and its weights (gcf doctor --backbone)"
    finer = "extract again with --dtype float32"
    if not largest.any():
        return f"are zero; {network}, or, where its values are small, {finer}"
    if (low == high).all():
        return f"are equal; {network}, or, where they differ little, {finer}"
    if half and largest.max() < tiny:
        return f"lie below {tiny:.1g}, where float16 loses its digits; {finer}"
    if half and (high - low <= np.spacing(largest.astype(np.float16))).all():
        return f"differ in float16's last digit alone; {finer}"
    return ""


def _not_finite(rows: np.ndarray) -> np.ndarray:
    """Rows with a NaN or infinity, by the exponent bits: several times faster than isfinite on float16."""
    kind, exponent = EXPONENT[rows.dtype.itemsize]
    step = max(1, CHECK_BYTES // max(1, rows.shape[1] * rows.dtype.itemsize))
    found = [
        ((rows[start : start + step].view(kind) & exponent) == exponent).any(axis=1)
        for start in range(0, len(rows), step)
    ]
    return np.concatenate(found) if found else np.zeros(0, dtype=bool)
