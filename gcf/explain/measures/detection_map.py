"""Temporal mAP: are the intervals of a class where its segments are, and do the sure ones come first?

As ActivityNet's evaluator has it (activitynet/ActivityNet, Evaluation/eval_detection.py and utils.py): per class, the
predictions of all videos in the order of their scores; each takes the free segment of its video with which it has the
largest tIoU, if that reaches the threshold, and is a false positive otherwise; the area under the precision made
monotone (VOC 2010 and later); the mean over the classes that have a segment, 0 for those never predicted.

It differs where theirs leaves the answer to chance or to a division by zero. Equal scores: theirs come in whatever
order an unstable sort leaves them, here by video, start and end, so that the order in which predictions are given never
matters. Equal tIoU: the earlier segment. An interval and a segment of no length at the same place: theirs is 0 / 0 and
counts as a match, here they do not overlap. Predictions of a class without a segment: theirs fails, here they count for
nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gcf.data.segments import Segment
from gcf.explain.reading.intervals import Interval, tiou

TIOUS = tuple(np.linspace(0.1, 0.9, 9).round(1).tolist())
ACTIVITYNET_TIOUS = tuple(np.linspace(0.5, 0.95, 10).tolist())  # what ActivityNet's "average mAP" is the mean of


@dataclass(frozen=True, eq=False)
class DetectionMap:
    """Average precision (T,) of each class at T thresholds of tIoU; fractions."""

    tious: tuple[float, ...]
    classes: dict[str, np.ndarray]

    @property
    def map(self) -> np.ndarray:
        """(T,) the mean over the classes."""
        return np.mean(list(self.classes.values()), axis=0)

    def at(self, tiou: float) -> float:
        """The mean over the classes at one of the thresholds."""
        return float(self.map[self.tious.index(tiou)])

    def average(self, tious: Sequence[float] = TIOUS) -> float:
        """The mean over classes and some of the thresholds."""
        return float(np.mean([self.at(tiou) for tiou in tious]))


def detection_map(
    predictions: Mapping[str, Sequence[Interval]],
    truth: Mapping[str, Sequence[Segment]],
    tious: Sequence[float] = TIOUS,
) -> DetectionMap:
    """The mAP of predicted intervals against annotated segments, both by the id of their video.

    Raises ValueError where no segment is annotated: there is no class to average over.
    """
    thresholds = np.asarray(tious, dtype=float)
    labels = sorted({segment.label for segments in truth.values() for segment in segments})
    if not labels:
        raise ValueError("no segment is annotated")
    predicted, wanted = _by_label(predictions), _by_label(truth)
    return DetectionMap(
        tuple(tious),
        {label: _average_precision(predicted.get(label, {}), wanted[label], thresholds) for label in labels},
    )


def _by_label(rows: Mapping[str, Sequence]) -> dict[str, dict[str, list]]:
    """The intervals or segments of each class, by their video."""
    found: dict[str, dict[str, list]] = {}
    for video, own in rows.items():
        for one in own:
            found.setdefault(one.label, {}).setdefault(video, []).append(one)
    return found


def _average_precision(predicted: dict[str, list], truth: dict[str, list], thresholds: np.ndarray) -> np.ndarray:
    """(T,) of one class, interpolated."""
    hits = _hits(predicted, truth, thresholds)
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)  # (T, P)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]  # at this recall or a higher one
    return (best * hits).sum(axis=1) / sum(map(len, truth.values()))


def _hits(predicted: dict[str, list], truth: dict[str, list], thresholds: np.ndarray) -> np.ndarray:
    """(T, P) bool: which predictions, best first, found a segment of their own at each threshold."""
    ordered = sorted(
        ((video, one) for video, own in predicted.items() for one in own),
        key=lambda pair: (-pair[1].score, pair[0], pair[1].start, pair[1].end),
    )
    places = {video: np.array(sorted(map(_ends, segments))).T for video, segments in truth.items()}
    free = {video: np.ones((len(thresholds), len(own)), bool) for video, own in truth.items()}
    hits = np.zeros((len(thresholds), len(ordered)), bool)
    rows = np.arange(len(thresholds))
    for number, (video, one) in enumerate(ordered):
        if video not in places:
            continue
        overlaps = tiou(one.start, one.end, *places[video])  # (G,)
        open_to = free[video] & (overlaps >= thresholds[:, None])  # (T, G)
        best = np.where(open_to, overlaps, -1).argmax(axis=1)
        hits[:, number] = open_to[rows, best]
        free[video][rows, best] &= ~hits[:, number]
    return hits


def _ends(segment: Segment) -> tuple[float, float]:
    return segment.start, segment.end
