"""A synthetic feature file of any size, written without holding it in memory: for benchmarks only."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gcf.data.features import FeatureFile
from gcf.data.schema import Clips, FeatureContent, VideoFeatures, VideoInfo
from gcf.data.writer import write_features

WIDTH, GROUPS, TEST_GROUPS = 2048, 25, 7  # UCF-101 has 25 groups a class; split 1 tests the first 7
SIGNAL, NOISE, SCENE = 0.9, 1.0, 0.7


class SyntheticVideos(Sequence):
    """Videos made when they are asked for: about `clips` clips each, a class's direction, a scene's, and noise."""

    def __init__(self, videos: int, classes: int, clips: float, *, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.labels = np.arange(videos) * classes // videos
        within = np.arange(videos) - np.searchsorted(self.labels, self.labels)
        self.groups = within * GROUPS // np.maximum(1, np.bincount(self.labels)[self.labels])
        self.counts = np.clip(np.round(rng.lognormal(np.log(clips) - 0.08, 0.4, videos)), 2, 60).astype(int)
        self.centres = rng.standard_normal((classes, WIDTH)).astype(np.float32) / 8
        self.seed = seed

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, n: int) -> VideoFeatures:
        count, label = self.counts[n], self.labels[n]
        scene = np.random.default_rng([self.seed, label, self.groups[n]]).standard_normal(WIDTH, dtype=np.float32) / 8
        rows = np.random.default_rng([self.seed, n]).standard_normal((count, WIDTH), dtype=np.float32) * NOISE
        rows += SIGNAL * self.centres[label] + SCENE * scene
        starts = np.arange(count) * 16
        clips = Clips(starts, np.full(count, 16), starts / 25, (starts + 16) / 25)
        info = VideoInfo(25.0, int(count) * 16, 320, 240, count * 16 / 25, 1, 1)
        return VideoFeatures(self.name(n), np.maximum(rows, 0)[:, None], None, clips, info)

    def name(self, n: int) -> str:
        """As UCF-101 names its videos."""
        return f"c{self.labels[n]:03d}/v_c{self.labels[n]:03d}_g{self.groups[n] + 1:02d}_n{n:07d}.avi"


def write_cache(path: Path, *, videos: int, classes: int, clips: float) -> FeatureFile:
    """Write the file unless it is there; the first 7 of 25 groups of every class test."""
    if not path.exists():
        made = SyntheticVideos(videos, classes, clips)
        groups = [f"{label}-{group}" for label, group in zip(made.labels, made.groups, strict=True)]
        subsets = ["test" if group < TEST_GROUPS else "train" for group in made.groups]
        names = [f"class {k}" for k in range(classes)]
        recipe = {"backbone": "synthetic", "views": 1, "dtype": "float16", "versions": {}}
        write_features(
            path,
            FeatureContent(
                recipe=recipe, videos=made, labels=made.labels, classes=names, subsets=subsets, groups=groups
            ),
        )
    return FeatureFile(path)
