"""Temporal mAP: by hand, by properties, and as ActivityNet's published evaluator gives it."""

from dataclasses import replace

import numpy as np
import pytest
from compare import FLOAT64_FORWARD, assert_bitwise_equal, relative_error

from gcf.data.segments import Segment
from gcf.explain.measures.detection_map import ACTIVITYNET_TIOUS, TIOUS, detection_map
from gcf.explain.reading.intervals import Interval, tiou

CLASSES = ("jump", "run", "sit")
# What compute_average_precision_detection of activitynet/ActivityNet, Evaluation/eval_detection.py, says of `case(n)`:
# per class the average precision at tIoU 0.1 to 0.9, and the mean at 0.5, 0.55 to 0.95. Twelve digits.
PUBLISHED = [
    {
        "jump": ([0.691418385536] * 4 + [0.629469060351, 0.55388337153, 0.415023637914, 0.242120049601, 0.125494071146],
                 0.371654017338),
        "run": ([0.648484848485] + [0.590277777778] * 4
                + [0.291666666667, 0.186868686869, 0.186868686869, 0.0263157894737], 0.210675837321),
        "sit": ([0.640616693248] * 4 + [0.493482190324] * 3 + [0.379330143541, 0.0730994152047], 0.34293460925),
    },
    {
        "jump": ([0.450757575758] * 2 + [0.380277777778] * 5 + [0.285, 0.18625], 0.294541666667),
        "run": ([0.680357142857] + [0.641865079365] * 4 + [0.428571428571, 0.116666666667, 0.116666666667, 0.025],
                0.263253968254),
        "sit": ([0.554258639911, 0.552591973244, 0.552591973244] + [0.413147993311] * 3
                + [0.4082868822, 0.270512820513, 0.0846153846154], 0.298338485186),
    },
    {
        "jump": ([0.554956427015] * 2 + [0.496296296296] * 3
                 + [0.417592592593, 0.294444444444, 0.294444444444, 0.0193602693603], 0.298765216265),
        "run": ([0.518468899522] * 6 + [0.378947368421, 0.178181818182, 0.030303030303], 0.297257044125),
        "sit": ([0.750548245614] * 4 + [0.625548245614] * 2 + [0.485964912281, 0.247807017544, 0.133333333333],
                0.377532894737),
    },
]  # fmt: skip


def numbers(seed):
    """Whole numbers below 10007 that look random and are the same everywhere."""
    value = 4241 + 977 * seed
    while True:
        value = (value * 5003 + 3571) % 10007
        yield value


def case(seed):
    """Seven annotated videos and predictions of eight: some near a segment, some anywhere, no two scores alike."""
    draw = numbers(seed)
    truth, predicted, scores = {}, {}, set()
    for v in range(8):
        own = drawn(draw, 4)
        near = [(a + next(draw) % 240 / 100 - 1.2, b + next(draw) % 240 / 100 - 0.4, k) for a, b, k in own]
        found = near + drawn(draw, 5)
        if v < 7:
            truth[f"v{v}"] = [Segment(*one) for one in own]
        predicted[f"v{v}"] = []
        for one in found:
            while (score := next(draw)) in scores:
                pass
            scores.add(score)
            predicted[f"v{v}"].append(Interval(*one, score / 10007))
    return predicted, truth


def drawn(draw, count):
    """Intervals (start, end, label) of 2 to 12 seconds."""
    starts = (next(draw) % 4000 / 100 for _ in range(count))
    return [(a, a + 2 + next(draw) % 1000 / 100, CLASSES[next(draw) % 3]) for a in starts]


def one_video(predicted, truth, tious=(0.5,)):
    """The mAP of (start, end, score) against (start, end), of one class in one video."""
    intervals = [Interval(start, end, "run", score) for start, end, score in predicted]
    return detection_map({"v": intervals}, {"v": [Segment(*s, "run") for s in truth]}, tious).map.tolist()


@pytest.mark.parametrize("number", range(3))
def test_it_gives_the_numbers_of_activitynets_evaluator(number):
    found = detection_map(*case(number), (*TIOUS, *ACTIVITYNET_TIOUS))
    assert sorted(found.classes) == sorted(PUBLISHED[number])
    for label, (at, average) in PUBLISHED[number].items():
        assert relative_error(found.classes[label][:9], at) < FLOAT64_FORWARD
        assert relative_error(found.classes[label][9:].mean(), average) < FLOAT64_FORWARD
    expected = np.mean([average for _, average in PUBLISHED[number].values()])
    assert relative_error(found.average(ACTIVITYNET_TIOUS), expected) < FLOAT64_FORWARD


def test_precision_counts_where_recall_grows_and_never_less_than_at_a_higher_recall():
    # wrong, right, right, wrong, right: precisions 0, 1/2, 2/3, 1/2, 3/5; made monotone at the hits 2/3, 2/3, 3/5
    predicted = [(90, 91, 0.9), (0, 10, 0.8), (20, 30, 0.7), (80, 81, 0.6), (40, 50, 0.5)]
    truth = [(0, 10), (20, 30), (40, 50), (60, 70)]
    assert one_video(predicted, truth) == pytest.approx([(2 / 3 + 2 / 3 + 3 / 5) / 4], rel=FLOAT64_FORWARD)


def test_a_tiou_that_just_reaches_the_threshold_is_a_match():
    assert one_video([(0, 5, 1.0)], [(0, 10)], (0.4, 0.5, 0.6)) == [1, 1, 0]


def test_a_second_interval_on_the_same_segment_is_wrong():
    truth = [(0, 10), (20, 30)]
    assert one_video([(0, 10, 0.9), (0, 10, 0.8), (20, 30, 0.7)], truth) == pytest.approx([(1 + 2 / 3) / 2])
    assert one_video([(0, 10, 0.9), (0, 10, 0.8)], truth) == [0.5]


def test_the_sure_one_takes_the_segment_and_the_other_the_next_best():
    truth = [(0, 10), (4, 14)]  # (2, 11) overlaps both: 8 / 11 and 7 / 12
    assert one_video([(0, 10, 0.9), (2, 11, 0.8)], truth) == [1]
    # the sure one takes (0, 10), with which (0, 9) would agree; with the other it has 5 / 14
    assert one_video([(2, 11, 0.9), (0, 9, 0.8)], truth) == [0.5]


def test_a_segment_of_another_video_or_class_is_no_match():
    truth = {"a": [Segment(0, 10, "run")], "b": [Segment(0, 10, "sit")]}
    found = detection_map({"b": [Interval(0, 10, "run", 1)], "a": [Interval(0, 10, "sit", 1)]}, truth)
    assert found.map.tolist() == [0] * 9


def test_a_class_that_nobody_predicts_counts_as_nothing_found():
    truth = {"a": [Segment(0, 10, "run"), Segment(0, 10, "sit")]}
    found = detection_map({"a": [Interval(0, 10, "run", 1), Interval(0, 10, "swim", 1)]}, truth)
    assert {label: values.tolist() for label, values in found.classes.items()} == {"run": [1] * 9, "sit": [0] * 9}
    assert (found.at(0.5), found.average()) == (0.5, 0.5)


def test_of_equal_scores_the_earlier_interval_comes_first():
    assert one_video([(20, 30, 0.5), (0, 10, 0.5)], [(0, 10)]) == [1]
    assert one_video([(20, 30, 0.5), (0, 10, 0.5)], [(20, 30)]) == [0.5]


def test_of_equal_scores_the_earlier_video_comes_first_and_of_equal_overlaps_the_earlier_segment():
    right, wrong = {"a": [Interval(0, 10, "run", 0.5)]}, {"b": [Interval(0, 10, "run", 0.5)]}
    for predicted in (right | wrong, wrong | right):
        assert detection_map(predicted, {"a": [Segment(0, 10, "run")]}, (0.5,)).map.tolist() == [1]
    for truth in ([(0, 4), (4, 8)], [(4, 8), (0, 4)]):  # the sure one overlaps both alike, the other the later alone
        assert one_video([(2, 6, 0.9), (4, 8, 0.8)], truth, (0.3,)) == [1]


def test_points_in_time_do_not_overlap():
    assert tiou(3.0, 3.0, np.array([3.0]), np.array([3.0])).tolist() == [0]
    assert one_video([(3, 3, 1)], [(3, 3)]) == [0]


@pytest.mark.parametrize("number", range(3))
def test_the_order_in_which_intervals_and_segments_are_given_does_not_matter(number):
    predicted, truth = case(number)
    predicted = {v: [replace(one, score=round(one.score, 1)) for one in own] for v, own in predicted.items()}  # ties
    rng = np.random.default_rng(number)

    def shuffled(rows):
        return {v: [rows[v][n] for n in rng.permutation(len(rows[v]))] for v in rng.permutation(list(rows)).tolist()}

    expected = detection_map(predicted, truth)
    for _ in range(5):
        assert_bitwise_equal(detection_map(shuffled(predicted), shuffled(truth)).map, expected.map)


@pytest.mark.parametrize("number", range(3))
def test_predictions_that_are_the_truth_score_one(number):
    _, truth = case(number)
    perfect = {video: [Interval(s.start, s.end, s.label, 0.3) for s in own] for video, own in truth.items()}
    assert_bitwise_equal(detection_map(perfect, truth).map, np.ones(9))


@pytest.mark.parametrize("number", range(3))
def test_unsure_false_positives_never_raise_and_never_lower_what_is_found(number):
    predicted, truth = case(number)
    before = detection_map(predicted, truth)
    after = detection_map(predicted | {"elsewhere": [Interval(0, 9, label, -1) for label in CLASSES]}, truth)
    assert_bitwise_equal(after.map, before.map)  # the interpolated precision looks at hits alone
    sure = detection_map(predicted | {"elsewhere": [Interval(0, 9, label, 2) for label in CLASSES]}, truth)
    assert (sure.map < before.map).all()


@pytest.mark.parametrize("number", range(3))
def test_the_unit_of_time_does_not_matter(number):
    predicted, truth = ({v: [replace(o, start=4 * o.start, end=4 * o.end) for o in own] for v, own in rows.items()}
                        for rows in case(number))  # fmt: skip
    assert_bitwise_equal(detection_map(predicted, truth).map, detection_map(*case(number)).map)


def test_a_higher_threshold_never_finds_more():
    for number in range(3):
        assert (np.diff(detection_map(*case(number)).map) <= 0).all()


def test_without_a_segment_there_is_nothing_to_average():
    with pytest.raises(ValueError, match="no segment"):
        detection_map({"v": [Interval(0, 1, "run", 1)]}, {"v": []})
