"""What a network's answers say about its pixels: per video, with labels and without them.

Confidence is shown and never judged by: fed pixels 255 times too large, X3D-XS gives probability 1.000 to whatever it
answers (entropy 0.00 instead of 1.22 nats) and is right in none of eight videos instead of seven.
"""

from dataclasses import dataclass

import numpy as np

from gcf.explain.doctor.clips import TrialClips

# The share of a uniform guess mixed into every answer before it is compared: one clip that a network is surely wrong
# about costs at most log(1 / (FLOOR / K)), and two sure answers that differ agree a little.
FLOOR = 0.01


@dataclass(frozen=True, eq=False)
class Answers:
    """A network's answers under one setting, over V videos.

    top, entropy: means over clips of the top probability and of the entropy in nats. right (V,) bool and
    true_log_probability (V,) nats, from a video's mean probabilities: nan and False where its class is unknown.
    agreement (V,) nats: see `agreement`; nan for a video of one clip.
    """

    top: float
    entropy: float
    right: np.ndarray
    true_log_probability: np.ndarray
    agreement: np.ndarray


def answers(probabilities: np.ndarray, clips: TrialClips) -> Answers:
    """What (n, K) clip probabilities amount to."""
    entropy = -(probabilities * np.log(np.maximum(probabilities, 1e-300))).sum(axis=1)
    mixed = (1 - FLOOR) * probabilities + FLOOR / probabilities.shape[1]
    counts = np.bincount(clips.video)
    sums = np.stack([mixed[clips.video == v].sum(axis=0) for v in range(len(counts))])
    videos, known = sums / counts[:, None], clips.truth >= 0  # (V, K)
    true = np.full(len(counts), np.nan)
    true[known] = np.log(videos[known, clips.truth[known]])
    return Answers(
        top=float(probabilities.max(axis=1).mean()),
        entropy=float(entropy.mean()),
        right=known & (videos.argmax(axis=1) == clips.truth),
        true_log_probability=true,
        agreement=agreement(mixed, clips.video),
    )


def agreement(probabilities: np.ndarray, video: np.ndarray) -> np.ndarray:
    """How well two clips of a video find each other by their classes, (V,) nats; probabilities (n, K), video (n,).

    Two clips match with the probability that both show one class, p . q. For a clip and each other one of its video:
    the log of their match over the mean of its matches with that one and with all clips of other videos; averaged.
    0 where the answers do not depend on the video, at most log(1 + clips of other videos); far below 0 where a network
    is sure of itself and answers two clips of one video differently, as it does on pixels it was not made for.
    """
    matches = probabilities @ probabilities.T  # (n, n)
    found = np.full(video.max() + 1, np.nan)
    for v in range(len(found)):
        own, others = np.flatnonzero(video == v), np.flatnonzero(video != v)
        if len(own) < 2 or not len(others):
            continue
        mine = matches[np.ix_(own, own)]
        elsewhere = matches[np.ix_(own, others)].sum(axis=1, keepdims=True)
        logs = np.log(mine) - np.log((elsewhere + mine) / (len(others) + 1))
        found[v] = logs[~np.eye(len(own), dtype=bool)].mean()
    return found
