import csv

import numpy as np
import pytest

from gcf.head.fitting.fit import Trained
from gcf.head.runs import write_csv
from gcf.head.tables.arm_table import latex_table, markdown_table, table_rows
from gcf.head.tables.plots import plot_arms
from gcf.head.tables.statistics import holm, paired_difference
from gcf.head.trials.results import EvaluationSet, SeedResult

VIDEOS, CLASSES = 60, 3
LABELS = np.arange(VIDEOS) % CLASSES
JUDGED = EvaluationSet(np.arange(VIDEOS), np.zeros(VIDEOS, dtype=np.int64), LABELS, "test")


def results(accuracy, *, seeds=(0, 1), luck=0, videos=VIDEOS):
    """Results of an arm that is right on about so many of the videos."""
    rng, found = np.random.default_rng(luck), []
    for seed in seeds:
        right = rng.random(videos) < accuracy
        predicted = np.where(right, LABELS[:videos], (LABELS[:videos] + 1) % CLASSES)
        figures = {"top1": right.mean(), "top5": 1.0, "mean_class": right.mean(), "loss": 0.5}
        metrics = figures | {"k": int(right.sum()), "n": videos}
        found.append(
            SeedResult(
                seed,
                metrics,
                [{"name": "holdout"} | metrics],
                [Trained({"step": 1}, [{"step": 1}])],
                [None],
                predicted,
                right * 1.0,
                right * 1.0,
                None,
                None,
            )
        )
    return found


def arms():
    return {
        "d-clips": results(0.5, luck=1),
        "mean": results(0.6, luck=2),
        "gcf-256": results(0.95, luck=3),
        "worse": results(0.2, luck=4),
    }


def right(found):
    return np.stack([r.predicted == LABELS for r in found])


def test_each_arm_is_compared_with_the_reference_and_adjusted_for_all_of_them():
    every = arms()
    rows = table_rows(every, JUDGED)
    assert [row["name"] for row in rows] == list(every)
    compared = [row for row in rows if row["name"] != "d-clips"]
    for row in compared:
        again = paired_difference(right(every[row["name"]]), right(every["d-clips"]), JUDGED.videos)
        assert {key: row[key] for key in vars(again)} == vars(again)
        assert row["not_compared"] is None
    for adjusted, raw in (("p_holm", "p"), ("mcnemar_holm", "mcnemar_p")):
        assert [row[adjusted] for row in compared] == holm([row[raw] for row in compared])
    assert all(rows[0][key] is None for key in ("delta", "low", "high", "p", "p_holm", "gained", "not_compared"))
    assert len({tuple(row) for row in rows}) == 1  # the same keys in the same order


def test_any_arm_can_be_the_reference():
    every = arms()
    rows = {row["name"]: row for row in table_rows(every, JUDGED, reference="mean")}
    assert rows["mean"]["delta"] is None
    assert rows["d-clips"]["delta"] == pytest.approx(right(every["d-clips"]).mean() - right(every["mean"]).mean())
    assert "against mean" in markdown_table(list(rows.values()), reference="mean").splitlines()[0]


def test_groups_are_looked_up_by_video_and_are_what_varies():
    order = np.random.default_rng(0).permutation(VIDEOS)  # as folds do
    judged = EvaluationSet(order, JUDGED.folds, LABELS, "test")
    groups = [f"g{n // 6}" for n in range(VIDEOS)]
    every = arms()
    found = table_rows(every, judged, groups=groups)[2]
    again = paired_difference(right(every["gcf-256"]), right(every["d-clips"]), order, [groups[n] for n in order])
    assert {key: found[key] for key in vars(again)} == vars(again)
    assert found["units"] == 10
    by_name = EvaluationSet(np.array([f"v{n}" for n in order]), JUDGED.folds, LABELS, "test")
    assert table_rows(every, by_name, groups={f"v{n}": groups[n] for n in range(VIDEOS)})[2]["p"] == found["p"]


def test_an_arm_that_cannot_be_paired_is_not_compared_and_says_why():
    every = {
        "d-clips": results(0.5),
        "seeds": results(0.9, seeds=(0, 2)),
        "fewer": results(0.9, videos=50),
        "others": results(0.9),
        "folds": results(0.9),
        "paired": results(0.9, luck=7),
    }
    judged = dict.fromkeys(every, JUDGED)
    judged["others"] = EvaluationSet(JUDGED.videos + 1, JUDGED.folds, LABELS, "test")
    judged["folds"] = EvaluationSet(JUDGED.videos, np.arange(VIDEOS) % 2, LABELS, "test")
    rows = {row["name"]: row for row in table_rows(every, judged)}
    assert rows["seeds"]["not_compared"] == "Run with the seeds 0, 2, d-clips with 0, 1."
    assert rows["fewer"]["not_compared"] == "Judged on 50 videos that are not the 60 of d-clips."
    assert rows["others"]["not_compared"] == "Judged on 60 videos that are not the 60 of d-clips."
    assert rows["folds"]["not_compared"] == "Judged in other splits than d-clips."
    for name in ("seeds", "fewer", "others", "folds"):
        assert rows[name]["delta"] is rows[name]["p"] is rows[name]["p_holm"] is rows[name]["gained"] is None
        assert rows[name]["mean"] > 0.5
    assert rows["paired"]["p_holm"] == rows["paired"]["p"]  # the only one that is compared
    text = markdown_table(list(rows.values()))
    assert "\nseeds: Run with the seeds 0, 2, d-clips with 0, 1.\n" in text
    assert "not compared" in text


def test_a_failed_arm_has_a_row_with_the_reason_and_disturbs_no_other(tmp_path):
    whole = table_rows(arms(), JUDGED)
    reasons = {"broken": "training diverged | loss nan\nlower the rate", "absent": "not run"}
    rows = table_rows({"broken": []} | arms(), JUDGED, failed=reasons)
    assert rows[0] == {"name": "broken", "mean": None, "failed": reasons["broken"]}
    assert rows[-1] == {"name": "absent", "mean": None, "failed": "not run"}
    assert rows[1:-1] == whole
    text = markdown_table(rows)
    assert {len(line.split("|")) for line in text.splitlines() if line.startswith("|")} == {12}
    assert "| broken | failed |" in text
    assert "absent: not run" in text
    plot_arms(tmp_path / "arms.png", rows)
    write_csv(tmp_path / "table.csv", rows)
    read = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert set(read[0]) == set(whole[0]) | {"failed"}
    assert read[0]["mean"] == read[0]["p"] == ""
    assert float(read[3]["p"]) == rows[3]["p"]


def test_a_name_cannot_break_the_markdown_table():
    lines = markdown_table(table_rows({"d-clips": results(0.5), "a|b\nc": results(0.9)}, JUDGED)).splitlines()
    assert len(lines) == 4
    assert lines[3].startswith(r"| a\|b c | ")
    rows = table_rows({"a|b": results(0.5), "mean": results(0.9)}, JUDGED, reference="a|b")
    assert r"against a\|b" in markdown_table(rows, reference="a|b").splitlines()[0]


def test_without_the_reference_nothing_is_compared():
    every = arms() | {"d-clips": []}
    rows = table_rows(every, JUDGED, failed={"d-clips": "no memory"})
    assert rows[1]["not_compared"] == "d-clips has no results to compare with."
    assert table_rows({"mean": results(0.5)}, JUDGED)[0]["not_compared"] == rows[1]["not_compared"]
    assert table_rows(every, JUDGED)[0]["failed"] == "it has no results"


def test_the_latex_table_has_whole_rows_and_nothing_that_latex_would_trip_over():
    every = {"d-clips": results(0.5), r"my_head & 50 % \x{~}^": results(0.9, luck=3), "broken": []}
    lines = latex_table(table_rows(every, JUDGED, failed={"broken": "loss is nan\nsee log"})).splitlines()
    assert lines[0] == r"\begin{tabular}{lrrrrrrrrr}"
    assert [lines[1], lines[3], *lines[-3:-1]] == [r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}"]
    assert lines[-1] == "% broken: loss is nan see log"
    for line in (lines[2], *lines[4:-3]):
        assert line.endswith(r" \\")
        assert line.replace(r"\&", "").count("&") == 9
        assert "%" not in line.replace(r"\%", "")
    assert r"my\_head \& 50 \% \textbackslash{}x\{\textasciitilde{}\}\textasciicircum{} &" in lines[5]
    assert r"$<$ 0.001" in lines[5]
    assert r"$+$" in lines[5]
    assert "d-clips & " in lines[4]


@pytest.mark.parametrize("sign", "=+-@\t\r")
def test_tables_run_no_formula_and_leave_numbers_alone(sign, tmp_path):
    rows = [{"name": f"{sign}1+2", f"{sign}key": -0.5}, {"name": "gcf-256", "p": None}]
    write_csv(tmp_path / "table.csv", rows)
    with (tmp_path / "table.csv").open(newline="") as file:
        head, *lines = csv.reader(file)
    assert head == ["name", f"'{sign}key", "p"]
    assert lines == [[f"'{sign}1+2", "-0.5", ""], ["gcf-256", "", ""]]
