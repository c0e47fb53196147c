"""The rewritten network against the backbone it was made from: the same function, and the backbone as it was."""

import copy

import pytest
import torch
from compare import FLOAT32_FORWARD, assert_bitwise_equal, relative_error
from torch import nn
from torch.nn import functional as F
from torchvision.models.video.resnet import Conv3DNoTemporal, Conv3DSimple

from gcf.extract.backbones import load_backbone
from gcf.extract.convolution import FusedConvolution
from gcf.extract.folding import FoldedNetwork
from gcf.extract.normalise import Normalise

RECIPE = {
    "crop": [16, 12],
    "channel_order": "BGR",
    "pixel_max": 1.0,
    "mean": [0.43, 0.39, 0.35],
    "std": [0.22, 0.31, 0.27],
}


def folded(network, *, fuse=True, dtype=torch.float32):
    return FoldedNetwork(network, dtype=dtype, device=torch.device("cpu"), fuse=fuse)


def pixels_for(network, *, frames, count=2):
    crop = network.recipe["crop"]
    size = (crop, crop) if isinstance(crop, int) else crop
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, frames, *size, 3), dtype=torch.uint8, generator=generator)


def plain_map(network, pixels):
    return network.feature_map(Normalise(network.recipe)(pixels))


def fused(network):
    """(what it adds, its activation) of every fused convolution."""
    modules = network.traced.modules()
    return sorted((m.adds, m.activation[0]) for m in modules if isinstance(m, FusedConvolution))


# frames, how many norms there are to fold, how many additions
FAMILIES = {
    "mobilenetv2_0.2x": (6, 52, 10),
    "shufflenetv2_0.25x": (6, 56, 0),
    "r3d_18": (2, 20, 8),
    "s3d": (2, 77, 0),
    "r2plus1d_50": (2, 70, 16),
    "resnext101": (2, 104, 33),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_gives_the_feature_maps_it_gave(name):
    frames, norms, additions = FAMILIES[name]
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
    assert not any(isinstance(m, nn.BatchNorm3d | nn.Conv3d) for m in ours.traced.modules() if not is_inside(m, ours))
    assert len(fused(ours)) == norms
    assert sum(bool(adds) for adds, _ in fused(ours)) == additions
    assert ours.blocks is not None


def is_inside(module, network):
    return any(module is m.convolution for m in network.traced.modules() if isinstance(m, FusedConvolution))


def test_the_backbone_is_left_as_it_is():
    network = load_backbone("mobilenetv2_0.2x", weights="random")
    state, pixels = copy.deepcopy(network.state_dict()), pixels_for(network, frames=4)
    with torch.inference_mode():
        before = plain_map(network, pixels)
        folded(network, dtype=torch.bfloat16)(pixels)
        assert_bitwise_equal(plain_map(network, pixels), before)
    assert network.state_dict().keys() == state.keys()
    for name, values in network.state_dict().items():
        assert values.stride() == state[name].stride()
        assert_bitwise_equal(values, state[name])
    assert not any(isinstance(module, FusedConvolution) for module in network.modules())


class Small(nn.Module):
    """Three convolutions of 8 channels and a norm, put together by `path`."""

    def __init__(self, path=None, **modules):
        super().__init__()
        self.recipe, self.path = RECIPE, path
        self.a = nn.Conv3d(3, 8, 3, (1, 2, 2), 1)
        self.b, self.c = (nn.Conv3d(8, 8, 3, padding=1) for _ in range(2))
        self.norm = nn.BatchNorm3d(8)
        for name, module in modules.items():
            self.add_module(name, module)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm3d) and module.track_running_stats:
                nn.init.uniform_(module.running_var, 0.5, 2)
                nn.init.normal_(module.running_mean)
        self.eval().requires_grad_(False)

    def feature_map(self, clips):
        return self.path(self, clips)


def plain(m, x):
    return m.c(m.b(m.a(x)))


def read_again_through_a_view(m, x):
    skipped = m.a(x)
    half = skipped.chunk(2, dim=1)[0]
    return torch.cat([m.b(skipped) + skipped, half], dim=1)


def read_again_later(m, x):
    skipped = m.a(x)
    return (m.b(skipped) + skipped) * skipped


def read_by_two(m, x):
    both = m.a(x)
    return m.b(both).relu() - m.norm(both)


def used_twice(m, x):
    x = m.a(x)
    return m.b(F.relu(m.norm(m.b(x)))) + x


def norm_used_twice(m, x):
    return m.norm(m.b(m.norm(m.a(x))))


def changed_between(m, x):
    skipped = m.a(x)
    y = m.b(skipped)
    F.relu(skipped, inplace=True)
    return y + skipped


def changed_under_another_name(m, x):
    kept = out = m.a(x)
    out += m.b(out * 1)
    return out + kept * 2


def changed_through_a_view(m, x):
    kept = m.a(x).relu()
    part = kept[:, :8]
    part += m.b(kept * 1)
    part *= 2
    return kept


def asked_by_keyword(m, x):
    x = m.a(input=x)
    return F.relu(x + m.b(input=x))


def weights_read(m, x):
    x = m.a(x)
    return m.norm(m.b(x)) + F.conv3d(x, m.b.weight, padding=1)


def added_twice(m, x):
    x = m.a(x)
    return F.relu(m.c(x) + F.relu(m.b(x) + x))


def residual(m, x):
    x = m.a(x)
    y = m.norm(m.c(F.relu(m.norm(m.b(x)), inplace=True)))
    y += x
    return torch.relu(y)


def added_to_itself(m, x):
    x = m.a(x)
    return x + x


def added_with_a_factor(m, x):
    x = m.a(x)
    return torch.add(x, m.b(x), alpha=3) + 0.5


def read_twice_at_once(m, clips):
    return m.a(clips) + clips.mean()


def through_pictures(m, x):
    return m.picture(m.a(x).mean(2)).unsqueeze(2)


def six_after_addition(m, x):
    x = m.a(x)
    return m.act(m.b(x) * 1 + x) + m.act(x + m.c(x))


PATHS = [
    *(plain, read_again_through_a_view, read_again_later, read_by_two, used_twice, norm_used_twice, changed_between),
    *(changed_under_another_name, changed_through_a_view, asked_by_keyword, weights_read, added_twice, added_to_itself),
    *(residual, added_with_a_factor, read_twice_at_once),
]
KINDS = {
    "reflected": (plain, {"b": nn.Conv3d(8, 8, 3, padding=1, padding_mode="replicate")}),
    "named padding": (plain, {"b": nn.Conv3d(8, 8, 3, padding="same")}),
    "dilated": (used_twice, {"b": nn.Conv3d(8, 8, 3, padding=2, dilation=2)}),
    "first layer of stride 1": (plain, {"a": nn.Conv3d(3, 8, 3, 1, 1)}),
    "no statistics": (norm_used_twice, {"norm": nn.BatchNorm3d(8, track_running_stats=False)}),
    "no affine": (norm_used_twice, {"norm": nn.BatchNorm3d(8, affine=False)}),
    "torchvision's": (plain, {"b": Conv3DSimple(8, 8), "c": Conv3DNoTemporal(8, 8)}),
    "pictures": (through_pictures, {"picture": nn.Conv2d(8, 8, 3)}),
    "ReLU6": (six_after_addition, {"act": nn.ReLU6()}),
    "SiLU": (six_after_addition, {"act": nn.SiLU()}),
}


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize(
    ("path", "modules"), [*((path, {}) for path in PATHS), *KINDS.values()], ids=[*(p.__name__ for p in PATHS), *KINDS]
)
def test_networks_of_every_shape_are_the_same_function(path, modules, fuse):
    torch.manual_seed(0)
    network = Small(path, **modules)
    pixels = pixels_for(network, frames=3)
    with torch.inference_mode():
        ours, expected = folded(network, fuse=fuse), plain_map(network, pixels)
        for _ in range(2):  # the first time weights are packed
            assert relative_error(ours(pixels), expected) < FLOAT32_FORWARD


def test_hooks_are_obeyed():
    torch.manual_seed(0)
    network = Small(plain)
    network.b.register_forward_hook(lambda module, given, found: found * 2)
    network.c.register_forward_pre_hook(lambda module, given: (given[0] + 1,))
    pixels = pixels_for(network, frames=2)
    with torch.inference_mode():
        assert relative_error(folded(network)(pixels), plain_map(network, pixels)) < FLOAT32_FORWARD


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (plain, [("", "none")] * 3),
        (read_again_through_a_view, [("", "none"), ("beside", "none")]),
        (read_again_later, [("", "none"), ("beside", "none")]),
        (added_twice, [("", "none"), ("", "none"), ("beside", "relu")]),
        (residual, [("", "none"), ("", "relu"), ("over", "relu")]),
        (lambda m, x: F.relu(m.norm(m.b(m.a(x)))), [("", "none"), ("", "relu")]),
    ],
)
def test_what_can_be_fused_is(path, expected):
    assert fused(folded(Small(path))) == expected


@pytest.mark.parametrize("size", [15, [16, 13]])
def test_frames_of_an_odd_size_are_read_as_clips(size):
    network = Small(plain)
    network.recipe = RECIPE | {"crop": size}
    ours, pixels = folded(network), pixels_for(network, frames=2)
    assert ours.blocks is None
    with torch.inference_mode():
        assert relative_error(ours(pixels), plain_map(network, pixels)) < FLOAT32_FORWARD


def branching(m, x):
    return m.a(x) if x.mean() > 0 else m.a(-x)


def without_convolutions(m, x):
    return x.relu()


@pytest.mark.parametrize(
    ("path", "modules", "said"),
    [
        (branching, {}, "cannot be traced"),
        (without_convolutions, {}, "no network of convolutions alone"),
        (lambda m, x: m.layer(m.a(x)), {"layer": nn.LayerNorm(6)}, "no network of convolutions alone"),
        (lambda m, x: 1 / 0, {}, "cannot be traced: division by zero"),
    ],
)
def test_other_networks_are_refused(path, modules, said):
    with pytest.raises(ValueError, match=said):
        folded(Small(path, **modules))
