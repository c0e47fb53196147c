import pytest
import torch
from compare import assert_bitwise_equal
from torch import nn

from gcf.head.fitting.loss import gate_sparsity, training_loss
from gcf.head.models.build import build_head
from gcf.head.models.config import PRESETS
from gcf.head.models.gate import ClipsGate, TokenGate, squeeze


def test_the_squeeze_mean_is_taken_in_float32():
    fused = torch.full((1, 1, 4096), 1.0, dtype=torch.bfloat16)
    fused[..., 0] = 257  # summed in bfloat16, ones would be lost beside the larger number
    mean = squeeze(fused)
    assert mean.dtype == torch.float32
    assert mean.item() == fused.float().mean().item()
    assert squeeze(fused.double()).dtype == torch.float64


def test_a_layer_norm_before_the_squeeze_would_blind_the_gate_and_no_head_with_one_has_it():
    b = torch.randn(2, 10, 256, generator=torch.Generator().manual_seed(0))
    assert squeeze(nn.LayerNorm(256)(b)).abs().max() < 1e-6
    assert squeeze(b).abs().min() > 1e-4
    for config in (config for config in PRESETS.values() if config.kind == "gcf"):
        assert not any("Norm" in type(m).__name__ for m in build_head(config, 32, 3).modules())


def test_at_initialisation_the_gate_sees_its_clips_and_learns():
    head = build_head(PRESETS["gcf-256"], 64, 4)
    descriptors = torch.rand(8, 10, 64, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(8, 10, dtype=torch.bool)
    training_loss(head(descriptors, mask), mask, torch.arange(8) % 4, sparsity=0).backward()
    for weight in (head.gate.reduce.weight, head.gate.expand.weight):
        assert weight.grad.abs().max() > 0


@pytest.mark.parametrize("count", [1, 7, 10])
def test_the_clips_gate_reads_zero_in_slots_that_no_clip_fills(count):
    gate = ClipsGate(10, reduction=2)
    fused = torch.randn(2, 10, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(10).expand(2, -1) < count
    zero = fused.masked_fill(~mask.unsqueeze(-1), 0)
    full = gate(zero, torch.ones(2, 10, dtype=torch.bool)).masked_fill(~mask, 0)
    assert_bitwise_equal(gate(fused, mask), full)
    torch.testing.assert_close(gate(fused[:, :count], mask[:, :count]), full[:, :count])


def test_the_clips_gate_refuses_more_clips_than_it_has_slots():
    with pytest.raises(ValueError, match="10 slots, got 11 clips"):
        ClipsGate(10, reduction=2)(torch.zeros(1, 11, 8), torch.ones(1, 11, dtype=torch.bool))


def test_the_token_gate_takes_any_number_of_clips_and_each_by_itself():
    gate = TokenGate(8, reduction=4)
    fused = torch.randn(1, 37, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(1, 37, dtype=torch.bool)
    alpha = gate(fused, mask)
    assert alpha.shape == (1, 37)
    torch.testing.assert_close(gate(fused[:, 5:6], mask[:, 5:6]), alpha[:, 5:6])


def test_the_sparsity_term_sums_over_the_real_clips_of_a_video_and_averages_over_videos():
    gate = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.0, 0.0]])  # padding is 0 already
    assert gate_sparsity(gate).item() == pytest.approx((1.0 + 0.5) / 2)


def test_the_loss_is_cross_entropy_plus_lambda_times_the_sparsity():
    head = build_head(PRESETS["gcf-256"], 16, 3)
    descriptors = torch.rand(4, 10, 16, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(10).expand(4, -1) < torch.tensor([[10], [3], [1], [6]])
    labels = torch.tensor([0, 1, 2, 0])
    output = head(descriptors, mask)
    probabilities = output.logits.softmax(1)[torch.arange(4), labels]
    expected = -probabilities.log().mean() + 0.25 * output.gate[mask].sum() / 4
    torch.testing.assert_close(training_loss(output, mask, labels, sparsity=0.25), expected)


def test_the_clip_classifier_learns_from_every_real_clip_by_itself():
    head = build_head(PRESETS["clip"], 16, 3)
    descriptors = torch.rand(2, 4, 16, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    said = head(descriptors.masked_fill(~mask[..., None], torch.nan), mask)
    loss = training_loss(said, mask, torch.tensor([2, 0]), sparsity=1)
    clips = head.classifier(torch.cat([descriptors[0, :3], descriptors[1, :1]])).log_softmax(1)
    torch.testing.assert_close(loss, -(clips[0, 2] + clips[1, 2] + clips[2, 2] + clips[3, 0]) / 4)
