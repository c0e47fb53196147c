"""Many heads at once must be what each of them is alone."""

import copy

import numpy as np
import pytest
import torch
from caches import easy_cache
from compare import FLOAT32_FORWARD, relative_error
from stage_two import clip_batches
from torch import nn

from gcf.head.fitting.batches import Batch
from gcf.head.fitting.loss import training_loss
from gcf.head.fitting.precision import TOLERANCE, try_bfloat16
from gcf.head.fitting.products import FoldedProduct, Products
from gcf.head.fitting.stack import Stack
from gcf.head.models.build import build_head, head_config
from gcf.head.models.config import PRESETS, TrainConfig
from gcf.head.models.output import HeadOutput

pytestmark = pytest.mark.processor

WIDTH, CLASSES, SEEDS = 24, 4, 3
CONFIGS = [
    head_config(name, width=16, key_width=8)
    for name in ("gcf-256", "gcf-256-b", "gcf-256-g0", "fusion-only", "attention-only")
] + [PRESETS["mean"], PRESETS["clip"], head_config("gcf-256", width=16, key_width=8, layers=3, residual="linear")]


def batch(seed=0, *, padding=True):
    generator = torch.Generator().manual_seed(seed)
    descriptors = torch.randn(9, 10, WIDTH, generator=generator)
    real = torch.randint(1, 11, (9, 1), generator=generator) if padding else torch.tensor(10)
    mask = (torch.arange(10) < real).expand(9, 10)
    return Batch(descriptors, mask, torch.arange(9) % CLASSES)


def heads(config):
    return [build_head(config, WIDTH, CLASSES, seed=seed) for seed in range(SEEDS)]


def stacked(config, settings=None, *, precision="fp32", modules=None):
    stack = Stack(modules or heads(config), settings or TrainConfig(), precision=precision)
    stack.try_together(WIDTH, torch.arange(CLASSES))
    return stack


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.name}-{c.layers}")
def test_steps_of_a_stack_are_torchs_sgd_on_each_head_alone(config):
    settings = TrainConfig(sparsity=0.01)
    alone, stack = heads(config), stacked(config, settings)
    assert stack.each == stack._together
    optimisers = [
        torch.optim.SGD(head.parameters(), 0.1, momentum=0.9, dampening=0.9, weight_decay=1e-3) for head in alone
    ]
    for step in range(4):
        now = batch(step, padding=step % 2 == 0)
        losses = stack.step(now)
        for head, optimiser, loss in zip(alone, optimisers, losses, strict=True):
            own = training_loss(head(now.descriptors, now.mask), now.mask, now.labels, sparsity=0.01)
            optimiser.zero_grad()
            own.backward()
            optimiser.step()
            assert loss.item() == pytest.approx(own.item(), rel=1e-5)
    for member, head in enumerate(alone):
        for name, value in head.named_parameters():
            assert relative_error(stack.weights[name][member].detach(), value.detach()) < FLOAT32_FORWARD, name


def of_each(*batches):
    """One batch with a part for every head."""
    return Batch(*(torch.stack([getattr(b, name) for b in batches]) for name in ("descriptors", "mask", "labels")))


@pytest.mark.slow
@pytest.mark.parametrize("config", [*CONFIGS, PRESETS["gru"]], ids=lambda c: f"{c.name}-{c.layers}")
@pytest.mark.parametrize("padding", [True, False])
def test_heads_with_batches_of_their_own_step_as_each_alone(config, padding):
    together = stacked(config)
    assert (together.each == together._together) == (config.kind != "gru")
    alone = [Stack([head], TrainConfig()) for head in heads(config)]
    for step in range(3):
        own = [batch(10 * step + n, padding=padding) for n in range(SEEDS)]
        losses = together.step(of_each(*own))
        singly = torch.cat([stack.step(now) for stack, now in zip(alone, own, strict=True)])
        assert relative_error(losses, singly) < FLOAT32_FORWARD
    for member, stack in enumerate(alone):
        for name, value in stack.weights.items():
            own = together.weights[name][member].detach()
            assert relative_error(own, value[0].detach()) < FLOAT32_FORWARD, name


def test_of_orders_takes_the_parts_that_are_asked_for():
    own = [batch(n) for n in range(3)]
    whole = of_each(*own)
    assert whole.num_orders == 3
    assert whole.of_orders([0, 1, 2]) is whole
    one = whole.of_orders([1])
    assert one.num_orders == 1
    assert torch.equal(one.descriptors, own[1].descriptors)
    two = whole.of_orders([0, 2])
    assert torch.equal(two.labels, torch.stack([own[0].labels, own[2].labels]))
    assert own[0].of_orders([0]) is own[0]


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.name}-{c.layers}")
def test_a_stack_says_what_each_head_says(config):
    stack, now = stacked(config), batch()
    logits, gates = stack.outputs(now)
    for member, head in enumerate(heads(config)):
        said = head.eval()(now.descriptors, now.mask)
        assert relative_error(logits[member], said.logits.detach()) < FLOAT32_FORWARD
        assert (gates is None) == (said.gate is None)
        if gates is not None:
            assert relative_error(gates[member], said.gate.detach()) < FLOAT32_FORWARD


@pytest.mark.slow
def test_heads_that_leave_take_nothing_from_those_that_stay():
    config = CONFIGS[0]
    stack, left = stacked(config), stacked(config)
    for step in range(3):
        stack.step(batch(step))
        left.step(batch(step))
    stack.set_rates([0.1, 0.01, 0.001])
    left.set_rates([0.1, 0.01, 0.001])
    left.remember([1])
    remembered = left.weights["classifier.weight"][1].clone()
    left.keep([0, 2])
    assert left.active == [0, 2]
    assert left.rates() == [0.1, 0.001]
    for step in range(3, 6):
        stack.step(batch(step))
        left.step(batch(step))
    for name, value in stack.weights.items():  # momentum and rates went along
        assert relative_error(left.weights[name].detach(), value.detach()[[0, 2]]) < FLOAT32_FORWARD
    left.restore()
    assert left.active == [0, 1, 2]
    assert torch.equal(left.weights["classifier.weight"][1], remembered)
    assert torch.equal(left.head(1).classifier.weight, remembered)


@pytest.mark.slow
def test_only_what_requires_a_gradient_moves():
    modules = heads(CONFIGS[0])
    for module in modules:
        module.requires_grad_(False)
        module.classifier.requires_grad_(True)
    before = copy.deepcopy(modules)
    stack = stacked(CONFIGS[0], modules=modules)
    stack.step(batch())
    assert set(stack.weights) == {"classifier.weight"}
    stack.remember(range(SEEDS))
    for member, old in enumerate(before):
        new = dict(stack.head(member).named_parameters())
        moved = {name for name, value in old.named_parameters() if not torch.equal(value, new[name])}
        assert moved == {"classifier.weight"}


class Recurrent(nn.Module):
    """What vmap cannot take."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(WIDTH, 8, batch_first=True)
        self.classifier = nn.Linear(8, CLASSES)

    def forward(self, descriptors, mask):
        return HeadOutput(self.classifier(self.gru(descriptors.masked_fill(~mask[..., None], 0))[0].mean(dim=1)))


@pytest.mark.slow
def test_a_head_that_vmap_cannot_take_is_run_one_by_one():
    torch.manual_seed(0)
    modules = [Recurrent() for _ in range(SEEDS)]
    stack, now = stacked(None, modules=modules), batch()
    assert stack.each == stack._one_by_one
    logits, gates = stack.outputs(now)
    assert gates is None
    for member, module in enumerate(modules):
        assert relative_error(logits[member], module(now.descriptors, now.mask).logits.detach()) < FLOAT32_FORWARD
    first = stack.step(now)
    for _ in range(30):
        last = stack.step(now)
    assert (last < first).all()


@pytest.mark.parametrize("x_alone", [False, True])
@pytest.mark.parametrize("w_alone", [False, True])
@pytest.mark.parametrize(("x_shape", "w_shape"), [((7, 6), (6, 5)), ((2, 7, 6), (6, 5)), ((2, 7, 6), (2, 6, 5))])
def test_folded_products_and_their_gradients_are_those_of_einsum(x_shape, w_shape, x_alone, w_alone):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(*([] if x_alone else [3]), *x_shape, generator=generator, dtype=torch.float64, requires_grad=True)
    w = torch.randn(*([] if w_alone else [3]), *w_shape, generator=generator, dtype=torch.float64, requires_grad=True)
    dims = (None if x_alone else 0, None if w_alone else 0)
    product = FoldedProduct.apply
    found = product(x, w) if dims == (None, None) else torch.vmap(product, dims)(x, w)
    each = [
        np.matmul((x if x_alone else x[s]).detach().numpy(), (w if w_alone else w[s]).detach().numpy())
        for s in range(3)
    ]
    np.testing.assert_allclose(found.detach(), each[0] if dims == (None, None) else np.stack(each), rtol=1e-12)
    pull = torch.randn(found.shape, generator=generator, dtype=torch.float64)
    mine = torch.autograd.grad((found * pull).sum(), (x, w))
    if dims == (None, None):
        plain = x @ w
    else:
        plain = torch.stack([(x if x_alone else x[s]) @ (w if w_alone else w[s]) for s in range(3)])
    expected = torch.autograd.grad((plain * pull).sum(), (x, w))
    for one, other in zip(mine, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_bfloat16_rounds_the_inputs_and_weights_of_linear_layers_and_nothing_else():
    layer, x = nn.Linear(WIDTH, 5), torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(0))
    with Products("bf16"):
        low, other = layer(x), x @ x.mT
    assert low.dtype == torch.float32
    exact = x.bfloat16().double() @ layer.weight.bfloat16().double().mT
    assert relative_error(low.detach(), (exact + layer.bias.double()).detach()) < 2.0**-8  # one rounding of the result
    assert relative_error(low.detach(), layer(x).detach()) > 1e-5
    assert torch.equal(other, x @ x.mT)


@pytest.mark.slow
def test_the_trial_of_bfloat16_accepts_rounding_and_refuses_what_changes_the_loss():
    batches = [batch(seed) for seed in range(5)]
    found = try_bfloat16(lambda precision: stacked(CONFIGS[0], precision=precision), batches)
    assert found.used == "bf16"
    assert 0 < found.worst < TOLERANCE

    def unstable(precision):
        stack = stacked(CONFIGS[0], precision=precision)
        stack.weights["classifier.weight"].data.mul_(1e4 if precision == "bf16" else 1)
        return stack

    refused = try_bfloat16(unstable, batches)
    assert refused.used == "fp32"
    assert refused.worst > TOLERANCE


def test_class_weights_weigh_the_loss(tmp_path):
    features = easy_cache(tmp_path / "f.h5")
    now = clip_batches(features).load(np.arange(8), rng=None)
    weights = torch.tensor([2.0, 0.5, 1.0])
    for name in ("mean", "clip"):
        head = build_head(PRESETS[name], 12, 3)
        said = head(now.descriptors, now.mask)
        logits = said.logits if name == "mean" else said.clip_logits[now.mask]
        labels = now.labels if name == "mean" else now.labels.repeat_interleave(now.mask.sum(dim=1))
        own = -logits.log_softmax(1)[torch.arange(len(labels)), labels] * weights[labels]
        found = training_loss(said, now.mask, now.labels, sparsity=0, class_weights=weights)
        torch.testing.assert_close(found, own.sum() / weights[labels].sum())
