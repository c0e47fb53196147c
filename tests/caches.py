"""Small feature files written from arrays, for the tests of everything that reads one."""

from pathlib import Path

import numpy as np

from gcf.data.features import FeatureFile
from gcf.data.schema import Clips, FeatureContent, VideoFeatures, VideoInfo
from gcf.data.writer import write_features

RECIPE = {"backbone": "none", "crop": 8, "versions": {"gcf": "0"}}


def one_video(name: str, descriptors: np.ndarray, logits: np.ndarray | None = None) -> VideoFeatures:
    """descriptors (C, V, D); clips of 16 frames at 25 fps."""
    count = len(descriptors)
    starts = np.arange(count) * 16
    clips = Clips(starts, np.full(count, 16), starts / 25, (starts + 16) / 25)
    info = VideoInfo(25.0, count * 16, 64, 48, count * 16 / 25, 1000, 1)
    return VideoFeatures(name, descriptors, logits, clips, info)


def write_cache(
    path: Path, videos: list[np.ndarray], labels, classes, *, logits=None, recipe=RECIPE, **content
) -> FeatureFile:
    """videos: one (C, D) or (C, V, D) array each; ids are v0000.mp4, v0001.mp4, ..."""
    arrays = [v[:, None] if v.ndim == 2 else v for v in videos]
    rows = [one_video(f"v{n:04d}.mp4", array, None if logits is None else logits[n]) for n, array in enumerate(arrays)]
    write_features(
        path, FeatureContent(recipe=recipe, videos=rows, labels=list(labels), classes=list(classes), **content)
    )
    return FeatureFile(path)


def easy_cache(
    path: Path, *, per_class: int = 12, num_classes: int = 3, width: int = 12, subsets=True, clips=(1, 14), **content
) -> FeatureFile:
    """Classes that any head can tell apart: each clip is its class's direction plus noise. Every fourth video tests."""
    rng = np.random.default_rng(5)
    labels = np.tile(np.arange(num_classes), per_class)
    centres = 3 * np.eye(num_classes, width)
    videos = [centres[k] + 0.5 * rng.standard_normal((int(rng.integers(*clips)), width)) for k in labels]
    roles = ["test" if n // num_classes % 4 == 0 else "train" for n in range(len(labels))] if subsets else None
    classes = [f"class {k}" for k in range(num_classes)]
    return write_cache(path, videos, labels, classes, subsets=roles, **content)
