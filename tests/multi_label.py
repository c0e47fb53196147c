"""A small data set whose videos show one to three concepts, each in a clip of its own."""

import numpy as np
from caches import write_cache

from gcf.data.annotations import Annotation, Annotations

CLASSES = ("A", "B", "C")
VIDEOS, WIDTH, CLIPS, NORM = 240, 16, 6, 5.0


def shown_sets(num_videos=VIDEOS, seed=0):
    """Which concepts each video shows (N, 3): independent of each other, but for videos that would show none."""
    rng = np.random.default_rng(seed)
    shown = rng.random((num_videos, 3)) < (0.5, 0.4, 0.2)
    shown[~shown.any(axis=1), 0] = True
    return shown


def planted(path):
    """A feature file, and its annotations: every concept stands in one clip at a random place, distractors elsewhere.

    Videos come in groups of four; three quarters of the groups train, the others are the test set.
    """
    rng = np.random.default_rng(1)
    directions = NORM * np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))[0]
    videos, annotated = [], {}
    for n, shown in enumerate(shown_sets()):
        clips = directions[3:7][rng.integers(4, size=CLIPS)]
        concepts = np.flatnonzero(shown)
        clips[rng.permutation(CLIPS)[: len(concepts)]] = directions[concepts]
        videos.append(clips + 0.3 * rng.standard_normal(clips.shape))
        subset = "test" if n // 4 % 4 == 0 else "train"
        annotated[f"v{n:04d}.mp4"] = Annotation.of_classes((CLASSES[k] for k in concepts), subset, f"g{n // 4}")
    features = write_cache(path, videos, [-1] * VIDEOS, [])
    return features, Annotations("planted", CLASSES, annotated, multi_label=True)


def plain_average_precision(scores, target):
    """The definition, one positive after the other: how many that score as high or higher are positives."""
    precisions = [target[scores >= scores[i]].mean() for i in np.flatnonzero(target)]
    return float(np.mean(precisions))
