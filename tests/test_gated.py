"""The head whose gate works, against the same written in numpy, and on tasks whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from caches import easy_cache
from compare import assert_bitwise_equal
from sklearn.decomposition import PCA
from stage_two import clip_batches

import gcf
from gcf.data.splits import holdout
from gcf.head.fitting.batches import Batch
from gcf.head.fitting.gate_health import gate_note
from gcf.head.fitting.loss import gate_sparsity, training_loss
from gcf.head.fitting.schedule import Cosine
from gcf.head.fitting.stack import Stack
from gcf.head.models.build import build_head
from gcf.head.models.complexity import head_complexity
from gcf.head.models.config import PRESETS, RECIPES, TrainConfig
from gcf.head.models.standard import LENGTH, Moments, Reduced, principal_basis

NAMES = ("gcf-gated", "gated-gate-only", "gated-fusion-only")
D, K = 24, 5


def built(name, *, layers=1, seed=0):
    """In float64 with random weights, so that nothing is at its start."""
    config = replace(PRESETS[name], width=16, key_width=8, components=12, layers=layers)
    head = build_head(config, D, K).double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in head.parameters():
            value.normal_(0, 0.4, generator=generator)
        head.basis.normal_(0, 0.4, generator=generator)
    return head


def some_clips():
    descriptors = torch.randn(3, 6, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mask = torch.zeros(3, 6, dtype=torch.bool)
    mask[0], mask[1, [0, 2, 5]], mask[2, 3] = True, True, True
    return descriptors, mask


def in_numpy(head, clips):
    """Logits and alpha of one video's real clips (C, D), clip by clip, as the module's docstring has them."""
    values = {name: value.detach().numpy() for name, value in head.state_dict().items()}
    p = clips @ values["basis"] @ values["head.project.weight"].T
    alpha = np.ones(len(p))
    if head.head.gate is not None:
        hidden = np.maximum(p @ values["head.gate.hidden.weight"].T + values["head.gate.hidden.bias"], 0)
        alpha = 1 / (1 + np.exp(-(hidden @ values["head.gate.score.weight"][0] + values["head.gate.score.bias"][0])))
    h = p
    for n in range(len(head.head.layers)):
        queries = h @ values[f"head.layers.{n}.query.weight"].T
        keys = h @ values[f"head.layers.{n}.key.weight"].T
        taken = []
        for q in queries:
            cosines = [q @ k / np.linalg.norm(q) / np.linalg.norm(k) for k in keys]
            weights = alpha * np.exp(8 * np.array(cosines))
            taken.append((weights / (1 + weights.sum())) @ h)
        h = h + np.array(taken) @ values[f"head.layers.{n}.value.weight"].T
    v = (alpha[:, None] * h).sum(axis=0) / (1 + alpha.sum())
    return values["head.classifier.weight"] @ v + values["head.classifier.bias"], alpha


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layers", [1, 3])
def test_the_head_is_its_equations_written_in_numpy(name, layers):
    head, (descriptors, mask) = built(name, layers=layers), some_clips()
    with torch.no_grad():
        said = head(descriptors, mask)
    for n, real in enumerate(mask.numpy()):
        logits, alpha = in_numpy(head, descriptors[n].numpy()[real])
        np.testing.assert_allclose(said.logits[n], logits, rtol=1e-10, atol=1e-10)
        if head.head.gate is not None:
            np.testing.assert_allclose(said.gate[n][mask[n]], alpha, rtol=1e-10)
            assert not said.gate[n][~mask[n]].any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layers", [1, 2, 5])
def test_evidence_and_traced_evidence_add_up_to_the_logits_less_the_bias(name, layers):
    head, (descriptors, mask) = built(name, layers=layers), some_clips()
    with torch.no_grad():
        said, traced = head(descriptors, mask), head.traced_evidence(descriptors, mask)
    for evidence in (said.evidence, traced):
        torch.testing.assert_close(evidence.sum(dim=1) + head.head.classifier.bias, said.logits, rtol=1e-9, atol=1e-9)
        assert not evidence[~mask].any()


def test_traced_evidence_is_of_the_clip_that_the_fusion_took_it_from():
    """With alpha and attention held, v is linear in p: the share of a clip is what changes when its p is doubled."""
    head, (descriptors, mask) = built("gcf-gated", layers=2), some_clips()
    with torch.no_grad():
        inner = head.head
        clips = inner.project((descriptors @ head.basis).masked_fill(~mask.unsqueeze(-1), 0))
        alpha = inner._alpha(clips, mask)
        hidden, seen = inner._fuse(clips, alpha, None)
        weights = (alpha / (1 + alpha.sum(dim=1, keepdim=True))).unsqueeze(-1)
        whole, traced = (weights * hidden).sum(dim=1), head.traced_evidence(descriptors, mask)
        for clip in range(clips.shape[1]):
            more = clips.clone()
            more[:, clip] *= 2
            changed = more
            for layer, attention in zip(inner.layers, seen, strict=True):
                changed = changed + layer.value(attention @ changed)
            share = ((weights * changed).sum(dim=1) - whole) @ inner.classifier.weight.T
            torch.testing.assert_close(traced[:, clip], share, rtol=1e-8, atol=1e-8)


def test_at_the_start_fusion_adds_nothing_and_both_heads_are_one():
    descriptors, mask = torch.randn(2, 4, D), torch.ones(2, 4, dtype=torch.bool)
    whole, gate_only = (build_head(PRESETS[name], D, K) for name in NAMES[:2])
    shared = gate_only.state_dict()
    whole.load_state_dict(whole.state_dict() | shared)
    for head in (whole, gate_only):
        head.basis.copy_(torch.eye(D)[:, : head.basis.shape[1]])
    with torch.no_grad():
        torch.testing.assert_close(whole(descriptors, mask).logits, gate_only(descriptors, mask).logits)


def test_what_training_drops_is_given_from_outside():
    head = build_head(PRESETS["gcf-gated"], D, K)
    kept, fusion = head.draw((400, 3), torch.Generator().manual_seed(0))
    assert set(fusion.tolist()) == {0.0, 1.0}
    assert fusion.mean().item() == pytest.approx(0.5, abs=0.1)
    assert kept.shape == (400, 3, D)
    assert kept.mean().item() == pytest.approx(1, abs=0.02)
    again = head.draw((400, 3), torch.Generator().manual_seed(0))
    assert_bitwise_equal(again[0], kept)


def test_a_video_without_fusion_is_one_of_the_gate_alone():
    head = build_head(PRESETS["gcf-gated"], D, K)
    with torch.no_grad():
        head.head.layers[0].value.weight.normal_()
        head.basis.normal_()
    descriptors, mask = torch.randn(2, 4, D), torch.ones(2, 4, dtype=torch.bool)
    with torch.no_grad():
        dropped = head(descriptors, mask, None, torch.tensor([0.0, 1.0])).logits
        whole = head(descriptors, mask).logits
    torch.testing.assert_close(dropped[1], whole[1])
    assert not torch.allclose(dropped[0], whole[0])


def test_components_are_those_of_a_pca_and_partly_whitened():
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((500, 8)) * [9, 5, 3, 2, 1, 1, 1, 1]) @ np.linalg.qr(rng.standard_normal((8, 8)))[0] + 3
    moments = Moments.of([torch.from_numpy(rows).float()])
    basis = principal_basis(torch.from_numpy(rows).float().split(77), moments, 4).double().numpy()
    found = (rows - rows.mean(axis=0)) / float(moments.scale) @ basis
    expected = PCA(4).fit(rows)
    cosines = (basis / np.linalg.norm(basis, axis=0) * expected.components_.T).sum(axis=0)
    np.testing.assert_allclose(abs(cosines), 1, atol=1e-5)
    spread = expected.explained_variance_**0.25
    np.testing.assert_allclose(found.std(axis=0) / found.std(axis=0)[0], spread / spread[0], rtol=1e-4)
    assert np.sqrt((found**2).sum(axis=1).mean()) == pytest.approx(LENGTH, rel=1e-3)


def test_components_that_do_not_vary_are_left_out():
    rows = torch.randn(40, 3) @ torch.randn(3, 10)
    basis = principal_basis([rows], Moments.of([rows]), 6)
    assert basis[:, :3].any()
    assert not basis[:, 3:].any()


def test_other_heads_read_components_too():
    config = replace(PRESETS["gru"], components=6, standardised=True, width=8)
    head = build_head(config, D, K)
    assert head.head.head.recurrence.input_size == 6
    (part,) = (module for module in head.modules() if isinstance(module, Reduced))
    assert part.basis.shape == (D, 6)
    assert {name for name, _ in head.named_parameters()} == {
        f"head.head.{n}" for n, _ in head.head.head.named_parameters()
    }


def stack_of(seeds, tmp_path, **settings):
    features = easy_cache(tmp_path / f"f{len(seeds)}{seeds[0]}.h5")
    batches, split = clip_batches(features), holdout(features.labels, features.subsets, features.groups)
    config = replace(PRESETS["gcf-gated"], width=16, key_width=8, components=6)
    heads = [build_head(config, 12, 3, seed=seed) for seed in seeds]
    for head in heads:
        head.basis = batches.descriptors.basis(split.train, 6)
    stack = Stack(heads, TrainConfig(**settings).of_head(config), seeds=seeds)
    stack.try_together(12, batches.labels[:2])
    return stack, batches.load(split.train, rng=np.random.default_rng(0))


def test_a_head_draws_the_same_whoever_is_trained_beside_it(tmp_path):
    (both, batch), (alone, _) = stack_of([3, 4], tmp_path), stack_of([4], tmp_path)
    for _ in range(5):
        losses, own = both.step(batch), alone.step(batch)
        assert losses[1].item() == pytest.approx(own[0].item(), rel=1e-4)
        assert losses[0] != losses[1]
    both.keep([1])
    assert both.step(batch)[0].item() == pytest.approx(alone.step(batch)[0].item(), rel=1e-4)


def test_weight_decay_is_of_matrices_alone(tmp_path):
    stack, batch = stack_of([0], tmp_path, weight_decay=0.3, lr=1e-9)
    groups = stack.optimiser.param_groups
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    assert all(view.ndim == 2 for view in groups[0]["params"])
    assert all(view.ndim < 2 for view in groups[1]["params"])
    assert isinstance(stack.optimiser, torch.optim.AdamW)
    before = {name: value.detach().clone() for name, value in stack.weights.items()}
    stack.set_rates([0.1])
    for views in stack._views.values():
        for view in views:
            view.grad = torch.zeros_like(view)
    stack.optimiser.step()
    matrices, rest = "head.project.weight", "head.gate.hidden.bias"
    torch.testing.assert_close(stack.weights[matrices].detach(), before[matrices] * (1 - 0.1 * 0.3))
    torch.testing.assert_close(stack.weights[rest].detach(), before[rest])
    assert batch.num_orders == 1


def test_a_recipe_is_the_heads_own_unless_it_or_its_numbers_are_given():
    gated, printed = PRESETS["gcf-gated"], PRESETS["gcf-256"]
    own = TrainConfig().of_head(gated)
    assert (own.recipe, own.lr, own.weight_decay, own.sparsity) == ("adamw", 1e-3, 0.05, 0.01)
    assert TrainConfig().of_head(printed).recipe == "paper"
    given = TrainConfig(recipe="paper", lr=0.02, sparsity=0.0).of_head(gated)
    assert (given.recipe, given.lr, given.weight_decay, given.sparsity) == ("paper", 0.02, 1e-3, 0.0)
    assert TrainConfig(recipe="adamw").of_head(printed).numbers is RECIPES["adamw"]
    assert TrainConfig().to_json(gated)["weight_decay"] == 0.05


def test_the_rate_warms_up_and_falls_to_nothing():
    shares = np.array([share for cosine in [Cosine(200)] for share in (cosine.next() for _ in range(200))])
    assert shares.argmax() in range(18, 22)
    assert (np.diff(shares[:20]) > 0).all()
    assert (np.diff(shares[21:]) < 0).all()
    assert shares[-1] < 1e-4


def test_the_sparsity_of_a_long_video_counts_as_that_of_ten_clips():
    gate, mask = torch.full((2, 40), 0.5), torch.ones(2, 40, dtype=torch.bool)
    gate[1, 5:], mask[1, 5:] = 0, False
    assert gate_sparsity(gate, mask, most=10).item() == pytest.approx((5 + 2.5) / 2)
    assert gate_sparsity(gate).item() == pytest.approx((20 + 2.5) / 2)


def test_a_gate_that_has_not_moved_is_said_with_its_gradient():
    still = {"mean_alpha": 0.5, "std_alpha": 0.001}
    note = gate_note([still, still], [{"gate_gradient": 1 / 3000}, {"gate_gradient": 1 / 5000}])
    assert "not moved" in note
    assert "0.500" in note
    assert "4,000 times smaller" in note
    assert gate_note([still, still | {"std_alpha": 0.3}], []) is None
    assert gate_note([], []) is None


def test_gradients_of_gate_and_classifier_are_compared_relative_to_their_weights(tmp_path):
    stack, batch = stack_of([0], tmp_path)
    (found,) = stack.gate_gradients(batch)
    head = stack.head(0).train()
    training_loss(head(batch.descriptors, batch.mask), batch.mask, batch.labels, sparsity=0.01).backward()

    def relative(part):
        own = [p for name, p in head.named_parameters() if name.startswith(f"head.{part}")]
        return sum(p.grad.square().sum() for p in own) / sum(p.square().sum() for p in own)

    assert found == pytest.approx((relative("gate.") / relative("classifier.")).sqrt().item(), rel=1e-3)


def test_it_costs_no_more_than_the_printed_head():
    found = head_complexity(PRESETS["gcf-gated"], 2048, 600)
    fixed = 2048 * 64  # the components, which are not trained
    assert found.parameters + fixed <= 900_000
    assert found.macs + found.products_macs <= 8_000_000


def test_several_orders_of_batches_have_noise_of_their_own(tmp_path):
    stack, batch = stack_of([0, 1], tmp_path)
    own = Batch(
        torch.stack([batch.descriptors, batch.descriptors.flip(0)]),
        torch.stack([batch.mask, batch.mask.flip(0)]),
        torch.stack([batch.labels, batch.labels.flip(0)]),
    )
    assert stack.step(own).isfinite().all()


def test_where_nothing_is_left_to_learn_no_ratio_of_gradients_is_kept(tmp_path, monkeypatch):
    features = easy_cache(tmp_path / "f.h5")
    monkeypatch.setattr(Stack, "gate_gradients", lambda *_: [float("nan")])
    run = gcf.train_head(features, tmp_path / "run", head="gcf-gated", epochs=2)
    assert "gate_gradient" not in run.metrics["seeds"][0]["training"][0]
    monkeypatch.undo()
    run = gcf.train_head(features, tmp_path / "run", head="gcf-gated", epochs=2, overwrite=True)
    settings = gcf.load_head(tmp_path / "run").training["settings"]
    assert (settings["recipe"], settings["lr"], settings["weight_decay"]) == ("adamw", 1e-3, 0.05)
    assert run.metrics["seeds"][0]["training"][0]["gate_gradient"] > 0
