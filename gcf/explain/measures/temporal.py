"""The temporal mAP of localisations, beside the ceiling of their clips and what blind placing scores."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from gcf.data.segments import Segment
from gcf.explain.measures.detection_map import ACTIVITYNET_TIOUS, TIOUS, DetectionMap, detection_map
from gcf.explain.measures.interval_baselines import grid_ceiling, random_map, uniform_intervals
from gcf.explain.reading.clip_reading import ClipReading
from gcf.explain.reading.intervals import Interval

REPEATS = 20  # of random intervals
AT = 0.5  # the tIoU of the headline
EVERY = (*TIOUS, *ACTIVITYNET_TIOUS)
Segments = Mapping[str, Sequence[Segment]]
Propose = Callable[[ClipReading, Sequence[str]], Sequence[Interval]]


def temporal(
    readings: Mapping[str, ClipReading],
    intervals: Mapping[str, Sequence[Interval]],
    truth: Segments,
    *,
    propose: Propose | None = None,
    seed: int = 0,
) -> dict:
    """The mAP of intervals, of uniform and random ones of the same classes, and of the best on the grid of the clips.

    truth may have videos without a reading: their segments are missed, by the ceiling, too. "known_class": the same
    for intervals of the annotated classes of each video instead of the predicted ones, which `propose` makes from a
    reading; uniform ones alone without it. Plain JSON values.
    """
    length = float(np.mean([s.end - s.start for own in truth.values() for s in own]))
    best = grid_ceiling(readings, truth)
    ceiling = as_json(detection_map(best, truth, EVERY))
    reached = [one.score for own in best.values() for one in own]
    predicted = {video: _labels(of_video) for video, of_video in intervals.items()}
    found = _kinds(readings, intervals, predicted, truth, length=length, seed=seed)
    annotated = {video: _labels(truth.get(video, ())) for video in readings}
    proposed = None
    if propose:
        proposed = {}
        for video, reading in readings.items():
            known = [label for label in annotated[video] if label in reading.classes]
            proposed[video] = list(propose(reading, known))
    return {
        "tious": list(TIOUS),
        "mean_segment": length,
        **found,
        "ceiling": ceiling | {"mean_tiou": float(np.mean(reached)) if reached else 0.0},
        "at": AT,
        "times_uniform": _ratio(found["localized"], found["uniform"]),
        "of_ceiling": _ratio(found["localized"], ceiling),
        "known_class": _kinds(readings, proposed, annotated, truth, length=length, seed=seed),
    }


def _kinds(
    readings: Mapping[str, ClipReading],
    intervals: Mapping[str, Sequence[Interval]] | None,
    labels: Mapping[str, Sequence[str]],
    truth: Segments,
    *,
    length: float,
    seed: int,
) -> dict[str, dict]:
    """The intervals' own mAP, and those of uniform and random ones."""
    found = {"uniform": as_json(detection_map(uniform_intervals(readings, labels, length), truth, EVERY))}
    if intervals is not None:
        found["localized"] = as_json(detection_map(intervals, truth, EVERY))
        found["random"] = as_json(random_map(readings, intervals, truth, EVERY, seed=seed, repeats=REPEATS)) | {
            "repeats": REPEATS
        }
    return found


def as_json(found: DetectionMap) -> dict:
    """The mAP at TIOUS, their average, ActivityNet's average, and the classes' own at TIOUS."""
    return {
        "map": [found.at(tiou) for tiou in TIOUS],
        "average": found.average(TIOUS),
        "activitynet": found.average(ACTIVITYNET_TIOUS),
        "classes": {label: values[: len(TIOUS)].tolist() for label, values in found.classes.items()},
    }


def _ratio(one: dict, other: dict) -> float | None:
    """Of the mAPs at AT; None where the other is 0."""
    at = TIOUS.index(AT)
    return one["map"][at] / other["map"][at] if other["map"][at] > 0 else None


def _labels(of_video: Sequence[Segment | Interval]) -> list[str]:
    """The classes of a video's intervals, each once."""
    return sorted({interval.label for interval in of_video})
