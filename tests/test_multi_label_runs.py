"""Training, comparing, judging and reporting on videos that may have several classes."""

import csv
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from compare import FLOAT32_FORWARD, relative_error
from multi_label import CLASSES, VIDEOS, planted, shown_sets
from pages import Page

import gcf.cli
from gcf import ablate, load_head, train_head, write_report
from gcf.data.splits import Split
from gcf.head.compare import compare_features
from gcf.head.evaluate import evaluate_head
from gcf.head.fitting.backbone_clips import backbone_columns, whose_classifier
from gcf.head.fitting.batches import Descriptors
from gcf.head.fitting.labelled import label_features, make_splits
from gcf.head.fitting.metrics import score
from gcf.head.fitting.prediction import Prediction
from gcf.head.fitting.start import Start
from gcf.head.fitting.threads import ThreadPool
from gcf.head.models.build import head_config
from gcf.head.models.config import PRESETS, Protocol, TrainConfig
from gcf.head.models.standard import inner_head
from gcf.head.transfer import transfer_head
from gcf.head.trials.plan import Training
from gcf.head.trials.results import EvaluationSet, merge
from gcf.head.trials.split_result import SplitResult
from gcf.head.trials.split_session import SplitSession
from gcf.head.trials.store import split_digest

ALONE = {"evaluated": "test", "threads": ThreadPool(1)}
NARROW = head_config("gcf-256", name="narrow", width=16, key_width=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def data(folder):
    return planted(folder / "f.h5")


@pytest.fixture(scope="module")
def table(folder, data):
    """The annotations as a CSV file."""
    path = folder / "labels.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "subset", "group"])
        rows.writerows([name, "|".join(a.classes), a.subset, a.group] for name, a in data[1].videos.items())
    return path


@pytest.fixture(scope="module")
def single(data):
    """The first class of each video alone."""
    videos = {name: replace(a, label=a.labels[0], labels=()) for name, a in data[1].videos.items()}
    return replace(data[1], multi_label=False, videos=videos)


@pytest.fixture(scope="module")
def trained(folder, data, table):
    options = {"annotations": table, "multi_label": True, "num_clips": 6, "epochs": 60, "batch_size": 32}
    return train_head(data[0], folder / "head", head=NARROW, **options)


@pytest.fixture(scope="module")
def compared(folder, data):
    options = {"annotations": data[1], "multi_label": True, "num_clips": 6, "epochs": 25, "batch_size": 32}
    return ablate(data[0], folder / "table", seeds=2, **options)


@pytest.mark.slow
def test_a_head_finds_each_concept_whatever_stands_beside_it(data, trained):
    metrics = trained.metrics
    assert metrics["map"] > 0.95
    assert metrics["top1"] > 0.95
    assert metrics["n"] == VIDEOS // 4
    assert trained.head.config.exclusive is False
    both = [data[0].ids[n] for n in np.flatnonzero(shown_sets()[:, :2].all(axis=1)) if n // 4 % 4 == 0]
    saved = np.load(trained.path / "predictions.npz")
    rows = np.isin(saved["ids"], both)
    assert saved["labels"].shape == (VIDEOS // 4, 3)
    assert (saved["probabilities"][0, rows][:, :2] > 0.5).mean() > 0.9  # both at once, as no softmax could
    assert "mAP" in trained.describe()
    assert "hit@1" in trained.describe()


@pytest.mark.slow
def test_two_seeded_runs_give_the_same_figures(data, table):
    options = {"annotations": table, "multi_label": True, "num_clips": 6, "epochs": 3, "head": "mean"}
    one, other = (train_head(data[0], **options).metrics for _ in range(2))
    assert one["seeds"] == other["seeds"]
    assert one["protocol"]["multi_label"] is True


@pytest.mark.slow
def test_logistic_regression_is_trained_and_judged_like_any_head(folder, data, table):
    options = {"annotations": table, "multi_label": True, "num_clips": 6}
    run = train_head(data[0], folder / "logreg", head="logreg", **options)
    assert run.metrics["map"] > 0.95
    assert run.metrics["loss"] < 0.05  # taught one class a video it stays above 0.5
    assert evaluate_head(run.path, data[0], annotations=table)["map"] == run.metrics["map"]


@pytest.mark.slow
def test_eval_follows_the_head_and_knows_its_classes_by_name(folder, data, table, trained):
    found = evaluate_head(trained.path, data[0], annotations=table, subset="test")
    for name in ("map", "top1", "k", "n"):
        assert found[name] == trained.metrics[name]
    assert load_head(trained.path).config == trained.head.config
    renamed = folder / "renamed.csv"
    renamed.write_text(table.read_text().replace("C", "D"))  # one class less, one that it never heard of
    found = evaluate_head(trained.path, data[0], annotations=renamed, subset="all")
    shown = shown_sets()
    assert found["unknown_class"] == (~shown[:, :2].any(axis=1)).sum()
    assert found["n"] == shown[:, :2].any(axis=1).sum()


def test_a_saved_head_says_what_each_class_is_worth_by_itself(data, trained):
    logits = trained.head(data[0].video(0)).logits[0]
    sure = trained.head.probabilities(logits).numpy()
    assert relative_error(sure, 1 / (1 + np.exp(-logits.numpy()))) < FLOAT32_FORWARD


@pytest.mark.slow
def test_a_trained_clip_classifier_averages_sigmoids_whoever_built_it(folder, data, table):
    found = label_features(*data, multi_label=True)
    (split,) = make_splits(found, Protocol())
    session = SplitSession(
        found, Descriptors(data[0]), split, TrainConfig(num_clips=6), evaluated="test", threads=ThreadPool(1)
    )
    arm = Training(PRESETS["clip"], session.settings)  # as a comparison has it, which knows nothing of the labels
    assert not inner_head(session.stack(arm, [0], Start(), "fp32").template).exclusive
    options = {"annotations": table, "multi_label": True, "num_clips": 6, "epochs": 3}
    run = train_head(data[0], folder / "clip", head="clip", **options)
    head = load_head(run.path).module
    own = inner_head(head).classifier.requires_grad_(False)
    saved = np.load(run.path / "predictions.npz")
    for name, probabilities in zip(saved["ids"][:5], saved["probabilities"][0], strict=False):
        clips = np.array(data[0].video(data[0].ids.index(name)).descriptors[:, 0], dtype=np.float64)
        clips = (clips - head.mean.numpy()) / head.scale.numpy()
        logits = clips @ own.weight.numpy().T.astype(np.float64) + own.bias.numpy()
        assert relative_error(probabilities, (1 / (1 + np.exp(-logits))).mean(axis=0)) < FLOAT32_FORWARD


@pytest.mark.slow
def test_heads_of_several_seeds_are_judged_as_one(folder, data, table):
    options = {"annotations": table, "multi_label": True, "num_clips": 6, "epochs": 5}
    run = train_head(data[0], folder / "seeds", head="mean", seeds=2, **options)
    found = evaluate_head(run.path, data[0], annotations=table)
    saved = np.load(run.path / "predictions.npz")
    mean = saved["probabilities"].mean(axis=0)
    assert found["map"] == pytest.approx(score(np.log(mean), saved["labels"])["map"], abs=1e-6)
    assert found["loss"] == pytest.approx(score(np.log(mean), saved["labels"])["loss"], rel=1e-5)


def _hits(saved):
    return np.array([row[best] for row, best in zip(saved["labels"], saved["probabilities"][0].argmax(1), strict=True)])


@pytest.mark.slow
def test_a_head_of_one_class_a_video_carries_over_to_several(folder, data, single):
    path = data[0].path
    options = {"annotations": data[1], "multi_label": True, "num_clips": 6, "epochs": 2, "lr": 5e-2}
    found = transfer_head(path, path, folder / "transfer", head="mean", source_annotations=single, **options)
    assert load_head(found.path / "source").config.exclusive
    for run in (found.transferred, found.scratch):
        assert not run.head.config.exclusive
        assert 0 < run.metrics["map"] <= 1
    assert found.metrics["transferred"]["map"] == found.transferred.metrics["map"]
    saved = [np.load(run.path / "predictions.npz") for run in (found.transferred, found.scratch)]
    gain = [_hits(one) > _hits(other) for one, other in (saved, saved[::-1])]
    assert (found.metrics["difference"]["gained"], found.metrics["difference"]["lost"]) == tuple(map(sum, gain))
    assert sum(map(sum, gain)) > 0


@pytest.mark.slow
def test_backbones_are_compared_by_hits_and_say_so(folder, data, table):
    other = planted(folder / "g.h5")[0]
    options = {"annotations": table, "multi_label": True, "num_clips": 6, "epochs": 2, "seeds": 1, "head": "mean"}
    found = compare_features([data[0], other], folder / "backbones", **options)
    assert "hit@1" in found.metrics["notes"][0]
    assert found.rows[1]["first_delta"] == 0.0


@pytest.mark.slow
def test_a_softmax_head_is_judged_on_several_classes_where_that_is_asked_for(data, table, single):
    head = train_head(data[0], annotations=single, head="mean", num_clips=6, epochs=5).head
    assert head.config.exclusive
    found = evaluate_head(head, data[0], annotations=table, multi_label=True)
    assert 0.3 < found["map"] < 1


@pytest.mark.slow
def test_arms_are_compared_by_map_with_an_interval(compared):
    rows = {row["name"]: row for row in compared.rows}
    for name, row in rows.items():
        assert row["mean_class"] == row["map"]
        if name != "d-clips":
            assert row["map_delta"] == pytest.approx(row["map"] - rows["d-clips"]["map"], abs=1e-6)
            assert row["map_low"] <= row["map_delta"] <= row["map_high"]
    assert rows["d-clips"]["map_delta"] is None
    assert rows["gcf-256"]["map"] > 0.9
    assert compared.metrics["clip_classifier"] == "linear"
    head = compared.markdown.splitlines()[0]
    assert "mAP %" in head
    assert "hit@1 %" in head
    assert "mean class" not in compared.markdown
    assert "top-1" not in compared.markdown
    assert any("a video may have several" in note for note in compared.metrics["notes"])


def test_the_backbone_s_softmax_does_not_speak_for_several_classes(data):
    found = label_features(*data, multi_label=True)

    own = replace(found, features=SimpleNamespace(backbone_classes=CLASSES, logits=np.zeros((1, 3))))
    assert backbone_columns(own) is None
    assert "may have several" in whose_classifier(own)
    single = replace(own, targets=None)
    assert backbone_columns(single) == [0, 1, 2]
    assert whose_classifier(single) == "the backbone's own, over the data's 3 classes"


def test_balanced_weights_even_out_the_classes_that_videos_show(data):
    found = label_features(*data, multi_label=True)
    (split,) = make_splits(found, Protocol())
    train = TrainConfig(num_clips=6, class_weights="balanced")
    session = SplitSession(found, Descriptors(data[0]), split, train, **ALONE)
    weights = session.stack(Training(NARROW, train), [0], Start(), "fp32").class_weights.numpy()
    counts = shown_sets()[split.train].sum(axis=0)
    assert (weights * counts).tolist() == pytest.approx([counts.mean()] * 3)


def test_balanced_batches_draw_by_the_rarest_class(data):
    found = label_features(*data, multi_label=True)
    (split,) = make_splits(found, Protocol())
    session = SplitSession(
        found, Descriptors(data[0]), split, TrainConfig(num_clips=6), evaluated="test", threads=ThreadPool(1)
    )
    assert session.batches.classes.tolist() == found.labels.tolist()


def test_a_stored_result_depends_on_every_class_of_a_video(data):
    features, annotations = data
    name = next(name for name, a in annotations.videos.items() if a.classes == ("B", "C"))
    other = type(annotations.videos[name]).of_classes(
        "C", annotations.videos[name].subset, annotations.videos[name].group
    )
    changed = replace(annotations, videos=annotations.videos | {name: other})
    digests = set()
    for given in (annotations, changed):
        found = label_features(features, given, multi_label=True)
        digests.add(split_digest(found, make_splits(found, Protocol())[0]))
    assert len(digests) == 2


def test_results_of_splits_are_pooled_to_the_map_of_all(monkeypatch):
    monkeypatch.setattr("gcf.head.trials.split_result.MOST_VALUES", 0)  # however large they are
    rng = np.random.default_rng(0)
    targets = rng.random((50, 4)) < 0.4
    targets[~targets.any(axis=1), 0] = True
    logs = np.log(rng.random((50, 4))).astype(np.float32)
    cut, none = 20, np.array([], dtype=int)
    splits = [Split(name, none, none, none) for name in "ab"]
    judged = EvaluationSet(np.arange(50), np.repeat([0, 1], [cut, 50 - cut]), targets, "test")
    parts = [SplitResult.of(None, Prediction(logs[own], {}), targets[own]) for own in (slice(0, cut), slice(cut, 50))]
    found = merge(0, [SplitResult(**part.facts, **part.arrays) for part in parts], splits, judged)
    assert found.metrics == score(logs, targets)
    assert [fold["map"] for fold in found.folds] == [
        score(logs[:cut], targets[:cut])["map"],
        score(logs[cut:], targets[cut:])["map"],
    ]


@pytest.mark.slow
def test_the_report_speaks_of_map_and_hits(compared, trained):
    text = write_report(compared.path).read_text(encoding="utf-8")
    assert "mAP" in text
    assert "hit@1" in text
    assert "top-1" not in text.lower()
    assert "mean class" not in text
    assert "--seeds 2 --multi-label<" in text  # a flag has no value
    (main, *_) = Page(text).rows
    assert main[:4] == ["arm", "mAP, %", "± seeds", "difference"]
    assert {"hit@1, %", "hits / judged"} < set(main)
    single = write_report(trained.path).read_text(encoding="utf-8")
    assert "reaches mAP" in single


@pytest.mark.slow
def test_the_command_line_takes_several_labels(folder, data, table, capfd):
    def said(*args):
        assert gcf.cli.run([str(arg) for arg in args]) == 0
        return json.loads(capfd.readouterr().out)

    common = [data[0].path, "--annotations", table, "--json"]
    options = ["--multi-label", "--head", "mean", "--epochs", 5, "--num-clips", 6]
    run = said("train-head", *common, "-o", folder / "by-command", *options)
    assert said("eval", folder / "by-command", *common)["map"] == run["map"]
    assert said("eval", folder / "by-command", *common, "--multi-label")["map"] == run["map"]
