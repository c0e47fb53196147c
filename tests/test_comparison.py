"""What a comparison does beyond its table: reuse, failing arms, grids, joined files, looks, leaks, calibration."""

import json
import shutil

import numpy as np
import pytest
from caches import easy_cache, write_cache
from compare import assert_bitwise_equal

import gcf.cli
from gcf.errors import GcfError
from gcf.head.ablation import ablate
from gcf.head.fitting.stack import Stack
from gcf.head.models.config import HeadConfig
from gcf.head.training import train_head

pytestmark = pytest.mark.slow

SHORT = {"epochs": 3, "seeds": 2}
SMALL = HeadConfig("small", width=16, key_width=8)
PLUGIN = """
import torch
from torch import nn

HEAD = {"name": "flaky", "order_aware": False}


class Flaky(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.classifier = nn.Linear(width, classes)

    def forward(self, descriptors, mask):
        if self.training and len(mask) > 4:
            raise RuntimeError("no more than four videos")
        return self.classifier(descriptors.masked_fill(~mask[..., None], 0).mean(dim=1))


def build(width, classes):
    return Flaky(width, classes)
"""


@pytest.fixture
def steps(monkeypatch):
    """How many optimisation steps were taken, by all stacks."""
    taken = []
    original = Stack.step
    monkeypatch.setattr(Stack, "step", lambda self, batch: taken.append(len(self.active)) or original(self, batch))
    return taken


def test_a_comparison_that_is_there_is_not_trained_again_and_says_the_same(tmp_path, steps):
    features = easy_cache(tmp_path / "f.h5")
    first = ablate(features, tmp_path / "one", **SHORT)
    assert steps
    steps.clear()
    again = ablate(features, tmp_path / "two", **SHORT)
    assert steps == []
    assert again.rows == first.rows
    for name in ("table.csv", "history.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    one, two = (np.load(tmp_path / name / "predictions.npz") for name in ("one", "two"))
    for name in one.files:
        assert_bitwise_equal(one[name], two[name])
    ablate(features, reuse=False, **SHORT)
    assert steps


def test_more_seeds_and_other_arms_take_what_is_there(tmp_path, steps):
    features = easy_cache(tmp_path / "f.h5")
    ablate(features, heads=["mean"], epochs=3, seeds=2)
    steps.clear()
    found = ablate(features, heads=["mean", SMALL], epochs=3, seeds=3)
    assert set(steps) == {1, 3}  # the third seed of the clip classifier and of `mean`, three seeds of the new head
    alone = ablate(features, heads=["mean", SMALL], epochs=3, seeds=3, reuse=False)
    assert [row["k"] for row in found.rows] == [row["k"] for row in alone.rows]


def test_a_stopped_comparison_keeps_the_splits_that_are_done(tmp_path, steps, monkeypatch):
    features = easy_cache(tmp_path / "f.h5", groups=[f"g{n % 6}" for n in range(36)])
    original, calls = Stack.restore, []

    def stop_in_the_second_split(self):
        calls.append(self)
        if len(calls) > 2:
            raise KeyboardInterrupt
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Stack, "restore", stop_in_the_second_split)
        with pytest.raises(KeyboardInterrupt):
            ablate(features, tmp_path / "run", heads=["mean"], cv=3, **SHORT)
    assert not (tmp_path / "run").exists()
    assert len(list((tmp_path / "f.h5.results").iterdir())) == 3 * 2  # three arms, two seeds, one split
    before = len(steps)
    resumed = ablate(features, heads=["mean"], cv=3, **SHORT)
    assert len(steps) - before < before * 2  # one of three splits was there
    shutil.rmtree(tmp_path / "f.h5.results")
    assert ablate(features, heads=["mean"], cv=3, **SHORT).rows == resumed.rows


def test_an_arm_that_fails_is_named_and_stops_no_other(tmp_path):
    features = easy_cache(tmp_path / "f.h5")
    (tmp_path / "flaky.py").write_text(PLUGIN)
    found = ablate(features, tmp_path / "run", heads=["mean", str(tmp_path / "flaky.py")], **SHORT)
    assert found.failed == ["flaky"]
    row = found.rows[-1]
    assert (row["mean"], "no more than four videos" in row["failed"]) == (None, True)
    assert "flaky: RuntimeError: no more than four videos" in found.markdown
    alone = ablate(features, heads=["mean"], **SHORT)
    assert found.rows[2]["mean"] == alone.rows[2]["mean"]
    assert gcf.cli.run(
        ["ablate", str(features.path), "-o", str(tmp_path / "cli"), "--epochs", "3", "--seeds", "2"]
        + ["--head", str(tmp_path / "flaky.py")]
    ) == 3  # fmt: skip


def test_a_rate_that_diverges_fails_one_point_of_a_grid(tmp_path):
    features = easy_cache(tmp_path / "f.h5")
    found = ablate(features, heads=[SMALL], grid={"lr": [0.1, 1e30]}, **SHORT)
    assert [row["name"] for row in found.rows] == ["c-clip", "d-clips", "small lr=0.1", "small lr=1e+30"]
    assert found.failed == ["small lr=1e+30"]
    assert "training diverged" in found.rows[-1]["failed"]
    with pytest.raises(GcfError, match="every arm failed"):
        ablate(features, heads=["mean"], lr=1e30, reuse=False, **SHORT)


def test_a_grid_varies_heads_and_training_and_draws_its_axis(tmp_path):
    features = easy_cache(tmp_path / "f.h5", clips=(6, 14))
    found = ablate(features, tmp_path / "run", heads=[SMALL], grid=["num_clips=2,4", "layers=1,2"], **SHORT)
    assert len(found.rows) == 2 + 4
    assert found.metrics["sweep"]["axis"] == "num_clips"
    assert set(found.metrics["sweep"]["values"].values()) == {2, 4}
    assert (tmp_path / "run" / "sweep.png").read_bytes().startswith(b"\x89PNG")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["grid"] == {"num_clips": [2, 4], "layers": [1, 2]}


@pytest.mark.parametrize("preset", ["heads", "gate", "residual", "readings"])
def test_every_preset_of_kinds_runs_through(tmp_path, preset):
    features = easy_cache(tmp_path / "f.h5")
    found = ablate(features, preset=preset, seeds=1, epochs=1, reuse=False)
    assert found.failed == []
    assert len(found.rows) >= 5
    assert all(0 <= row["mean"] <= 1 for row in found.rows)


def test_logistic_regression_is_an_arm_like_others(tmp_path):
    found = ablate(easy_cache(tmp_path / "f.h5"), heads=["logreg"], **SHORT)
    row = found.rows[-1]
    assert row["mean"] > 0.9
    assert row["std"] == 0  # nothing about it depends on a seed
    record = found.metrics["arms"]["logreg"]["seeds"][0]["training"][0]
    assert record["C"] in [10.0**power for power in range(-3, 4)]
    run = train_head(easy_cache(tmp_path / "g.h5"), tmp_path / "run", head="logreg")
    assert run.metrics["top1"] > 0.9


def test_joined_files_bring_what_each_of_them_lacks(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1, 2, 3], 15)
    subsets = ["train"] * 40 + ["test"] * 20
    for name, bit in (("rgb", labels % 2), ("flow", labels // 2)):  # either stream tells two halves apart
        videos = [3 * (2 * b - 1) + 0.3 * rng.standard_normal((4, 6)) for b in bit]
        write_cache(tmp_path / f"{name}.h5", videos, labels, list("abcd"), subsets=subsets)
    files = [tmp_path / "rgb.h5", tmp_path / "flow.h5"]
    alone = [train_head(file, head="mean", epochs=100).metrics["top1"] for file in files]
    both = train_head(files, tmp_path / "run", head="mean", epochs=100)
    assert max(alone) < 0.7
    assert both.metrics["top1"] == 1.0
    assert both.head.descriptor_width == 12
    code = gcf.cli.run(
        ["ablate", str(files[0]), "--with", str(files[1]), "-o", str(tmp_path / "table"), "--head", "mean"]
        + ["--seeds", "1", "--epochs", "100"]
    )
    assert code == 0
    assert json.loads((tmp_path / "table" / "table.json").read_text())["rows"][2]["mean"] == 1.0


def test_the_ensemble_is_the_mean_of_the_seeds_probabilities(tmp_path):
    features = easy_cache(tmp_path / "f.h5")
    run = train_head(features, tmp_path / "run", head="mean", epochs=1, seeds=3)
    saved = np.load(tmp_path / "run" / "predictions.npz")
    together = saved["probabilities"].mean(axis=0)
    assert run.metrics["ensemble"]["top1"] == pytest.approx((together.argmax(axis=1) == saved["labels"]).mean())
    own = together[np.arange(len(together)), saved["labels"]]
    assert run.metrics["ensemble"]["loss"] == pytest.approx(-np.log(own).mean(), rel=1e-5)
    compared = ablate(features, heads=["mean"], epochs=1, seeds=3)
    assert compared.rows[-1]["ensemble"] == run.metrics["ensemble"]["top1"]


def test_looks_at_a_test_set_are_counted_in_the_run(tmp_path):
    features = easy_cache(tmp_path / "f.h5")
    counts = [train_head(features, head="mean", epochs=1).metrics["test_looks"] for _ in range(2)]
    compared = ablate(features, heads=["mean"], **SHORT)
    assert [*counts, compared.metrics["test_looks"]] == [1, 2, 3]
    assert "These test videos have been judged on 3 times by now." in compared.markdown
    without = easy_cache(tmp_path / "g.h5", subsets=False)
    assert train_head(without, head="mean", epochs=1).metrics["test_looks"] is None  # val was judged


def test_a_copy_planted_across_the_split_is_found_and_named(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1, 2], 40)
    videos = [rng.standard_normal((6, 48)) + 2 * np.eye(3, 48)[k] for k in labels]
    roles = ["train"] * 90 + ["test"] * 30
    videos[100] = videos[10] + 0.001 * rng.standard_normal((6, 48))  # test video 100 stands in training, too
    features = write_cache(tmp_path / "f.h5", videos, labels, list("abc"), subsets=roles)
    for found in (train_head(features, head="mean", epochs=1), ablate(features, heads=["mean"], **SHORT)):
        (pair,) = found.metrics["audit"]["near_duplicates"]
        assert {pair["a"], pair["b"]} == {"v0010.mp4", "v0100.mp4"}
        assert any("v0100.mp4" in note for note in found.metrics["notes"])
    assert train_head(features, head="mean", epochs=1, audit=False).metrics["audit"] is None


def test_calibration_is_fitted_on_val_and_told_for_test(tmp_path):
    found = ablate(easy_cache(tmp_path / "f.h5", per_class=24), tmp_path / "run", heads=["mean"], **SHORT)
    measured = found.metrics["calibration"]["mean"]
    saved = np.load(tmp_path / "run" / "predictions.npz")
    assert sum(row["count"] for row in measured["before"]) == saved["mean.confidence"].size
    assert found.rows[-1]["ece"] == measured["ece_before"]
    assert measured["ece_after"] < measured["ece_before"]  # after three passes the head is far too modest
    assert measured["temperature"] < 1


def test_balanced_sampling_and_weights_help_rare_classes(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.array([0] * 180 + [1] * 20)
    videos = [rng.standard_normal((3, 4)) + 0.7 * label for label in labels]
    roles = ["test" if n % 4 == 0 else "train" for n in range(200)]
    features = write_cache(tmp_path / "f.h5", videos, labels, ["often", "rare"], subsets=roles)
    plain, drawn, weighed = (
        train_head(features, head="mean", epochs=40, standardise=False, **chosen).metrics["mean_class"]
        for chosen in ({}, {"sampling": "balanced"}, {"class_weights": "balanced"})
    )
    assert min(drawn, weighed) > plain + 0.1
