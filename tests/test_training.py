import numpy as np
import pytest
import torch
from caches import easy_cache
from compare import FLOAT32_FORWARD, assert_bitwise_equal, relative_error
from stage_two import ask_one, clip_batches, train_one

from gcf.data.splits import holdout
from gcf.errors import GcfError, UsageError
from gcf.head.fitting.labelled import label_features
from gcf.head.fitting.stack import Stack
from gcf.head.fitting.threads import one_thread
from gcf.head.models.build import build_head, head_config
from gcf.head.models.config import PRESETS, TrainConfig

HEADS = [
    head_config(name, width=16, key_width=8) for name in ("gcf-256", "fusion-only", "attention-only", "gcf-256-g0")
]
HEADS += [PRESETS["mean"], PRESETS["clip"]]


@pytest.fixture(autouse=True)
def _alone():
    """As small problems are trained outside the tests, too."""
    with one_thread(True):
        yield


def problem(tmp_path, **content):
    features = easy_cache(tmp_path / "f.h5", **content)
    return features, clip_batches(features), holdout(features.labels, features.subsets, features.groups)


def numpy_sgd(weight, bias, x, labels, config, steps):
    """Full-batch softmax regression with momentum, dampening and weight decay as torch documents them."""
    values, buffers = [weight.copy(), bias.copy()], [None, None]
    for _ in range(steps):
        logits = x @ values[0].T + values[1]
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        p[np.arange(len(labels)), labels] -= 1
        gradients = [p.T @ x / len(x), p.mean(axis=0)]
        for i, (value, gradient) in enumerate(zip(values, gradients, strict=True)):
            d = gradient + config.weight_decay * value
            buffers[i] = d if buffers[i] is None else config.momentum * buffers[i] + (1 - config.dampening) * d
            values[i] = value - config.rate * buffers[i]
    return values


@pytest.mark.slow
def test_training_the_mean_head_is_the_papers_sgd_written_in_numpy(tmp_path):
    features, batches, split = problem(tmp_path)
    config = TrainConfig(epochs=40).of_head(None)
    start = [
        p.detach().numpy().astype(np.float64)
        for p in build_head(PRESETS["mean"], batches.descriptors.width, 3).parameters()
    ]
    rows = [features.descriptors[features.offsets[n] : features.offsets[n + 1], 0].astype(float) for n in split.train]
    chosen = [r if len(r) <= 10 else r[(2 * np.arange(10) + 1) * len(r) // 20] for r in rows]
    x = np.stack([r.mean(axis=0) for r in chosen])
    run = train_one(PRESETS["mean"], batches, split, epochs=40)
    assert run.record["step"] == run.record["steps"] == 40  # one batch is a pass here, and it is still improving
    expected = numpy_sgd(*start, x, features.labels[split.train], config, 40)
    for actual, value in zip(run.head.parameters(), expected, strict=True):
        assert relative_error(actual.detach(), value) < 10 * FLOAT32_FORWARD  # rounding grows over forty steps


def test_momentum_is_dampened_so_that_the_effective_rate_is_lr():
    stack = Stack([torch.nn.Linear(1, 1, bias=False)], TrainConfig(weight_decay=0))
    before = stack.weights["weight"].item()
    for _ in range(100):
        stack.optimiser.param_groups[0]["params"][0].grad = torch.ones(1, 1)
        stack.optimiser.step()
    assert (before - stack.weights["weight"].item()) / 100 == pytest.approx(0.1, rel=1e-4)
    group = stack.optimiser.param_groups[0]
    assert (group["momentum"], group["dampening"], TrainConfig().numbers.weight_decay) == (0.9, 0.9, 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("config", HEADS, ids=lambda c: c.name)
def test_two_seeded_runs_are_bitwise_equal_and_another_seed_differs(tmp_path, config):
    _, batches, split = problem(tmp_path)
    state = torch.get_rng_state()
    one, same, other = (
        train_one(config, batches, split, seed=s, epochs=12, batch_size=8).head.state_dict() for s in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    for name in one:
        assert_bitwise_equal(one[name], same[name])
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("config", HEADS, ids=lambda c: c.name)
@pytest.mark.parametrize("policy", ["uniform", "random"])
def test_every_head_learns_what_is_easy(tmp_path, config, policy):
    features, _, split = problem(tmp_path, per_class=24, clips=(2, 14))
    batches = clip_batches(features, policy=policy)
    run = train_one(config, batches, split)
    said = ask_one(run.head, batches, split.test).log_probabilities
    assert (said.argmax(axis=1) == features.labels[split.test]).mean() >= 0.95
    assert run.history[-1]["train_loss"] < 0.5 * run.history[0]["train_loss"]


@pytest.mark.slow
def test_the_weights_kept_are_those_of_the_lowest_validation_loss(tmp_path):
    _, batches, split = problem(tmp_path)
    half = split.val[::2]
    batches.labels[half] = (batches.labels[half] + 1) % 3  # so that validation soon gets worse
    run = train_one(HEADS[0], batches, split, epochs=160)
    losses = [row["val_loss"] for row in run.history]
    best = int(np.argmin(losses))
    assert best < len(losses) - 1
    assert run.record["step"] == run.history[best]["step"]
    logs = ask_one(run.head, batches, split.val).log_probabilities
    own = -logs[np.arange(len(split.val)), batches.labels[split.val]].astype(np.float64).mean()
    assert own == pytest.approx(losses[best], rel=1e-6)


@pytest.mark.slow
def test_the_test_videos_decide_nothing(tmp_path):
    _, batches, split = problem(tmp_path)
    one = train_one(HEADS[0], batches, split, epochs=40)
    offsets = batches.descriptors.features.offsets
    batches.descriptors.copy[torch.from_numpy(np.concatenate([np.arange(*offsets[n : n + 2]) for n in split.test]))] = 9
    batches.labels[split.test] = 0
    other = train_one(HEADS[0], batches, split, epochs=40)
    for name, value in one.head.state_dict().items():
        assert_bitwise_equal(value, other.head.state_dict()[name])
    assert one.history == other.history


@pytest.mark.slow
def test_training_ends_when_three_drops_of_the_rate_have_brought_nothing(tmp_path):
    _, batches, split = problem(tmp_path)
    batches.labels[split.val] = (batches.labels[split.val] + 1) % 3  # never improves
    run = train_one(PRESETS["mean"], batches, split, epochs=10_000, patience=2)
    rates = [row["lr"] for row in run.history]
    assert rates == pytest.approx([0.1] * 3 + [0.01] * 2 + [0.001] * 2 + [0.0001] * 2)


@pytest.mark.slow
def test_training_that_diverges_says_so(tmp_path):
    _, batches, split = problem(tmp_path)
    with pytest.raises(GcfError, match=r"training diverged.*lower the rate \(now 1e\+30\)"):
        train_one(HEADS[0], batches, split, lr=1e30)


def test_random_clips_are_drawn_anew_in_training_and_once_for_evaluation(tmp_path):
    features, _, split = problem(tmp_path, clips=(20, 30))
    batches = clip_batches(features, num_clips=4, policy="random")
    head = build_head(PRESETS["mean"], batches.descriptors.width, 3)
    one, same = (ask_one(head, batches, split.test).log_probabilities for _ in range(2))
    assert_bitwise_equal(one, same)
    rng = np.random.default_rng(0)
    first, second = (next(iter(batches.shuffled(split.test[:1], 8, rngs=[rng]))).descriptors for _ in range(2))
    assert not torch.equal(first, second)


def test_gate_health_counts_real_clips(tmp_path):
    _, batches, split = problem(tmp_path)
    head = build_head(HEADS[0], batches.descriptors.width, 3).eval()
    health = ask_one(head, batches, split.test).gate
    gates = []
    for n in split.test:
        batch = batches.load(np.array([n]), rng=np.random.default_rng(0))
        gates.append(head(batch.descriptors, batch.mask).gate[batch.mask].detach().numpy())
    every = np.concatenate(gates)
    assert health["mean_alpha"] == pytest.approx(every.mean(), rel=1e-5)
    assert health["share_above_half"] == pytest.approx((every > 0.5).mean())
    assert health["videos_with_clip_above_half"] == pytest.approx(np.mean([(g > 0.5).any() for g in gates]))
    assert health["share_saturated"] == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip_policy": "best"}, "unknown clip policy 'best'; known: uniform, first, random, all"),
        ({"padding": "zero"}, "unknown padding 'zero'; known: mask, loop"),
        ({"padding": "loop", "clip_policy": "all"}, "choose padding mask, or another clip policy"),
        ({"freeze": "all", "init": "x"}, "unknown freeze 'all'"),
        ({"freeze": "all-but-classifier"}, "give init"),
        ({"batch_size": 0, "epochs": 0}, "batch_size must be at least 1, got 0; epochs must be at least 1, got 0"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"lr": float("nan")}, "lr must be above 0"),
        ({"sparsity": -1.0}, "sparsity must not be below 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        TrainConfig(**settings)


def test_the_defaults_are_the_papers_recipe():
    c = TrainConfig().of_head(PRESETS["gcf-256"])
    assert c.recipe == "paper"
    assert (c.batch_size, c.momentum, c.dampening, c.weight_decay, c.drops) == (128, 0.9, 0.9, 1e-3, 3)
    assert (c.sparsity, c.num_clips, c.clip_policy, c.epochs) == (1e-4, 10, "uniform", None)
    assert c.padding == "mask"  # not the paper's, which counts repeated clips as real ones


def test_the_rate_is_a_tenth_and_a_hundredth_where_only_the_classifier_is_train_one():
    assert TrainConfig().rate == 0.1
    assert TrainConfig(freeze="all-but-classifier", init="somewhere").rate == 0.01
    assert TrainConfig(freeze="all-but-classifier", init="somewhere", lr=0.5).rate == 0.5


def test_labelled_features_name_what_is_wrong(tmp_path):
    one_class = easy_cache(tmp_path / "one.h5", num_classes=1)
    with pytest.raises(GcfError, match=r"one\.h5: 12 of 12 videos have a label, of 1 classes"):
        label_features(one_class)
