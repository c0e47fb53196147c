import json
from dataclasses import replace

import numpy as np
import pytest
from compare import FLOAT64_FORWARD, relative_error

from gcf.data.schema import Clips, VideoInfo
from gcf.errors import UsageError
from gcf.explain.reading.clip_reading import ClipReading
from gcf.explain.reading.intervals import IntervalSettings, TimeLine, propose_intervals, suppress, tiou

GRID = IntervalSettings(steps=1)


def reading(evidence, *, starts=None, ends=None, probabilities=(0.9, 0.06, 0.04), origin=0.0):
    """Evidence (C,) of the first of three classes, or (C, 3); clips of a second unless times are given."""
    evidence = np.asarray(evidence, np.float32)
    if evidence.ndim == 1:
        evidence = np.stack([evidence, evidence[::-1], np.zeros_like(evidence)], axis=1)
    count = len(evidence)
    starts = np.arange(count, dtype=float) if starts is None else np.asarray(starts, float)
    ends = starts + 1 if ends is None else np.asarray(ends, float)
    clips = Clips(np.arange(count) * 16, np.full(count, 16), starts + origin, ends + origin)
    info = VideoInfo(16.0, count * 16, 64, 48, float(ends[-1]), 1, 1)
    probabilities = np.array(probabilities)
    return ClipReading("v", clips, info, ("a", "b", "c"), np.log(probabilities), probabilities, evidence, "traced")


def spans(intervals):
    return [(one.start, one.end) for one in intervals]


def test_the_best_intervals_are_the_runs_of_clips_that_stand_out():
    found = propose_intervals(reading([0, 0, 1, 1, 0, 0, 0.8, 0]), GRID)
    assert spans(found)[:2] == [(2, 4), (6, 7)]
    assert found[0].label == "a"
    assert found[0].score == pytest.approx(0.9)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_interpolation_finds_the_same_events_and_borders_between_the_clips():
    evidence = [0, 0, 1, 1, 0, 0, 0, 0]
    best = propose_intervals(reading(evidence), IntervalSettings(thresholds=(0.5,)))[0]
    assert (best.start, best.end) == pytest.approx((2, 4), abs=1 / 16)
    leaning = propose_intervals(reading([0, 0.4, 1, 0, 0, 0, 0, 0]), IntervalSettings(thresholds=(0.5,)))[0]
    assert 1.6 < leaning.start < 1.75  # the clip before holds some of it
    assert leaning.end == pytest.approx(3, abs=1 / 16)


def test_times_count_from_the_first_frame_whatever_the_stream_starts_at():
    evidence = [0, 1, 0, 0]
    assert spans(propose_intervals(reading(evidence, origin=7.5))) == spans(propose_intervals(reading(evidence)))


def test_contrast_weighs_time_not_clips():
    line = TimeLine.of(np.array([0.0, 1, 2, 2.5]), np.array([1.0, 2, 2.5, 4]), np.array([0.0, 1, 0.5, 0]), steps=1)
    # [1, 2.5]: inside 1 s of 1 and half a second of 0.5; outside 0.375 s on either side, both of 0
    # [1, 2]: outside a quarter of a second of 0 before, of 0.5 behind
    expected = [(1 + 0.25) / 1.5, 1 - 0.25]
    assert relative_error(line.contrast(np.array([[1, 2.5], [1, 2]]), 0.25), expected) < FLOAT64_FORWARD


def test_contrast_equals_a_sum_over_thin_slices():
    rng = np.random.default_rng(6)
    starts = np.cumsum(rng.uniform(0.5, 1.5, 12))
    ends = np.minimum(starts + rng.uniform(0.5, 1.5, 12), np.append(starts[1:], np.inf))
    line = TimeLine.of(starts, ends, rng.random(12), steps=1)
    rows = np.sort(rng.uniform(starts[0], ends[-1], (20, 2)), axis=1)
    moments = np.arange(starts[0] - 9, ends[-1] + 9, 1e-4)
    clip = np.searchsorted(starts, moments, side="right") - 1
    seen = (clip >= 0) & (moments < ends[clip])
    for (start, end), contrast in zip(rows, line.contrast(rows, 0.4), strict=True):
        reach = 0.4 * (end - start)
        inside = (moments >= start) & (moments < end)
        outside = (moments >= start - reach) & (moments < end + reach) & ~inside
        expected = line.values[clip[inside & seen]].mean() - line.values[clip[outside & seen]].mean()
        assert contrast == pytest.approx(expected, abs=2e-3)


def test_of_clips_that_overlap_a_moment_counts_once():
    line = TimeLine.of(np.array([0.0, 1, 2]), np.array([2.0, 3, 4]), np.array([0.0, 1, 0]), steps=1)
    assert line.ends.tolist() == [1, 2, 4]


def test_clips_of_unequal_length_keep_their_own_borders():
    found = propose_intervals(reading([0, 1, 1, 0], starts=[0, 0.5, 2.5, 2.75], ends=[0.5, 2.5, 2.75, 5]), GRID)
    assert spans(found)[0] == (0.5, 2.75)


@pytest.mark.parametrize("steps", [1, 16])
def test_no_interval_reaches_across_time_that_no_clip_saw(steps):
    shown = reading([0, 1, 1, 0], starts=[0, 1, 9, 10], ends=[1, 2, 10, 11])
    found = propose_intervals(shown, IntervalSettings(steps=steps))
    assert all(one.end <= 2 or one.start >= 9 for one in found)
    assert any(one.end == 2 for one in found)
    assert any(one.start == 9 for one in found)


def test_a_hair_between_clips_is_no_gap():
    shown = reading([0, 1, 1, 0], starts=[0, 1.001, 2.001, 3.002], ends=[1, 2, 3, 4])
    assert spans(propose_intervals(shown, GRID))[0] == (1.001, 3)


@pytest.mark.parametrize("steps", [1, 16])
@pytest.mark.parametrize("evidence", [[3.0], [0.0], [-2.0] * 5, [0.1 + 2e-8, 0.1, 0.1]])
def test_evidence_without_contrast_gives_the_whole_video(evidence, steps):
    found = propose_intervals(reading(evidence), IntervalSettings(steps=steps))
    assert spans(found) == [(0, len(evidence))]
    assert found[0].score == 0


def test_a_video_of_one_frame_without_duration_is_no_error():
    found = propose_intervals(reading([1.0], starts=[0], ends=[0]))
    assert spans(found) == [(0, 0)]
    assert np.isfinite(found[0].score)


@pytest.mark.parametrize("broken", [np.nan, -np.inf, np.inf])
def test_evidence_that_is_no_number_is_the_least(broken):
    found = propose_intervals(reading([0, 2, 1, broken]), GRID)
    assert spans(found)[0] == (1, 2)
    assert all(np.isfinite(one.score) for one in found)
    assert spans(propose_intervals(reading([2, 2, broken, broken]), GRID)) == [(0, 2)]
    assert spans(propose_intervals(reading([broken] * 3), GRID)) == [(0, 3)]


def test_only_probable_classes_are_looked_for_but_the_top_one_always():
    evidence = np.random.default_rng(0).random((6, 3))
    labels = lambda p: {one.label for one in propose_intervals(reading(evidence, probabilities=p), GRID)}  # noqa: E731
    assert labels((0.5, 0.45, 0.05)) == {"a", "b"}
    assert labels((0.03, 0.02, 0.04)) == {"c"}


def test_the_probability_of_the_class_counts_in_the_score():
    evidence = np.array([[0, 0], [1, 0], [0, 0], [0, 1], [0, 0]], float)
    both = propose_intervals(reading(np.c_[evidence, evidence[:, 0]], probabilities=(0.3, 0.6, 0.1)), GRID)
    assert (both[0].label, both[0].start, both[0].end) == ("b", 3, 4)


def test_any_threshold_finds_the_best_clip():
    for steps in (1, 16):
        found = propose_intervals(reading([0, 0.5, 1, 0]), IntervalSettings(thresholds=(1.0,), steps=steps))
        assert len(found) == 1
        assert 2 <= found[0].start < found[0].end <= 3


def test_suppression_keeps_the_best_of_those_that_overlap():
    rows = np.array([[0, 4], [0, 3], [10, 12], [0, 4], [3, 7]], float)
    scores = np.array([0.5, 0.9, 0.2, 0.5, 0.4])
    assert suppress(rows, scores, 0.4, most=9) == [1, 4, 2]  # [0, 4] shares 3 of 4 seconds with [0, 3]
    assert suppress(rows, scores, 1.0, most=9) == [1, 0, 3, 4, 2]
    assert suppress(rows, scores, 0.4, most=2) == [1, 4]


def test_suppression_equals_a_plain_loop_over_pairs():
    rng = np.random.default_rng(3)
    rows = np.sort(rng.random((60, 2)) * 10, axis=1)
    scores = rng.random(60)
    kept = []
    for n in sorted(range(60), key=lambda n: -scores[n]):
        if all(plain_iou(rows[n], rows[m]) <= 0.3 for m in kept):
            kept.append(n)
    assert suppress(rows, scores, 0.3, most=60) == kept


def plain_iou(a, b):
    shared = max(0, min(a[1], b[1]) - max(a[0], b[0]))
    return shared / (a[1] - a[0] + b[1] - b[0] - shared)


def test_overlap_is_intersection_over_union():
    others = np.array([[0, 2], [1, 3], [5, 6], [0, 0]], float)
    assert relative_error(tiou(0.0, 2.0, *others.T), [1, 1 / 3, 0, 0]) < FLOAT64_FORWARD
    assert tiou(0.0, 0.0, *np.zeros((2, 1))).tolist() == [0]


def test_the_same_reading_gives_the_same_intervals_in_plain_numbers():
    shown = reading(np.random.default_rng(1).random(12))
    one, two = propose_intervals(shown), propose_intervals(shown)
    assert one == two
    assert json.dumps([vars(interval) for interval in one])


def test_scale_and_offset_of_the_evidence_change_nothing():
    evidence = np.random.default_rng(2).random(10)
    one, two = (propose_intervals(reading(values)) for values in (evidence, 1000 * evidence - 30))
    assert spans(one) == spans(two)


def test_times_of_which_the_clips_say_nothing_are_left_out_unless_there_is_no_other():
    narrow = IntervalSettings(thresholds=(0.95,), nms=0.0, shortest=0.0, least=0.0)
    peaks = reading([0, 1, 0, 0, 0.97, 0, 0])
    assert min(end - start for start, end in spans(propose_intervals(peaks, narrow))) < 0.3
    longer = propose_intervals(peaks, replace(narrow, thresholds=(0.5, 0.95), nms=1.0, shortest=0.5))
    assert min(end - start for start, end in spans(longer)) >= 0.5
    tail = reading([0, 0, 0, 0, 1], ends=[1, 2, 3, 4, 4.1])
    assert spans(propose_intervals(tail, IntervalSettings(thresholds=(0.9,), steps=1))) == [(4, 4.1)]


def test_intervals_that_score_little_beside_the_best_are_left_out():
    evidence = reading([0, 0, 1, 1, 0, 0, 0.3, 0])
    every = propose_intervals(evidence, replace(GRID, least=0.0))
    best = max(one.score for one in every)
    assert min(one.score for one in every) < 0.5 * best
    kept = propose_intervals(evidence, replace(GRID, least=0.5))
    assert kept == [one for one in every if one.score >= 0.5 * best]


def test_classes_may_be_named():
    found = propose_intervals(reading([0, 1, 0, 0]), GRID, labels=["b", "z"])
    assert {one.label for one in found} == {"b"}


def test_there_are_no_more_intervals_of_a_class_than_asked_for():
    shown = reading(np.tile([0, 1.0], 20))
    assert len(propose_intervals(shown, GRID)) >= 20
    assert len(propose_intervals(shown, replace(GRID, most=3))) == 3


@pytest.mark.parametrize(
    "wrong", [{"thresholds": ()}, {"thresholds": (1.2,)}, {"nms": -1}, {"steps": 0}, {"surroundings": 0}, {"most": 0}]
)
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(UsageError):
        IntervalSettings(**wrong)
