"""Where things stand on a time line: places in units of a drawing that is stretched to the width of the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from gcf.explain.reading.intervals import Interval

WIDTH, HEIGHT = 10_000, 200  # of a drawing's own units: whole numbers are fine enough, and short
MOST_ROWS = 4
NARROWEST = 0.3  # percent; shorter intervals would not be seen
STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)  # seconds between ticks
MOST_TICKS = 6


@dataclass(frozen=True)
class Bar:
    """An interval on the time line: place and length in percent of it, and the row in which it overlaps no other."""

    interval: Interval
    left: float
    length: float
    row: int


def steps(start: np.ndarray, end: np.ndarray, values: np.ndarray, *, span: float, low: float, high: float) -> Markup:
    """The outline of bars from 0 to values (C,), as the path of an SVG WIDTH x HEIGHT that shows `low` to `high`.

    start, end (C,) in seconds of `span`. Clips that touch share an edge; where time is between them the path is at 0.
    """
    left, right = (np.rint(times * (WIDTH / span)).astype(int).tolist() for times in (start, end))
    scale = HEIGHT / (high - low)
    heights = np.rint((high - values) * scale).astype(int).tolist()
    zero = round(high * scale)
    parts, at = [f"M{left[0]} {zero}"], left[0]
    for x0, x1, y in zip(left, right, heights, strict=True):
        parts.append(f"V{y}H{x1}" if x0 <= at else f"V{zero}H{x0}V{y}H{x1}")
        at = max(at, x1)
    return Markup("{}V{}Z").format("".join(parts), zero)


def bars(intervals: Sequence[Interval], span: float) -> list[Bar]:
    """Intervals in the order of time, each in the first row that is free; beyond four rows they overlap."""
    free: list[float] = []  # when the last bar of each row ends
    found = []
    for one in sorted(intervals, key=lambda one: (one.start, -one.end)):
        row = next((row for row, end in enumerate(free) if end <= one.start), len(free))
        row = min(row, MOST_ROWS - 1)
        free[row : row + 1] = [one.end]
        left, right = min(100 - NARROWEST, 100 * one.start / span), min(100, 100 * one.end / span)
        found.append(Bar(one, round(left, 2), round(max(right - left, NARROWEST), 2), row))
    return found


def ticks(span: float) -> list[tuple[float, str]]:
    """Round times on the axis, as (percent of it, text).

    >>> ticks(10.0)
    [(0.0, '0 s'), (20.0, '2'), (40.0, '4'), (60.0, '6'), (80.0, '8'), (100.0, '10')]
    """
    step = next((step for step in STEPS if span / step < MOST_TICKS), 3600 * math.ceil(span / 3600 / MOST_TICKS))
    times = [round(number * step, 1) for number in range(int(span / step + 1e-9) + 1)]
    text_of = clock if span >= 120 else _seconds
    texts = map(text_of, times)
    return [(round(100 * time / span, 2), text) for time, text in zip(times, texts, strict=True)]


def _seconds(time: float) -> str:
    """The unit stands at the beginning alone."""
    return f"{time:g}" if time else "0 s"


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any.

    >>> clock(65), clock(3605)
    ('1:05', '1:00:05')
    """
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def bounds(values: np.ndarray) -> tuple[float, float]:
    """The lowest and the highest of values, 0 included, with room between them.

    >>> bounds(np.array([1.0, 2.0]))
    (0.0, 2.0)
    """
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    return (low, high) if high > low else (0.0, 1.0)
