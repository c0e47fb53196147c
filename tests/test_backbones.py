"""Names, loading, random weights, temporal stride, sizes, and torchvision's networks against torchvision."""

import json
import logging
import math
import subprocess
import sys

import pytest
import torch
from compare import assert_bitwise_equal, relative_error
from torch import nn
from torchvision.models import get_model
from torchvision.models.video import mvit

from gcf.errors import UsageError, WeightsError
from gcf.extract.backbones import list_backbones, load_backbone
from gcf.extract.backbones.loading import build_network
from gcf.extract.backbones.registry import BACKBONES, find_backbone
from gcf.extract.backbones.temporal import remove_temporal_stride
from gcf.extract.backbones.torchvision_models import NETWORKS

RECIPE_KEYS = {
    *("name", "weights", "weights_sha256", "num_frames", "resize", "resize_rule", "crop", "channel_order"),
    *("pixel_max", "mean", "std", "trained_fps", "classes", "temporal_stride"),
}
OWN = [name for name in BACKBONES if name not in NETWORKS]
STRIDE_REMOVABLE = [name for name, spec in BACKBONES.items() if not spec.stride_stays]
# (frames, size) that each kind of network takes and a test can afford
CLIPS = {"s3d": (14, 224), "mvit": (8, 64), "swin3d": (5, 64), "": (5, 40)}
# frames for each slice of an own network's map
STRIDES = {"x3d": 1, "slow": 1, "r2plus1d_r50": 4, "": 16}


def on_meta(name, num_classes=7):
    with torch.device("meta"):
        return build_network(find_backbone(name), num_classes=num_classes).eval()


def map_shape(network, frames, height, width):
    return network.feature_map(torch.empty(2, 3, frames, height, width, device="meta")).shape


@pytest.fixture(scope="module")
def tiny():
    return load_backbone("mobilenetv2_0.2x", weights="random")


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_torchvisions_networks_keep_torchvisions_names_and_shapes(name):
    with torch.device("meta"):
        theirs = get_model(name, weights=None).state_dict()
    ours = on_meta(name, num_classes=400).state_dict()
    assert {key: tensor.shape for key, tensor in ours.items()} == {key: tensor.shape for key, tensor in theirs.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_torchvisions_networks_give_torchvisions_logits(name, monkeypatch):
    # torchvision's truncated normal takes 8 s for the largest; any numbers will do here
    monkeypatch.setattr(nn.init, "trunc_normal_", lambda tensor, std=1.0: nn.init.normal_(tensor, std=std))
    torch.manual_seed(0)
    # a smaller grid than the published one, which torchvision's builders fix: also only to save time
    full = mvit._mvit
    monkeypatch.setattr(mvit, "_mvit", lambda **config: full(**config | {"spatial_size": (64, 64), "temporal_size": 8}))
    theirs = get_model(name, weights=None, num_classes=7).eval()
    for module in theirs.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.normal_(module.weight, std=math.sqrt(2 / module.weight[0].numel()))
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_(std=0.1)
    ours = NETWORKS[name](theirs).eval()
    frames, size = next(clip for prefix, clip in CLIPS.items() if name.startswith(prefix))
    clips = torch.randn(1, 3, frames, size, size)
    with torch.inference_mode():
        expected = theirs(clips)
        feature_map = ours.feature_map(clips)
        descriptor = ours.descriptor(feature_map)
        logits = ours.classify(descriptor)
    assert feature_map.ndim == 5
    assert descriptor.shape == (1, BACKBONES[name].descriptor_width)
    assert expected.std() > 0.01
    assert relative_error(logits, expected) < 1e-6  # the same operations, but for one mean taken elsewhere


@pytest.mark.slow
@pytest.mark.parametrize("size", [(2, 7, 7), (4, 8, 9), (1, 3, 7)])
def test_s3d_pools_in_windows_as_torchvision_does_and_whole_where_a_window_does_not_fit(size):
    feature_map = torch.randn(2, 1024, *size)
    expected = (
        feature_map.mean((2, 3, 4)) if size == (1, 3, 7) else nn.AvgPool3d((2, 7, 7), 1)(feature_map).mean((2, 3, 4))
    )
    assert relative_error(on_meta("s3d").descriptor(feature_map), expected) < 1e-6  # two orders of summation


@pytest.mark.parametrize("name", ["mvit_v1_b", "mvit_v2_s"])
def test_a_clip_of_another_size_is_refused_by_networks_with_a_fixed_grid(name):
    with pytest.raises(ValueError, match=r"\(16, 224, 224\) only, got \(16, 112, 112\)"):
        map_shape(on_meta(name), 16, 112, 112)


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_the_facts_of_a_spec_are_those_of_its_network(name):
    spec = BACKBONES[name]
    network = on_meta(name, spec.num_classes)
    state = network.state_dict()
    assert sum(parameter.numel() for parameter in network.parameters()) == spec.parameters
    assert list(state[spec.classifier].shape[:2]) == [spec.num_classes, spec.descriptor_width]
    if spec.width_layer:
        assert state[spec.width_layer].shape[0] == spec.width_rows


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN)
def test_any_clip_length_and_frame_size_is_taken(name):
    network = on_meta(name)
    stride = next(stride for prefix, stride in STRIDES.items() if name.startswith(prefix))
    for frames, height, width in [(1, 32, 32), (16, 112, 112), (7, 50, 71), (33, 96, 128)]:
        frames = 4 * frames if name.startswith("slowfast") else frames  # what else it refuses: test_pathways.py
        sizes = (math.ceil(frames / stride), math.ceil(height / 32), math.ceil(width / 32))
        assert map_shape(network, frames, height, width)[2:] == sizes


@pytest.mark.slow
@pytest.mark.parametrize("name", STRIDE_REMOVABLE)
def test_without_stride_in_time_the_map_has_a_slice_per_frame(name):
    network = on_meta(name)
    with_stride = map_shape(network, 12, 64, 64)
    remove_temporal_stride(network)
    without = map_shape(network, 12, 64, 64)
    assert without[2] == 12
    assert (*without[:2], *without[3:]) == (*with_stride[:2], *with_stride[3:])


@pytest.mark.slow
def test_without_stride_in_time_the_weights_are_the_same_and_the_first_strided_layer_only_denser(tiny):
    dense = load_backbone("mobilenetv2_0.2x", weights="random", temporal_stride="none")
    assert dense.recipe == tiny.recipe | {"temporal_stride": "none"}
    for name, tensor in tiny.state_dict().items():
        assert_bitwise_equal(dense.state_dict()[name], tensor)
    clips = torch.randn(1, 3, 8, 32, 32)
    with torch.inference_mode():
        trained, every_frame = tiny.features[:3](clips), dense.features[:3](clips)  # features.2 has the first stride
        assert dense.feature_map(clips).shape[2] == 8
    assert relative_error(every_frame[:, :, ::2], trained) < 1e-6  # the same sums, perhaps in another order


@pytest.mark.parametrize("name", [name for name, spec in BACKBONES.items() if spec.stride_stays])
def test_networks_that_cannot_lose_their_stride_say_why(name):
    with pytest.raises(
        UsageError, match=f"{name} cannot be used without stride in time: {BACKBONES[name].stride_stays}"
    ):
        load_backbone(name, weights="random", temporal_stride="none")


@pytest.mark.slow
def test_random_weights_are_the_same_bytes_whatever_the_generator_stands_at_and_leave_it_there(tiny):
    torch.manual_seed(1234)
    before = torch.random.get_rng_state()
    again = load_backbone("mobilenetv2_0.2x", weights="random")
    assert_bitwise_equal(torch.random.get_rng_state(), before)
    assert again.recipe == tiny.recipe
    for name, tensor in tiny.state_dict().items():
        assert_bitwise_equal(again.state_dict()[name], tensor)


def test_random_weights_are_recorded_and_warned_about(caplog):
    network = load_backbone("mobilenetv2_0.2x", weights="random")
    assert network.recipe["weights"] == "random"
    assert network.recipe["classes"] is None
    assert [(record.name, record.levelno) for record in caplog.records] == [("gcf", logging.WARNING)]
    assert "random weights" in caplog.text


def test_random_descriptors_do_not_vanish_in_a_deep_network_that_adds_little(tiny):
    with torch.inference_mode():
        descriptor = tiny.descriptor(tiny.feature_map(torch.randn(1, 3, 16, 64, 64)))
    assert descriptor.std() > 0.01


@pytest.mark.slow
def test_random_descriptors_of_the_deepest_network_can_be_stored_in_float16():
    network = load_backbone("r2plus1d_101", weights="random")
    pixels = torch.rand(1, 3, 16, 56, 56) * network.recipe["pixel_max"] - 100
    with torch.inference_mode():
        descriptor = network.descriptor(network.feature_map(pixels)).half()
    assert torch.isfinite(descriptor).all()
    assert (descriptor != 0).float().mean() > 0.5


def test_a_loaded_backbone_is_frozen_in_eval_mode_with_a_whole_plain_recipe(tiny):
    assert not tiny.training
    assert not any(parameter.requires_grad for parameter in tiny.parameters())
    assert set(tiny.recipe) == RECIPE_KEYS
    assert json.loads(json.dumps(tiny.recipe)) == tiny.recipe


def test_forward_is_the_three_methods_in_a_row(tiny):
    clips = torch.randn(2, 3, 4, 32, 32)
    with torch.inference_mode():
        feature_map = tiny.feature_map(clips)
        expected = tiny.classify(feature_map.mean((2, 3, 4)))
        assert_bitwise_equal(tiny(clips), expected)


@pytest.mark.parametrize(("full", "bare"), [("mobilenetv2_1.0x", "mobilenetv2"), ("shufflenetv2_2.0x", "shufflenetv2")])
def test_the_bare_name_is_the_full_width(full, bare):
    assert find_backbone(full) is find_backbone(bare)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnxt101"}, "unknown backbone 'resnxt101'; did you mean resnext101"),
        ({"name": "mobilenetv2_0.3x"}, "unknown backbone"),
        ({"name": "resnext101", "weights": "kinetics500"}, "unknown weights 'kinetics500' of resnext101; known: kin"),
        ({"name": "resnext101", "temporal_stride": "off"}, "temporal stride 'off'; it can be trained or none"),
        ({"name": "r2plus1d_101"}, "no weights of r2plus1d_101 are public"),
        ({"name": "r2plus1d_101", "weights": "kinetics600"}, "none are public"),
    ],
)
def test_names_that_do_not_exist_are_refused_with_those_that_do(arguments, message):
    with pytest.raises(UsageError, match=message):
        load_backbone(**arguments)


def test_a_file_of_weights_that_is_not_there_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"absent\.pth: no such file"):
        load_backbone("resnext101", weights=tmp_path / "absent.pth")


@pytest.mark.slow
def test_listing_names_every_backbone_once_and_loads_no_torch():
    code = (
        "import sys; from gcf.extract.backbones import list_backbones;"
        "from gcf.extract.backbones.published import list_weights;"
        "print(*[info.name for info in list_backbones()]); list_weights(); assert 'torch' not in sys.modules"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert shown == [info.name for info in list_backbones()]
    assert len(set(shown)) == len(shown)
    assert set(shown) >= set(BACKBONES)
