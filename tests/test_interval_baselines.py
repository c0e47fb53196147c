"""The ceiling of the grid, and blind intervals: against brute force and by hand."""

import numpy as np
import pytest
from compare import FLOAT64_FORWARD, assert_bitwise_equal, relative_error
from measured import reading

from gcf.data.segments import Segment
from gcf.explain.measures.detection_map import TIOUS, detection_map
from gcf.explain.measures.interval_baselines import (
    best_on_grid,
    grid_ceiling,
    random_intervals,
    random_map,
    uniform_intervals,
)
from gcf.explain.reading.intervals import Interval, tiou


def places(found):
    return [(one.start, one.end) for one in found]


@pytest.mark.parametrize("seed", range(60))
def test_no_interval_of_clips_is_better_than_the_ceilings(seed):
    rng = np.random.default_rng(seed)
    edges = np.cumsum(rng.uniform(0.3, 2, int(rng.integers(2, 12)))).round(2)
    starts, ends = edges[:-1] - edges[0], edges[1:] - edges[0]
    ends = ends - 0.2 * (seed % 2)  # every second grid has gaps between the clips
    start = rng.uniform(-1, ends[-1])
    segment = Segment(start, start + rng.uniform(0, 6), "run")
    every = [tiou(a, b, np.array([segment.start]), np.array([segment.end]))[0] for a in starts for b in ends if a < b]
    found = best_on_grid(starts, ends, segment)
    assert found.score == pytest.approx(max(every), abs=FLOAT64_FORWARD)
    assert found.start in starts
    assert found.end in ends
    assert found.label == "run"


def test_a_segment_on_the_grid_is_found_exactly_and_one_within_a_clip_by_that_clip():
    starts, ends = np.arange(5) * 2.0, np.arange(1, 6) * 2.0
    assert best_on_grid(starts, ends, Segment(2, 6, "run")) == Interval(2, 6, "run", 1)
    assert best_on_grid(starts, ends, Segment(4.5, 5, "run")) == Interval(4, 6, "run", 0.25)
    assert best_on_grid(starts, ends, Segment(1, 4, "run")) == Interval(0, 4, "run", 0.75)
    assert best_on_grid(starts, ends, Segment(30, 40, "run")).score == 0


def test_the_ceilings_map_is_the_share_of_segments_that_the_grid_reaches():
    readings = {"a": reading("a", clips=9), "b": reading("b", clips=9)}
    rng = np.random.default_rng(0)
    truth = {
        video: [Segment(s, s + d, "run") for s, d in zip(rng.uniform(0, 14, 30), rng.uniform(0.5, 4, 30), strict=True)]
        for video in readings
    }
    ceiling = grid_ceiling(readings, truth)
    reached = np.array([one.score for own in ceiling.values() for one in own])
    expected = [(reached >= at).mean() for at in TIOUS]
    assert 0 < expected[-1] < expected[4] < 1
    assert relative_error(detection_map(ceiling, truth).map, expected) < FLOAT64_FORWARD


def test_uniform_intervals_cut_the_video_into_equal_pieces_of_about_that_length():
    readings = {"v": reading("v", clips=4)}  # 8 s
    assert places(uniform_intervals(readings, {"v": ["run"]}, 2.7)["v"]) == [
        (0, pytest.approx(8 / 3)), (pytest.approx(8 / 3), pytest.approx(16 / 3)), (pytest.approx(16 / 3), 8)
    ]  # fmt: skip
    assert places(uniform_intervals(readings, {"v": ["run"]}, 100)["v"]) == [(0, 8)]
    assert places(uniform_intervals(readings, {"v": ["run"]}, 0)["v"]) == [(0, 8)]


def test_uniform_intervals_have_each_predicted_class_with_its_probability():
    found = uniform_intervals({"v": reading(), "w": reading("w")}, {"v": ["sit", "run"], "w": []}, 4)
    assert [(one.label, one.score) for one in found["v"]] == [("sit", 0.25)] * 2 + [("run", 0.75)] * 2
    assert found["w"] == []


def test_random_intervals_keep_everything_but_the_place():
    readings = {"v": reading("v", clips=10)}  # 20 s
    own = [Interval(1, 4, "run", 0.9), Interval(8, 8.5, "sit", 0.1), Interval(-3, 40, "run", 0.2)]
    rng = np.random.default_rng(0)
    drawn = [random_intervals(readings, {"v": own}, rng)["v"] for _ in range(400)]
    for found in drawn:
        assert [(one.label, one.score) for one in found] == [(one.label, one.score) for one in own]
        assert [one.end - one.start for one in found] == pytest.approx([3, 0.5, 20])
        assert all(0 <= one.start <= one.end <= 20 + 1e-9 for one in found)
    starts = np.array([found[0].start for found in drawn])
    assert starts.min() < 0.5
    assert starts.max() > 16.5
    assert starts.mean() == pytest.approx(8.5, abs=4 * 17 / 12**0.5 / 20)  # four standard errors of a uniform


@pytest.mark.slow
def test_random_maps_repeat_with_their_seed_and_near_the_chance_of_a_hit():
    readings = {f"v{n}": reading(f"v{n}", clips=10) for n in range(60)}
    intervals = {video: [Interval(0, 4, "run", 0.5)] for video in readings}
    truth = {video: [Segment(8, 12, "run")] for video in readings}
    found = random_map(readings, intervals, truth, TIOUS, seed=1, repeats=40)
    again = random_map(readings, intervals, truth, TIOUS, seed=1, repeats=40)
    assert_bitwise_equal(found.map, again.map)
    backwards = dict(reversed(readings.items()))
    assert_bitwise_equal(random_map(backwards, intervals, truth, TIOUS, seed=1, repeats=40).map, found.map)
    assert (random_map(readings, intervals, truth, TIOUS, seed=2, repeats=40).map != found.map).any()
    # tIoU 0.6 is a shift of at most 1 s of 4 s; of 16 s of starts, 2 s give it; precision and recall are both 1 / 8
    assert 0.6 < found.at(0.6) / (1 / 8) ** 2 < 2.5
    assert detection_map(intervals, truth).at(0.1) == 0
