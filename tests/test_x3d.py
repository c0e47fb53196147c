"""X3D: sizes and costs as published, the real XS weights of the plug-in, the folded network, and what weights say."""

import pytest
import torch
from compare import FLOAT32_FORWARD, relative_error
from torch import nn

from gcf.extract.backbones import list_backbones, load_backbone
from gcf.extract.backbones.loading import build_network
from gcf.extract.backbones.normalise import Normalise
from gcf.extract.backbones.published import class_names, find_weights, list_weights
from gcf.extract.backbones.registry import find_backbone
from gcf.extract.backbones.temporal import temporal_stride_layers
from gcf.extract.backbones.x3d import SqueezeExcite, X3DBottleneck
from gcf.extract.complexity import backbone_complexity
from gcf.extract.network.clip_network import ClipNetwork
from gcf.extract.network.folding import FoldedNetwork
from gcf.extract.weights.checkpoints import load_strictly

pytestmark = pytest.mark.processor

NAMES = ("x3d_xs", "x3d_s", "x3d_m", "x3d_l")
URL = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/"


def empty_network(name, num_classes=400):
    with torch.device("meta"):
        return build_network(find_backbone(name), num_classes=num_classes).eval()


@pytest.fixture(scope="module")
def small():
    """X3D-S with random weights and norms that have seen something, on clips of 5 frames of 64 x 64 pixels."""
    network = load_backbone("x3d_s", weights="random")
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_(std=0.1, generator=generator)
            module.running_var.uniform_(0.8, 1.25, generator=generator)
            module.bias.normal_(std=0.1, generator=generator)
    network.recipe["crop"] = 64
    return network


@pytest.fixture(scope="module")
def pixels():
    return torch.randint(0, 256, (2, 5, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


# Frames, crop, millions of parameters (pytorchvideo docs/source/model_zoo.md), and "FLOPs (G)", which are MACs, of one
# crop (facebookresearch/SlowFast MODEL_ZOO.md), equal to one unit of the last digit
PUBLISHED_COSTS = {
    "x3d_xs": (4, 160, 3.79, 0.60),
    "x3d_s": (13, 160, 3.79, 1.96),
    "x3d_m": (16, 224, 3.79, 4.73),
    "x3d_l": (16, 312, 6.15, 18.37),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_parameters_and_macs_are_the_published_ones(name):
    frames, size, parameters, macs = PUBLISHED_COSTS[name]
    cost = backbone_complexity(name, num_frames=frames, size=size)
    assert (round(cost.params / 1e6, 2), cost.macs / 1e9) == (parameters, pytest.approx(macs, abs=0.01))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "depths"), [*((name, [3, 5, 11, 7]) for name in NAMES[:3]), ("x3d_l", [5, 10, 25, 15])]
)
def test_depths_follow_the_published_factors_and_every_second_block_squeezes_and_excites(name, depths):
    stages = empty_network(name).blocks[1:-1]
    assert [len(stage.res_blocks) for stage in stages] == depths
    excites = [
        [any(isinstance(m, SqueezeExcite) for m in block.modules()) for block in stage.res_blocks] for stage in stages
    ]
    assert excites == [[n % 2 == 0 for n in range(depth)] for depth in depths]


def mapped(plugin):
    """A network with the plug-in's weights, in whose biases the norms went up: its norms only add those."""
    network = empty_network("x3d_xs")
    state, eps = {}, nn.BatchNorm3d(1).eps

    def put(convolution, norm, source, extra=0.0):
        state[f"{convolution}.weight"] = plugin[f"{source}.weight"]
        bias = plugin[f"{source}.bias"] + extra
        values = {"weight": torch.ones_like(bias), "bias": bias, "running_mean": torch.zeros_like(bias)}
        values["running_var"] = torch.full_like(bias, 1 - eps)
        state.update({f"{norm}.{key}": value for key, value in values.items()})

    state["blocks.0.conv.conv_t.weight"] = plugin["stem_xy.weight"]
    put("blocks.0.conv.conv_xy", "blocks.0.norm", "stem_t")
    blocks = [name for name, module in network.named_modules() if isinstance(module, X3DBottleneck)]
    for index, ours in enumerate(blocks):
        theirs, block = f"blocks.{index}", ours.removesuffix(".branch2")
        shortcut = f"{theirs}.short.bias" in plugin
        moved = shortcut and f"{block}.branch1_norm.weight" not in network.state_dict()  # no norm there: add it here
        put(f"{ours}.conv_a", f"{ours}.norm_a", f"{theirs}.conv_a")
        put(f"{ours}.conv_b", f"{ours}.norm_b.0", f"{theirs}.conv_b")
        put(f"{ours}.conv_c", f"{ours}.norm_c", f"{theirs}.conv_c", plugin[f"{theirs}.short.bias"] if moved else 0.0)
        if moved:
            state[f"{block}.branch1_conv.weight"] = plugin[f"{theirs}.short.weight"]
        elif shortcut:
            put(f"{block}.branch1_conv", f"{block}.branch1_norm", f"{theirs}.short")
        for part, layer in (("0", "fc1"), ("2", "fc2")) if f"{theirs}.se.fc1.bias" in plugin else ():
            excite = f"{ours}.norm_b.1.block.{part}"
            state[f"{excite}.weight"] = plugin[f"{theirs}.se.{layer}.weight"][:, :, None, None, None]
            state[f"{excite}.bias"] = plugin[f"{theirs}.se.{layer}.bias"]
    put("blocks.5.pool.pre_conv", "blocks.5.pool.pre_norm", "conv5")
    state["blocks.5.pool.post_conv.weight"] = plugin["lin5.weight"]
    state |= {f"blocks.5.proj.{part}": plugin[f"proj.{part}"] for part in ("weight", "bias")}
    load_strictly(network, {name: tensor.detach() for name, tensor in state.items()}, source="the plug-in's weights")
    return network


@pytest.mark.slow
def test_the_real_weights_of_the_plug_in_fit_strictly_and_give_its_outputs(real):
    plugin = load_backbone(real / "x3d_xs" / "x3d_xs.py")
    network = mapped(plugin.state_dict())
    clips = torch.randn(2, 3, 4, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        theirs, ours = plugin.feature_map(clips), network.feature_map(clips)
        assert relative_error(ours, theirs) < FLOAT32_FORWARD
        theirs, ours = plugin.descriptor(theirs), network.descriptor(ours)
        assert relative_error(ours, theirs) < FLOAT32_FORWARD
        assert relative_error(network.classify(ours), plugin.classify(theirs)) < FLOAT32_FORWARD
    assert theirs.std() > 0.01


def test_the_descriptor_is_the_projected_mean_of_the_map_not_the_mean_of_projected_positions(small):
    feature_map = torch.rand(2, 432, 3, 4, 5, generator=torch.Generator().manual_seed(0)) - 0.5
    projection = small.blocks[5].pool.post_conv.weight[:, :, 0, 0, 0]
    with torch.inference_mode():
        expected = (feature_map.flatten(2).mean(dim=2) @ projection.T).relu()
        assert relative_error(small.descriptor(feature_map), expected) < 1e-5  # the same sums in another order


@pytest.mark.slow
def test_the_folded_network_gives_the_feature_maps_of_the_plain_one(small, pixels):
    with torch.inference_mode():
        folded = FoldedNetwork(small, dtype=torch.float32, device=torch.device("cpu"))
        expected = small.feature_map(Normalise(small.recipe)(pixels))
        assert relative_error(folded(pixels), expected) < FLOAT32_FORWARD
    assert not any(isinstance(module, nn.BatchNorm3d) for module in folded.traced.modules())


@pytest.mark.slow
def test_in_bfloat16_descriptors_point_where_they_pointed(small, pixels):
    exact, fast = (
        ClipNetwork(small, device=torch.device("cpu"), precision=precision, batch_size=2)(pixels.numpy())[0]
        for precision in ("fp32", "bf16")
    )
    assert torch.nn.functional.cosine_similarity(*map(torch.from_numpy, (exact, fast))).min() > 0.999


@pytest.mark.slow
def test_there_is_no_stride_in_time_to_take_out():
    assert all(temporal_stride_layers(empty_network(name)) == {} for name in NAMES)
    plain, without = (load_backbone("x3d_xs", weights="random", temporal_stride=each) for each in ("trained", "none"))
    assert without.recipe == plain.recipe | {"temporal_stride": "none"}
    clips = torch.randn(1, 3, 4, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(without(clips), plain(clips), rtol=0, atol=0)


@pytest.mark.slow
def test_random_descriptors_of_the_deepest_can_be_stored_in_float16_and_do_not_vanish():
    network = load_backbone("x3d_l", weights="random")
    with torch.inference_mode():
        descriptor = network.descriptor(network.feature_map(torch.randn(1, 3, 4, 64, 64))).half()
    assert torch.isfinite(descriptor).all()
    assert descriptor.float().std() > 0.01


# issue: trained frames x stride; the short side and crop: facebookresearch/SlowFast configs/Kinetics/pytorchvideo
@pytest.mark.parametrize(
    ("name", "resize", "crop", "clip", "top1"),
    [
        ("x3d_xs", 182, 160, (4, 12), 69.12),
        ("x3d_s", 182, 160, (13, 6), 73.33),
        ("x3d_m", 256, 224, (16, 5), 75.94),
        ("x3d_l", 356, 312, (16, 5), 77.44),
    ],
)
def test_weights_bring_the_pixels_clips_and_accuracy_that_were_published(name, resize, crop, clip, top1):
    spec = find_weights(name, "kinetics400")
    recipe = spec.pixels.recipe()
    assert spec.source.urls == (f"{URL}{name.upper()}.pyth",)
    assert (recipe["channel_order"], recipe["pixel_max"], recipe["resize_rule"]) == ("RGB", 1.0, "torchvision")
    assert (recipe["mean"], recipe["std"]) == ([0.45] * 3, [0.225] * 3)
    assert (recipe["resize"], recipe["crop"], recipe["num_frames"]) == (resize, crop, clip[0])
    assert spec.pixels.frame_rate * clip[1] == 30
    assert 100 * spec.top1 == pytest.approx(top1)
    assert spec.class_names() == class_names("kinetics400")


def test_all_four_are_listed_with_weights_that_download_by_themselves():
    backbones = {info.name: (info.weights, info.stride_stays) for info in list_backbones()}
    weights = {info.backbone: (info.file, info.origin) for info in list_weights()}
    for name in NAMES:
        assert backbones[name] == (("kinetics400",), "")
        assert weights[name] == (f"{name.upper()}.pyth", "direct")


@pytest.mark.slow
def test_a_published_file_brings_its_recipe_and_any_number_of_classes(tmp_path, small):
    state = {name: tensor[:7] if ".proj." in name else tensor for name, tensor in small.state_dict().items()}
    published, own = tmp_path / "X3D_S.pyth", tmp_path / "mine.pyth"
    torch.save({"model_state": small.state_dict(), "cfg": "text", "epoch": 300}, published)
    torch.save({"model_state": state}, own)
    recipe = load_backbone("x3d_s", weights=published).recipe
    assert (recipe["classes"], recipe["num_frames"]) == (class_names("kinetics400"), 13)
    network = load_backbone("x3d_s", weights=own)
    assert (network.recipe["classes"], network.blocks[5].proj.out_features) == (None, 7)
