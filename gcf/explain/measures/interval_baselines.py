"""What temporal mAP is worth: the best that the grid of clips allows, and what blind placing scores.

The ceiling: every annotated segment gets the interval of clip boundaries with the largest tIoU. Intervals that begin
and end with clips cannot do better; those whose borders are interpolated between clips might. Uniform and random
intervals get the classes that the head predicted: only the placing differs.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from gcf.data.segments import Segment
from gcf.explain.measures.detection_map import DetectionMap, detection_map
from gcf.explain.reading.clip_reading import ClipReading
from gcf.explain.reading.intervals import Interval, tiou

Intervals = dict[str, list[Interval]]  # by the video's id


def grid_ceiling(readings: Mapping[str, ClipReading], truth: Mapping[str, Sequence[Segment]]) -> Intervals:
    """The best interval on the grid of its video for every segment, scored by its tIoU.

    Scored so, those that miss a threshold come after those that reach it: the average precision at a threshold is the
    share of segments whose best interval reaches it, and no intervals on the grid have a higher one.
    """
    best = {}
    for video, reading in readings.items():
        segments = truth.get(video, ())
        best[video] = [best_on_grid(reading.starts, reading.ends, segment) for segment in segments]
    return best


def best_on_grid(starts: np.ndarray, ends: np.ndarray, segment: Segment) -> Interval:
    """The interval from a clip's start to a clip's end (C,) with the largest tIoU with a segment, which is its score.

    Of all starts, only the two around the segment's can be best: away from it the tIoU falls, whatever the end; so
    with the ends. Both are in order.
    """
    candidates = [(a, b) for a in _around(starts, segment.start) for b in _around(ends, segment.end) if a < b]
    if not candidates:
        return Interval(float(starts[0]), float(ends[0]), segment.label, 0.0)
    low, high = np.array(candidates).T
    overlaps = tiou(segment.start, segment.end, low, high)
    best = int(overlaps.argmax())
    return Interval(float(low[best]), float(high[best]), segment.label, float(overlaps[best]))


def _around(values: np.ndarray, place: float) -> np.ndarray:
    """The last of ordered values up to a place, and the first from it on: one or two."""
    after = int(np.searchsorted(values, place))
    return np.unique(values[max(after - 1, 0) : after + 1])


def uniform_intervals(
    readings: Mapping[str, ClipReading], labels: Mapping[str, Sequence[str]], length: float
) -> Intervals:
    """Each video, cut into equal pieces about `length` seconds long, once for each of its labels.

    The number of pieces is the video's duration over `length`, rounded, at least 1. Each is scored by the probability
    of its class; so the pieces of a video tie, and detection_map takes the earlier first. `length` is to be the mean
    of the annotated segments: a baseline that knows as much as that.
    """
    found: Intervals = {}
    for video, reading in readings.items():
        duration = _duration(reading)
        edges = np.linspace(0, duration, max(1, round(duration / length)) + 1) if length > 0 else [0.0, duration]
        found[video] = [
            Interval(float(start), float(end), label, _probability(reading, label))
            for label in labels.get(video, ())
            for start, end in pairwise(edges)
        ]
    return found


def random_intervals(
    readings: Mapping[str, ClipReading], predictions: Mapping[str, Sequence[Interval]], rng: np.random.Generator
) -> Intervals:
    """The predicted intervals, as many, as long, of the same classes and scores, each moved to anywhere in its video.

    The start is uniform over all places at which the interval fits.
    """
    found: Intervals = {}
    for video, reading in sorted(readings.items()):  # the draws are to be the same in whatever order videos come
        duration, moved = _duration(reading), []
        for one in predictions.get(video, ()):
            length = min(one.end - one.start, duration)
            start = float(rng.uniform(0, duration - length)) if length < duration else 0.0
            moved.append(Interval(start, start + length, one.label, one.score))
        found[video] = moved
    return found


def random_map(
    readings: Mapping[str, ClipReading],
    predictions: Mapping[str, Sequence[Interval]],
    truth: Mapping[str, Sequence[Segment]],
    tious: Sequence[float],
    *,
    seed: int = 0,
    repeats: int = 20,
) -> DetectionMap:
    """The mean over repeats of the average precisions of random intervals."""
    rng = np.random.default_rng(seed)
    drawn = [detection_map(random_intervals(readings, predictions, rng), truth, tious).classes for _ in range(repeats)]
    means = {}
    for label in drawn[0]:
        means[label] = np.mean([classes[label] for classes in drawn], axis=0)
    return DetectionMap(tuple(tious), means)


def _duration(reading: ClipReading) -> float:
    """Seconds; what the clips span where the file does not say more."""
    return float(max(reading.info.duration, reading.ends[-1]))


def _probability(reading: ClipReading, label: str) -> float:
    """Of a class; 0 where the head does not know it."""
    return float(reading.probabilities[reading.classes.index(label)]) if label in reading.classes else 0.0
