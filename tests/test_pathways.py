"""Slow-R50, SlowFast-R50 and R(2+1)D-R50: the original code's numbers, folding, clips, weights and what they say."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from compare import FLOAT32_FORWARD, FLOAT64_FORWARD, assert_bitwise_equal, relative_error
from torch import nn

from gcf.errors import UsageError, WeightsError
from gcf.extract.backbones import load_backbone
from gcf.extract.backbones.loading import build_network
from gcf.extract.backbones.normalise import Normalise
from gcf.extract.backbones.published import class_names, find_weights
from gcf.extract.backbones.registry import find_backbone
from gcf.extract.backbones.slowfast import slow_frames, slow_numbers
from gcf.extract.backbones.temporal import remove_temporal_stride, temporal_stride_layers
from gcf.extract.complexity import backbone_complexity
from gcf.extract.network.clip_network import ClipNetwork
from gcf.extract.network.conversion import ModelNames, obtain_conversion
from gcf.extract.network.folding import FoldedNetwork
from gcf.extract.network.openvino_map import OpenVinoMap
from gcf.extract.network.precision import WORST_COSINE
from gcf.extract.weights.checkpoints import load_strictly

pytestmark = pytest.mark.processor

NAMES = ("slow_r50", "slowfast_r50", "r2plus1d_r50")
URL = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/"
FILES = {"slow_r50": "SLOW_8x8_R50.pyth", "slowfast_r50": "SLOWFAST_8x8_R50.pyth"}
FILES |= {"r2plus1d_r50": "R2PLUS1D_16x4_R50.pyth"}
CPU = torch.device("cpu")


def script():
    """scripts/pytorchvideo_references.py, for the numbers that it draws."""
    path = Path(__file__).parents[1] / "scripts" / "pytorchvideo_references.py"
    spec = importlib.util.spec_from_file_location("pytorchvideo_references", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = script()


@pytest.fixture(scope="module")
def references():
    with np.load(Path(__file__).parent / "references" / "pytorchvideo.npz") as file:
        return dict(file)


def empty_network(name, num_classes=400):
    with torch.device("meta"):
        return build_network(find_backbone(name), num_classes=num_classes).eval()


@pytest.fixture(scope="module", params=NAMES)
def network(request):
    """A network of the drawn weights that the originals ran with, on small frames."""
    made = empty_network(request.param)
    state = SCRIPT.drawn_state({name: tuple(values.shape) for name, values in made.state_dict().items()})
    load_strictly(made, state, source=request.param)
    made.recipe = {"name": request.param, **find_weights(request.param, "kinetics400").pixels.recipe(), "crop": 64}
    return made.eval()


def small_pixels(network, *, count=2):
    frames = 4 if network.recipe["name"] == "slow_r50" else 8
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, frames, 64, 64, 3), dtype=torch.uint8, generator=generator)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_names_shapes_and_counts_are_those_of_the_originals(name, references):
    lines = references[f"{name}.tensors"].tobytes().decode().splitlines()
    expected = {line.split()[0]: tuple(map(int, line.split()[1:])) for line in lines}
    made = empty_network(name)
    assert {key: tuple(values.shape) for key, values in made.state_dict().items()} == expected
    frames, size = SCRIPT.TRAINED[name]
    cost = backbone_complexity(name, num_frames=frames, size=size)
    assert [cost.params, cost.macs] == references[f"{name}.counts"].tolist()
    assert {module.eps for module in made.modules() if isinstance(module, nn.BatchNorm3d)} == {1e-5}


# pytorchvideo docs/source/model_zoo.md: millions of parameters, and "Flops (G)", which are MACs, of crops of 256. It
# prints 76.45 for R(2+1)D, whose own code has 75.15
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "frames", "parameters", "macs"), [("slow_r50", 8, 32.45, 54.52), ("slowfast_r50", 32, 34.57, 65.71)]
)
def test_parameters_and_macs_are_the_published_ones(name, frames, parameters, macs):
    cost = backbone_complexity(name, num_frames=frames, size=256)
    assert (round(cost.params / 1e6, 2), round(cost.macs / 1e9, 2)) == (parameters, macs)


def errors(network, references, which):
    name = network.recipe["name"]
    clips = SCRIPT.drawn_clips(name, which)
    with torch.inference_mode():
        descriptor = network.descriptor(network.feature_map(clips))
        found = {"descriptor": descriptor, "logits": network.classify(descriptor)}
    assert {str(references[f"{name}.{which}.{what}"].dtype) for what in found} == {str(clips.dtype)[6:]}
    return [relative_error(values, references[f"{name}.{which}.{what}"]) for what, values in found.items()]


@pytest.mark.slow
def test_descriptors_and_logits_are_the_originals_in_float32(network, references):
    assert max(errors(network, references, "square")) < FLOAT32_FORWARD


@pytest.mark.slow
def test_descriptors_and_logits_are_the_originals_in_float64_on_a_rectangle(network, references):
    try:
        assert max(errors(network.double(), references, "rectangle")) < FLOAT64_FORWARD
    finally:
        network.float()  # their values were float32: they are again what they were


@pytest.mark.slow
def test_the_folded_network_gives_the_same_map_with_every_norm_folded(network):
    pixels = small_pixels(network)
    with torch.inference_mode():
        expected = network.feature_map(Normalise(network.recipe)(pixels))
        folded = FoldedNetwork(network, dtype=torch.float32, device=CPU)
        assert relative_error(folded(pixels), expected) < 2 * FLOAT32_FORWARD  # other weights, other sums
        assert not any(isinstance(module, nn.BatchNorm3d) for module in folded.traced.modules())


@pytest.mark.slow
def test_in_bfloat16_descriptors_point_where_they_pointed(network):
    exact, fast = (
        ClipNetwork(network, device=CPU, precision=precision, batch_size=2) for precision in ("fp32", "bf16")
    )
    found = [torch.from_numpy(each(small_pixels(network).numpy())[0]) for each in (exact, fast)]
    assert torch.nn.functional.cosine_similarity(*found).min() > WORST_COSINE


def test_the_slow_pathway_takes_the_documented_frames_each_out_of_its_four():
    for frames in range(4, 132, 4):
        numbers = torch.arange(float(frames)).view(1, 1, -1, 1, 1).expand(2, 3, -1, 2, 1)
        taken = slow_frames(numbers)
        assert taken.shape == (2, 3, frames // 4, 2, 1)
        assert (taken == taken[:1, :1, :, :1]).all()
        chosen = taken[0, 0, :, 0, 0].long().tolist()
        assert chosen == torch.linspace(0, frames - 1, frames // 4).long().tolist()
        assert [number // 4 for number in chosen] == list(range(frames // 4))


@pytest.mark.slow
@pytest.mark.parametrize("frames", [1, 3, 6, 13])
def test_slowfast_refuses_a_number_of_frames_that_is_no_multiple_of_four(frames):
    with pytest.raises(UsageError, match=rf"SlowFast takes clips of 4, 8, 12, \.\.\. frames, not of {frames}: choose"):
        empty_network("slowfast_r50").feature_map(torch.empty(1, 3, frames, 64, 64, device="meta"))


@pytest.mark.slow
def test_a_folded_slowfast_takes_and_refuses_what_the_network_does():
    network = load_backbone("slowfast_r50", weights="random")
    folded = FoldedNetwork(network, dtype=torch.float32, device=CPU)
    with torch.inference_mode():
        assert folded(torch.zeros(1, 4, 32, 32, 3, dtype=torch.uint8)).shape == (1, 2304, 4, 1, 1)
        with pytest.raises(UsageError, match=r"not of 6"):
            folded(torch.zeros(1, 6, 32, 32, 3, dtype=torch.uint8))


@pytest.mark.slow
def test_slowfasts_map_is_the_slow_one_every_frame_four_times_beside_the_fast_one():
    network = load_backbone("slowfast_r50", weights="random")
    with torch.inference_mode():
        feature_map = network.feature_map(torch.randn(1, 3, 8, 64, 64))
    slow, fast = feature_map.split((2048, 256), dim=1)
    for offset in (1, 2, 3):
        assert_bitwise_equal(slow[:, :, offset::4].contiguous(), slow[:, :, ::4].contiguous())
        assert (fast[:, :, offset::4] != fast[:, :, ::4]).any()
    assert (slow[:, :, 0] != slow[:, :, 4]).any()


def test_only_r2plus1d_has_strides_to_take_out_and_slowfasts_stay():
    layers = temporal_stride_layers(empty_network("r2plus1d_r50"))
    assert sorted(layers) == [
        f"blocks.{stage}.res_blocks.0.{layer}"
        for stage in (3, 4)
        for layer in ("branch1_conv", "branch2.conv_b.conv_t")
    ]
    assert temporal_stride_layers(empty_network("slow_r50")) == {}
    with pytest.raises(UsageError, match="its slow pathway is made of every fourth frame"):
        load_backbone("slowfast_r50", weights="random", temporal_stride="none")


@pytest.mark.slow
def test_without_strides_r2plus1d_looks_at_the_same_frames_where_it_looked():
    network = load_backbone("r2plus1d_r50", weights="random")
    clips = torch.randn(1, 3, 8, 32, 32)
    with torch.inference_mode():
        before = network.blocks[3].res_blocks[0](
            between := network.blocks[2](network.blocks[1](network.blocks[0](clips)))
        )
        remove_temporal_stride(network)
        assert relative_error(network.blocks[3].res_blocks[0](between)[:, :, ::2], before) < FLOAT32_FORWARD


# frames x stride and top-1: pytorchvideo docs/source/model_zoo.md; short side and crop: facebookresearch/SlowFast
# configs/Kinetics/pytorchvideo/*.yaml
@pytest.mark.parametrize(
    ("name", "clip", "top1"),
    [("slow_r50", (8, 8), 74.58), ("slowfast_r50", (32, 2), 76.94), ("r2plus1d_r50", (16, 4), 76.01)],
)
def test_weights_bring_the_pixels_clips_and_accuracy_that_were_published(name, clip, top1):
    spec = find_weights(name, "kinetics400")
    recipe = spec.pixels.recipe()
    assert spec.source.urls == (URL + FILES[name],)
    assert (recipe["channel_order"], recipe["pixel_max"], recipe["resize_rule"]) == ("RGB", 1.0, "torchvision")
    assert (recipe["mean"], recipe["std"]) == ([0.45] * 3, [0.225] * 3)
    assert (recipe["resize"], recipe["crop"], recipe["num_frames"]) == (256, 224, clip[0])
    assert spec.pixels.frame_rate * clip[1] == 30
    assert 100 * spec.top1 == pytest.approx(top1)
    assert spec.class_names() == class_names("kinetics400")


@pytest.mark.slow
def test_a_published_file_brings_its_recipe_and_any_number_of_classes(tmp_path, network):
    name, state = network.recipe["name"], network.state_dict()
    few = {key: values[:7] if ".proj." in key else values for key, values in state.items()}
    published, own = tmp_path / FILES[name], tmp_path / "mine.pyth"
    torch.save({"model_state": state, "cfg": "text", "epoch": 196}, published)
    torch.save({"model_state": few}, own)
    loaded = load_backbone(name, weights=published)
    assert loaded.recipe["classes"] == class_names("kinetics400")
    assert loaded.recipe["num_frames"] == SCRIPT.TRAINED[name][0]
    for key, values in loaded.state_dict().items():
        assert_bitwise_equal(values, state[key])
    ours = load_backbone(name, weights=own)
    assert (ours.recipe["classes"], ours.blocks[-1].proj.out_features) == (None, 7)


@pytest.mark.slow
def test_a_file_that_lacks_or_adds_a_tensor_is_refused_with_its_name(tmp_path, network):
    name, file = network.recipe["name"], tmp_path / "mine.pyth"
    state = network.state_dict()
    gone = next(key for key in state if key.endswith("norm_b.running_var"))
    torch.save({"model_state": {key: values for key, values in state.items() if key != gone}}, file)
    with pytest.raises(WeightsError, match=rf"1 missing \({gone}\)"):
        load_backbone(name, weights=file)
    torch.save({"model_state": state | {"blocks.9.proj.weight": torch.zeros(2)}}, file)
    with pytest.raises(WeightsError, match=r"1 not of this network \(blocks.9.proj.weight\)"):
        load_backbone(name, weights=file)


def test_the_slow_pathway_sees_the_frames_that_the_original_sees():
    for frames in range(4, 2049, 4):
        assert slow_numbers(frames) == torch.linspace(0, frames - 1, frames // 4).long().tolist()


@pytest.mark.slow
def test_another_runtime_sees_the_same_frames():
    names = ModelNames("slowfast_r50", "random", "trained")
    backbone = load_backbone("slowfast_r50", "random")
    backbone.recipe["crop"] = 64
    kept = obtain_conversion(backbone, names, (1, 32, 64, 64))
    made = OpenVinoMap(kept.model, backbone.recipe, precision="fp32", streams=1)
    clips = np.random.default_rng(0).integers(0, 256, (1, 32, 64, 64, 3), dtype=np.uint8)
    plain = ClipNetwork(backbone, device=torch.device("cpu"), precision="fp32", batch_size=1)
    assert relative_error(made(clips), plain.feature_map(clips)) < FLOAT32_FORWARD
