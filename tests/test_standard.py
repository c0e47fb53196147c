"""Standardised descriptors, and what becomes of descriptors that are too long for the recipe's rate."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from caches import RECIPE, easy_cache, write_cache
from compare import FLOAT32_FORWARD, relative_error
from stage_two import clip_batches

import gcf
from gcf.errors import GcfError, UsageError
from gcf.explain.reading.evidence import read_video
from gcf.head.fitting.labelled import label_features, make_splits
from gcf.head.fitting.stack import Stack
from gcf.head.models.config import PRESETS, Protocol, TrainConfig
from gcf.head.models.dense import DenseHead
from gcf.head.models.saved import load_head, save_head
from gcf.head.models.standard import LENGTH, LONG, Moments, inner_head, rate_share
from gcf.head.onnx_export import export_onnx
from gcf.head.trials.results import EvaluationSet, ensemble

QUICK = {"audit": False, "epochs": 60}
PRINTED = ("gcf-256", "gcf-256-b", "gcf-256-g0", "gcf-1024", "fusion-only", "attention-only")


def scaled(path, factor, *, shift=0.0):
    """The easy cache with every descriptor a number of times as long, and somewhere else."""
    made = easy_cache(path.with_suffix(".easy.h5"), clips=(3, 9))
    rows = made.gather(slice(0, made.num_clips)).astype(np.float64)
    videos = np.split(factor * rows + shift, made.offsets[1:-1])
    return write_cache(
        path, videos, made.labels, made.classes, subsets=made.subsets, recipe=RECIPE | {"dtype": "float32"}
    )


def test_moments_are_those_of_numpy_whatever_the_chunks():
    rows = 1000 + np.random.default_rng(0).standard_normal((90, 7)) * np.arange(1, 8)
    chunks = torch.from_numpy(rows).float().split(31)
    found = Moments.of(chunks)
    exact = rows.astype(np.float32).astype(np.float64)
    length = np.sqrt(((exact - exact.mean(0)) ** 2).sum(1).mean())
    assert found.mean.numpy() == pytest.approx(exact.mean(0), rel=1e-6)
    assert float(found.scale) == pytest.approx(length / LENGTH, rel=1e-6)
    assert found.length == pytest.approx(np.sqrt((exact**2).sum(1).mean()), rel=1e-6)


def test_rows_that_are_all_alike_are_left_at_their_size():
    assert float(Moments.of([torch.ones(5, 3)]).scale) == 1


def test_the_clips_of_videos_are_all_of_theirs_in_the_centre_view(tmp_path):
    rng = np.random.default_rng(0)
    videos = [rng.standard_normal((count, 2, 4)) for count in (3, 1, 5, 2)]
    features = write_cache(tmp_path / "f.h5", videos, [0, 1, 0, 1], ["a", "b"])
    for once in (True, False):
        source = clip_batches(features, once=once).descriptors
        found = torch.cat(list(source.clips_of(np.array([0, 2])))).numpy()
        own = np.concatenate([videos[0][:, 0], videos[2][:, 0]]).astype(np.float16)
        assert (found == own.astype(np.float32)).all()


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_all_heads_that_learn_by_gradient_are_standardised_but_the_printed_ones(name):
    raw = name in (*PRINTED, "logreg")
    assert TrainConfig().standardises(PRESETS[name]) is not raw
    assert TrainConfig(standardise=True).standardises(PRESETS[name]) is (name != "logreg")
    assert not TrainConfig(standardise=False).standardises(PRESETS[name])


@pytest.mark.slow
def test_mean_and_scale_are_of_the_training_clips_alone_and_go_with_the_head(tmp_path):
    features = scaled(tmp_path / "f.h5", 3.0, shift=5.0)
    run = gcf.train_head(features, tmp_path / "run", head="mean", **QUICK)
    (split,) = make_splits(label_features(features), Protocol())
    module, own = run.head.module, Moments.of(clip_batches(features).descriptors.clips_of(split.train))
    assert torch.equal(module.mean, own.mean)
    assert torch.equal(module.scale, own.scale)
    assert run.head.config.standardised
    assert sum(p.numel() for p in module.parameters()) == 12 * 3 + 3
    back = load_head(tmp_path / "run")
    video = features.video(0)
    assert torch.equal(back(video).logits, run.head(video).logits)
    plain = inner_head(back.module)
    rows = (torch.from_numpy(video.descriptors[:, 0].astype(np.float32)) - own.mean) / own.scale
    direct = plain(rows[None], torch.ones(1, len(rows), dtype=torch.bool)).logits
    assert relative_error(back(video).logits, direct.detach()) < FLOAT32_FORWARD


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mean", "clip", "mil", "transformer"])
def test_a_standardised_head_learns_the_same_from_descriptors_of_any_size(tmp_path, name):
    small, large = scaled(tmp_path / "a.h5", 1.0), scaled(tmp_path / "b.h5", 64.0, shift=128.0)
    runs = [gcf.train_head(features, head=name, **QUICK) for features in (small, large)]
    one, other = (
        torch.cat([run.head(f.video(n)).logits for n in range(f.num_videos)])
        for run, f in zip(runs, (small, large), strict=True)
    )
    assert relative_error(other, one) < 1e-2  # rounding of 60 steps
    assert runs[1].metrics["top1"] >= 0.9


@pytest.mark.slow
def test_evidence_of_a_standardised_head_adds_up_to_the_logits(tmp_path):
    features = scaled(tmp_path / "f.h5", 3.0, shift=5.0)
    for head in ("gcf-256", "mil", "mean"):
        saved = gcf.train_head(features, head=head, standardise=True, **QUICK).head
        reading = read_video(saved, features.video(1))
        assert reading.evidence_kind == ("traced" if head == "gcf-256" else "share")
        bias = getattr(inner_head(saved.module).classifier, "bias", None)
        logits = saved(features.video(1)).logits[0] - (0 if bias is None else bias.detach())
        assert relative_error(torch.from_numpy(reading.evidence.sum(axis=0)), logits) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("head", ["gcf-256", "mean", "clip", "mil"])
def test_a_standardised_head_goes_to_onnx_and_several_are_one(tmp_path, head):
    features = scaled(tmp_path / "f.h5", 3.0, shift=5.0)
    run = gcf.train_head(features, tmp_path / "run", head=head, standardise=True, seeds=2, **QUICK)
    descriptors, mask = torch.randn(3, 4, 12), torch.ones(3, 4, dtype=torch.bool)
    mask[1, 2:] = False
    descriptors[1, 2:] = 1e4
    for saved in run.heads:
        dense = DenseHead(saved.module)(descriptors, mask)
        assert relative_error(dense.logits.detach(), saved(descriptors, mask).logits) < FLOAT32_FORWARD
    pytest.importorskip("onnxruntime")
    assert export_onnx(tmp_path / "run", tmp_path / "head.onnx")["worst_relative_difference"] < 1e-5


@pytest.mark.slow
def test_a_head_to_start_from_keeps_its_mean_and_scale(tmp_path):
    source, target = scaled(tmp_path / "a.h5", 1.0), scaled(tmp_path / "b.h5", 2.0, shift=3.0)
    first = gcf.train_head(source, tmp_path / "first", head="mil", **QUICK)
    options = {"init": tmp_path / "first", "freeze": "all-but-classifier"}
    second = gcf.train_head(target, **QUICK, **options).head
    assert torch.equal(second.module.mean, first.head.module.mean)
    assert torch.equal(second.module.scale, first.head.module.scale)
    body = {n: v for n, v in inner_head(second.module).state_dict().items() if "classifier" not in n}
    for name, value in body.items():
        assert torch.equal(value, inner_head(first.head.module).state_dict()[name])
    assert not torch.equal(inner_head(second.module).classifier.weight, inner_head(first.head.module).classifier.weight)
    with pytest.raises(UsageError, match="reads standardised descriptors; leave standardise out"):
        gcf.train_head(target, **QUICK, **options, standardise=False)


@pytest.mark.slow
def test_a_stack_computes_what_all_heads_have_in_common_once(tmp_path):
    run = gcf.train_head(scaled(tmp_path / "f.h5", 1.0), head="mean", seeds=3, **QUICK)
    stack = Stack([head.module for head in run.heads], TrainConfig())
    assert set(stack.common) == {"mean", "scale"}
    other = [head.module for head in run.heads]
    other[1].mean = other[1].mean + 1
    assert set(Stack(other, TrainConfig()).common) == {"scale"}


@pytest.mark.slow
def test_a_saved_config_of_before_reads_descriptors_as_they_are(tmp_path):
    saved = gcf.train_head(easy_cache(tmp_path / "f.h5"), head="gcf-256", **QUICK).head
    save_head(tmp_path / "head", saved)
    text = (tmp_path / "head" / "head.json").read_text()
    (tmp_path / "head" / "head.json").write_text(text.replace('  "standardised": false,\n', ""))
    assert not load_head(tmp_path / "head").config.standardised


def test_the_rate_falls_with_the_square_of_the_length_beyond_the_usual():
    assert rate_share(LONG) == rate_share(0) == 1
    assert rate_share(10 * LONG) == pytest.approx(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("factor", [50, 2000])
def test_the_printed_head_says_what_it_does_with_long_descriptors_and_does_not_diverge(tmp_path, factor):
    features = scaled(tmp_path / "f.h5", factor)
    run = gcf.train_head(features, head="gcf-256", **QUICK)
    assert np.isfinite(run.metrics["loss"])
    assert not run.head.config.standardised
    notes = " ".join(run.metrics["notes"])
    assert "gcf-256: descriptors are" in notes
    assert "--standardise suits such descriptors better" in notes
    lengths = np.linalg.norm(features.gather(slice(0, features.num_clips))[:, 0], axis=1)
    record = run.metrics["seeds"][0]["training"][0]
    assert record["descriptor_length"] == pytest.approx(np.sqrt((lengths**2).mean()), rel=0.1)
    assert record["first_lr"] == pytest.approx(0.1 * rate_share(record["descriptor_length"]))


@pytest.mark.slow
def test_usual_descriptors_are_trained_on_at_the_printed_rate_without_a_word(tmp_path):
    run = gcf.train_head(easy_cache(tmp_path / "f.h5"), head="gcf-256", **QUICK)
    assert run.metrics["seeds"][0]["training"][0]["shortened_steps"] == 0
    assert not any("shortened" in note or "long on average" in note for note in run.metrics["notes"])


@pytest.mark.slow
def test_a_rate_that_is_given_is_taken_and_shortened_gradients_are_counted(tmp_path):
    run = gcf.train_head(scaled(tmp_path / "f.h5", 50), head="gcf-256", lr=0.1, **QUICK)
    assert run.metrics["seeds"][0]["training"][0]["shortened_steps"] > 0
    assert any("the gradient was shortened to a length of 10" in n for n in run.metrics["notes"])


@pytest.mark.slow
def test_divergence_names_the_option():
    rows = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)
    model = gcf.GCFClassifier(lr=1e30, epochs=60)
    with pytest.raises(GcfError, match=r"training diverged: .* or standardise the descriptors"):
        model.fit(rows, np.arange(60) % 2)


@pytest.mark.slow
def test_what_several_trainings_ask_of_the_same_videos_is_computed_once(tmp_path, monkeypatch):
    asked = []
    real = Moments.of.__func__
    monkeypatch.setattr(Moments, "of", classmethod(lambda cls, rows: asked.append(1) or real(cls, rows)))
    heads = ["mean", "max", "gcf-256"]  # raw ones want the length
    features = scaled(tmp_path / "f.h5", 1.0)
    gcf.ablate(features, heads=heads, reference="mean", seeds=2, epochs=1, audit=False, reuse=False)
    assert len(asked) == 1
    gcf.ablate(features, preset="clips", seeds=2, epochs=1, audit=False, reuse=False)
    assert len(asked) == 2


@pytest.mark.slow
def test_sure_heads_make_an_ensemble(tmp_path):
    """Probabilities of exactly 0 have a logarithm, too."""
    features = scaled(tmp_path / "f.h5", 1.0)
    data = label_features(features)
    evaluated = EvaluationSet.of(data, make_splits(data, Protocol()))
    n = len(evaluated.videos)
    logs = np.full((n, 3), -5000.0, np.float32)
    logs[:, 0] = 0
    results = [SimpleNamespace(log_probabilities=logs) for _ in range(2)]
    found = ensemble(results, evaluated)
    assert np.isfinite(found["loss"])
    assert found["top1"] == (evaluated.labels == 0).mean()
