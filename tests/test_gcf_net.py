import numpy as np
import pytest
import torch
from compare import FLOAT32_FORWARD, FLOAT64_FORWARD, assert_bitwise_equal, relative_error
from numpy_net import gcf_net
from small_heads import CONFIGS, D, K, built, name_of, some_clips

from gcf.errors import UsageError
from gcf.head.models.build import build_head, head_config
from gcf.head.models.complexity import head_complexity
from gcf.head.models.config import PRESETS, HeadConfig
from gcf.head.models.fusion import attention_weights

HEADS = [*CONFIGS, PRESETS["mean"], PRESETS["clip"]]


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_every_head_follows_the_equations_written_plainly_in_numpy(config):
    head = built(config)
    descriptors, mask = some_clips()
    output = head(descriptors, mask)
    weights = head.state_dict()
    for n in range(len(mask)):
        slots = np.flatnonzero(mask[n])
        logits, gate, attention = gcf_net(descriptors[n, slots].numpy(), weights, config, slots=slots)
        assert relative_error(output.logits[n].detach(), logits) < FLOAT64_FORWARD
        if gate is None:
            assert output.gate is None
        else:
            assert relative_error(output.gate[n, slots].detach(), gate) < FLOAT64_FORWARD
        if attention is None:
            assert output.attention is None
        else:
            assert relative_error(output.attention[n][np.ix_(slots, slots)].detach(), attention) < FLOAT64_FORWARD


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_float32_stays_close_to_float64(config):
    descriptors, mask = some_clips()
    head = built(config)
    exact = head(descriptors, mask).logits.detach()
    assert relative_error(head.float()(descriptors.float(), mask).logits.detach(), exact) < FLOAT32_FORWARD


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_the_evidence_of_the_clips_adds_up_to_the_logits(config):
    output = built(config).float()(*(x.float() if x.is_floating_point() else x for x in some_clips()))
    assert relative_error(output.evidence.sum(dim=1).detach(), output.logits.detach()) < FLOAT32_FORWARD


def test_the_evidence_of_the_mean_head_lacks_the_bias_alone():
    head = built(PRESETS["mean"])
    output = head(*some_clips())
    total = output.evidence.sum(dim=1) + head.classifier.bias
    assert relative_error(total.detach(), output.logits.detach()) < FLOAT64_FORWARD


@pytest.mark.slow
@pytest.mark.parametrize("config", HEADS, ids=name_of)
@pytest.mark.parametrize("rubbish", [1e30, float("nan"), float("inf")])
def test_padding_clips_never_reach_the_result(config, rubbish):
    head = built(config)
    descriptors, mask = some_clips()
    clean, dirty = (head(descriptors.masked_fill(~mask.unsqueeze(-1), value), mask) for value in (0.0, rubbish))
    for part in ("logits", "gate", "evidence", "attention"):
        if getattr(clean, part) is not None:
            assert_bitwise_equal(getattr(dirty, part), getattr(clean, part))
    for part in (clean.gate, clean.evidence, clean.attention):
        assert part is None or (part[~mask] == 0).all()


@pytest.mark.parametrize("config", HEADS, ids=name_of)
def test_a_short_video_gives_the_same_with_and_without_its_padding(config):
    head = built(config)
    descriptors, _ = some_clips()
    alone = head(descriptors[:, :4], torch.ones(3, 4, dtype=torch.bool)).logits
    padded = head(descriptors, torch.arange(10).expand(3, -1) < 4).logits
    assert relative_error(padded.detach(), alone.detach()) < FLOAT64_FORWARD


# not the clip classifier: a mean over no probability is no distribution, and every video has a clip
@pytest.mark.parametrize("config", [*CONFIGS, PRESETS["mean"]], ids=name_of)
def test_a_video_without_any_real_clip_is_no_nan(config):
    descriptors, mask = some_clips()
    mask[1] = False
    assert built(config)(descriptors, mask).logits.isfinite().all()


@pytest.mark.parametrize("config", HEADS, ids=name_of)
def test_only_the_gate_across_clips_knows_their_order(config):
    descriptors, _ = some_clips()
    mask = torch.ones(3, 10, dtype=torch.bool)
    head = built(config)
    moved = relative_error(head(descriptors.flip(1), mask).logits.detach(), head(descriptors, mask).logits.detach())
    assert (moved > 1e-6) == (config.fixed_clips is not None)


@pytest.mark.parametrize("normalise", ["softmax", "average"])
def test_attention_looks_both_ways_and_at_real_clips_only(normalise):
    generator = torch.Generator().manual_seed(0)
    queries, keys = (torch.rand(2, 6, 8, generator=generator) for _ in range(2))
    mask = torch.arange(6).expand(2, -1) < torch.tensor([[6], [4]])
    weights = attention_weights(queries, keys, mask, normalise=normalise)
    assert (weights[0] > 0).all()  # past and future: no causal mask
    assert (weights[1, :4, :4] > 0).all()
    assert (weights[1, 4:] == 0).all()
    assert (weights[1, :, 4:] == 0).all()
    if normalise == "softmax":
        torch.testing.assert_close(weights.sum(-1), mask.float())
    else:
        torch.testing.assert_close(weights[1, 0, 1], queries[1, 0] @ keys[1, 1] / 8**0.5 / 4)


@pytest.mark.parametrize(
    ("preset", "parameters", "macs"),
    [("gcf-256", 0.875, 7.36), ("gcf-256-b", 0.875, 7.36), ("gcf-256-g0", 0.858, 7.20)],
)
def test_the_presets_cost_what_table_3_allows(preset, parameters, macs):
    found = head_complexity(PRESETS[preset], 2048, 600)
    assert round(found.parameters / 1e6, 3) == parameters
    assert round(found.macs / 1e6, 2) == macs


def test_the_cost_of_gcf_256_is_the_sum_of_its_matrices():
    found = head_complexity(PRESETS["gcf-256"], 2048, 600)
    per_clip = 2048 * (32 + 32 + 256) + 256 * 256  # W_q, W_k, W_v, W_z
    assert found.parameters == per_clip + 10 * 5 * 2 + 256 * 600
    assert found.macs == 10 * per_clip + 10 * 5 * 2 + 256 * 600
    assert found.products_macs == 10 * 10 * (32 + 256) + 10 * 256  # q with k, A with v, and the weighted sum over clips


def test_one_seed_gives_the_same_weights_and_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    one, same, other = (build_head(PRESETS["gcf-256"], D, K, seed=s).state_dict() for s in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    for name in one:
        assert_bitwise_equal(one[name], same[name])
        assert not torch.equal(one[name], other[name])


def test_unknown_names_and_impossible_shapes_are_refused():
    with pytest.raises(UsageError, match="gcf-256-b"):
        head_config("gcf-257")
    with pytest.raises(ValueError, match="unknown gate 'soft'"):
        HeadConfig("x", gate="soft")
    with pytest.raises(ValueError, match="project the input"):
        build_head(HeadConfig("x", residual="input"), D, K)
