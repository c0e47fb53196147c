"""What a report says of predictions and differences, checked by hand."""

import numpy as np
import pytest
from pages import Page

from gcf.head.report.classes import class_changes, confused_pairs, confusion, surest_misses
from gcf.head.report.content import build_report
from gcf.head.report.page import render
from gcf.head.report.run import Predictions, ReportedRun
from gcf.head.report.tables import interval_chart
from gcf.head.report.words import MINUS, is_shown, verdict

PREDICTED = Predictions(
    ids=["u", "v", "w", "x"],
    labels=np.array([0, 0, 1, 2]),
    classes=["a", "b", "c"],
    predicted={"new": np.array([[0, 1, 1, 0], [0, 1, 1, 2]]), "old": np.array([[0, 0, 2, 0], [0, 0, 2, 2]])},
    true_probability={"new": np.array([[0.9, 0.2, 0.8, 0.3], [0.9, 0.1, 0.8, 0.6]])},
)


def test_confusion_and_its_pairs_are_counted_over_seeds():
    counts = confusion(PREDICTED, "new")
    by_hand = np.zeros((3, 3), dtype=int)
    for seed in PREDICTED.predicted["new"]:
        for true, said in zip(PREDICTED.labels, seed, strict=True):
            by_hand[true, said] += 1
    assert counts.tolist() == by_hand.tolist() == [[2, 2, 0], [0, 2, 0], [1, 0, 1]]
    assert confused_pairs(counts, PREDICTED.classes) == [("a", "b", 2, 4), ("c", "a", 1, 2)]


def test_classes_that_change_are_sorted_from_gained_to_lost():
    found = [(c.name, c.videos, c.before, c.right) for c in class_changes(PREDICTED, "new", "old")]
    assert found == [("b", 1, 0.0, 1.0), ("a", 2, 1.0, 0.5)]


def test_the_surest_misses_are_wrong_in_most_seeds():
    (miss,) = surest_misses(PREDICTED, "new")
    assert (miss.id, miss.true, miss.said) == ("v", "a", "b")
    assert miss.probability == pytest.approx(0.15)  # float64, one mean of two


def row(name, mean, **more):
    usual = {"seeds": 1, "std": None, "delta": None, "low": None, "high": None, "p": None, "k": 9, "n": 10}
    return {"name": name, "mean": mean} | usual | more


REFERENCE = row("d-clips", 0.8)
BETTER = {"delta": 0.1, "low": 0.02, "high": 0.18, "p": 0.01}


LEVEL = {"delta": 0.0, "low": -0.2, "high": 0.1, "p": 1.0}
WORSE = {"delta": -0.1, "low": -0.2, "high": -0.01, "p": 0.0001}
VERDICTS = [
    (
        [REFERENCE, row("x", 0.9, **BETTER)],
        "10.0 points above the reference, d-clips; the difference is",
        "not corrected",
    ),
    ([REFERENCE, row("x", 0.9, **BETTER, p_holm=0.06)], "no difference is shown", "+18.0; Holm-corrected p = 0.060"),
    ([REFERENCE, row("x", 0.9, **BETTER | {"low": -0.01})], "no difference is shown", f"{MINUS}1.0 to +18.0"),
    ([REFERENCE, row("x", 0.7, **WORSE)], "No arm is above the reference", "x is 10.0 points below it; the difference"),
    (
        [REFERENCE, row("x", 0.8, **LEVEL)],
        "No arm is above the reference",
        "x is level with it; no difference is shown",
    ),
    ([REFERENCE, row("x", 0.9, not_compared="other videos")], "x is best: it gets 90.0\u00a0%", ""),
    ([row("x", 0.9), row("d-clips", None)], "x gets 90.0\u00a0% of the test videos right.", "9 of 10"),
]


@pytest.mark.parametrize(("rows", "headline", "evidence"), VERDICTS)
def test_the_verdict_claims_no_more_than_was_found(rows, headline, evidence):
    run = ReportedRun("ablate", {"judged_on": "test"}, {}, {}, rows, {}, None, [])
    said, grounds = verdict(run)
    assert headline in said
    assert evidence in grounds
    assert said in Page(render("report.html", report=build_report(run))).headings


def test_a_difference_needs_test_and_interval():
    assert is_shown(BETTER)
    assert is_shown(BETTER | {"low": -0.2, "high": -0.1})
    assert not is_shown(BETTER | {"p_holm": 0.05})
    assert not is_shown(BETTER | {"low": -0.001})


def test_dots_and_intervals_lie_on_one_axis_with_zero():
    chart = interval_chart([REFERENCE, row("x", 0.9, **BETTER), row("y", 0.7, delta=-0.1, low=-0.2, high=0.0, p=1)])
    none, x, y = chart.intervals
    assert none is None
    scale = (x.high - y.low) / 0.38  # places per unit
    assert x.middle - chart.zero == pytest.approx(0.1 * scale, abs=0.02)  # places are rounded to 0.01
    assert y.high == chart.zero
    assert 0 <= y.low < x.high <= 100
    ticks = {text: place for place, text in chart.ticks}
    assert ticks["0"] == chart.zero
