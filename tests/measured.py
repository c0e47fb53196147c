"""Readings, heat maps and truth files small enough to be judged by hand."""

import json
from dataclasses import replace

import numpy as np

from gcf.data.schema import Clips, VideoInfo
from gcf.explain.reading.clip_reading import ClipReading
from gcf.explain.reading.heat import HeatMaps
from gcf.extract.decoding.preprocess import Geometry

CLASSES = ("run", "sit")


def reading(name="v", *, clips=4, clip_seconds=2.0, size=(40, 60), probabilities=(0.75, 0.25), **parts):
    """A video of clips of 10 frames each, size (H, W), the evidence of each clip its number for both classes."""
    starts = np.arange(clips) * 10
    # the stream's own times begin at 7: annotations do not
    times = 7 + np.arange(clips + 1) * clip_seconds
    info = VideoInfo(10 / clip_seconds, clips * 10, size[1], size[0], clips * clip_seconds, 1000, 1)
    found = ClipReading(
        id=name,
        clips=Clips(starts, np.full(clips, 10), times[:-1], times[1:]),
        info=info,
        classes=CLASSES,
        logits=np.log(probabilities),
        probabilities=np.asarray(probabilities),
        evidence=np.repeat(np.arange(clips)[:, None], 2, axis=1).astype(np.float32),
        evidence_kind="traced",
    )
    return replace(found, **parts)


def heat_maps(values, *, label="run", shown=None):
    """Maps whose grid (C, T', h, w) is the whole picture of 40 by 60."""
    values = np.asarray(values, np.float32)
    shown = np.ones(len(values), bool) if shown is None else np.asarray(shown)
    return HeatMaps(label, values, shown, 10, Geometry((40, 60), (40, 60)))


def write_truth(path, database):
    """ActivityNet-style JSON: name -> (subset, [(start, end, label)]), or a dictionary as it is to be."""
    entries = {name: entry if isinstance(entry, dict) else truth_entry(*entry) for name, entry in database.items()}
    path.write_text(json.dumps({"version": "1", "taxonomy": [], "database": entries}))
    return path


def truth_entry(subset, segments, **more):
    """A video's entry."""
    annotations = [{"label": label, "segment": [start, end]} for start, end, label in segments]
    return {"subset": subset, "annotations": annotations} | more
