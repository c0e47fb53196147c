"""The page of a run: its figures are the run's, its texts are texts, and it needs nothing but itself."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
from caches import easy_cache
from pages import Page

import gcf.cli
from gcf import ablate, train_head, write_report
from gcf.data.text import printable
from gcf.errors import RefusedError, UsageError
from gcf.head.report.content import build_report
from gcf.head.report.page import render
from gcf.head.report.run import read_run
from gcf.head.report.words import MINUS
from gcf.head.runs import write_csv
from gcf.head.tables import arm_table as tables

pytestmark = pytest.mark.slow

HOSTILE = ["<script>alert(1)</script>", "\" onload='x' ' id=", "two\nlines \udc80 {{ 7*7 }} $x^2$"]
OPTIONAL = {
    "audit": {
        "shared_groups": [{"group": "<b>g</b>", "split": "1 of 3", "subsets": ["train", "test"]}],
        "shared_ids": [],
        "near_duplicates": [
            {"a": "<i>a</i>", "b": "b\n", "subsets": ["train", "test"], "split": "1", "similarity": 0.99}
        ],
        "num_near_duplicates": 30,
        "threshold": 0.9,
    },
    "test_looks": 3,
    "residency": "held in memory",
    "precision": {"training": "float32"},
    "sweep": {"axis": "width", "values": {"mean": 64, "gcf-256": 1024}},
    "recipe": {"backbone": "resnext101", "versions": {"torch": "2.14"}},
}
BINS = [{"low": 0.5, "high": 1.0, "count": 9, "confidence": 0.8, "accuracy": 0.7}]
CALIBRATED = {"temperature": 1.25, "ece_before": 0.123, "ece_after": 0.045, "before": BINS, "after": BINS}
ADDED = {"calibration", "audit", "test_looks", "recipe", "features", "residency", "precision", "reference"} | set(
    "p_holm mcnemar_p mcnemar_holm gained lost units smallest detectable not_compared ensemble temperature ece".split()
)
KEPT = ("d-clips", "mean", "gcf-256")
SECTIONS = {"reading", "sweep", "confusion", "changes", "gate", "calibration", "training"}


def page_of(path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def text_of(run) -> str:
    """The page alone, without the files beside it."""
    return render("report.html", report=build_report(read_run(run)))


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A small comparison, three folds and two seeds, as gcf ablate leaves it."""
    folder = tmp_path_factory.mktemp("ablation")
    # With descriptors as they are two passes are not enough, and the arms differ.
    ablate(easy_cache(folder / "f.h5"), folder / "run", cv=3, seeds=2, epochs=2, standardise=False)
    return folder / "run"


@pytest.fixture
def run(compared, tmp_path):
    """A copy to change, without what later versions added, of three arms only: every plot takes time."""
    folder = shutil.copytree(compared, tmp_path / "run")
    found = json.loads((folder / "metrics.json").read_text())
    rows = [{key: value for key, value in row.items() if key not in ADDED} for row in found["rows"]]
    change(folder, rows=[row for row in rows if row["name"] in KEPT], **dict.fromkeys(ADDED & found.keys()))
    head, *lines = (folder / "history.csv").read_text().splitlines()
    (folder / "history.csv").write_text("\n".join([head, *[line for line in lines if line.split(",")[0] in KEPT]]))
    return folder


def change(run, **metrics):
    """Put keys into metrics.json; None takes a key out."""
    found = json.loads((run / "metrics.json").read_text()) | metrics
    (run / "metrics.json").write_text(json.dumps({k: v for k, v in found.items() if v is not None}))
    return found


def rename_classes(run, names):
    saved = dict(np.load(run / "predictions.npz"))
    np.savez(run / "predictions.npz", **saved | {"classes": np.array(names)})


def test_every_figure_of_the_table_is_in_the_page_and_the_files_beside_it(compared, tmp_path):
    page = page_of(write_report(compared, tmp_path / "page.html"))
    in_csv = {row["name"]: row for row in csv.DictReader((tmp_path / "page" / "table.csv").read_text().splitlines())}
    in_md = (tmp_path / "page" / "table.md").read_text()
    assert len(in_csv) == 6
    for row in json.loads((compared / "table.json").read_text())["rows"]:
        shown = next(line for line in page.rows if line and line[0] == row["name"])
        assert shown[1] == f"{100 * row['mean']:.1f}"
        assert f"{row['k']}/{row['n']}" in shown
        assert float(in_csv[row["name"]]["mean"]) == row["mean"]
        assert f"| {row['name']} | {shown[1]} |" in in_md
        if row["delta"] is not None:
            said = " ".join(shown).replace(MINUS, "-")
            assert f"{100 * row['low']:+.1f} to {100 * row['high']:+.1f}".replace("+0.0", "0.0") in said
            assert ("< 0.001" if row["p_holm"] < 0.001 else f"{row['p_holm']:.3f}") in shown


def test_an_older_run_without_the_optional_keys_has_no_empty_sections(run):
    page = Page(text_of(run))
    assert page.ids & SECTIONS == {"reading", "confusion", "changes", "gate", "training"}
    assert not any("looked at" in text for text in page.texts)


def test_what_a_run_has_is_shown(run):
    found = change(run, **OPTIONAL, calibration={"gcf-256": CALIBRATED, "mean": CALIBRATED | {"before": []}})
    rows = [
        row | {"p_holm": 0.5, "gained": 4, "lost": 2, "detectable": 0.1, "mean_class": 0.123} for row in found["rows"]
    ]
    rows.append({"name": "gcf-1024", "mean": None, "failed": "diverged <here>"})
    change(run, rows=rows)
    path = write_report(run)
    page, text = page_of(path), " ".join(page_of(path).texts)
    assert page.ids & SECTIONS == SECTIONS
    assert [row[:2] for row in page.rows if row[:1] == ["gcf-1024"]] == [["gcf-1024", "failed"]]
    for said in ("diverged <here>", "looked at 3 times", "10.0 points would be found", "held in memory", "resnext101"):
        assert said in text
    for cells in (["gcf-256", "1.25", "12.3", "4.5"], ["<b>g</b>", "", "train and test", "1 of 3", ""]):
        assert cells in page.rows
    figures, further, *_ = (row for row in page.rows if row[0] == "gcf-256")
    assert figures[1] == f"{100 * found['rows'][-1]['mean']:.1f}"
    assert "12.3" in further
    assert "12.3" not in figures
    names = {file.name for file in (run / "report").iterdir()}
    assert {"sweep.png", "differences.png", "confusion-02-gcf-256.png", "confusion-02-gcf-256.csv"} <= names
    assert all(file.read_bytes()[:4] == b"\x89PNG" for file in (run / "report").glob("*.png"))


def test_the_latex_table_is_written_where_the_rows_have_all_that_it_shows(run, monkeypatch):
    monkeypatch.setattr(tables, "latex_table", lambda rows, *, reference: f"{len(rows)} {reference}", raising=False)
    (run / "predictions.npz").unlink()
    write_report(run)
    assert not (run / "report" / "table.tex").exists()
    change(run, rows=[row | {"p_holm": row["p"]} for row in read_run(run).rows])
    write_report(run)
    assert (run / "report" / "table.tex").read_text() == "3 d-clips"


@pytest.mark.parametrize("keys", [["predictions.npz"], ["history.csv", "config.json"]])
def test_a_run_without_some_of_its_files_has_a_page_without_these_parts(run, keys):
    for key in keys:
        (run / key).unlink()
    ids = Page(text_of(run)).ids
    assert ("confusion" in ids) == ("changes" in ids) == ("predictions.npz" not in keys)
    assert ("training" in ids) == ("history.csv" not in keys)


def test_a_single_training_has_a_page_with_an_interval(tmp_path):
    run = train_head(easy_cache(tmp_path / "f.h5"), tmp_path / "run", head="gcf-256", epochs=2)
    text = text_of(run.path)
    page = Page(text)
    k, n = run.metrics["k"], run.metrics["n"]
    assert page.headings[0] == f"gcf-256 gets {100 * k / n:.1f}\u00a0% of the test videos right."
    low, high = wilson(k, n)
    assert f"{k} of {n}; 95 % interval {100 * low:.1f} to {100 * high:.1f} %" in text.replace("\u00a0", " ")
    assert "gcf train-head f.h5 -o RUN_DIR --head gcf-256 --epochs 2" in page.texts
    assert "changes" not in page.ids


def wilson(k: int, n: int) -> tuple[float, float]:
    """Wilson's interval by its formula."""
    z, p = 1.959964, k / n
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    return middle - half, middle + half


def test_hostile_names_are_shown_as_text(run):
    rename_classes(run, HOSTILE)
    saved = dict(np.load(run / "predictions.npz"))
    saved["ids"] = np.array([f"</script><img src=x onerror=alert({n})>" for n in range(36)])
    for name in [name for name in saved if name.endswith(".predicted")]:
        saved[name] = (saved["labels"] + 1)[None] % 3 * np.ones((2, 1), dtype=int)
    np.savez(run / "predictions.npz", **saved)
    change(run, **OPTIONAL, notes=["<img src=x onerror=alert(1)>"])
    path = write_report(run)
    page, text = page_of(path), " ".join(page_of(path).texts)
    for name in HOSTILE:
        assert printable(name) in text
    assert "onerror=alert(7)" in text
    assert page.tags.count("script") == 1
    assert page.tags.count("img") == 0
    rename_classes(run, ["a", "b", "c"])
    assert Page(text_of(run)).tags == page.tags
    assert not [name for name in page.loads if name.startswith("on")]
    assert "{{ 7*7 }}" in text
    assert (
        HOSTILE[2].encode("utf-8", "backslashreplace")[-9:]
        in (run / "report" / "confusion-02-gcf-256.csv").read_bytes()
    )


@pytest.mark.parametrize("sign", "=+-@")
def test_tables_beside_the_page_run_no_formula(run, sign):
    names = [f"{sign}1+2", f"{sign}cmd|' /C calc'!A0", "c"]
    rename_classes(run, names)
    write_report(run)
    with (run / "report" / "confusion-02-gcf-256.csv").open(newline="", encoding="utf-8") as file:
        head, *lines = csv.reader(file)
    assert set(head[1:]) == {row[0] for row in lines} == {f"'{names[0]}", f"'{names[1]}", "c"}


def test_the_arms_of_a_history_are_those_that_were_written(run):
    rows = [
        {"arm": arm, "seed": 0, "fold": "-1", "step": 1, "train_loss": 1.0, "val_loss": -0.5}
        for arm in ("=1+2", "'quoted", "gcf-256")
    ]
    write_csv(run / "history.csv", rows)
    found = read_run(run).history
    assert [row["arm"] for row in found] == ["=1+2", "'quoted", "gcf-256"]
    assert {(row["fold"], row["val_loss"]) for row in found} == {("-1", -0.5)}


def test_names_in_plots_are_text_too(run):
    arm = "<script>x</script> $a$ \udc80"
    history = (run / "history.csv").read_text().replace("gcf-256", "<script>x</script> $a$ ж漢")
    (run / "history.csv").write_text(history)
    change(run, calibration={arm: CALIBRATED}, sweep={"axis": arm, "values": {"mean": arm, "gcf-256": "<&>"}})
    page = Page(text_of(run))
    assert page.tags.count("script") == 1
    assert "<script>x</script> $a$ ж漢" in page.texts
    assert printable(arm) in page.texts
    assert "<&>" in page.texts


def test_equal_runs_give_equal_bytes(run, tmp_path, monkeypatch):
    change(run, **OPTIONAL, calibration={"mean": CALIBRATED})
    first = write_report(run, tmp_path / "a" / "report.html")
    monkeypatch.setitem(__import__("matplotlib").rcParams, "axes.grid", True)  # a user's own settings
    second = write_report(run, tmp_path / "b" / "report.html")
    files = {path.relative_to(first.parent): path.read_bytes() for path in first.parent.rglob("*") if path.is_file()}
    again = {path.relative_to(second.parent): path.read_bytes() for path in second.parent.rglob("*") if path.is_file()}
    assert len(files) > 12
    assert files == again


def test_the_page_loads_nothing(run):
    change(run, **OPTIONAL, calibration={"mean": CALIBRATED})
    text = text_of(run)
    page = Page(text)
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in page.loads), page.loads
    assert "link" not in page.tags
    assert set(re.findall(r"url\(\s*[\"']?(.)", text)) <= {"#"}
    assert "@import" not in text
    assert "http:" not in text
    assert "https:" not in text
    assert "default-src 'none'" in text


def test_identifiers_in_the_page_are_unique(run):
    change(run, **OPTIONAL, calibration={"gcf-256": CALIBRATED, "mean": CALIBRATED})
    found = re.findall(r'\sid="([^"]+)"', text_of(run))
    assert len(found) > 10
    assert len(found) == len(set(found))


def test_many_classes_are_drawn_and_the_most_confused_listed(run):
    names = [f"class {n}" for n in range(700)]
    saved = dict(np.load(run / "predictions.npz"))
    rng = np.random.default_rng(0)
    saved |= {"classes": np.array(names), "labels": rng.integers(0, 700, 36)}
    saved |= {name: rng.integers(0, 700, (2, 36)) for name in saved if name.endswith(".predicted")}
    np.savez(run / "predictions.npz", **saved)
    text = text_of(run)
    assert Page(text).tags.count("img") == 3
    assert len(text) < 2e6


def test_the_command_makes_the_run_again(run):
    assert (
        build_report(read_run(run)).command
        == "gcf ablate FEATS.h5 -o RUN_DIR --preset modules --epochs 2 --no-standardise --cv 3 --seeds 2"
    )
    config = json.loads((run / "config.json").read_text())
    config["train"]["momentum"] = 0.5  # no option of the command
    (run / "config.json").write_text(json.dumps(config))
    said = build_report(read_run(run)).command
    options = "preset='modules', epochs=2, momentum=0.5, standardise=False, cv=3, seeds=2"
    assert said == f"gcf.ablate('FEATS.h5', 'RUN_DIR', {options})"


def test_what_is_no_run_or_damaged_is_refused_in_one_line(run, tmp_path):
    with pytest.raises(RefusedError, match=r"not a run of gcf \(no metrics.json\)"):
        write_report(tmp_path)
    for text, said in (
        ("{", "damaged or not readable"),
        ("[]", "no JSON object"),
        ('{"format": "other"}', "format 'other'"),
        ('{"format": "gcf-run", "kind": "ablate", "rows": [{"name": 3, "mean": 1}]}', "damaged"),
        ('{"format": "gcf-run", "kind": "ablate"}', "damaged"),
        ('{"format": "gcf-run", "kind": "ablate", "rows": []}', "no arm has a figure"),
    ):
        (run / "metrics.json").write_text(text)
        with pytest.raises(RefusedError, match=said) as caught:
            write_report(run)
        assert str(run) in str(caught.value)
        assert not (run / "report.html").exists()


@pytest.mark.parametrize("name", ["predictions.npz", "history.csv", "config.json"])
def test_a_damaged_file_is_named(run, name):
    (run / name).write_bytes((run / name).read_bytes()[: 40 if name.endswith("npz") else 100] + b"\nx,\x00y\n")
    with pytest.raises(RefusedError, match=f"{name}: damaged"):
        write_report(run)


def test_predictions_that_do_not_fit_together_are_refused(run):
    saved = dict(np.load(run / "predictions.npz"))
    for wrong in ({"mean.predicted": saved["mean.predicted"][:, :5]}, {"labels": saved["labels"] + 7}):
        np.savez(run / "predictions.npz", **saved | wrong)
        with pytest.raises(RefusedError, match=r"predictions.npz: damaged"):
            write_report(run)


def test_an_earlier_report_is_replaced_and_nothing_else(run, tmp_path):
    for big in ("predictions.npz", "history.csv"):
        (run / big).unlink()
    page = write_report(run)
    write_report(run)
    page.write_text("mine")
    with pytest.raises(RefusedError, match="no report of gcf"):
        write_report(run)
    assert page.read_text() == "mine"
    write_report(run, overwrite=True)
    assert "generator" in page.read_text()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").touch()
    with pytest.raises(RefusedError, match="plots would go there"):
        write_report(run, tmp_path / "mine.html")
    with pytest.raises(UsageError, match=r"ends in .html"):
        write_report(run, tmp_path / "mine.pdf")
    (tmp_path / "file").touch()
    with pytest.raises(RefusedError, match="cannot be written"):
        write_report(run, tmp_path / "file" / "x.html")


def test_the_command_says_where_the_page_is(run, tmp_path, capfd):
    (run / "predictions.npz").unlink()
    assert gcf.cli.run(["report", str(run), "-o", str(tmp_path / "p.html"), "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {"report": str(tmp_path / "p.html")}
    assert (tmp_path / "p" / "differences.png").exists()
    assert gcf.cli.run(["report", str(tmp_path / "nothing")]) == 4
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
