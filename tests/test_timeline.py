"""What stands on a page's time line: paths of evidence, bars of intervals, ticks."""

import re
from itertools import pairwise

import numpy as np

from gcf.explain.pages import timeline
from gcf.explain.reading.intervals import Interval


def heights(path: str, at: np.ndarray) -> np.ndarray:
    """The upper edge of a path at places on its axis, by walking along it."""
    commands = [(c, [int(n) for n in rest.split()]) for c, rest in re.findall(r"([MVH])([\d -]+)", path)]
    x, y = commands[0][1]
    found = np.full(len(at), y)
    for command, (number, *_) in commands[1:]:
        if command == "H":
            found[(x <= at) & (at < number)] = y
            x = number
        else:
            y = number
    return found


def test_the_path_of_a_class_has_the_height_of_its_evidence_and_falls_to_zero_between_clips():
    rng = np.random.default_rng(0)
    start = np.array([0.0, 1.0, 2.0, 4.0])
    end, evidence = start + 1, rng.normal(size=4)
    low, high = timeline.bounds(evidence)
    path = timeline.steps(start, end, evidence, span=5.0, low=low, high=high)
    at = (np.array([0.5, 1.5, 2.5, 3.5, 4.5]) / 5 * timeline.WIDTH).astype(int)
    expected = (high - np.insert(evidence, 3, 0.0)) * timeline.HEIGHT / (high - low)
    assert np.abs(heights(path, at) - expected).max() <= 0.5  # rounded to whole units


def test_bars_of_one_row_do_not_overlap():
    rng = np.random.default_rng(0)
    found = [Interval(s, s + length, "x", 1.0) for s, length in rng.uniform(0, 2, (12, 2))]
    placed = timeline.bars(found, 10.0)
    assert len(placed) == 12
    assert {bar.row for bar in placed} == {0, 1, 2, 3}
    for row in range(timeline.MOST_ROWS - 1):
        own = sorted((bar.interval.start, bar.interval.end) for bar in placed if bar.row == row)
        assert all(before[1] <= after[0] for before, after in pairwise(own))


def test_bars_stay_on_the_time_line():
    found = [Interval(0.0, 0.0, "x", 1.0), Interval(9.0, 1e9, "x", 1.0), Interval(50.0, 60.0, "x", 1.0)]
    placed = timeline.bars(found, 10.0)
    assert all(bar.left >= 0 and bar.length > 0 and bar.left + bar.length <= 100.001 for bar in placed)
    assert (placed[1].left, placed[1].length) == (90.0, 10.0)


def test_ticks_are_few_round_and_inside():
    for span in (0.04, 0.5, 1.0, 9.97, 61.0, 640.0, 7000.0, 400_000.0):
        places = [place for place, _ in timeline.ticks(span)]
        assert 1 <= len(places) <= timeline.MOST_TICKS + 1
        assert all(0 <= place <= 100 for place in places)
