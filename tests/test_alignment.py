"""Where the points of a map lie is what the networks' own gradients say."""

import pytest
import torch
from torch import nn

from gcf.explain.reading.alignment import grid_strides
from gcf.extract.backbones.loading import build_network
from gcf.extract.backbones.registry import find_backbone
from gcf.extract.backbones.temporal import remove_temporal_stride

pytestmark = pytest.mark.slow


def network(name, *, without_stride=False):
    """Every weight the same and no rectifier cuts: an output's gradient is where its layers look, and how often."""
    module = build_network(find_backbone(name), num_classes=2).eval()
    if without_stride:
        remove_temporal_stride(module)
    for layer in module.modules():
        if isinstance(layer, nn.Conv3d):
            nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
    return module


@pytest.mark.parametrize(
    ("name", "clip", "expected"),
    [
        ("shufflenetv2_0.25x", (16, 112, 112), (16, 32, 32)),
        ("mobilenetv2_0.2x", (16, 112, 112), (16, 32, 32)),
        ("resnext101", (16, 112, 112), (16, 32, 32)),
        ("r2plus1d_18", (16, 112, 112), (8, 16, 16)),
        ("slow_r50", (8, 224, 224), (1, 32, 32)),
        ("slowfast_r50", (16, 224, 224), (1, 32, 32)),  # lateral connections step by 4, its map does not
        ("r2plus1d_r50", (16, 224, 224), (4, 32, 32)),
        ("mvit_v2_s", (16, 224, 224), (2, 32, 32)),
        ("swin3d_t", (16, 224, 224), (None, None, None)),  # patches are cut out, not padded
        ("s3d", (16, 224, 224), (None, None, None)),  # one pool of 2 is not padded
    ],
)
def test_strides_of_known_networks(name, clip, expected):
    with torch.device("meta"):
        module = build_network(find_backbone(name), num_classes=2).eval()
        grid = tuple(module.feature_map(torch.empty(1, 3, *clip)).shape[2:])
    assert grid_strides(module, clip, grid) == expected


@pytest.mark.parametrize("without_stride", [False, True])
def test_the_middle_of_what_a_point_sees_is_where_it_lies(without_stride):
    module = network("shufflenetv2_0.25x", without_stride=without_stride)
    clips = torch.ones(1, 3, 16, 256, 256, requires_grad=True)
    maps = module.feature_map(clips)
    strides = grid_strides(module, clips.shape[2:], maps.shape[2:])
    assert strides == ((1 if without_stride else 16), 32, 32)
    (slope,) = torch.autograd.grad(maps[0, :, maps.shape[2] // 2, 4, 3].sum(), clips)
    seen = slope[0].abs().sum((0, 1))  # (H, W)
    places = torch.arange(256.0)
    assert abs((seen.sum(1) * places).sum() / seen.sum() - 4 * 32) < 3
    assert abs((seen.sum(0) * places).sum() / seen.sum() - 3 * 32) < 3


def test_a_grid_that_the_layers_do_not_explain_is_left_in_equal_parts():
    layer = nn.Conv3d(3, 4, 3, (1, 2, 2), 1)
    assert grid_strides(layer, (16, 32, 32), (16, 16, 8)) == (1, 2, None)
    assert grid_strides(nn.Conv3d(3, 4, 2, 2, "valid"), (16, 32, 32), (8, 16, 16)) == (None, None, None)
