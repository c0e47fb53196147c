"""Videos that may have several classes: reading them, learning from them, judging by mAP."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from compare import FLOAT32_FORWARD, FLOAT64_FORWARD, relative_error
from multi_label import CLASSES, plain_average_precision, planted, shown_sets
from numpy_net import sigmoid
from scipy.special import log_expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler

from gcf.data.annotations import label_videos, read_annotations
from gcf.errors import AnnotationError, UsageError
from gcf.head.fitting.batches import Batch
from gcf.head.fitting.fit import validation_metrics
from gcf.head.fitting.labelled import coverage, label_features, make_splits
from gcf.head.fitting.logreg import fit_logreg
from gcf.head.fitting.loss import training_loss
from gcf.head.fitting.metrics import binary_loss, score
from gcf.head.fitting.prediction import log_probabilities
from gcf.head.fitting.stack import Stack
from gcf.head.models.baselines import ClipHead
from gcf.head.models.build import build_head, head_config
from gcf.head.models.config import Protocol, TrainConfig
from gcf.head.models.ensemble import MeanOfHeads
from gcf.head.models.output import HeadOutput
from gcf.head.tables.map_difference import map_difference, resampled_map

# --- reading


def written(tmp_path, text, name="labels.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_bars_part_labels_only_where_several_are_asked_for(tmp_path):
    path = written(
        tmp_path, "path,label,subset,group\na.mp4,run| jump|run,train,g1\nb.mp4,jump,test,g2\nc.mp4,,train,\n"
    )
    ids = ["a.mp4", "b.mp4", "c.mp4"]
    found = label_videos(ids, read_annotations(path, multi_label=True))
    assert found.classes == ("jump", "run")
    assert found.targets.tolist() == [[True, True], [True, False], [False, False]]
    assert found.unlabelled == ("c.mp4",)
    assert (found.subsets, found.groups) == (("train", "test", "train"), ("g1", "g2", ""))
    single = label_videos(ids, read_annotations(path))
    assert single.classes == ("jump", "run| jump|run")
    assert single.targets is None


def test_a_video_of_the_database_has_all_labels_of_its_segments(tmp_path):
    def segments(*labels):
        return {"subset": "training", "annotations": [{"segment": [0, 1], "label": label} for label in labels]}

    database = {"one": segments("run", "run"), "both": segments("run", "jump"), "none": segments()}
    path = written(tmp_path, json.dumps({"database": database}), "a.json")
    several = read_annotations(path, multi_label=True)
    assert {name: a.classes for name, a in several.videos.items()} == {
        "one": ("run",),
        "both": ("jump", "run"),
        "none": (),
    }
    assert several.notes == ()
    single = read_annotations(path)
    assert single.videos["both"].label is None
    assert "several classes" in single.notes[0]


def test_lists_with_one_label_a_video_are_sets_of_one(tmp_path):
    written(tmp_path, "1 Run\n2 Sit\n", "classInd.txt")
    written(tmp_path, "Run/a.avi 1\n", "trainlist01.txt")
    written(tmp_path, "Sit/b.avi\n", "testlist01.txt")
    found = label_videos(["Sit/b.avi", "Run/a.avi"], read_annotations(tmp_path, multi_label=True))
    assert found.targets.tolist() == [[False, True], [True, False]]


def test_two_lines_of_one_video_must_name_the_same_set(tmp_path):
    agree = written(tmp_path, "path,label\na.mp4,x|y\na.mp4,y|x\n")
    assert read_annotations(agree, multi_label=True).videos["a.mp4"].classes == ("x", "y")
    differ = written(tmp_path, "path,label\na.mp4,x|y\na.mp4,x\n")
    with pytest.raises(AnnotationError, match=r"line 3: 'a\.mp4' has labels \('x',\) against \('x', 'y'\)"):
        read_annotations(differ, multi_label=True)


# --- labelled features


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    features, annotations = planted(tmp_path_factory.mktemp("planted") / "f.h5")
    return features, annotations


def test_a_feature_file_alone_cannot_name_several_classes(data):
    features, annotations = data
    with pytest.raises(UsageError, match="give annotations for several"):
        label_features(features, multi_label=True)
    with pytest.raises(UsageError, match="was read with multi_label=True"):
        label_features(features, annotations)


def test_the_label_of_a_video_is_the_rarest_of_its_classes(data):
    found = label_features(*data, multi_label=True)
    shown = shown_sets()
    assert np.array_equal(found.truth, shown)
    sizes = shown.sum(axis=0)
    assert found.labels.tolist() == [min(np.flatnonzero(row), key=lambda k: sizes[k]) for row in shown]
    assert found.class_sizes(np.arange(10)).tolist() == shown[:10].sum(axis=0).tolist()


def test_a_class_is_trained_where_it_is_never_the_rarest(data):
    found = label_features(*data, multi_label=True)
    (split,) = make_splits(found, Protocol())
    targets = np.zeros_like(found.targets)
    targets[:, 0] = True
    targets[split.train, 1] = True
    own = replace(found, targets=targets, labels=np.where(targets[:, 1], 1, 0))
    assert own.labels[split.train].min() == 1
    assert coverage(own, [split])["never_trained"] == ["C"]


@pytest.mark.parametrize("cv", [None, 3, "group"])
def test_splits_keep_groups_whole_and_leave_out_who_has_no_class(tmp_path, data, cv):
    features, annotations = data
    videos = dict(annotations.videos)
    del videos["v0007.mp4"]
    found = label_features(features, type(annotations)("a", CLASSES, videos, multi_label=True), multi_label=True)
    assert found.labels[7] == -1
    for split in make_splits(found, Protocol(cv=cv)):
        groups = [group for part in (split.train, split.val, split.test) for group in {found.groups[n] for n in part}]
        assert len(set(groups)) == len(groups)
        assert 7 not in np.concatenate([split.train, split.val, split.test])


# --- losses


def targets_and_logits(n=7, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((n, classes)) < 0.4, 3 * rng.standard_normal((n, classes))


def test_the_loss_is_the_binary_cross_entropy_of_every_class():
    targets, logits = targets_and_logits()
    weights = np.array([0.5, 1.0, 2.0, 3.0])
    p = sigmoid(logits)
    labels = torch.from_numpy(targets).float()
    for own, given in ((np.ones(4), None), (weights, torch.from_numpy(weights))):
        expected = -(own * targets * np.log(p) + (1 - targets) * np.log(1 - p)).sum(axis=1).mean()
        gate = torch.full((7, 2), 0.25, dtype=torch.float64)
        output = HeadOutput(torch.from_numpy(logits), gate)
        mask = torch.ones(7, 2, dtype=torch.bool)
        found = training_loss(output, mask, labels.double(), sparsity=0.1, class_weights=given)
        assert relative_error(found, expected + 0.1 * 0.5) < FLOAT64_FORWARD


def test_every_real_clip_bears_all_labels_of_its_video():
    rng = np.random.default_rng(3)
    clip_logits, mask = rng.standard_normal((3, 4, 5)), np.array([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]], dtype=bool)
    targets = rng.random((3, 5)) < 0.5
    losses = []
    for b, c in zip(*np.nonzero(mask), strict=True):
        p = sigmoid(clip_logits[b, c])
        losses.append(-sum(np.log(p[k]) if targets[b, k] else np.log(1 - p[k]) for k in range(5)))
    clip_logits[~mask] = 1e9
    output = HeadOutput(torch.zeros(3, 5), clip_logits=torch.from_numpy(clip_logits))
    found = training_loss(output, torch.from_numpy(mask), torch.from_numpy(targets).double(), sparsity=1.0)
    assert relative_error(found, np.mean(losses)) < FLOAT64_FORWARD


def test_validation_loss_is_sound_where_probabilities_round_to_one():
    targets = np.array([[True, False], [False, True], [False, False]])
    logits = np.array([[40.0, 40.0], [30.0, -60.0], [-90.0, 15.0]])
    expected = -np.where(targets, log_expit(logits), log_expit(-logits)).sum(axis=1).mean()
    logs = log_probabilities(torch.from_numpy(logits).float(), exclusive=False).numpy()
    assert relative_error(binary_loss(logs, targets), expected) < FLOAT32_FORWARD
    found = validation_metrics(logs, targets.astype(np.float32))
    assert relative_error(found["val_loss"], expected) < FLOAT32_FORWARD
    assert found["val_top1"] == pytest.approx(1 / 3)  # the first video: 0 is right; 0 and 1 of the others are wrong
    beyond = log_probabilities(torch.tensor([[1e4, -1e4]]), exclusive=False).numpy()
    assert np.isfinite(binary_loss(beyond, np.array([[False, True]])))


@pytest.mark.parametrize("head", ["gcf-256", "mean", "clip"])
def test_heads_side_by_side_lose_what_each_loses_alone(head):
    config = head_config(head, exclusive=False, **({"width": 16, "key_width": 4} if head == "gcf-256" else {}))
    heads = [build_head(config, 8, 3, seed=seed) for seed in range(2)]
    generator = torch.Generator().manual_seed(0)
    batch = Batch(
        torch.randn(5, 4, 8, generator=generator),
        torch.arange(4) < torch.tensor([[4], [2], [1], [3], [4]]),
        torch.from_numpy(targets_and_logits(5, 3)[0]).float(),
    )
    stack = Stack(heads, TrainConfig(), class_weights=torch.tensor([1.0, 2.0, 3.0]))
    stack.try_together(8, batch.labels)
    assert stack.each == stack._together
    alone = [Stack([h], TrainConfig(), class_weights=stack.class_weights).step(batch) for h in heads]
    assert relative_error(stack.step(batch), torch.cat(alone)) < FLOAT32_FORWARD


# --- averages of probabilities


def test_d_clips_averages_sigmoids_over_real_clips():
    generator = torch.Generator().manual_seed(1)
    head = ClipHead(6, 4, exclusive=False).eval()
    descriptors, counts = torch.randn(3, 5, 6, generator=generator), [5, 2, 1]
    mask = torch.arange(5) < torch.tensor(counts)[:, None]
    with torch.no_grad():
        said = head(torch.where(mask.unsqueeze(-1), descriptors, 1e6), mask).logits
    weight, bias = (p.detach().numpy().astype(np.float64) for p in (head.classifier.weight, head.classifier.bias))
    for b, count in enumerate(counts):
        mean = sum(sigmoid(weight @ descriptors[b, c].numpy() + bias) for c in range(count)) / count
        assert relative_error(log_probabilities(said[b], exclusive=False).exp(), mean) < FLOAT32_FORWARD


def test_the_mean_of_sigmoids_is_finite_for_sure_clips():
    head = ClipHead(1, 2, exclusive=False).eval()
    with torch.no_grad():
        head.classifier.weight.fill_(1.0)
        head.classifier.bias.zero_()
        said = head(torch.tensor([[[80.0], [90.0]], [[-80.0], [-90.0]]]), torch.ones(2, 2, dtype=torch.bool)).logits
    # 1 - p is the mean of e^-80 and e^-90, so the logit is 80 + log 2 but for e^-10
    assert relative_error(said[:, 0], np.array([80.0, -80.0]) + np.array([1, -1]) * np.log(2 / (1 + np.exp(-10)))) < (
        FLOAT32_FORWARD
    )


def test_heads_of_several_seeds_average_sigmoids():
    heads = [build_head(head_config("mean"), 4, 3, seed=seed).eval() for seed in range(2)]
    descriptors, mask = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)), torch.ones(2, 3).bool()
    with torch.no_grad():
        said = MeanOfHeads(heads, exclusive=False)(descriptors, mask).logits
        expected = np.mean([sigmoid(head(descriptors, mask).logits.numpy()) for head in heads], axis=0)
    assert relative_error(said.sigmoid(), expected) < FLOAT32_FORWARD


# --- figures


def scored(n=60, classes=8, seed=0, strength=1.0, digits=1):
    """Targets and log probabilities with ties among them; the last class never occurs."""
    rng = np.random.default_rng(seed)
    targets = rng.random((n, classes)) < 0.2
    targets[:, -1] = False
    targets[~targets.any(axis=1), 0] = True
    return targets, log_expit(np.round(rng.standard_normal((n, classes)) + strength * targets, digits))


def test_figures_are_those_of_plain_loops():
    targets, logs = scored()
    found = score(logs, targets)
    best = [sorted(range(8), key=lambda k: -row[k]) for row in logs]
    plain = np.mean([plain_average_precision(logs[:, k], targets[:, k]) for k in range(7)])
    assert found["map"] == found["mean_class"] == pytest.approx(plain, abs=1e-12)
    assert found["k"] == sum(targets[i, row[0]] for i, row in enumerate(best))
    assert found["top1"] == found["k"] / 60
    untied = logs - 1e-6 * np.arange(8)
    five = [any(row[k] for k in np.argsort(-said)[:5]) for row, said in zip(targets, untied, strict=True)]
    assert 0 < np.mean(five) < 1
    assert score(untied, targets)["top5"] == np.mean(five)
    assert score(np.where(targets, -0.1, -3.0), targets)["map"] == 1.0


@pytest.mark.slow
def test_resampled_figures_are_those_of_videos_written_out_as_often_as_they_are_drawn():
    targets, logs = scored(40)
    units = np.arange(40) // 4  # groups of four
    targets[:, -2] = np.arange(40) == 1  # what one group alone shows is not there in every draw
    targets[~targets.any(axis=1), 0] = True
    found = resampled_map(logs[None], targets, units, seed=3, resamples=20)
    assert found.shape == (1, 21)
    rng = np.random.default_rng([3, 0])
    drawn = [np.arange(10)] + [rng.integers(10, size=10) for _ in range(20)]
    for value, own in zip(found[0], drawn, strict=True):
        rows = np.concatenate([np.flatnonzero(units == unit) for unit in own])
        t, s = targets[rows], logs[rows]
        expected = np.mean([average_precision_score(t[:, k], s[:, k]) for k in range(8) if t[:, k].any()])
        assert value == pytest.approx(expected, abs=1e-6)  # weights are float32


def difference(ours, theirs, targets, units, **options):
    drawn = [resampled_map(runs, targets, units, resamples=200) for runs in (ours, theirs)]
    return map_difference(*drawn, units.max() + 1, **options)


def test_the_difference_in_map_has_an_interval_that_pairs_the_videos():
    targets, better = scored(300, strength=2.0)
    noise = np.random.default_rng(9).standard_normal(targets.shape)
    worse, units = log_expit(np.round(noise + 0.5 * targets, 1)), np.arange(300)
    once = {"by_chance": (False, False)}
    found = difference(better[None], worse[None], targets, units, **once)
    assert found.delta == pytest.approx(score(better, targets)["map"] - score(worse, targets)["map"], abs=1e-6)
    assert 0 < found.low < found.delta < found.high
    drawn = [resampled_map(s[None], targets, units, resamples=200)[0, 1:] for s in (better, worse)]
    assert found.high - found.low == pytest.approx(2 * 1.968 * np.std(drawn[0] - drawn[1], ddof=1), rel=1e-3)
    same = difference(better[None], better[None], targets, units, **once)
    assert (same.delta, same.low, same.high) == (0.0, 0.0, 0.0)
    twins = [np.concatenate([array, array]) for array in (better, worse, targets)]
    whole = difference(twins[0][None], twins[1][None], twins[2], np.tile(units, 2), **once)
    apart = difference(twins[0][None], twins[1][None], twins[2], np.arange(600), **once)
    assert whole.high - whole.low > 1.2 * (apart.high - apart.low)  # twins say nothing new; as videos they would


def test_seeds_that_disagree_widen_the_interval_of_map_and_one_alone_gives_none():
    targets, better = scored(300, strength=2.0)
    rng, units = np.random.default_rng(9), np.arange(300)
    weak = [log_expit(rng.standard_normal(targets.shape) + strength * targets) for strength in (0.5, 0.5, 1.5)]
    alike, apart = (difference(np.stack([better] * 2), np.stack(weak[n:][:2]), targets, units) for n in (0, 1))
    assert apart.high - apart.low > 2 * (alike.high - alike.low)
    alone = difference(better[None], weak[0][None], targets, units)
    assert (alone.low, alone.high) == (None, None)
    assert alone.delta > 0


def test_logistic_regression_is_one_class_against_the_rest():
    rng = np.random.default_rng(0)
    means, val_means = 3 + 2 * rng.standard_normal((120, 5)), 3 + 2 * rng.standard_normal((60, 5))
    plane = rng.standard_normal((5, 3))
    targets, val_targets = ((m - 3) @ plane + rng.standard_normal((len(m), 3)) > 0.5 for m in (means, val_means))
    never = np.zeros((120, 1), dtype=bool), np.zeros((60, 1), dtype=bool)
    targets, val_targets = np.hstack([targets, never[0]]), np.hstack([val_targets, never[1]])
    state, found = fit_logreg(means, targets.astype(np.float32), val_means, val_targets, 4)
    scaler = StandardScaler().fit(means)
    model = OneVsRestClassifier(LogisticRegression(C=found["C"], max_iter=1000))
    model.fit(scaler.transform(means), targets[:, :3])
    logits = val_means @ state["classifier.weight"].numpy().T + state["classifier.bias"].numpy()
    # two runs of lbfgs to their default tolerance agree on probabilities to about three places
    assert np.abs(sigmoid(logits[:, :3]) - model.predict_proba(scaler.transform(val_means))).max() < 5e-3
    assert sigmoid(logits[:, 3]).max() < 1e-9
    expected = -np.where(val_targets, log_expit(logits), log_expit(-logits)).sum(axis=1).mean()
    assert found["val_loss"] == pytest.approx(expected, rel=1e-5)
