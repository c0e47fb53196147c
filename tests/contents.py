"""Videos and contents of feature files, made from a seed."""

import numpy as np

from gcf.data.schema import Clips, FeatureContent, VideoFeatures, VideoInfo

RECIPE = {"backbone": "tiny", "weights": "w", "dtype": "float16", "views": 1, "num_frames": 16}


def make_video(name, *, num_clips, seed=0, views=1, width=32):
    rng = np.random.default_rng([seed, num_clips])
    starts = np.arange(num_clips) * 16
    return VideoFeatures(
        id=name,
        descriptors=rng.normal(size=(num_clips, views, width)).astype(np.float16),
        logits=rng.normal(size=(num_clips, 5)).astype(np.float16),
        clips=Clips(starts, np.full(num_clips, 16), starts / 25, (starts + 16) / 25),
        info=VideoInfo(25.0, 16 * num_clips, 64, 48, num_clips * 0.64, 1000 + seed, 10**18 + seed),
    )


def make_content(count=7, **fields):
    videos = [make_video(f"a/{n:02d}é.mp4", num_clips=1 + n % 4, seed=n) for n in range(count)]
    labels = [n % 3 - 1 for n in range(count)]
    return FeatureContent(
        recipe=fields.pop("recipe", RECIPE),
        videos=videos,
        failures=[("b/broken\udcff.mp4", "empty")],
        backbone_classes=list("vwxyz"),
        classes=["jump", "run"],
        labels=labels,
        subsets=["train", "test", "val", ""] * 2 if count == 8 else ["train"] * count,
        groups=[f"g{n:02d}" for n in range(count)],
    )
