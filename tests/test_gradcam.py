"""Grad-CAM without a backward pass through the network is Grad-CAM with one, whatever the head and the descriptor."""

import numpy as np
import pytest
import torch
from compare import FLOAT32_FORWARD, FLOAT64_FORWARD, assert_bitwise_equal, relative_error
from torch import nn

from gcf.data.schema import VideoInfo
from gcf.errors import HeadError
from gcf.explain.reading.clip_reading import ClipReading
from gcf.explain.reading.gradcam import channel_weights, descriptor_gradients, grad_cam, passing_clips
from gcf.extract.backbones.base import Backbone
from gcf.head.models.build import build_head, head_config
from gcf.head.models.config import PRESETS
from gcf.head.models.ensemble import MeanOfHeads, SavedEnsemble
from gcf.head.models.output import HeadOutput
from gcf.head.models.saved import SavedHead

CLASSES = ("a", "b", "c")
CLIPS, CHANNELS = 5, 6


class MeanNetwork(Backbone):
    """Two convolutions; the descriptor is the mean over positions."""

    width = CHANNELS

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv3d(3, 4, 3, 2, 1), nn.Conv3d(4, CHANNELS, 3, (1, 2, 2), 1)

    def feature_map(self, clips):
        return self.second(self.first(clips).tanh()).relu()


class LinearNetwork(MeanNetwork):
    """The descriptor is made from the mean by one more layer, as X3D's is."""

    width = 9

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(CHANNELS, self.width)

    def descriptor(self, feature_map):
        return self.last(feature_map.mean((2, 3, 4))).relu()


class AttentionNetwork(MeanNetwork):
    """Positions are weighed by what they hold: the gradient differs from place to place."""

    def descriptor(self, feature_map):
        places = feature_map.flatten(2)
        return (places * places.sum(1, keepdim=True).softmax(dim=-1)).sum(-1)


NETWORKS = [MeanNetwork, LinearNetwork, AttentionNetwork]


def network(kind, dtype=torch.float64):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return kind().to(dtype).eval().requires_grad_(False)


def some_head(name, width, dtype=torch.float64):
    """A head of this name; "ensemble": the mean of two."""
    config = head_config("gcf-256" if name == "ensemble" else name)
    modules = [build_head(config, width, len(CLASSES), seed=seed).to(dtype) for seed in range(2)]
    module = MeanOfHeads(modules) if name == "ensemble" else modules[0]
    return SavedHead(module.eval(), config, width, CLASSES, {}, {"num_clips": 10, "clip_policy": "uniform"})


def pixels(count=CLIPS, dtype=torch.float64):
    return torch.randn(count, 3, 8, 16, 20, generator=torch.Generator().manual_seed(2), dtype=dtype)


def through_everything(backbone, head, clips, class_index):
    """Equations 13 and 14 with autograd through the whole network and head; two slots of the head are padding."""
    clips = clips.clone().requires_grad_()
    maps = backbone.feature_map(clips)
    descriptors = backbone.descriptor(maps)
    padded = torch.cat([descriptors, torch.full_like(descriptors[:2], 7.0)])[None]
    mask = torch.arange(padded.shape[1])[None] < len(clips)
    (slopes,) = torch.autograd.grad(head.module(padded, mask).logits[0, class_index], maps)
    return (slopes.mean((2, 3, 4), keepdim=True) * maps).sum(1).relu().detach()


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("name", ["gcf-256", "mean", "transformer", "ensemble"])
def test_it_equals_autograd_through_the_whole_network(kind, name):
    backbone, head, clips = network(kind), some_head(name, kind.width), pixels()
    maps = backbone.feature_map(clips)
    for class_index in range(len(CLASSES)):
        gradients = descriptor_gradients(head, backbone.descriptor(maps), class_index, [np.arange(CLIPS)])
        expected = through_everything(backbone, head, clips, class_index)
        assert relative_error(grad_cam(backbone, maps, gradients), expected) < FLOAT64_FORWARD


@pytest.mark.parametrize("name", PRESETS)
def test_every_head_has_gradients_that_finite_differences_confirm(name):
    head = some_head(name, 6)
    clips = torch.randn(CLIPS, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = descriptor_gradients(head, clips, 1, [np.arange(CLIPS)])
    step = 1e-6 * torch.randn(clips.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    mask = torch.ones(1, CLIPS, dtype=torch.bool)
    with torch.no_grad():
        up, down = (head.module((clips + sign * step)[None], mask).logits[0, 1] for sign in (1, -1))
    assert relative_error((found * step).sum(), (up - down) / 2) < 1e-5  # central difference: cancels 10 of 16 digits


@pytest.mark.parametrize("name", ["gcf-256", "mean", "gru"])
def test_a_looped_clip_has_the_gradient_of_all_its_repeats(name):
    head = some_head(name, 6)
    generator = torch.Generator().manual_seed(3)
    clips = torch.randn(3, 6, generator=generator, dtype=torch.float64).requires_grad_()
    slots = np.arange(10) % 3
    found = descriptor_gradients(head, clips.detach(), 1, [slots])
    logits = head.module(clips[slots][None], torch.ones(1, 10, dtype=torch.bool)).logits
    (expected,) = torch.autograd.grad(logits[0, 1], clips)
    assert relative_error(found, expected) < FLOAT64_FORWARD


def test_heads_of_several_seeds_have_the_gradient_of_their_mean_logit_however_sure_they_are():
    config = head_config("gcf-256")
    members = tuple(
        SavedHead(
            build_head(config, 6, len(CLASSES), seed=seed).to(torch.float64).eval(),
            *(config, 6, CLASSES, {}, {"num_clips": 10, "clip_policy": "uniform"}),
        )
        for seed in range(2)
    )
    together = SavedEnsemble(
        MeanOfHeads([one.module for one in members]).eval(),
        *(config, 6, CLASSES, {}, members[0].training, members),
    )
    clips = 100 * torch.randn(CLIPS, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = descriptor_gradients(together, clips, 1, [np.arange(CLIPS)])
    expected = sum(descriptor_gradients(one, clips, 1, [np.arange(CLIPS)]) for one in members) / 2
    assert relative_error(found, expected) < FLOAT64_FORWARD


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_clips_heat_does_not_depend_on_the_others_of_its_batch(kind):
    backbone, clips = network(kind, torch.float32), pixels(dtype=torch.float32)
    gradients = torch.randn(CLIPS, kind.width, generator=torch.Generator().manual_seed(5))
    maps = backbone.feature_map(clips)
    together = grad_cam(backbone, maps, gradients)
    for n in range(CLIPS):
        alone = grad_cam(backbone, maps[n : n + 1], gradients[n : n + 1])
        assert relative_error(together[n : n + 1], alone) < FLOAT32_FORWARD


def test_before_relu_the_heat_of_a_clip_sums_to_its_gradient_times_its_descriptor():
    backbone = network(MeanNetwork)
    maps = backbone.feature_map(pixels())
    descriptors = backbone.descriptor(maps)
    gradients = torch.randn(descriptors.shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    weights = channel_weights(backbone, maps, gradients)
    total = torch.einsum("bm,bmthw->b", weights, maps)
    assert relative_error(total, (gradients * descriptors).sum(1)) < FLOAT64_FORWARD


@pytest.mark.parametrize("kind", NETWORKS)
def test_positive_channels_are_those_that_speak_for_the_class(kind):
    backbone, maps = network(kind), network(kind).feature_map(pixels())
    gradients = torch.randn(CLIPS, kind.width, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    weights = channel_weights(backbone, maps, gradients)
    assert (weights > 0).any(dim=1).all()
    assert (weights < 0).any(dim=1).all()
    found = grad_cam(backbone, maps, gradients, positive=True)
    for n in range(CLIPS):
        speaking = weights[n] > 0
        expected = (weights[n, speaking, None, None, None] * maps[n, speaking]).sum(0)  # maps are 0 or more: no relu
        assert relative_error(found[n], expected) < FLOAT64_FORWARD
    assert (found >= grad_cam(backbone, maps, gradients)).all()


def test_where_every_channel_speaks_for_the_class_positive_ones_are_all():
    backbone = network(MeanNetwork)
    maps = backbone.feature_map(pixels())
    gradients = torch.ones(CLIPS, CHANNELS, dtype=torch.float64)
    assert_bitwise_equal(grad_cam(backbone, maps, gradients, positive=True), grad_cam(backbone, maps, gradients))
    assert (grad_cam(backbone, maps, -gradients, positive=True) == 0).all()


def test_each_clip_is_read_in_its_own_round():
    head = some_head("gcf-256", 6)
    clips = torch.randn(7, 6, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    rounds = [np.array([0, 2, 4, 6]), np.array([1, 3, 5])]
    found = descriptor_gradients(head, clips, 0, rounds)
    for chosen in rounds:
        alone = descriptor_gradients(head, clips[chosen], 0, [np.arange(len(chosen))])
        assert_bitwise_equal(found[chosen], alone)


def test_stored_float16_is_enough_and_the_head_stays_as_it_was():
    head = some_head("gcf-256", 6, torch.float32)
    head.module.train()
    stored = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float16)
    found = descriptor_gradients(head, stored, 2, [np.arange(4)])
    assert found.dtype == torch.float32
    assert_bitwise_equal(found, descriptor_gradients(head, stored.astype(np.float32), 2, [np.arange(4)]))
    assert all(parameter.grad is None for parameter in head.module.parameters())


def test_maps_of_inference_mode_will_do():
    backbone = network(AttentionNetwork, torch.float32)
    with torch.inference_mode():
        maps = backbone.feature_map(pixels(dtype=torch.float32))
    gradients = torch.ones(CLIPS, CHANNELS)
    assert_bitwise_equal(grad_cam(backbone, maps, gradients), grad_cam(backbone, maps.clone(), gradients))


def test_a_head_that_cannot_be_differentiated_is_named():
    class Hard(nn.Module):
        def forward(self, descriptors, mask):
            return HeadOutput(((descriptors > 0) & mask.unsqueeze(-1)).float().sum(1)[:, :3])

    head = some_head("mean", 6)
    head = SavedHead(Hard(), head.config, 6, CLASSES, {}, {})
    with pytest.raises(HeadError, match="cannot be differentiated"):
        descriptor_gradients(head, torch.ones(2, 6), 0, [np.arange(2)])


def reading(gate, clips=3):
    info = VideoInfo(25.0, 48, 64, 48, 1.92, 1, 1)
    numbers = np.zeros(3)
    gate = None if gate is None else np.array(gate)
    return ClipReading("v", None, info, CLASSES, numbers, numbers, np.zeros((clips, 3)), "traced", gate)


def test_clips_pass_whose_gate_is_over_the_threshold():
    assert passing_clips(reading([0.4, 0.6, 0.51]))[0].tolist() == [False, True, True]
    assert passing_clips(reading([0.4, 0.6, 0.51]), 0.55)[0].tolist() == [False, True, False]
    assert passing_clips(reading([0.4, 0.6, 0.51]))[1] == ""


def test_a_head_without_a_gate_looks_at_every_clip():
    mask, note = passing_clips(reading(None))
    assert (mask.tolist(), note) == ([True] * 3, "")


def test_where_no_gate_passes_half_of_the_largest_does_and_is_told():
    mask, note = passing_clips(reading([0.1, 0.2, 0.09]))
    assert mask.tolist() == [True, True, False]
    assert "0.5" in note
    assert "0.2" in note
    assert passing_clips(reading([0.0, 0.0, 0.0]))[0].all()
