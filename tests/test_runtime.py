"""Who computes a network: OpenVINO where its descriptors are the published network's, PyTorch elsewhere."""

import shutil

import numpy as np
import pytest
import tiny_backbone
import torch
from compare import assert_bitwise_equal
from runtimes import CPU, NAMES, tiny_map, tiny_network
from stage_one import TINY, extract
from torch import nn

import gcf
from gcf.errors import RecipeError, UsageError
from gcf.extract.backbones.normalise import Normalise
from gcf.extract.network import openvino_map, precision
from gcf.extract.network.agreement import drawn_clips
from gcf.extract.network.clip_network import ClipNetwork
from gcf.extract.network.conversion import ModelNames
from gcf.head.models.saved import check_features

pytestmark = pytest.mark.processor

CLIPS = drawn_clips(4, 32, 5)


def published(backbone, clips):
    """Descriptors and logits step by step, one clip a pass."""
    with torch.inference_mode():
        batches = Normalise(backbone.recipe)(torch.from_numpy(clips)).split(1)
        descriptors = [backbone.descriptor(backbone.feature_map(batch)) for batch in batches]
        logits = [backbone.classify(descriptor) for descriptor in descriptors]
        return torch.cat(descriptors).numpy(), torch.cat(logits).numpy()


def rows(network, clips=CLIPS):
    size = network.batch_size
    found = [network(clips[n : n + size]) for n in range(0, len(clips), size)]
    return tuple(np.concatenate(each) for each in zip(*found, strict=True))


@pytest.mark.slow
def test_in_float32_openvino_computes_what_pytorch_computes(monkeypatch):
    monkeypatch.setattr(precision, "_multiplies_bf16", lambda: False)
    network, entries = tiny_network(precision="auto")
    assert entries == {
        "runtime": "openvino",
        "precision": "fp32",
        "folded": False,
        "batch_size": 1,
        "precision_cosine": None,
    }
    assert (network.runtime, network.precision, network.batch_size) == ("openvino", "fp32", 1)
    for ours, theirs in zip(rows(network), published(gcf.load_backbone(TINY), CLIPS), strict=True):
        assert ours.dtype == theirs.dtype == np.float32
        assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()


@pytest.mark.slow
def test_in_bfloat16_openvino_is_used_where_the_processor_multiplies_in_it(openvino_bf16, monkeypatch):
    monkeypatch.setattr(precision, "_multiplies_bf16", lambda: True)
    network, entries = tiny_network(precision="auto")
    assert (entries["runtime"], entries["precision"]) == ("openvino", "bf16")
    ours, theirs = rows(network)[0].astype(float), published(gcf.load_backbone(TINY), CLIPS)[0].astype(float)
    cosines = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert (ours != theirs).any()
    assert 0.999 <= entries["precision_cosine"] < 1
    assert cosines[:4].min() - entries["precision_cosine"] < 1.01e-5


def test_by_torch_in_float32_it_is_the_published_network_to_the_bit():
    network, entries = tiny_network(runtime="torch")
    assert (entries["runtime"], network.runtime, entries["precision"]) == ("torch", "torch", "fp32")
    for ours, theirs in zip(rows(network), published(gcf.load_backbone(TINY), CLIPS), strict=True):
        assert_bitwise_equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["fp32", "bf16"])
def test_neither_neighbours_nor_batches_nor_streams_change_a_bit(asked, request):
    if asked == "bf16":
        request.getfixturevalue("openvino_bf16")
    alone = tiny_map(precision=asked)
    expected = [alone(clip[None]).numpy()[0] for clip in CLIPS]
    for streams in (1, 2, 4):
        four = tiny_map(precision=asked, batch_size=4, streams=streams)
        for order in ([0, 1, 2, 3], [3, 4, 0, 1], [2, 2, 2, 4]):
            for found, clip in zip(four(CLIPS[order]).numpy(), order, strict=True):
                assert_bitwise_equal(found, expected[clip])


def test_a_maps_memory_is_its_own():
    map_of = tiny_map()
    first = map_of(CLIPS[:1])
    before = first.clone()
    map_of(CLIPS[1:2])
    assert_bitwise_equal(first, before)


@pytest.mark.slow
@pytest.mark.parametrize(
    "pixels",
    [
        {"channel_order": "BGR"},
        {"pixel_max": 255.0, "mean": [114.7748, 107.7354, 99.475], "std": [1.0, 1.0, 1.0]},
        {"channel_order": "BGR", "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.25, 0.125]},
    ],
)
def test_other_pixels_need_no_other_conversion(pixels, monkeypatch):
    network, _ = tiny_network()
    monkeypatch.setattr(precision, "obtain_conversion", lambda *_: pytest.fail("converted again"))
    fed = network.fed_by(pixels)
    assert fed.runtime == "openvino"
    backbone = gcf.load_backbone(TINY)
    backbone.recipe = backbone.recipe | pixels
    expected = published(backbone, CLIPS)[0]
    assert np.abs(rows(fed)[0] - expected).max() < 1e-5 * np.abs(expected).max()
    assert np.abs(rows(network)[0] - expected).max() > 0.01 * np.abs(expected).max()


class Transformer(tiny_backbone.Tiny):
    """Convolutions with a transformer's layer among them."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(24)


class WithoutConvolutions(nn.Module):
    """A network of one linear layer."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 24)

    def feature_map(self, clips):
        return self.linear(clips.movedim(1, -1)).movedim(-1, 1)

    def descriptor(self, feature_map):
        return feature_map.mean((2, 3, 4))


@pytest.mark.parametrize("kind", [Transformer, WithoutConvolutions])
def test_networks_that_are_not_of_convolutions_stay_with_torch(kind, caplog):
    backbone = kind().eval()
    backbone.recipe = tiny_backbone.RECIPE
    _, entries = tiny_network(backbone)
    assert entries["runtime"] == "torch"
    assert not caplog.records
    with pytest.raises(UsageError, match=r"runtime openvino cannot be had .*: it is for networks of convolutions"):
        tiny_network(backbone, runtime="openvino")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"device": torch.device("meta")}, "computes on processors, not on meta"),
        ({"precision": "fp16"}, "has no fp16"),
        ({"names": None}, "nothing says how to load this network once more"),
    ],
)
def test_what_openvino_cannot_do_is_said_where_it_is_asked_for(change, said):
    with pytest.raises(UsageError, match=said):
        tiny_network(runtime="openvino", **change)


def test_without_openvino_torch_computes_and_a_line_says_it(monkeypatch, caplog):
    caplog.set_level("INFO", "gcf")
    monkeypatch.setattr(precision, "openvino_fault", lambda: "it is not installed (pip install openvino)")
    assert tiny_network()[1]["runtime"] == "torch"
    assert caplog.messages == ["tiny: computed by PyTorch, not by OpenVINO: it is not installed (pip install openvino)"]
    assert caplog.records[0].levelname == "INFO"
    with pytest.raises(UsageError, match="it is not installed"):
        tiny_network(runtime="openvino")


def test_a_library_that_is_absent_or_broken_is_a_reason_and_no_error(monkeypatch):
    def broken(name):
        raise RuntimeError("two of its\nfiles do not fit")

    openvino_map.import_openvino.cache_clear()
    with monkeypatch.context() as patch:
        patch.setitem(openvino_map.sys.modules, "openvino", None)
        assert openvino_map.openvino_fault() == "it is not installed (pip install openvino)"
        patch.setattr(openvino_map.importlib, "import_module", broken)
        assert openvino_map.openvino_fault() == "it cannot be used (two of its files do not fit); install it again"
    assert openvino_map.openvino_fault() == ""


@pytest.fixture
def untried(monkeypatch):
    """Trials that nobody remembers."""
    monkeypatch.setattr("gcf.extract.network.conversion.Conversion.trial", lambda *_: None)
    monkeypatch.setattr("gcf.extract.network.conversion.Conversion.note_trial", lambda *_: None)


def test_descriptors_that_are_off_are_computed_by_torch_with_one_warning(untried, monkeypatch, caplog):
    monkeypatch.setattr(precision, "largest_difference", lambda *_: 1.2e-5)
    network, entries = tiny_network()
    assert (network.runtime, entries["runtime"]) == ("torch", "torch")
    said = "tiny: computed by PyTorch, not by OpenVINO: its descriptors are off by 1e-05 of the largest value"
    assert caplog.messages == [said]
    with pytest.raises(UsageError, match="off by 1e-05"):
        tiny_network(runtime="openvino")


def test_bfloat16_that_is_not_exact_enough_leaves_float32_by_openvino(untried, openvino_bf16, monkeypatch, caplog):
    monkeypatch.setattr(precision, "worst_cosine", lambda *_: 0.9989)
    _, entries = tiny_network(precision="bf16")
    assert (entries["runtime"], entries["precision"], entries["precision_cosine"]) == ("openvino", "fp32", None)
    (said,) = caplog.messages
    assert "bf16 is not exact enough for this network (a descriptor's cosine to float32's is 0.99890" in said


def test_a_precision_that_the_processor_has_not_leaves_float32_by_openvino(monkeypatch, caplog):
    class NoHalf(openvino_map.OpenVinoMap):
        def __init__(self, *given, precision, **more):
            if precision == "bf16":
                raise RuntimeError("this processor has none\nat all")
            super().__init__(*given, precision=precision, **more)

    monkeypatch.setattr(precision, "OpenVinoMap", NoHalf)
    assert tiny_network(precision="bf16")[1]["runtime"] == "openvino"
    assert caplog.messages == ["bf16 cannot be used (this processor has none at all); float32 is used instead"]


@pytest.mark.slow
def test_a_trial_is_held_once_for_each_precision_and_processor(monkeypatch, tmp_path):
    monkeypatch.setenv("GCF_HOME", str(tmp_path))
    compared = []
    plain = precision.largest_difference
    monkeypatch.setattr(precision, "largest_difference", lambda *a: compared.append(0) or plain(*a))
    for _ in range(2):
        assert tiny_network()[1]["runtime"] == "openvino"
    assert len(compared) == 1
    monkeypatch.setattr(precision, "processor", lambda: "another one")
    tiny_network()
    assert len(compared) == 2


@pytest.mark.slow
def test_the_recipe_says_who_computed_and_with_what_version(folder, tmp_path):
    for runtime in ("torch", "openvino"):
        extract(folder, tmp_path / f"{runtime}.h5", runtime=runtime)
    ours, theirs = (gcf.FeatureFile(tmp_path / f"{name}.h5") for name in ("openvino", "torch"))
    assert (ours.recipe["runtime"], theirs.recipe["runtime"]) == ("openvino", "torch")
    assert ours.recipe["versions"].keys() - theirs.recipe["versions"].keys() == {"openvino"}
    assert ours.recipe["versions"]["openvino"] == openvino_map.openvino_version()
    difference = np.abs(ours.descriptors.astype(float) - theirs.descriptors.astype(float)).max()
    assert difference <= 2e-3 * np.abs(theirs.descriptors).max()  # one step of float16
    with pytest.raises(RecipeError, match=r'runtime: "torch" against "openvino".*; name the --precision, --runtime'):
        extract(folder, tmp_path / "torch.h5", runtime="openvino")
    with pytest.raises(RecipeError, match="runtime"):
        gcf.merge_features([ours.path, theirs.path], tmp_path / "merged.h5")


@pytest.mark.slow
def test_decoders_and_lanes_change_no_byte(folder, tmp_path):
    before = torch.get_num_threads()
    try:
        for threads, workers in ((1, 1), (3, 4)):
            torch.set_num_threads(threads)
            options = {"runtime": "openvino", "batch_size": None, "workers": workers}
            extract(folder, tmp_path / f"{threads}.h5", **options)
    finally:
        torch.set_num_threads(before)
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "3.h5").read_bytes()


@pytest.mark.slow
def test_a_head_takes_float32_of_either_runtime_with_a_note(folder, tmp_path, caplog):
    extract(folder, tmp_path / "f.h5", runtime="torch")
    features = gcf.FeatureFile(tmp_path / "f.h5")
    check_features(features, recipe=features.recipe, width=24)
    silent = {name: value for name, value in features.recipe.items() if name != "runtime"}
    check_features(features, recipe=silent, width=24)  # made before there was a choice
    assert not caplog.records
    caplog.set_level("INFO")
    check_features(features, recipe=features.recipe | {"runtime": "openvino"}, width=24)
    (said,) = caplog.messages
    assert said.endswith(
        'runtime: "openvino" against "torch", the head\'s before the file\'s; in float32 they agree to 1e-5'
    )
    half = {"precision": "bf16", "runtime": "openvino"}
    features.recipe = features.recipe | half | {"runtime": "torch"}
    with pytest.raises(RecipeError, match='runtime: "openvino" against "torch"'):
        check_features(features, recipe=features.recipe | half, width=24)


@pytest.mark.slow
def test_names_that_load_another_network_are_found_out(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("GCF_HOME", str(tmp_path / "home"))
    other = tmp_path / "other.py"
    other.write_text(
        tiny_backbone.__loader__.get_source(tiny_backbone.__name__).replace("manual_seed(0)", "manual_seed(1)")
    )
    names = type(NAMES)(str(other), "default", "trained")
    assert tiny_network(names=names)[1]["runtime"] == "torch"
    assert "its weights have changed meanwhile" in caplog.text


def test_a_network_given_to_clipnetwork_alone_is_torchs():
    assert ClipNetwork(gcf.load_backbone(TINY), device=CPU, precision="fp32", batch_size=1).runtime == "torch"


def test_a_conversion_that_is_another_network_is_not_used_in_half_precision(
    untried, openvino_bf16, monkeypatch, caplog
):
    monkeypatch.setattr(precision, "largest_difference", lambda *_: 5e-3)
    assert tiny_network(precision="bf16")[1]["runtime"] == "torch"
    assert "off by 5e-03 of the largest value in float32" in caplog.text


@pytest.mark.parametrize("asked", ["fp32", "bf16"])
def test_a_later_start_compiles_the_one_network_that_it_uses(asked, request, monkeypatch):
    if asked == "bf16":
        request.getfixturevalue("openvino_bf16")
    tiny_network(precision=asked)  # whose trials are remembered
    compiled = []

    class Noting(openvino_map.OpenVinoMap):
        def __init__(self, *given, precision, **more):
            compiled.append(precision)
            super().__init__(*given, precision=precision, **more)

    monkeypatch.setattr(precision, "OpenVinoMap", Noting)
    tiny_network(precision=asked)
    assert compiled == [asked]


@pytest.mark.slow
@pytest.mark.parametrize("mean", ["(2, 3, 4)", "(-1, -2, -3)"])
def test_trained_weights_with_means_over_early_maps_agree_in_float32(real, tmp_path, mean):
    """Off by 3e-5 where OpenVINO adds up 100,000 values one after another."""
    for path in (real / "x3d_xs").iterdir():
        shutil.copy(path, tmp_path)
    path = tmp_path / "x3d_xs.py"
    text = path.read_text()
    assert "x.mean((2, 3, 4))" in text
    path.write_text(text.replace("x.mean((2, 3, 4))", f"x.mean({mean})"))
    names, backbone = ModelNames(str(path), "default", "trained"), gcf.load_backbone(path)
    assert tiny_network(backbone, names, num_frames=16)[1]["runtime"] == "openvino"
