"""The processor's convolutions against the modules they replace, and the first layer against normalised clips."""

import itertools
import math

import pytest
import torch
from compare import FLOAT32_FORWARD, assert_bitwise_equal, relative_error
from torch import nn
from torch.nn import functional as F
from torchvision.models.video.resnet import Conv2Plus1D, Conv3DNoTemporal, Conv3DSimple

from gcf.extract.convolution import ACTIVATIONS, FusedConvolution, fold_norm, is_convolution, widen_groups, with_weights
from gcf.extract.first_layer import PixelBlocks
from gcf.extract.normalise import Normalise

MEAN, STD = [0.43, 0.39, 0.35], [0.22, 0.31, 0.27]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    with torch.inference_mode():
        yield


def norm_of(width, **options):
    """A norm that has seen something."""
    norm = nn.BatchNorm3d(width, **options).eval()
    for values in (norm.running_mean, norm.weight, norm.bias):
        if values is not None:
            nn.init.normal_(values)
    nn.init.uniform_(norm.running_var, 0.3, 3)
    return norm


# inputs a group, outputs a group, groups, how many groups are left
GROUPED = [
    *((4, 4, 32, 4), (4, 2, 32, 4), (2, 6, 16, 1), (8, 3, 4, 1), (16, 16, 2, 1), (3, 5, 10, 1), (4, 4, 12, 2)),
    *((4, 3, 7, 1), (2, 2, 17, 17), (5, 4, 14, 7), (12, 1, 9, 9), (12, 2, 10, 5), (32, 4, 3, 3), (33, 2, 4, 4)),
    *((7, 7, 1, 1), (1, 1, 24, 24), (1, 3, 8, 8)),
]


@pytest.mark.parametrize(("each", "out", "groups", "left"), GROUPED)
@pytest.mark.parametrize("bias", [False, True])
def test_fewer_wider_groups_are_the_same_function(each, out, groups, left, bias):
    conv = nn.Conv3d(each * groups, out * groups, (1, 3, 2), (1, 2, 1), (0, 1, 1), groups=groups, bias=bias)
    before, clips = conv.weight.clone(), torch.randn(2, each * groups, 2, 5, 4)
    wide = widen_groups(conv)
    assert wide.groups == left
    assert (wide is conv) == (left == groups)
    assert wide.in_channels // wide.groups <= max(32, each)
    assert relative_error(wide(clips), conv(clips)) < FLOAT32_FORWARD
    assert relative_error(FusedConvolution(conv)(clips), conv(clips)) < FLOAT32_FORWARD
    assert_bitwise_equal(conv.weight, before)


def test_the_width_that_is_asked_for_bounds_the_groups():
    conv = nn.Conv3d(48, 24, 1, groups=12)  # 4 channels a group
    assert [widen_groups(conv, width).groups for width in (3, 4, 8, 20, 24, 48, 99)] == [12, 12, 6, 3, 2, 1, 1]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_one_convolution_does_what_a_convolution_and_its_norm_do(bias, affine):
    conv = nn.Conv3d(6, 8, 3, 2, (1, 0, 2), dilation=(1, 2, 1), groups=2, bias=bias)
    norm, clips = norm_of(8, affine=affine, eps=0.1), torch.randn(2, 6, 4, 9, 7)
    kept = [(m, {name: value.clone() for name, value in m.state_dict().items()}) for m in (conv, norm)]
    folded = fold_norm(conv, norm)
    assert folded.bias is not None
    assert not folded.weight.requires_grad
    assert relative_error(folded(clips), norm(conv(clips))) < FLOAT32_FORWARD
    for module, before in kept:
        for name, value in module.state_dict().items():
            assert_bitwise_equal(value, before[name])


def test_settings_that_are_not_changed_are_kept():
    conv = nn.Conv3d(6, 4, (1, 2, 3), (3, 2, 1), (0, 1, 2), (1, 2, 1), groups=2)
    made = with_weights(conv, conv.weight, None, stride=(1, 1, 1))
    assert (made.stride, made.padding, made.dilation, made.groups) == ((1, 1, 1), (0, 1, 2), (1, 2, 1), 2)
    assert (made.in_channels, made.out_channels, made.kernel_size, made.bias) == (6, 4, (1, 2, 3), None)


FUNCTIONS = {nn.ReLU: F.relu, nn.ReLU6: F.relu6, nn.SiLU: F.silu, None: lambda x: x}


@pytest.mark.parametrize(
    ("kind", "adds"), [*((kind, "") for kind in FUNCTIONS), *itertools.product((nn.ReLU, None), ("beside", "over"))]
)
@pytest.mark.parametrize("groups", [1, 4, 8])
def test_convolution_addition_and_activation_in_one_step(kind, adds, groups):
    conv, clips = nn.Conv3d(8, 8, 3, padding=1, groups=groups), torch.randn(2, 8, 3, 6, 5) * 8
    conv, clips = (each.to(memory_format=torch.channels_last_3d) for each in (conv, clips))
    other = (torch.randn(2, 8, 3, 6, 5) * 4).to(memory_format=torch.channels_last_3d)
    plain = conv(clips) + other if adds else conv(clips)
    assert plain.max() > 6  # else ReLU6 is not seen
    fused = FusedConvolution(conv, ACTIVATIONS[kind] if kind else ("none", ()), adds=adds)
    for _ in range(2):  # the first time weights are packed
        given, seen = other.clone(), clips.clone()
        found = fused(seen, given) if adds else fused(seen)
        assert relative_error(found, FUNCTIONS[kind](plain)) < FLOAT32_FORWARD
        assert_bitwise_equal(seen, clips)
        if adds == "over":
            assert found.data_ptr() == given.data_ptr()
        else:
            assert_bitwise_equal(given, other)


def test_torchvisions_convolutions_count_and_those_with_a_forward_of_their_own_do_not():
    class Halved(nn.Conv3d):
        def forward(self, x):
            return super().forward(x) / 2

    assert all(map(is_convolution, (nn.Conv3d(1, 1, 1), Conv3DSimple(4, 4), Conv3DNoTemporal(4, 4))))
    others = (Halved(1, 1, 1), Conv2Plus1D(4, 4, 9), nn.Conv2d(1, 1, 1), nn.ConvTranspose3d(1, 1, 1), None)
    assert not any(map(is_convolution, others))


def recipe(channel_order="RGB", pixel_max=1.0):
    scale = pixel_max if pixel_max > 1 else 1
    return {
        "channel_order": channel_order,
        "pixel_max": pixel_max,
        "mean": [scale * value for value in MEAN],
        "std": [scale * value for value in STD],
    }


def assert_reads_pixels_as(conv, settings, *, size=(2, 5, 12, 16)):
    pixels = torch.randint(0, 256, (*size, 3), dtype=torch.uint8)
    blocks = PixelBlocks(conv, settings)
    clips = blocks(pixels, torch.float32)
    assert clips.shape[:2] == (size[0], 16)
    assert relative_error(blocks.convolution(clips), conv(Normalise(settings)(pixels))) < FLOAT32_FORWARD


KERNELS = [(1, 7, 7), (3, 7, 7), (7, 7, 7), (3, 3, 3), (5, 5, 5), (1, 1, 1), (2, 4, 6), (3, 2, 5)]


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("padded", ["none", "half", "full"])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_first_layer_reads_pixels_as_it_reads_normalised_clips(kernel, padded, stride):
    reach = {"none": 0, "half": 2, "full": 1}[padded]
    padding = tuple(max(0, k - 1) // reach if reach else 0 for k in kernel)
    conv = nn.Conv3d(3, 6, kernel, (stride, 2, 2), padding)
    assert_reads_pixels_as(conv, recipe(), size=(2, 8, 12, 16))


@pytest.mark.parametrize("order", ["RGB", "BGR"])
@pytest.mark.parametrize("pixel_max", [1.0, 255.0])
@pytest.mark.parametrize("bias", [False, True])
def test_whatever_order_and_range_of_pixels_the_weights_want(order, pixel_max, bias):
    conv = nn.Conv3d(3, 6, (3, 7, 5), (1, 2, 2), (1, 3, 2), bias=bias)
    assert_reads_pixels_as(conv, recipe(order, pixel_max))


def test_every_pixel_value_and_one_frame_and_the_smallest_picture():
    conv, settings = nn.Conv3d(3, 4, (1, 3, 3), (1, 2, 2), (0, 1, 1)), recipe("BGR")
    assert_reads_pixels_as(conv, settings, size=(1, 1, 2, 2))
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16, 1).expand(-1, -1, -1, -1, 3).contiguous()
    blocks = PixelBlocks(conv, settings)
    found = blocks.convolution(blocks(pixels, torch.float32))
    assert relative_error(found, conv(Normalise(settings)(pixels))) < FLOAT32_FORWARD
    inside = blocks(pixels, torch.bfloat16)[:, :12, :, 1:, 1:].flatten().sort().values
    assert inside.tolist() == [value - 128 for value in range(256) for _ in range(3)]  # exact in bfloat16


def test_a_padded_border_is_what_zeros_are_after_normalising():
    settings = recipe(pixel_max=255.0)
    clips = PixelBlocks(nn.Conv3d(3, 4, 3, 2, 1), settings)(torch.zeros(1, 2, 4, 4, 3, dtype=torch.uint8), torch.float)
    for colour in range(3):
        border = clips[0, colour, 0, 0, 0].item()
        assert math.isclose(border, 255 * MEAN[colour] - 128, rel_tol=1e-4)
    assert not clips[:, 12:].any()


@pytest.mark.parametrize(
    ("channels", "options"),
    [
        (1, {}),
        (4, {}),
        (3, {"groups": 3}),
        (3, {"dilation": (1, 2, 1)}),
        (3, {"dilation": (2, 1, 1)}),
        (3, {"stride": 1}),
        (3, {"stride": (2, 2, 1)}),
        (3, {"stride": (1, 3, 3)}),
        (3, {"padding_mode": "replicate", "padding": 1}),
        (3, {"padding": "valid"}),
    ],
)
def test_first_layers_of_another_kind_are_refused(channels, options):
    conv = nn.Conv3d(channels, 6, 3, **{"stride": (1, 2, 2)} | options)
    with pytest.raises(ValueError, match=r"^not a (plain )?convolution"):
        PixelBlocks(conv, recipe())
