import csv
import json

import numpy as np
import pytest
import torch
from caches import RECIPE, easy_cache, write_cache
from compare import FLOAT32_FORWARD, assert_bitwise_equal, relative_error

from gcf.data.annotations import Annotation, Annotations
from gcf.errors import AnnotationError, FeatureFileError, HeadError, RecipeError, RefusedError, UsageError
from gcf.explain.reading.evidence import read_video
from gcf.head.ablation import ablate
from gcf.head.evaluate import evaluate_head, head_predictions
from gcf.head.models.build import head_config
from gcf.head.models.config import HeadConfig, Protocol
from gcf.head.models.saved import load_head
from gcf.head.training import train_head

pytestmark = pytest.mark.slow

SMALL = HeadConfig("small", width=16, key_width=8)
SHORT = {"epochs": 60}


def no_nan(text):
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


def test_a_run_leaves_what_the_design_promises(tmp_path):
    features = easy_cache(tmp_path / "f.h5")
    run = train_head(features.path, tmp_path / "run", head=SMALL, **SHORT)
    names = {p.name for p in (tmp_path / "run").iterdir()}
    reports = {"metrics.json", "predictions.npz", "config.json", "history.csv", "training.png"}
    assert names == reports | {"head.safetensors", "head.json"}
    assert not list(tmp_path.glob(".*"))  # nothing temporary is left
    metrics = no_nan((tmp_path / "run" / "metrics.json").read_text())
    assert metrics == run.metrics
    (seed,) = metrics["seeds"]
    assert {"seed", "top1", "top5", "mean_class", "loss", "k", "n", "predictions", "gate", "folds"} <= seed.keys()
    assert metrics["judged_on"] == "test"
    assert seed["n"] == features.subsets.count("test")
    assert seed["top1"] == pytest.approx(seed["k"] / seed["n"])
    saved = np.load(tmp_path / "run" / seed["predictions"])
    assert (saved["probabilities"][0].argmax(axis=1) == saved["labels"]).sum() == seed["k"]
    assert [features.subsets[features.ids.index(name)] for name in saved["ids"]] == ["test"] * seed["n"]
    np.testing.assert_allclose(saved["probabilities"].sum(axis=2), 1, rtol=1e-6)
    rows = list(csv.DictReader((tmp_path / "run" / "history.csv").read_text().splitlines()))
    assert [row["step"] for row in rows] == ["20", "40", "60"]
    assert (tmp_path / "run" / "training.png").read_bytes().startswith(b"\x89PNG")
    assert no_nan((tmp_path / "run" / "config.json").read_text())["train"]["dampening"] == 0.9


def test_the_saved_head_gives_the_predictions_of_the_run_again(tmp_path):
    features = easy_cache(tmp_path / "f.h5")
    run = train_head(features, tmp_path / "run", head=SMALL, **SHORT)
    head = load_head(tmp_path / "run")
    assert head.recipe == RECIPE
    assert head.classes == ("class 0", "class 1", "class 2")
    assert head.training.items() >= run.metrics["seeds"][0]["training"][0].items()
    found = evaluate_head(tmp_path / "run", features.path)
    for key in ("top1", "top5", "mean_class", "loss", "k", "n"):
        assert found[key] == pytest.approx(run.metrics["seeds"][0][key], rel=1e-5)
    assert (found["judged_on"], found["unlabelled"], found["unknown_class"]) == ("test", 0, 0)
    saved = np.load(tmp_path / "run" / "predictions.npz")
    n = features.ids.index(str(saved["ids"][0]))
    rows = features.descriptors[features.offsets[n] : features.offsets[n + 1], 0]
    logits = head(rows[head.choose(len(rows))]).logits[0]
    np.testing.assert_allclose(logits.softmax(0), saved["probabilities"][0, 0], rtol=1e-4, atol=1e-6)


def ten_clips(rows):
    """The clips of a video as the paper feeds them."""
    count = len(rows)
    if count <= 10:
        return rows[np.arange(10) % count]
    return rows[(2 * np.arange(10) + 1) * count // 20]


def test_a_head_of_looped_clips_is_asked_with_looped_clips_everywhere(tmp_path):
    features = easy_cache(tmp_path / "f.h5")
    run = train_head(features, tmp_path / "run", head=SMALL, padding="loop", **SHORT)
    head, saved = load_head(tmp_path / "run"), np.load(tmp_path / "run" / "predictions.npz")
    assert (head.padding, head.training["padding"]) == ("loop", "loop")
    differ = []
    for n, probabilities in zip(saved["ids"], saved["probabilities"][0], strict=True):
        video = features.video(features.ids.index(str(n)))
        rows = torch.from_numpy(video.descriptors[:, 0].astype(np.float32))
        with torch.inference_mode():
            ten, every = ten_clips(rows)[None], torch.ones(1, 10, dtype=torch.bool)
            expected = head.module(ten, every).logits
        assert relative_error(probabilities, expected[0].softmax(0)) < FLOAT32_FORWARD
        for logits in (head(video).logits, torch.from_numpy(read_video(head, video).logits)[None]):
            assert_bitwise_equal(logits, expected)
        if len(rows) < 10:
            differ.append(relative_error(head(rows).logits, expected) > 0.01)
    assert any(differ)  # a masked head would not have passed
    found = evaluate_head(tmp_path / "run", features.path)
    for key in ("top1", "loss", "k", "n", "gate"):
        assert found[key] == pytest.approx(run.metrics["seeds"][0][key], rel=1e-6)


@pytest.mark.parametrize("padding", ["mask", "loop"])
def test_what_is_said_of_a_video_does_not_depend_on_its_batch(tmp_path, padding):
    features = easy_cache(tmp_path / "f.h5", clips=(1, 20))
    head = train_head(features, head=SMALL, padding=padding, epochs=20).head
    videos = np.arange(features.num_videos)
    together = head_predictions(head, features, videos).log_probabilities
    short = videos[np.diff(features.offsets) < 6]
    assert len(short) > 3
    for some in (short, *videos[:, None]):
        found = head_predictions(head, features, some).log_probabilities
        assert relative_error(found, together[some]) < FLOAT32_FORWARD


def test_two_runs_leave_the_same_bytes_and_torch_as_it_was(tmp_path, monkeypatch):
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    for name in ("one", "two"):
        (tmp_path / f"in {name}").mkdir()
        monkeypatch.setenv("GCF_HOME", str(tmp_path / f"in {name}"))  # nobody has looked there
        features = easy_cache(tmp_path / f"in {name}" / "f.h5")
        train_head(features, tmp_path / name, head=SMALL, **SHORT, cv=3, seeds=2)
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file())
    assert len([f for f in files if f.name == "head.safetensors"]) == 6
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_cross_validation_pools_the_folds_and_keeps_each_head(tmp_path):
    features = easy_cache(tmp_path / "f.h5", groups=[f"g{n % 4}" for n in range(36)])
    run = train_head(features, tmp_path / "run", head=SMALL, **SHORT, cv="group", seeds=2)
    assert len(run.metrics["seeds"]) == 2
    for seed in run.metrics["seeds"]:
        assert [fold["name"] for fold in seed["folds"]] == ["g0", "g1", "g2", "g3"]
        assert seed["n"] == 36
        assert seed["k"] == sum(fold["k"] for fold in seed["folds"])
        for place in seed["heads"]:
            assert load_head(tmp_path / "run" / place).training["seed"] == seed["seed"]
    assert run.metrics["k"] == sum(seed["k"] for seed in run.metrics["seeds"])
    assert run.metrics["fold_min"] <= run.metrics["top1"] <= run.metrics["fold_max"]
    folds = [fold["top1"] for seed in run.metrics["seeds"] for fold in seed["folds"]]
    assert run.metrics["fold_mean"] == pytest.approx(np.mean(folds))
    assert f"folds: top-1 {100 * np.mean(folds):.1f} % in the mean" in run.describe()
    with pytest.raises(HeadError, match="several heads: seed-0-fold-00"):
        load_head(tmp_path / "run")


def test_official_splits_come_from_the_annotations(tmp_path):
    features = easy_cache(tmp_path / "f.h5")
    videos = {name: Annotation(f"class {n % 3}") for n, name in enumerate(features.ids)}
    splits = {
        str(s): {name: "test" if n // 3 % 3 == s else "train" for n, name in enumerate(features.ids)} for s in range(2)
    }
    annotations = Annotations("lists", tuple(features.classes), videos, splits)
    run = train_head(features, head=SMALL, **SHORT, annotations=annotations, cv="official")
    assert [fold["n"] for fold in run.metrics["seeds"][0]["folds"]] == [12, 12]
    with pytest.raises(UsageError, match="publish splits"):
        train_head(features, cv="official")
    compared = ablate(features, heads=["mean"], seeds=2, epochs=1, annotations=annotations, cv="official")
    (note,) = [note for note in compared.metrics["notes"] if note.startswith("Mean of the official splits, top-1 %: ")]
    assert all(f"{row['name']} {100 * row['fold_mean']:.1f}" in note for row in compared.rows)


def test_without_test_videos_the_figures_are_of_val_and_it_says_so(tmp_path):
    run = train_head(easy_cache(tmp_path / "f.h5", subsets=False), head="mean", **SHORT)
    assert run.metrics["judged_on"] == "val"
    assert any("no test subset" in note for note in run.metrics["notes"])
    assert run.path is None


def test_what_is_left_out_is_counted_and_said(tmp_path):
    features = easy_cache(tmp_path / "f.h5", failures=[("broken.mp4", "empty")])
    videos = {name: Annotation(f"class {n % 3}") for n, name in enumerate(features.ids) if n not in (4, 5, 9)}
    videos |= {"broken": Annotation("class 0"), "absent.mp4": Annotation("class 1"), "far.mp4": Annotation("rare")}
    annotations = Annotations("list.csv", ("class 0", "class 1", "class 2", "rare"), videos)
    run = train_head(features, head="mean", **SHORT, annotations=annotations, cv=3)
    found = run.metrics["coverage"]
    assert found["expected"] == 36 + 3
    assert (found["used"], found["failed"], found["missing"], found["unlabelled"]) == (33, 1, 2, 3)
    assert found["never_trained"] == ["rare"]
    assert run.metrics["notes"][-2:] == [
        "Of 39 expected videos 33 are used: 1 gave no clips at extraction, "
        "2 are annotated but not in the feature file, 3 have no label.",
        "1 classes have no training video in some split and cannot be recognised there: rare.",
    ]


def test_features_that_are_not_finite_are_refused_before_any_training(tmp_path):
    features = easy_cache(tmp_path / "f.h5")
    videos = [np.array(features.descriptors[a:b]) for a, b in zip(features.offsets, features.offsets[1:], strict=False)]
    videos[7][0, 0, 3] = np.nan
    bad = write_cache(tmp_path / "bad.h5", videos, features.labels, features.classes)
    with pytest.raises(FeatureFileError, match=r"1 videos have NaN or infinite values \(v0007\.mp4\)"):
        train_head(bad, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(AnnotationError, match="two classes"):
        train_head(write_cache(tmp_path / "u.h5", videos, [-1] * 36, features.classes))


@pytest.mark.parametrize("layers", [1, 3])
def test_averaging_fusion_trains_or_is_refused_with_the_reason(layers, tmp_path):
    features = easy_cache(tmp_path / "f.h5", width=48)
    head = head_config("gcf-256", width=32, key_width=8, fusion="average", layers=layers)
    if layers == 1:
        assert train_head(features, head=head).metrics["top1"] > 0.9
        return
    expected = (
        r"fusion average with layers 3 starts from logits of \de-\d\d, too small .*; take fusion softmax, or fewer"
    )
    with pytest.raises(UsageError, match=expected):
        train_head(features, tmp_path / "run", head=head)
    assert not (tmp_path / "run").exists()
    table = ablate(features, heads=[head, "mean"], seeds=2, **SHORT)
    errors = {row["name"]: row.get("failed") for row in table.rows}
    assert "take fusion softmax" in errors.pop("gcf-256")
    assert set(errors.values()) == {None}


def test_a_folder_in_use_is_refused_and_an_earlier_run_replaced_only_when_asked(tmp_path):
    features = easy_cache(tmp_path / "f.h5")
    train_head(features, tmp_path / "run", head="mean", **SHORT)
    before = (tmp_path / "run" / "metrics.json").read_bytes()
    with pytest.raises(RefusedError, match=r"holds an earlier run.*overwrite"):
        train_head(features, tmp_path / "run", head=SMALL, **SHORT)
    assert (tmp_path / "run" / "metrics.json").read_bytes() == before
    train_head(features, tmp_path / "run", head=SMALL, **SHORT, overwrite=True)
    assert load_head(tmp_path / "run").config.name == "small"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("important")
    for overwrite in (False, True):
        with pytest.raises(RefusedError, match="not a run of gcf"):
            train_head(features, tmp_path / "mine", head="mean", overwrite=overwrite)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "important"
    with pytest.raises(RefusedError, match="is a file"):
        train_head(features, features.path, head="mean")


def test_a_run_that_fails_leaves_nothing_and_an_earlier_one_untouched(tmp_path):
    features = easy_cache(tmp_path / "f.h5")
    train_head(features, tmp_path / "run", head="mean", **SHORT)
    before = sorted((p.name, p.read_bytes()) for p in (tmp_path / "run").iterdir())
    with pytest.raises(Exception, match="diverged"):
        train_head(features, tmp_path / "run", head=SMALL, lr=1e30, overwrite=True)
    assert sorted((p.name, p.read_bytes()) for p in (tmp_path / "run").iterdir()) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.h5", "f.h5.looks.jsonl", "run"]


def test_transfer_trains_the_classifier_alone_and_keeps_it_where_classes_agree(tmp_path):
    features = easy_cache(tmp_path / "f.h5")
    source = train_head(features, tmp_path / "source", head=SMALL, **SHORT).head.module.state_dict()
    frozen = {"epochs": 20, "init": tmp_path / "source", "freeze": "all-but-classifier"}
    run = train_head(features, **frozen)
    assert run.metrics["train"]["lr"] == 0.01
    for name, value in run.head.module.state_dict().items():
        if name == "classifier.weight":
            assert not torch.equal(value, source[name])
            assert (value - source[name]).abs().max() < 0.1  # it went on from there
        else:
            assert_bitwise_equal(value, source[name])
    other = easy_cache(tmp_path / "other.h5", num_classes=4)
    moved = train_head(other, **frozen).head
    assert moved.config == SMALL
    assert moved.module.classifier.weight.shape == (4, 16)
    for name in source.keys() - {"classifier.weight"}:
        assert_bitwise_equal(moved.module.state_dict()[name], source[name])


def test_transfer_without_freezing_moves_every_weight(tmp_path):
    features = easy_cache(tmp_path / "f.h5")
    source = train_head(features, head=SMALL, **SHORT).head
    run = train_head(features, epochs=20, init=source)
    for name, value in run.head.module.state_dict().items():
        assert not torch.equal(value, source.module.state_dict()[name]), name
    assert run.metrics["train"]["lr"] == 0.1


def test_a_head_that_does_not_fit_is_no_start(tmp_path):
    features = easy_cache(tmp_path / "f.h5")
    source = train_head(features, head=SMALL, **SHORT).head
    start = {"init": source}
    with pytest.raises(RecipeError, match="crop: 8 against 9"):
        train_head(easy_cache(tmp_path / "g.h5", recipe=RECIPE | {"crop": 9}), **start)
    with pytest.raises(UsageError, match="is a small, not a mean"):
        train_head(features, head="mean", **start)
    with pytest.raises(UsageError, match="takes 10 clips at most"):
        train_head(features, init=source, num_clips=12)


def test_all_clips_need_a_head_for_any_number(tmp_path):
    features = easy_cache(tmp_path / "f.h5", clips=(2, 30))
    everything = {"epochs": 40, "clip_policy": "all"}
    with pytest.raises(UsageError, match="--gate token"):
        train_head(features, head=SMALL, **everything)
    for head in (HeadConfig("t", width=16, key_width=8, gate="token"), "mean", "fusion-only"):
        assert train_head(features, head=head, **everything).metrics["top1"] > 0.5


def test_the_gate_is_built_for_the_clips_that_are_asked_for(tmp_path):
    features = easy_cache(tmp_path / "f.h5", clips=(2, 30))
    head = train_head(features, head=SMALL, epochs=20, num_clips=16).head
    assert head.config.gate_clips == 16
    assert head(torch.zeros(16, 12)).gate.shape == (1, 16)


def test_evaluation_matches_classes_by_name_and_counts_what_the_head_does_not_know(tmp_path):
    features = easy_cache(tmp_path / "f.h5")
    head = train_head(features, head=SMALL).head
    names = ["class 2", "class 0", "class 1", "new"]
    videos = {name: Annotation(f"class {n % 3}") for n, name in enumerate(features.ids)}
    videos[features.ids[0]] = Annotation("new")
    found = evaluate_head(head, features, annotations=Annotations("a", tuple(names), videos))
    assert (found["judged_on"], found["n"], found["unknown_class"]) == ("all", 35, 1)
    assert found["top1"] > 0.9
    with pytest.raises(AnnotationError, match="no val video"):
        evaluate_head(head, features, subset="val")
    with pytest.raises(UsageError, match="unknown subset"):
        evaluate_head(head, features, subset="tests")
    with pytest.raises(RecipeError, match="crop"):
        evaluate_head(head, easy_cache(tmp_path / "g.h5", recipe=RECIPE | {"crop": 9}))


def test_a_path_that_is_no_feature_file_says_so(tmp_path):
    with pytest.raises(FeatureFileError, match="no such file"):
        train_head(tmp_path / "none.h5")


def test_protocols_that_make_no_sense_are_refused():
    for protocol in ({"cv": "groups"}, {"cv": 1}, {"seeds": 0}):
        with pytest.raises(UsageError):
            Protocol(**protocol)
