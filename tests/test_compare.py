import csv
import json

import numpy as np
import pytest
from caches import easy_cache, write_cache

import gcf.cli
from gcf.errors import AnnotationError, RefusedError, UsageError
from gcf.head import compare as compare_module
from gcf.head.ablation import ablate
from gcf.head.compare import compare_features, why_other_videos
from gcf.head.tables.backbones_table import backbones_markdown
from gcf.head.tables.statistics import holm, paired_difference

SHORT = {"seeds": 2, "epochs": 3}
ARMS = ("c-clip", "d-clips", "mean", "gcf-256")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two backbones on the same videos, one on fewer, and one file that is none."""
    folder = tmp_path_factory.mktemp("compare")
    easy_cache(folder / "one.h5", recipe={"backbone": "x3d", "weights": "k400"})
    easy_cache(folder / "two.h5", width=6, recipe={"backbone": "resnet", "weights": "k600"})
    easy_cache(folder / "fewer.h5", per_class=8, failures=[("w.mp4", "empty")])
    (folder / "broken.h5").write_bytes(b"no HDF5")
    return folder


@pytest.fixture(scope="module")
def compared(folder):
    names = ("one", "two", "fewer", "broken")
    return compare_features([folder / f"{name}.h5" for name in names], folder / "out", **SHORT)


@pytest.mark.slow
def test_the_folder_holds_the_table_in_every_form_and_the_run_of_each_file(folder, compared):
    out = folder / "out"
    assert {p.name for p in out.iterdir()} == {
        *("table.md", "table.csv", "table.json", "metrics.json"), *("one", "two", "fewer"),
    }  # fmt: skip
    assert json.loads((out / "metrics.json").read_text()) == json.loads(json.dumps(compared.metrics))
    assert json.loads((out / "table.json").read_text())["rows"] == compared.rows
    in_csv = list(csv.DictReader((out / "table.csv").read_text().splitlines()))
    assert [row["file"] for row in in_csv] == ["one", "two", "fewer", "broken"]
    assert [float(row["gcf-256"]) for row in in_csv[:3]] == [row["gcf-256"] for row in compared.rows[:3]]
    assert (out / "table.md").read_text() == compared.markdown
    lines = [line for line in compared.markdown.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 6


@pytest.mark.slow
def test_each_row_is_what_ablate_finds_on_that_file(folder, compared):
    for name, row in zip(("one", "two", "fewer"), compared.rows, strict=False):
        alone = {found["name"]: found for found in ablate(folder / f"{name}.h5", **SHORT).rows}
        for arm in ARMS:
            assert (row[arm], row[f"{arm}_k"], row[f"{arm}_n"]) == tuple(alone[arm][key] for key in ("mean", "k", "n"))
        assert [row[key] for key in ("delta", "low", "high", "p")] == [
            alone["gcf-256"][key] for key in ("delta", "low", "high", "p")
        ]
        shown = f"{100 * row['gcf-256']:.1f} ({row['gcf-256_k']}/{row['gcf-256_n']})"
        assert f"| {name} |" in compared.markdown
        assert shown in compared.markdown
    assert [row["backbone"] for row in compared.rows] == ["x3d", "resnet", "none", None]
    assert [row["weights"] for row in compared.rows[:2]] == ["k400", "k600"]
    assert {row["clip_classifier"] for row in compared.rows[:3]} == {"linear"}


@pytest.mark.slow
def test_backbones_are_compared_to_the_first_over_the_same_videos_and_seeds(folder, compared):
    one, two = (np.load(folder / "out" / name / "predictions.npz") for name in ("one", "two"))
    right = [saved["gcf-256.predicted"] == saved["labels"] for saved in (two, one)]
    expected = paired_difference(*right, one["ids"])
    row = compared.rows[1]
    assert row["first_delta"] == pytest.approx(right[0].mean() - right[1].mean())
    assert row["first_delta"] == pytest.approx(row["gcf-256"] - compared.rows[0]["gcf-256"])
    assert (row["first_low"], row["first_high"], row["first_p"]) == (expected.low, expected.high, expected.p)
    assert compared.rows[0]["first_delta"] is None
    assert row["not_compared"] is None


def test_every_p_of_the_table_is_adjusted_for_all_of_them(compared):
    found = [row[f"{prefix}p"] for row in compared.rows for prefix in ("", "first_")]
    adjusted = [row[f"{prefix}p_holm"] for row in compared.rows for prefix in ("", "first_")]
    assert sum(p is not None for p in found) == 4  # three files against D-Clips, one of them against the first
    assert [p for p in adjusted if p is not None] == holm([p for p in found if p is not None])
    of = [{"p": 0.01, "first_p": None}, {"p": 0.04, "first_p": 0.03}]
    compare_module._adjust(of)
    assert [row.get(name) for row in of for name in ("p_holm", "first_p_holm")] == [0.03, None, 0.06, 0.06]
    row = compared.rows[1] | {"p": 0.01, "p_holm": 0.03}
    assert "| 0.030 |" in backbones_markdown([row], "gcf-256")


@pytest.mark.slow
def test_a_head_that_fails_on_one_file_is_named_with_its_reason_and_the_exit_code_is_3(folder, tmp_path, capfd):
    narrow = tmp_path / "narrow.py"
    narrow.write_text(
        """
from torch import nn
HEAD = {"name": "narrow", "order_aware": False}

def build(descriptor_width, num_classes, **_):
    if descriptor_width == 6:
        raise RuntimeError("made for other widths")
    return Head(descriptor_width, num_classes)

class Head(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.fc = nn.Linear(width, classes)

    def forward(self, descriptors, mask):
        return self.fc((descriptors * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))
"""
    )
    files = [str(folder / f"{name}.h5") for name in ("one", "two")]
    options = ["--head", str(narrow), "--seeds", "2", "--epochs", "1", "-o", str(tmp_path / "out"), "--json"]
    assert gcf.cli.run(["compare", *files, *options]) == 3
    found = json.loads(capfd.readouterr().out)
    row = found["rows"][1]
    assert "made for other widths" in row["head_failed"]
    assert row["not_compared"] == "narrow failed in two"
    assert row["mean"] is not None
    assert any(note.startswith("two: the head failed: ") for note in found["notes"])


def test_files_of_other_videos_are_not_compared_and_it_says_what_each_holds(compared):
    row = compared.rows[2]
    assert (row["expected"], row["present"], row["failed"]) == (25, 24, 1)
    assert row["first_delta"] is None
    assert row["delta"] is not None
    (note,) = [note for note in compared.metrics["notes"] if "not compared" in note]
    assert "they hold different videos, 24 in common" in note
    assert "one: 36 videos expected, 36 present, 0 failed; fewer: 25 videos expected, 24 present, 1 failed" in note


def test_a_file_that_fails_has_its_reason_and_stops_nobody(compared):
    row = compared.rows[3]
    assert "not a readable feature file" in row["error"]
    assert all(row[arm] is None for arm in ARMS)
    assert compared.failed == ["broken"]
    assert any(note.startswith("broken failed: ") for note in compared.metrics["notes"])
    assert compared.rows[0].keys() == row.keys()


def test_what_holds_for_all_files_is_said_once_and_the_rest_with_its_file(compared):
    notes = compared.metrics["notes"]
    assert sum("C-Clip (central clip)" in note for note in notes) == 1
    own = [note for note in notes if note.startswith("fewer: ") and "the gate has not moved" not in note]
    assert own[0].startswith("fewer: These videos and seeds show a true difference of")
    assert own[1:] == ["fewer: Of 25 expected videos 24 are used: 1 gave no clips at extraction."]


def labelled(path, *, labels, subsets=None, groups=None, classes=("a", "b")):
    rng = np.random.default_rng(0)
    videos = [rng.standard_normal((3, 4)) for _ in labels]
    return write_cache(path, videos, labels, list(classes), subsets=subsets, groups=groups)


TWELVE = [0, 1] * 6
ROLES = ["train"] * 8 + ["test"] * 4
OTHERWISE = {
    "labels": {"labels": [1, 0] * 6, "subsets": ROLES},
    "subsets": {"labels": TWELVE, "subsets": ["test"] * 4 + ["train"] * 8},
    "groups": {"labels": TWELVE, "subsets": ROLES, "groups": [f"g{n // 2}" for n in range(12)]},
    "classes": {"labels": TWELVE, "subsets": ROLES, "classes": ("a", "c")},
}


@pytest.mark.slow
@pytest.mark.parametrize("what", OTHERWISE)
def test_videos_with_other_facts_would_be_split_otherwise_unless_annotations_say(tmp_path, what):
    one = labelled(tmp_path / "one.h5", labels=TWELVE, subsets=ROLES)
    two = labelled(tmp_path / "two.h5", **OTHERWISE[what])
    assert why_other_videos(two, one, annotated=False) == "their videos have other labels, subsets or groups"
    assert why_other_videos(two, one, annotated=True) is None
    assert why_other_videos(one, one, annotated=False) is None


@pytest.mark.slow
def test_annotations_label_all_files_alike_whatever_these_say(tmp_path):
    one = labelled(tmp_path / "one.h5", labels=TWELVE, subsets=ROLES)
    two = labelled(tmp_path / "two.h5", labels=[-1] * 12, classes=())
    lines = [f"v{n:04d}.mp4,{'ab'[n % 2]},{role}" for n, role in enumerate([*ROLES, "test"])]
    (tmp_path / "labels.csv").write_text("path,label,subset\n" + "\n".join(lines) + "\n")
    found = compare_features([one, two], head="mean", seeds=1, epochs=1, annotations=tmp_path / "labels.csv")
    assert found.rows[1]["not_compared"] is None
    assert found.rows[1]["first_delta"] == 0  # the same descriptors
    assert [(row["expected"], row["present"]) for row in found.rows] == [(13, 12)] * 2  # one is annotated alone
    (tmp_path / "labels.csv").write_text("nothing,here\n")
    with pytest.raises(AnnotationError):
        compare_features([one, two], annotations=tmp_path / "labels.csv")


@pytest.mark.slow
def test_other_splits_would_be_noticed(folder, monkeypatch):
    original = compare_module.ablate
    seeds = iter([0, 1])

    def other(features, out, **options):
        return original(features, out, **options | {"seed": next(seeds)})

    monkeypatch.setattr(compare_module, "ablate", other)
    found = compare_features([folder / "one.h5", folder / "two.h5"], seeds=1, epochs=1)
    assert found.rows[1]["not_compared"] == "they were judged in different splits"


@pytest.mark.slow
def test_where_the_first_file_fails_nothing_is_compared_to_it(folder):
    found = compare_features([folder / "broken.h5", folder / "one.h5"], seeds=1, epochs=1)
    assert found.rows[1]["not_compared"] == "broken gave no figures"
    assert found.rows[1]["gcf-256"] is not None


@pytest.mark.slow
def test_files_of_one_name_keep_apart(folder, tmp_path):
    (tmp_path / "a").mkdir()
    easy_cache(tmp_path / "a" / "one.h5")
    easy_cache(tmp_path / "one-2.h5")
    files = [folder / "one.h5", tmp_path / "one-2.h5", tmp_path / "a" / "one.h5"]
    found = compare_features(files, tmp_path / "out", head="mean", seeds=1, epochs=1)
    assert [row["file"] for row in found.rows] == ["one", "one-2", "one-3"]
    assert all((tmp_path / "out" / row["file"] / "metrics.json").exists() for row in found.rows)
    with pytest.raises(RefusedError, match="holds an earlier run"):
        compare_features(files, tmp_path / "out", seeds=1, epochs=1)
    compare_features([folder / "broken.h5"], tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out" / "one-2").exists()


def test_wrong_usage_is_refused_before_work(folder):
    with pytest.raises(UsageError, match="no feature files"):
        compare_features([])
    with pytest.raises(UsageError, match="unknown head 'gcf-257'"):
        compare_features([folder / "one.h5"], head="gcf-257")
    with pytest.raises(UsageError, match="unknown clip policy"):
        compare_features([folder / "one.h5"], clip_policy="best")
    with pytest.raises(UsageError, match="leave init and freeze"):
        compare_features([folder / "one.h5"], init="somewhere")


@pytest.mark.slow
@pytest.mark.parametrize(("files", "code"), [(("one",), 0), (("one", "broken"), 3), (("broken", "absent"), 1)])
def test_the_exit_code_says_how_many_files_failed(folder, tmp_path, capfd, files, code):
    paths = [str(folder / f"{name}.h5") for name in files]
    options = ["--head", "mean", "--seeds", "1", "--epochs", "1"]
    assert gcf.cli.run(["compare", *paths, "-o", str(tmp_path / "out"), *options]) == code
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    assert all(f"| {name} |" in out for name in files)
    assert (tmp_path / "out" / "table.md").read_text() in out
