"""Readings, heat maps and localisations made by hand, for videos as they decode."""

import os

import numpy as np

from gcf.data.schema import Clips
from gcf.explain.reading.clip_reading import ClipReading, Localization
from gcf.explain.reading.heat import HeatMaps
from gcf.explain.reading.intervals import Interval
from gcf.extract.decoding.preprocess import Geometry
from gcf.extract.decoding.video import Video

CLASSES = ("jump", "run", "swim")
SQUARE = Geometry(112, (112, 112))


def read_by_hand(path, *, clip_frames=16, classes=CLASSES, gate=True, evidence=None) -> ClipReading:
    """A reading of the video at `path` whose first class is the most probable; evidence (C,) of it, else random."""
    video = Video(path)
    times = [(start, end) for _, start, end in video]
    starts = np.arange(0, len(times), clip_frames)
    counts = np.minimum(clip_frames, len(times) - starts)
    first, last = (np.array([times[f][i] for f in f]) for i, f in enumerate((starts, starts + counts - 1)))
    rng = np.random.default_rng(0)
    shares = rng.normal(size=(len(starts), len(classes)))
    if evidence is not None:
        shares[:, 0] = evidence
    return ClipReading(
        id=os.path.basename(os.fspath(path)),
        clips=Clips(starts, counts, first, last),
        info=video.info,
        classes=classes,
        logits=shares.sum(axis=0),
        probabilities=np.array([0.75] + [0.25 / (len(classes) - 1)] * (len(classes) - 1)),
        evidence=shares,
        evidence_kind="traced",
        gate=rng.random(len(starts)) if gate else None,
    )


def heat_by_hand(reading, *, shown=None, values=None, geometry=SQUARE, label=None, clip_frames=16) -> HeatMaps:
    """Heat of the first class: 1 in the middle of a 3 x 3 grid, 0 around it, in the clips that are `shown`."""
    count = len(reading.clips.start_frame)
    shown = np.ones(count, bool) if shown is None else np.asarray(shown)
    if values is None:
        values = np.zeros((count, 2, 3, 3), np.float32)
        values[:, :, 1, 1] = 1
    return HeatMaps(label or reading.classes[0], values * shown[:, None, None, None], shown, clip_frames, geometry)


def localize_by_hand(path, *, heat=False, intervals=((0.2, 0.6, 0.9),), shown=None, **options) -> Localization:
    """The video at `path` localised; intervals (start, end, score) of the first class."""
    reading = read_by_hand(path, **options)
    found = [Interval(start, end, reading.classes[0], score) for start, end, score in intervals]
    maps = heat_by_hand(reading, shown=shown, clip_frames=options.get("clip_frames", 16)) if heat else None
    return Localization(reading.id, reading, found, maps)


def decode(path):
    """The frames of a video with their times, and the Video, read to its end."""
    video = Video(path)
    return [(pixels.copy(), start, end) for pixels, start, end in video], video
