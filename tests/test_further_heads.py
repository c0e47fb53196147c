"""Heads beside GCF-Net: what they compute, that padding never matters, that they learn."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from caches import easy_cache
from compare import FLOAT32_FORWARD, FLOAT64_FORWARD, assert_bitwise_equal, relative_error
from numpy_heads import further_head
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from stage_two import clip_batches
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from gcf.errors import UsageError
from gcf.head.fitting.labelled import label_features
from gcf.head.fitting.logreg import NEVER_SEEN, STRENGTHS, fit_logreg
from gcf.head.fitting.loss import gate_sparsity, training_loss
from gcf.head.models.build import build_head, build_shape, head_config
from gcf.head.models.complexity import head_complexity
from gcf.head.models.config import PRESETS, HeadConfig
from gcf.head.models.initial import initialise
from gcf.head.models.output import real_mean
from gcf.head.models.standard import inner_head
from gcf.head.training import train_head

D, K = 24, 5
SMALL = {"width": 16, "clusters": 6, "gate_reduction": 2}
CONFIGS = [head_config(name, **SMALL) for name in ("max", "mil", "stpn", "topk", "transformer", "gru", "nextvlad")]
CONFIGS += [
    head_config("transformer", name=f"transformer-{positions}", positions=positions, **SMALL)
    for positions in ("learned", "sine")
]
WITH_EVIDENCE = [config for config in CONFIGS if config.kind != "nextvlad"]
# The sines of the positions are computed in float32, whatever the weights are.
TOLERANCE = {"transformer-sine": FLOAT32_FORWARD}


def name_of(config):
    return config.name


def built(config, *, gain=3.0):
    """In float64 and with larger weights than at the start, so that gates and attention are far from uniform."""
    head = build_head(config, D, K, seed=0).double().eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(gain)
    return head


def some_clips(count=10):
    """Descriptors (3, C, D) and masks of C, 4 and 1 real clips, not all at the front."""
    descriptors = torch.randn(3, count, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mask = torch.zeros(3, count, dtype=torch.bool)
    mask[0], mask[1, [0, 2, 3, 7]], mask[2, 0] = True, True, True
    return descriptors, mask


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_every_head_follows_its_equations_written_plainly_in_numpy(config):
    head = built(config)
    descriptors, mask = some_clips()
    output, tolerance = head(descriptors, mask), TOLERANCE.get(config.name, FLOAT64_FORWARD)
    for n in range(len(mask)):
        slots = np.flatnonzero(mask[n])
        expected = further_head(descriptors[n, slots].numpy(), head.state_dict(), config)
        for part in ("logits", "gate", "weights", "attention"):
            found = getattr(output, part)
            assert (found is None) == (part not in expected), part
            if found is not None:
                index = {"logits": slice(None), "attention": np.ix_(slots, slots)}.get(part, slots)
                assert relative_error(found[n].detach()[index], expected[part]) < tolerance, part


@pytest.mark.parametrize("config", WITH_EVIDENCE, ids=name_of)
def test_the_evidence_of_the_clips_adds_up_to_the_logits_less_the_bias(config):
    head = built(config)
    output = head(*some_clips())
    total = output.evidence.sum(dim=1) + head.classifier.bias
    assert relative_error(total.detach(), output.logits.detach()) < FLOAT64_FORWARD


def test_nextvlad_claims_no_evidence():
    assert built(head_config("nextvlad", **SMALL))(*some_clips()).evidence is None


def test_the_evidence_of_a_maximum_is_that_of_the_clip_which_holds_it_and_shared_by_clips_that_tie():
    head = built(PRESETS["max"])
    descriptors = torch.zeros(1, 3, D, dtype=torch.float64)
    descriptors[0, 1, 0] = 2.0  # channel 0 is clip 1's, all others are 0 in every clip
    descriptors[0, :2, 1] = 3.0  # channel 1 is shared by clips 0 and 1
    weight = head.classifier.weight
    evidence = head(descriptors, torch.ones(1, 3, dtype=torch.bool)).evidence[0]
    expected = torch.stack([1.5 * weight[:, 1], 2 * weight[:, 0] + 1.5 * weight[:, 1], 0 * weight[:, 0]])
    assert relative_error(evidence.detach(), expected.detach()) < FLOAT64_FORWARD


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
@pytest.mark.parametrize("rubbish", [1e6, float("nan"), float("inf"), float("-inf")])
def test_padding_clips_never_reach_the_result(config, rubbish):
    head = built(config)
    descriptors, mask = some_clips()
    clean, dirty = (head(descriptors.masked_fill(~mask.unsqueeze(-1), value), mask) for value in (0.0, rubbish))
    for part in ("logits", "gate", "evidence", "attention", "weights"):
        if getattr(clean, part) is not None:
            assert_bitwise_equal(getattr(dirty, part), getattr(clean, part))
    for part in (clean.gate, clean.evidence, clean.attention, clean.weights):
        assert part is None or (part[~mask] == 0).all()


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_rubbish_in_the_padding_reaches_no_gradient(config):
    descriptors, mask = some_clips()
    head = built(config).train()
    head(descriptors.masked_fill(~mask.unsqueeze(-1), torch.nan), mask).logits.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_a_short_video_gives_the_same_with_and_without_its_padding(config):
    head = built(config)
    descriptors, _ = some_clips()
    alone = head(descriptors[:, :4], torch.ones(3, 4, dtype=torch.bool)).logits
    padded = head(descriptors, torch.arange(10).expand(3, -1) < 4).logits
    assert relative_error(padded.detach(), alone.detach()) < FLOAT64_FORWARD


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_gaps_between_the_real_clips_do_not_matter(config):
    """Unlike the gate across clips, whose slots are fixed, these heads number the real clips."""
    head = built(config)
    descriptors, mask = some_clips()
    slots = np.flatnonzero(mask[1])
    alone = head(descriptors[1:2, slots], torch.ones(1, len(slots), dtype=torch.bool)).logits[0]
    assert relative_error(head(descriptors, mask).logits[1].detach(), alone.detach()) < FLOAT64_FORWARD


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_a_video_without_any_real_clip_is_no_nan_and_disturbs_no_other(config, training):
    descriptors, mask = some_clips()
    head = built(config).train(training)
    before = head(descriptors, mask).logits.detach()
    mask[1] = False
    output = head(descriptors, mask)
    output.logits.sum().backward()
    assert output.logits.isfinite().all()
    assert relative_error(output.logits[[0, 2]].detach(), before[[0, 2]]) < FLOAT64_FORWARD
    assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_the_order_of_clips_matters_where_the_config_says_so(config):
    descriptors, _ = some_clips()
    mask = torch.ones(3, 10, dtype=torch.bool)
    head = built(config)
    moved = relative_error(head(descriptors.flip(1), mask).logits.detach(), head(descriptors, mask).logits.detach())
    assert (moved > FLOAT64_FORWARD) == config.order_aware


def test_of_the_presets_only_those_with_slots_or_recurrence_know_the_order():
    aware = {name for name, config in PRESETS.items() if config.order_aware}
    assert aware == {"gcf-256", "gcf-256-b", "gcf-1024", "attention-only", "gru"}
    assert HeadConfig("t", kind="transformer", positions="sine").order_aware


@pytest.mark.parametrize("count", [1, 2, 23])
@pytest.mark.parametrize("config", [c for c in CONFIGS if c.fixed_clips is None], ids=name_of)
def test_any_number_of_clips_is_taken(config, count):
    output = built(config)(torch.ones(2, count, D, dtype=torch.float64), torch.ones(2, count, dtype=torch.bool))
    assert output.logits.shape == (2, K)


def test_learned_positions_are_for_so_many_clips_and_no_more():
    config = head_config("transformer", positions="learned", gate_clips=4, **SMALL)
    assert config.fixed_clips == 4
    with pytest.raises(ValueError, match="positions for 4 clips, got 5"):
        built(config)(torch.zeros(1, 5, D, dtype=torch.float64), torch.ones(1, 5, dtype=torch.bool))


@pytest.mark.slow
def test_learned_positions_are_made_for_the_clips_that_are_chosen_and_refuse_all_of_them(tmp_path):
    features = easy_cache(tmp_path / "f.h5")
    config = head_config("transformer", positions="learned", **SMALL)
    run = train_head(features, head=config, epochs=1, num_clips=7)
    assert inner_head(run.head.module).positions.table.num_embeddings == 7
    with pytest.raises(UsageError, match=r"fixed number of clips .* choose other positions, or another clip policy"):
        train_head(features, head=config, epochs=1, clip_policy="all")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "transformer", "width": 10, "heads": 4}, "width of 10 cannot be shared by 4 heads"),
        ({"kind": "transformer", "width": 9, "heads": 3, "positions": "sine"}, "even width, got 9"),
        ({"kind": "nextvlad", "width": 10, "groups": 8}, "20 channels .* into 8 equal groups"),
        ({"kind": "transformer", "positions": "odd"}, "unknown positions 'odd'"),
        ({"kind": "topk", "top_k": 0}, "positive sizes"),
        ({"kind": "plugin"}, "needs its source"),
    ],
)
def test_impossible_shapes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        build_shape(HeadConfig("x", **changes), D, K)


def test_a_head_saved_before_these_fields_existed_still_loads():
    old = {f.name for f in dataclasses.fields(HeadConfig)} - {
        *("heads", "positions", "clusters", "groups", "top_k", "source", "source_sha256", "knows_order")
    }
    facts = {name: value for name, value in dataclasses.asdict(PRESETS["gcf-256"]).items() if name in old}
    assert HeadConfig(**json.loads(json.dumps(facts))) == PRESETS["gcf-256"]


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_one_seed_gives_the_same_weights_and_leaves_the_global_generator_alone(config):
    state = torch.get_rng_state()
    one, same, other = (build_head(config, D, K, seed=s).state_dict() for s in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    for name in one:
        assert_bitwise_equal(one[name], same[name])
        assert torch.equal(one[name], other[name]) == ("norm" in name or "before" in name), name


def test_initial_values_have_the_ranges_of_their_layers():
    gru = build_head(head_config("gru", width=64), D, K)
    for parameter in gru.recurrence.parameters():
        assert 0.9 / 8 < parameter.abs().max() <= 1 / 8
    former = build_head(head_config("transformer", positions="learned"), D, K)
    assert (former.norm.weight == 1).all()
    assert (former.norm.bias == 0).all()
    assert 0.018 < former.positions.table.weight.std() < 0.022
    vlad = build_head(head_config("nextvlad"), D, K)
    assert 0.95 < vlad.centres.std() * 64**0.5 < 1.05


def test_a_layer_whose_initial_values_are_unknown_is_refused():
    with pytest.raises(TypeError, match="no initial values are known for Conv1d"):
        initialise(nn.Conv1d(1, 1, 1), torch.Generator())


@pytest.mark.parametrize("config", [c for c in CONFIGS if c.kind != "gru"], ids=name_of)
def test_seeds_stacked_under_vmap_give_what_each_gives_alone_and_its_gradient(config):
    heads = [build_head(config, D, K, seed=s).double() for s in range(3)]
    parameters, buffers = stack_module_state(heads)
    descriptors, mask = some_clips()
    stacked = vmap(lambda p, b: functional_call(heads[0], (p, b), (descriptors, mask)).logits)(parameters, buffers)
    stacked.square().sum().backward()
    for n, head in enumerate(heads):
        logits = head(descriptors, mask).logits
        logits.square().sum().backward()
        assert relative_error(stacked[n].detach(), logits.detach()) < FLOAT64_FORWARD
        for name, parameter in head.named_parameters():
            assert relative_error(parameters[name].grad[n], parameter.grad) < FLOAT64_FORWARD, name


def test_the_sparsity_term_reaches_the_attention_of_stpn_and_pushes_it_down():
    head = build_head(head_config("stpn", **SMALL), D, K).double()
    descriptors, mask = some_clips()
    labels = torch.tensor([0, 1, 2])
    gate = head(descriptors, mask).gate
    with_term, without = (training_loss(head(descriptors, mask), mask, labels, sparsity=s) for s in (0.5, 0))
    assert relative_error((with_term - without).item(), 0.5 * gate_sparsity(gate).item()) < FLOAT64_FORWARD
    (slope,) = torch.autograd.grad(gate_sparsity(gate), head.score.bias)
    assert slope > 0


def test_in_training_the_top_clips_decide_as_in_evaluation_and_the_gradient_is_that_of_the_softmax():
    head = built(head_config("topk", **SMALL), gain=1)
    descriptors, mask = some_clips()
    judged, trained = (head.train(mode)(descriptors, mask) for mode in (False, True))
    assert relative_error(trained.logits.detach(), judged.logits.detach()) < FLOAT64_FORWARD
    direction = torch.randn(3, K, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (trained.logits * direction).sum().backward()
    scores = head.score(head.hidden(descriptors).relu()).squeeze(-1).masked_fill(~mask, -torch.inf)
    per_clip = (head.classifier(descriptors).detach() * direction.unsqueeze(1)).sum(-1)
    (expected,) = torch.autograd.grad((scores.softmax(-1) * per_clip).sum(), head.score.weight)
    assert relative_error(head.score.weight.grad, expected) < FLOAT64_FORWARD


def test_clips_that_tie_with_the_last_one_chosen_are_taken_too():
    head = built(head_config("topk", top_k=2, **SMALL))
    clip = torch.ones(1, 5, D, dtype=torch.float64)
    weights = head(clip, torch.tensor([[True] * 4 + [False]])).weights
    assert weights[0].tolist() == [0.25, 0.25, 0.25, 0.25, 0]


def test_a_gru_costs_three_gates_a_clip_and_direction():
    found = head_complexity(head_config("gru", width=8), D, K, num_clips=7)
    assert found.macs == 7 * 2 * 3 * 8 * (D + 8) + 16 * K
    assert found.parameters == 2 * 3 * (8 * (D + 8) + 2 * 8) + 16 * K + K
    assert found.products_macs == 0


def test_a_transformer_costs_its_matrices_and_two_products_with_the_attention():
    found = head_complexity(head_config("transformer", width=16), D, K, num_clips=7)
    assert found.macs == 7 * (16 * D + 4 * 16 * 16 + 2 * 4 * 16 * 16) + 16 * K
    assert found.products_macs == 2 * 7 * 7 * 16


@pytest.mark.slow
@pytest.mark.parametrize("name", ["max", "mil", "stpn", "topk", "transformer", "gru", "nextvlad"])
def test_every_head_learns_an_easy_problem(name, tmp_path):
    run = train_head(easy_cache(tmp_path / "f.h5"), head=name)
    assert run.metrics["judged_on"] == "test"
    assert run.metrics["top1"] > 0.9


def gaussian_classes(n, classes=(0, 2, 3), *, spread=1.0, seed=0):
    """Means (n, 6) of three classes out of four; one channel is always 7, which no standardisation may divide by."""
    rng = np.random.default_rng(seed)
    labels = np.array(classes)[np.arange(n) % len(classes)]
    centres = 2 * np.random.default_rng(9).standard_normal((4, 6))
    means = centres[labels] + spread * rng.standard_normal((n, 6)) * np.array([1, 10, 0.1, 1, 1, 1])
    means[:, 5] = 7
    return means, labels


@pytest.mark.slow
def test_logistic_regression_is_scikit_learns_at_the_strength_that_val_likes_best():
    (means, labels), (val_means, val_labels) = gaussian_classes(60, spread=6), gaussian_classes(90, spread=6, seed=1)
    losses = {}
    for strength in STRENGTHS:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=5000, tol=1e-8))
        probabilities = model.fit(means, labels).predict_proba(val_means)
        own = probabilities[np.arange(90), np.searchsorted([0, 2, 3], val_labels)]
        losses[strength] = -np.log(own).mean()
    state, record = fit_logreg(means, labels, val_means, val_labels, 4)
    assert record["C"] == min(losses, key=losses.get)
    assert STRENGTHS[0] < record["C"] < STRENGTHS[-1]  # the problem has an optimum inside the grid
    assert record["val_loss"] == pytest.approx(losses[record["C"]], rel=1e-3)  # the solver stops at a gradient of 1e-4
    best = make_pipeline(StandardScaler(), LogisticRegression(C=record["C"], max_iter=5000, tol=1e-8))
    expected = best.fit(means, labels).predict_proba(val_means)
    head = build_head(PRESETS["logreg"], 6, 4)
    head.load_state_dict(state)
    clips = torch.from_numpy(val_means).float().unsqueeze(1)
    said = head(clips, torch.ones(90, 1, dtype=torch.bool)).logits.softmax(-1).detach()
    assert relative_error(said[:, [0, 2, 3]], expected) < 1e-2  # as above, where the weights are less certain
    assert record["val_top1"] == (said.argmax(-1).numpy() == val_labels).mean()


@pytest.mark.slow
def test_a_class_without_training_videos_keeps_a_low_logit_and_no_say_in_the_strength():
    (means, labels), (val_means, val_labels) = gaussian_classes(60, spread=2), gaussian_classes(90, spread=2, seed=1)
    state, record = fit_logreg(means, labels, val_means, val_labels, 4)
    assert (state["classifier.weight"][1] == 0).all()
    assert state["classifier.bias"][1] == NEVER_SEEN
    strangers = gaussian_classes(30, classes=(1,), seed=2)
    more = (np.concatenate([val_means, strangers[0]]), np.concatenate([val_labels, strangers[1]]))
    same, with_strangers = fit_logreg(means, labels, *more, 4)
    assert_bitwise_equal(same["classifier.weight"], state["classifier.weight"])
    assert with_strangers["C"] == record["C"]
    assert with_strangers["val_loss"] > 5  # they count: a quarter of the videos at a logit of -30


def test_two_classes_have_logits_of_opposite_sign():
    means, labels = gaussian_classes(40, classes=(0, 1))
    state, record = fit_logreg(means, labels, means, labels, 2)
    assert record["val_top1"] == 1
    assert relative_error(state["classifier.weight"][0], -state["classifier.weight"][1]) < FLOAT32_FORWARD


def test_logistic_regression_needs_two_classes():
    means, labels = gaussian_classes(10, classes=(2,))
    with pytest.raises(UsageError, match="two classes at least, got 1"):
        fit_logreg(means, labels, means, labels, 4)


@pytest.mark.slow
def test_logistic_regression_learns_the_easy_problem_from_the_means_of_the_real_clips(tmp_path):
    data = label_features(easy_cache(tmp_path / "f.h5"))
    batches = clip_batches(data.features, data.labels)
    test = np.array(data.subsets) == "test"
    (given, judged) = (batches.load(np.flatnonzero(which), rng=None) for which in (~test, test))
    means, labels = real_mean(given.descriptors, given.mask).numpy(), given.labels.numpy()
    state, _ = fit_logreg(means, labels, means, labels, 3)
    head = build_head(PRESETS["logreg"], 12, 3).eval()
    head.load_state_dict(state)
    said = head(judged.descriptors, judged.mask).logits.argmax(-1)
    assert (said == judged.labels).float().mean() > 0.9
