"""When a class happens: intervals of a video from the evidence of its clips.

The usual way of localising without annotated times: many candidates by several thresholds, each scored by how much it
stands out from its surroundings, of which the overlapping worse ones are dropped.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gcf.errors import UsageError

if TYPE_CHECKING:
    from gcf.explain.reading.clip_reading import ClipReading

GAP = 0.5  # of a clip's length: where more time than this lies between two clips, nobody saw it, and intervals end
SHORTEST = 1e-9  # seconds; less is the rounding of a difference
ROUNDING = 1e-6  # of the largest value: float32 evidence that differs by less is the same
DECIMALS = 6  # of seconds and scores, in files and in what is judged


@dataclass(frozen=True)
class Interval:
    """One interval in which a class is thought to happen: seconds from the video's first frame."""

    start: float
    end: float
    label: str
    score: float

    def rounded(self) -> "Interval":
        """As files hold it: to the microsecond, the score to as many decimals."""
        numbers = {name: round(getattr(self, name), DECIMALS) for name in ("start", "end", "score")}
        return replace(self, **numbers)


@dataclass(frozen=True)
class IntervalSettings:
    """How evidence becomes intervals.

    thresholds: cuts through the evidence, 0 its least and 1 its most in the video. min_probability: of the classes that
    are looked for; the most probable one always is. surroundings: what lies around an interval on either side, as a
    share of its length. nms: intervals of a class that overlap a better one by more than this (intersection over union)
    are dropped. steps: parts of a clip between which a border may lie, evidence being interpolated between the middles
    of clips; 1 keeps to the clips' own borders. most: intervals of a class at most, the best.

    What no source is given for was chosen on the demo's validation videos, by the mean of four GCF-Nets' mAP at an
    overlap of 0.5: 79.6 % as it is, 51.3 % on the clips' own borders; 77.7, 78.6 and 76.4 % with nms of 0.1, 0.3 and
    0.4; 78.5 % with thresholds from 0.1 to 0.9, 77.3 % from 0.3 to 0.7.
    """

    thresholds: tuple[float, ...] = tuple(round(0.2 + 0.05 * step, 2) for step in range(13))
    min_probability: float = 0.1
    surroundings: float = 0.25  # Shou et al., AutoLoc, ECCV 2018; Lee et al., BaS-Net, AAAI 2020
    nms: float = 0.2
    steps: int = 16
    shortest: float = 0.5
    least: float = 0.1
    most: int = 100

    def __post_init__(self):
        shares = (*self.thresholds, self.min_probability, self.nms, self.shortest, self.least)
        if not self.thresholds or not all(0 <= share <= 1 for share in shares):
            raise UsageError(f"thresholds, min_probability, nms, shortest and least lie between 0 and 1: {self}")
        if not (self.surroundings > 0 and self.steps >= 1 and self.most >= 1):
            raise UsageError(f"surroundings, steps and most must be above 0: {self}")


def propose_intervals(
    reading: "ClipReading", settings: IntervalSettings | None = None, *, labels: Iterable[str] | None = None
) -> list[Interval]:
    """Intervals of every class that is probable enough, or of `labels`, in order of their scores, the best first.

    What counts is where in its own video a class has more evidence than elsewhere: one that fills a video from end to
    end is found in parts. score: the probability of the class times the contrast, which is the mean evidence inside
    less that of the surroundings (AutoLoc's outer-inner contrast, the evidence scaled to 0..1 within the video).
    Evidence that is the same in all clips, as in a video of one, singles nothing out: the interval is then the whole
    video, its score 0. Times and scores are rounded as they are written, so that what is judged is what files hold.
    """
    settings = settings or IntervalSettings()
    if labels is None:
        wanted = set(np.flatnonzero(reading.probabilities >= settings.min_probability).tolist()) | {reading.top}
    else:
        wanted = {reading.classes.index(label) for label in labels if label in reading.classes}
    found = []
    for k in sorted(wanted):
        line = TimeLine.of(reading.starts, reading.ends, reading.evidence[:, k], steps=settings.steps)
        spans = np.unique(np.concatenate([line.above(cut) for cut in settings.thresholds]), axis=0)  # (n, 2)
        spans = long_enough(spans, settings.shortest * float(np.median(reading.ends - reading.starts)))
        scores = float(reading.probabilities[k]) * line.contrast(spans, settings.surroundings)
        good = scores >= min(scores.max(), settings.least * scores.max())  # the best stays, whatever it is
        spans, scores = spans[good], scores[good]
        for n in suppress(spans, scores, settings.nms, most=settings.most):
            start, end = spans[n].tolist()
            found.append(Interval(start, end, reading.classes[k], float(scores[n])).rounded())
    return sorted(found, key=lambda interval: (-interval.score, interval.start))


@dataclass(frozen=True, eq=False)
class TimeLine:
    """Evidence over time in S short steps: starts, ends (S,) in seconds and values (S,), scaled to 0..1.

    section (S,): a number for each stretch of time without gaps.
    """

    starts: np.ndarray
    ends: np.ndarray
    values: np.ndarray
    section: np.ndarray

    @classmethod
    def of(cls, starts: np.ndarray, ends: np.ndarray, evidence: np.ndarray, *, steps: int) -> "TimeLine":
        """Of C clips: each divided into `steps`; 1 leaves them as they are."""
        ends = np.minimum(ends, np.append(starts[1:], np.inf))  # of clips that overlap, a moment belongs to the later
        values, section = _scaled(evidence), _sections(starts, ends)
        if steps > 1:
            borders = starts[:, None] + (ends - starts)[:, None] * np.linspace(0, 1, steps + 1)  # (C, steps + 1)
            borders[:, -1] = ends  # not a rounding beside it
            middles = (borders[:, :-1] + borders[:, 1:]) / 2
            parts = []
            for number in range(section[-1] + 1):
                inside = section == number
                clip_middles = (starts[inside] + ends[inside]) / 2
                parts.append(np.interp(middles[inside].ravel(), clip_middles, values[inside]))
            values = np.concatenate(parts)
            starts, ends, section = borders[:, :-1].ravel(), borders[:, 1:].ravel(), np.repeat(section, steps)
        return cls(starts, ends, values, section)

    def above(self, threshold: float) -> np.ndarray:
        """Where the values reach the threshold without a break: (n, 2) seconds."""
        reached = self.values >= min(threshold, self.values.max())  # steps may just miss the middle of the best clip
        number = np.where(reached, self.section, -1)
        first = np.flatnonzero((number >= 0) & (np.append(-1, number[:-1]) != number))
        last = np.flatnonzero((number >= 0) & (np.append(number[1:], -1) != number))
        return np.stack([self.starts[first], self.ends[last]], axis=1)

    def contrast(self, spans: np.ndarray, surroundings: float) -> np.ndarray:
        """Mean value within spans (n, 2) less that of their surroundings: (n,); 0 without any to stand out from."""
        start, end = spans.T
        reach = surroundings * (end - start)
        inner, before, after = (
            self._integrals(*of) for of in ((start, end), (start - reach, start), (end, end + reach))
        )
        outer = before + after
        known = (inner[1] > SHORTEST) & (outer[1] > SHORTEST)
        inside, outside = (np.divide(*of, out=np.zeros(len(spans)), where=known) for of in (inner, outer))
        return inside - outside

    def _integrals(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Of the values over time, and the seconds of it that clips cover, from starts to ends (n,): (2, n)."""
        knots = np.stack([self.starts, self.ends], axis=1).ravel()
        seconds = np.stack([np.zeros(len(self.starts)), self.ends - self.starts], axis=1).ravel()
        totals = (np.cumsum(seconds * heights) for heights in (np.repeat(self.values, 2), 1.0))
        return np.stack([np.interp(end, knots, total) - np.interp(start, knots, total) for total in totals])


def long_enough(spans: np.ndarray, seconds: float) -> np.ndarray:
    """Those of spans (n, 2) that last so long; where none does, the longest, the earlier of equal ones."""
    lengths = spans[:, 1] - spans[:, 0]
    kept = spans[lengths >= seconds]
    return kept if len(kept) else spans[[lengths.argmax()]]


def suppress(spans: np.ndarray, scores: np.ndarray, most_overlap: float, *, most: int) -> list[int]:
    """Non-maximum suppression: which `most` of spans (n, 2) stay, by falling score (n,), the earlier where equal."""
    kept = []
    left = np.argsort(-scores, kind="stable")
    while len(left) and len(kept) < most:
        best, left = left[0], left[1:]
        kept.append(int(best))
        left = left[tiou(*spans[best], *spans[left].T) <= most_overlap]
    return kept


def tiou(start: float, end: float, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Temporal intersection over union of one interval with others: (G,), (G,) -> (G,), 0 where the union is empty.

    >>> tiou(0.0, 2.0, np.array([1.0, 5.0]), np.array([3.0, 6.0])).round(3).tolist()
    [0.333, 0.0]
    """
    shared = (np.minimum(end, ends) - np.maximum(start, starts)).clip(0)
    union = (end - start) + (ends - starts) - shared
    return np.divide(shared, union, out=np.zeros(union.shape), where=union > 0)


def _scaled(evidence: np.ndarray) -> np.ndarray:
    """0 where least, 1 where most; 1 everywhere when all are equal. What is no number counts as the least."""
    evidence = np.asarray(evidence, np.float64)
    finite = np.isfinite(evidence)
    if not finite.any():
        return np.ones(len(evidence))
    span = np.ptp(evidence[finite])
    if span <= ROUNDING * np.abs(evidence[finite]).max():
        return finite.astype(np.float64)
    return np.where(finite, evidence - evidence[finite].min(), 0) / span


def _sections(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """A number (C,) for each stretch of clips that follow one another in time."""
    gaps = starts[1:] - ends[:-1]
    return np.append(0, np.cumsum(gaps > GAP * np.median(ends - starts)))
