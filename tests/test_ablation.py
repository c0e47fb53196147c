import csv
import json
import shutil

import numpy as np
import pytest
from caches import easy_cache, write_cache
from compare import assert_bitwise_equal

from gcf.errors import AnnotationError, RefusedError, UsageError
from gcf.head.ablation import ablate
from gcf.head.fitting.stack import Stack
from gcf.head.models.build import head_config
from gcf.head.tables.statistics import paired_difference
from gcf.head.training import train_head
from gcf.head.trials.experiment import Experiment

ARMS = ["c-clip", "d-clips", "mean", "fusion-only", "attention-only", "gcf-256"]
SHORT = {"epochs": 20}


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Three folds and two seeds on an easy problem: the run folder and what was returned."""
    folder = tmp_path_factory.mktemp("ablation")
    features = easy_cache(folder / "f.h5", groups=[f"g{n % 9}" for n in range(36)])
    found = ablate(features, folder / "run", cv=3, seeds=2, **SHORT)
    return features, folder / "run", found


@pytest.mark.slow
def test_the_run_folder_is_as_designed_and_says_the_same_everywhere(compared):
    _, folder, found = compared
    names = {p.name for p in folder.iterdir()}
    tables = {"table.md", "table.csv", "table.json", "table.tex"}
    plots = {"training.png", "arms.png", "reliability.png"}
    reports = {"metrics.json", "predictions.npz", "config.json", "history.csv"}
    assert names == tables | reports | plots
    in_json = json.loads((folder / "table.json").read_text())["rows"]
    assert in_json == found.rows == json.loads((folder / "metrics.json").read_text())["rows"]
    in_csv = list(csv.DictReader((folder / "table.csv").read_text().splitlines()))
    in_md = (folder / "table.md").read_text()
    assert in_md == found.markdown
    assert [row["name"] for row in in_json] == [row["name"] for row in in_csv] == ARMS
    lines = [line.split("|") for line in in_md.splitlines() if line.startswith("|")][2:]
    for row, text, line in zip(in_json, in_csv, lines, strict=True):
        assert float(text["mean"]) == row["mean"]
        assert line[1].strip() == row["name"]
        assert line[2].strip() == f"{100 * row['mean']:.1f}"
        assert {"name", "mean", "std", "seeds", "delta", "low", "high", "p"} <= row.keys()


@pytest.mark.slow
def test_each_row_follows_from_the_saved_predictions(compared):
    _, folder, found = compared
    saved = np.load(folder / "predictions.npz")
    right = {name: saved[f"{name}.predicted"] == saved["labels"] for name in ARMS}
    for row in found.rows:
        own = right[row["name"]]
        assert own.shape == (2, 36)
        assert row["mean"] == pytest.approx(own.mean())
        assert row["std"] == pytest.approx(own.mean(axis=1).std(ddof=1))
        assert (row["k"], row["n"], row["seeds"]) == (own.sum(), 72, 2)
        if row["name"] == "d-clips":
            assert [row[key] for key in ("delta", "low", "high", "p")] == [None] * 4
        else:
            again = paired_difference(own, right["d-clips"], saved["ids"], saved["units"])
            assert row["delta"] == pytest.approx(again.delta)
            assert row["low"] <= row["delta"] <= row["high"]
            assert row["p"] == pytest.approx(again.p)


def test_every_arm_judges_every_video_once_a_seed(compared):
    features, folder, found = compared
    saved = np.load(folder / "predictions.npz")
    assert sorted(saved["ids"]) == features.ids
    for name in ARMS:
        for seed in found.metrics["arms"][name]["seeds"]:
            assert seed["n"] == 36
            assert len(seed["folds"]) == 3


@pytest.mark.slow
def test_an_arm_is_what_train_head_gives_with_the_same_seed(compared):
    features, folder, _ = compared
    saved = np.load(folder / "predictions.npz")
    for name in ("gcf-256", "mean"):
        run = train_head(features, folder.parent / name, head=name, cv=3, seeds=2, **SHORT)
        alone = np.load(run.path / "predictions.npz")
        assert_bitwise_equal(alone["ids"], saved["ids"])
        own = np.log(alone["probabilities"][:, np.arange(36), alone["labels"]])
        np.testing.assert_allclose(own, saved[f"{name}.true_log_probability"], atol=1e-6)


@pytest.mark.slow
def test_c_clip_is_the_linear_clip_classifier_on_the_central_clip_of_the_whole_video(compared):
    features, folder, _ = compared
    saved = np.load(folder / "predictions.npz")
    heads = train_head(features, head="clip", cv=3, seeds=2, **SHORT).heads
    for place, (name, label, fold) in enumerate(zip(saved["ids"], saved["labels"], saved["folds"], strict=True)):
        n = features.ids.index(str(name))
        central = features.offsets[n] + (features.offsets[n + 1] - features.offsets[n] - 1) // 2
        for seed in range(2):
            said = heads[3 * seed + fold](features.descriptors[central]).logits[0]
            own = float(said.log_softmax(0)[label])
            assert own == pytest.approx(saved["c-clip.true_log_probability"][seed, place], abs=1e-5)


@pytest.mark.slow
def test_two_comparisons_leave_the_same_bytes_however_many_threads_worked(compared, monkeypatch):
    features, folder, _ = compared
    monkeypatch.setattr(Experiment, "_workers", lambda _: 3)
    again = folder.parent / "again" / "run"
    again.parent.mkdir()
    shutil.copy(features.path, again.parent / "f.h5")  # a file of its own, that nobody has looked at
    ablate(again.parent / "f.h5", again, cv=3, seeds=2, **SHORT)
    for file in folder.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes(), file.name


@pytest.mark.slow
def test_every_arm_and_seed_takes_its_step_on_the_very_same_batches(tmp_path, monkeypatch):
    features = easy_cache(tmp_path / "f.h5", clips=(12, 20))
    seen = {}
    original = Stack.step

    def watched(self, batch):
        seen.setdefault(id(self), []).append(batch)
        return original(self, batch)

    monkeypatch.setattr(Stack, "step", watched)
    ablate(features, seeds=2, epochs=3, batch_size=8, clip_policy="random")
    assert len(seen) == 5  # the two seeds of an arm are one stack, C-Clip and D-Clips share theirs
    first, *others = seen.values()
    assert len(first) == 3 * 3
    assert all(len(other) == len(first) for other in others)
    assert all(one is same for other in others for one, same in zip(first, other, strict=True))
    assert len({batch.descriptors.sum().item() for batch in first}) == 9  # drawn anew in every pass


@pytest.mark.slow
def test_arms_of_another_padding_have_batches_and_kept_results_of_their_own(tmp_path, monkeypatch):
    features = easy_cache(tmp_path / "f.h5", clips=(1, 8))
    seen = {}
    original = Stack.step

    def watched(self, batch):
        seen.setdefault(self.settings.padding, []).append(batch)
        return original(self, batch)

    monkeypatch.setattr(Stack, "step", watched)
    settings = {"heads": [head_config("gcf-256", width=16, key_width=8)], "seeds": 1, "epochs": 2}
    found = ablate(features, grid={"padding": ["mask", "loop"]}, **settings)
    assert all(batch.mask.all() and batch.mask.shape[1] == 10 for batch in seen["loop"])
    assert not any(batch.mask.all() for batch in seen["mask"])
    losses = {name: arm["loss"] for name, arm in found.metrics["arms"].items()}
    seen.clear()
    for padding in ("mask", "loop"):
        again = ablate(features, padding=padding, **settings).metrics
        name = next(arm for arm in again["arms"] if arm not in ("c-clip", "d-clips"))
        assert again["arms"][name]["loss"] == losses[f"{name} padding={padding}"]
        assert ("repeat theirs" in " ".join(again["notes"])) == (padding == "loop")
    assert set(seen) == {"loop"}  # D-Clips alone: all else was there


@pytest.mark.slow
def test_without_test_videos_and_without_cv_five_folds_are_used_and_it_says_so(tmp_path):
    features = easy_cache(tmp_path / "f.h5", subsets=False)
    found = ablate(features, seeds=1, epochs=1)
    assert found.metrics["judged_on"] == "test"
    assert len(found.metrics["arms"]["mean"]["seeds"][0]["folds"]) == 5
    assert "5-fold cross-validation" in found.metrics["notes"][0]
    assert found.rows[0]["n"] == 36
    assert found.rows[0]["std"] is None


def backbone_cache(path, known):
    """Descriptors without meaning, logits that are right on every clip but the central one."""
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1, 2], 12)
    logits = []
    for label in labels:
        own = np.zeros((5, len(known)))
        own[:, label] = 4.0
        own[2] = 0
        own[2, (label + 1) % 3] = 4.0
        logits.append(own)
    return write_cache(
        path,
        [rng.standard_normal((5, 6)) for _ in labels],
        labels,
        ["a", "b", "c"],
        logits=logits,
        backbone_classes=known,
        subsets=["train", "train", "train", "test", "test", "test"] * 6,
    )


@pytest.mark.slow
def test_the_backbones_own_classifier_is_used_where_it_knows_the_classes(tmp_path):
    features = backbone_cache(tmp_path / "f.h5", ["A", "b", "c", "other"])
    found = ablate(features, seeds=2, epochs=1)
    assert found.metrics["clip_classifier"] == "backbone"
    assert "the backbone's own" in found.markdown
    rows = {row["name"]: row for row in found.rows}
    assert (rows["d-clips"]["mean"], rows["c-clip"]["mean"]) == (1.0, 0.0)
    assert (rows["c-clip"]["delta"], rows["c-clip"]["std"]) == (-1.0, 0.0)
    assert rows["c-clip"]["p"] < 0.001
    assert found.metrics["arms"]["d-clips"]["seeds"][0]["training"] == [None]


@pytest.mark.slow
def test_a_linear_clip_classifier_takes_its_place_where_it_does_not(tmp_path):
    features = backbone_cache(tmp_path / "f.h5", ["a", "b", "d"])
    found = ablate(features, seeds=1, epochs=1)
    assert found.metrics["clip_classifier"] == "linear"
    assert "a linear one trained on the clips of the training videos" in found.markdown


def test_what_cannot_be_compared_is_refused(tmp_path):
    features = easy_cache(tmp_path / "f.h5")
    with pytest.raises(UsageError, match=r"unknown preset 'widths'; known: modules"):
        ablate(features, preset="widths")
    with pytest.raises(UsageError, match="not a preset beside them"):
        ablate(features, preset="dims", heads=["mean"])
    with pytest.raises(UsageError, match="no arm is called gcf-1024"):
        ablate(features, reference="gcf-1024")
    with pytest.raises(UsageError, match="leave init and freeze"):
        ablate(features, init="somewhere")
    with pytest.raises(AnnotationError, match="no video has a group"):
        ablate(features, cv="group")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").touch()
    with pytest.raises(RefusedError, match="not a run of gcf"):
        ablate(features, tmp_path / "mine", epochs=1)


@pytest.mark.slow
@pytest.mark.parametrize("kept", range(1, 12))
def test_a_comparison_killed_while_it_keeps_results_ends_in_the_same_digits(tmp_path, kept):
    """Four arms of three seeds; c-clip and d-clips read one training."""
    features = easy_cache(tmp_path / "f.h5")
    options = {"heads": ["mean", "max"], "reference": "mean", "seeds": 3, "epochs": 8, "audit": False}
    ablate(features, tmp_path / "whole", **options)
    in_order = sorted((tmp_path / "f.h5.results").glob("*.npz"), key=lambda path: path.stat().st_mtime_ns)
    assert len(in_order) == 12
    for path in in_order[kept:]:
        path.unlink()
    ablate(features, tmp_path / "resumed", **options)
    for name in ("history.csv", "table.csv"):
        assert (tmp_path / "resumed" / name).read_text() == (tmp_path / "whole" / name).read_text()


@pytest.mark.slow
def test_fewer_seeds_than_were_kept_and_more_of_them_are_not_trained_again(tmp_path, monkeypatch):
    features = easy_cache(tmp_path / "f.h5")
    options = {"heads": ["mean"], "reference": "mean", "epochs": 2, "audit": False}
    ablate(features, tmp_path / "three", seeds=3, **options)
    built, plain = [], Stack.__init__
    monkeypatch.setattr(
        Stack, "__init__", lambda self, heads, *a, **k: built.append(len(heads)) or plain(self, heads, *a, **k)
    )
    ablate(features, tmp_path / "two", seeds=2, **options)
    assert built == []
    ablate(features, tmp_path / "four", seeds=4, **options)
    assert set(built) == {1}
