"""The rewritten network against the backbone it was made from: the same function, and the backbone as it was."""

import copy

import pytest
import torch
from compare import FLOAT32_FORWARD, assert_bitwise_equal, relative_error
from small_networks import (
    KINDS,
    PATHS,
    Small,
    plain,
    used_twice,
)
from torch import nn

from gcf.extract.backbones import load_backbone
from gcf.extract.backbones.normalise import Normalise
from gcf.extract.network.folding import FoldedNetwork

pytestmark = pytest.mark.processor


def folded(network, *, dtype=torch.float32):
    return FoldedNetwork(network, dtype=dtype, device=torch.device("cpu"))


def pixels_for(network, *, frames, count=2):
    crop = network.recipe["crop"]
    size = (crop, crop) if isinstance(crop, int) else crop
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, frames, *size, 3), dtype=torch.uint8, generator=generator)


def plain_map(network, pixels):
    return network.feature_map(Normalise(network.recipe)(pixels))


# frames, how many norms there are to fold
FAMILIES = {
    "mobilenetv2_0.2x": (6, 52),
    "shufflenetv2_0.25x": (6, 56),
    "mc3_18": (2, 20),
    "s3d": (5, 77),
    "resnext101": (2, 104),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_gives_the_feature_maps_it_gave(name):
    frames, norms = FAMILIES[name]
    network = load_backbone(name, weights="random")
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():  # norms that have seen nothing would hide what becomes of their statistics
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_(std=0.1, generator=generator)
            module.running_var.uniform_(0.8, 1.25, generator=generator)
            module.bias.data.normal_(std=0.1, generator=generator)
    pixels = pixels_for(network, frames=frames)
    with torch.inference_mode():
        ours, expected = folded(network), plain_map(network, pixels)
        assert relative_error(ours(pixels), expected) < 2 * FLOAT32_FORWARD  # other weights, and another order of sums
    assert sum(isinstance(m, nn.BatchNorm3d) for m in network.modules()) == norms
    assert not any(isinstance(m, nn.BatchNorm3d) for m in ours.traced.modules())


@pytest.mark.slow
@pytest.mark.parametrize(
    "build", [lambda: load_backbone("mobilenetv2_0.2x", weights="random"), lambda: Small(used_twice)], ids="ab"
)
def test_the_backbone_is_left_as_it_is(build):
    network = build()  # of the second not every module is replaced by another
    state, pixels = copy.deepcopy(network.state_dict()), pixels_for(network, frames=4)
    with torch.inference_mode():
        before = plain_map(network, pixels)
        folded(network, dtype=torch.bfloat16)(pixels)
        assert_bitwise_equal(plain_map(network, pixels), before)
    assert network.state_dict().keys() == state.keys()
    for name, values in network.state_dict().items():
        assert values.stride() == state[name].stride()
        assert_bitwise_equal(values, state[name])


@pytest.mark.parametrize(
    ("path", "modules"), [*((path, {}) for path in PATHS), *KINDS.values()], ids=[*(p.__name__ for p in PATHS), *KINDS]
)
def test_networks_of_every_shape_are_the_same_function(path, modules):
    torch.manual_seed(0)
    network = Small(path, **modules)
    pixels = pixels_for(network, frames=3)
    with torch.inference_mode():
        ours, expected = folded(network), plain_map(network, pixels)
        assert relative_error(ours(pixels), expected) < FLOAT32_FORWARD


def test_hooks_are_obeyed():
    torch.manual_seed(0)
    network = Small(plain)
    network.b.register_forward_hook(lambda *seen: seen[2] * 2)
    network.c.register_forward_pre_hook(lambda *seen: (seen[1][0] + 1,))
    pixels = pixels_for(network, frames=2)
    with torch.inference_mode():
        assert relative_error(folded(network)(pixels), plain_map(network, pixels)) < FLOAT32_FORWARD


def branching(m, x):
    return m.a(x) if x.mean() > 0 else m.a(-x)


def failing(m, x):
    raise KeyError("its own words")


def without_convolutions(m, x):
    return x.relu()


@pytest.mark.parametrize(
    ("path", "modules", "said"),
    [
        (branching, {}, "cannot be traced"),
        (without_convolutions, {}, "no network of convolutions alone"),
        (lambda m, x: m.layer(m.a(x)), {"layer": nn.LayerNorm(6)}, "no network of convolutions alone"),
        (failing, {}, "cannot be traced: 'its own words'"),
    ],
)
def test_other_networks_are_refused(path, modules, said):
    with pytest.raises(ValueError, match=said):
        folded(Small(path, **modules))
