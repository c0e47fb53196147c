"""Half precision: when it is taken, what a recipe says of it, and that its bytes are as reproducible as float32's."""

import logging
import os
import subprocess
import sys

import numpy as np
import pytest
import tiny_backbone
import torch
from compare import assert_bitwise_equal

from gcf.data.parts import check_recipe
from gcf.errors import RecipeError, UsageError
from gcf.extract.network import precision
from gcf.extract.network.agreement import drawn_clips, largest_difference, worst_cosine
from gcf.extract.network.clip_network import ClipNetwork
from gcf.extract.network.precision import natural_precision, precise_network

pytestmark = pytest.mark.processor

CPU = torch.device("cpu")
IN_FLOAT32 = {"runtime": "torch", "precision": "fp32", "folded": False, "batch_size": 3, "precision_cosine": None}


def network_of(backbone, asked="bf16", **settings):
    """By PyTorch, which emulates bfloat16 where the processor has none."""
    backbone.recipe = backbone.recipe if hasattr(backbone, "recipe") else tiny_backbone.RECIPE
    settings = {"device": CPU, "batch_size": 3, "num_frames": 4, "runtime": "torch"} | settings
    return precise_network(backbone.eval(), precision=asked, **settings)


@pytest.fixture
def bf16(monkeypatch):
    """A processor that multiplies in bfloat16."""
    monkeypatch.setattr(precision, "_multiplies_bf16", lambda: True)


class Shifted(tiny_backbone.Tiny):
    """Its differences are small beside what it adds and takes away."""

    def feature_map(self, clips):
        return (super().feature_map(clips) + 1000) - 1000


class Unsupported(tiny_backbone.Tiny):
    """On a device that has not all steps in half precision."""

    def feature_map(self, clips):
        found = super().feature_map(clips)
        if found.dtype != torch.float32:
            raise self.error("no such step in half\nand much more")
        return found


class Probe:
    """Descriptors as given, from a network of this batch size."""

    def __init__(self, descriptors, batch_size=4):
        self.descriptors, self.batch_size = np.asarray(descriptors, np.float32), batch_size

    def __call__(self, batch):
        assert len(batch) <= self.batch_size
        return self.descriptors[batch], None


@pytest.mark.parametrize(
    ("amx", "avx512", "held", "expected"),
    [(1, 1, 0, "bf16"), (1, 0, 0, "bf16"), (0, 1, 0, "bf16"), (0, 0, 0, "fp32"), (1, 1, 1, "fp32")],
)
def test_a_processor_that_multiplies_in_bfloat16_is_asked_to(monkeypatch, amx, avx512, held, expected):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: bool(amx), raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bool(avx512), raising=False)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: not held)
    assert natural_precision(CPU) == expected
    assert natural_precision(torch.device("meta")) == "fp32"


@pytest.mark.slow
def test_a_processor_held_to_older_instructions_multiplies_in_float32():
    code = (
        "import torch; from gcf.extract.network.precision import natural_precision as p; print(p(torch.device('cpu')))"
    )
    held = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    assert subprocess.run([sys.executable, "-c", code], env=held, capture_output=True, check=True).stdout == b"fp32\n"


@pytest.mark.parametrize(("device", "expected"), [("mps", "fp16"), ("xpu", "bf16")])
def test_other_accelerators_have_half_precision_to_try(device, expected):
    assert natural_precision(torch.device(device)) == expected


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "fp16"), ((8, 0), "bf16"), ((12, 0), "bf16")])
def test_gpus_from_ampere_on_use_bfloat16_and_older_ones_float16(monkeypatch, capability, expected):
    asked = []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: asked.append(device) or capability)
    assert natural_precision(torch.device("cuda:1")) == expected
    assert asked == [torch.device("cuda:1")]


def test_processors_of_a_torch_that_cannot_say_use_float32(monkeypatch):
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert natural_precision(CPU) == "fp32"


@pytest.mark.parametrize("asked", ["bf16", "auto"])
def test_half_precision_that_agrees_is_used_and_its_cosine_told(bf16, caplog, asked):
    torch.manual_seed(0)
    network, measured = network_of(tiny_backbone.Tiny(), asked)
    assert network.precision == "bf16"
    assert network.batch_size == 3
    assert measured == IN_FLOAT32 | {"precision": "bf16", "precision_cosine": measured["precision_cosine"]}
    assert not caplog.records
    clips = drawn_clips(4, 32, 6)  # whole batches
    exact, _ = network_of(network.backbone, "fp32")
    cosines = []
    for clip in clips:
        ours, theirs = (each(clip[None])[0].astype(np.float64) for each in (network, exact))
        assert (ours != theirs).any()  # it is another precision
        cosines.append((ours * theirs).sum() / np.linalg.norm(ours) / np.linalg.norm(theirs))
    assert 0 <= min(cosines) - measured["precision_cosine"] < 1.01e-5
    assert measured["precision_cosine"] < 1


def test_a_network_that_half_precision_spoils_runs_in_float32_with_one_warning(bf16, caplog):
    network, measured = network_of(Shifted(), "auto")
    assert measured == IN_FLOAT32
    assert (network.precision, network.folded) == ("fp32", False)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("gcf", logging.WARNING)
    assert "bf16 is not exact enough for this network (a descriptor's cosine to float32's is " in record.message
    assert "float32 is used instead" in record.message
    plain = ClipNetwork(network.backbone, device=CPU, precision="fp32", batch_size=3)
    clips = drawn_clips(4, 32, 3)
    assert_bitwise_equal(network(clips)[0], plain(clips)[0])


@pytest.mark.parametrize("error", [RuntimeError, NotImplementedError])
def test_a_device_that_cannot_runs_in_float32_with_one_warning_of_one_line(bf16, caplog, error):
    backbone = Unsupported()
    backbone.error = error
    network, measured = network_of(backbone)
    assert (network.precision, measured) == ("fp32", IN_FLOAT32)
    assert caplog.messages == ["bf16 cannot be used (no such step in half and much more); float32 is used instead"]


def test_a_lack_of_memory_is_not_answered_by_what_takes_more(bf16, caplog):
    backbone = Unsupported()
    backbone.error = torch.OutOfMemoryError
    with pytest.raises(torch.OutOfMemoryError):
        network_of(backbone)
    assert not caplog.records


def test_a_users_mistake_is_told_and_not_taken_for_the_devices(bf16, caplog):
    backbone = tiny_backbone.build()
    backbone.recipe = tiny_backbone.RECIPE | {"classes": ["a", "b"]}
    with pytest.raises(UsageError, match="5 logits, its recipe names 2 classes"):
        network_of(backbone)
    assert not caplog.records


@pytest.mark.parametrize("asked", ["fp32", "auto"])
def test_float32_is_not_tried(monkeypatch, asked):
    monkeypatch.setattr(precision, "natural_precision", lambda _: "fp32")
    monkeypatch.setattr(precision, "drawn_clips", lambda *_: pytest.fail("was tried"))
    network, measured = network_of(tiny_backbone.build(), asked)
    assert (network.precision, measured) == ("fp32", IN_FLOAT32)


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        ([3, 4], 1.0),
        ([30, 40], 1.0),
        ([-3, -4], -1.0),
        ([4, 3], 0.96),
        ([3, 4.01], 0.99999),  # 0.9999993, rounded down
        ([0, 0], 0.0),
        ([np.nan, 4], 0.0),
        ([np.inf, 4], 0.0),
        ([-np.inf, np.inf], 0.0),
    ],
)
@pytest.mark.parametrize("place", range(4))
def test_the_worst_cosine_counts_wherever_it_is(ours, expected, place):
    theirs = np.tile([3.0, 4.0], (4, 1))
    found = theirs.copy()
    found[place] = ours
    for sizes in ((4, 4), (3, 4), (4, 1), (100, 2)):
        worst = worst_cosine(Probe(found, sizes[0]), Probe(theirs, sizes[1]), np.arange(4))
        assert expected - 1.01e-5 <= worst <= expected
        assert round(worst, 5) == worst


def test_descriptors_of_nothing_agree_with_each_other_alone():
    nothing, something = [[0, 0], [3, 4]], [[3, 4], [3, 4]]
    assert worst_cosine(Probe(nothing), Probe(nothing), np.arange(2)) > 0.9999
    assert worst_cosine(Probe(something), Probe(nothing), np.arange(2)) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("frames", "crop"), [(16, 32), (1, 112), (3, [24, 40]), (2, 1)])
@pytest.mark.parametrize("count", [4, 32])
def test_drawn_clips_are_the_same_whatever_was_drawn_before_and_unlike_each_other(frames, crop, count):
    clips = drawn_clips(frames, crop, count)
    np.random.default_rng().random(3)
    torch.manual_seed(5)
    assert_bitwise_equal(drawn_clips(frames, crop, count), clips)
    height, width = (crop, crop) if isinstance(crop, int) else crop
    assert clips.shape == (count, frames, height, width, 3)
    assert clips.dtype == np.uint8
    if crop != 1:
        assert len({clip.tobytes() for clip in clips}) == count
        assert all(len({frame.tobytes() for frame in clip}) == frames for clip in clips)


@pytest.mark.parametrize(
    ("ours", "expected"),
    [([3, 4], 0.0), ([3, 4.5], 0.125), ([2, 4], 0.25), ([np.nan, 4], np.inf), ([3, np.inf], np.inf)],
)
@pytest.mark.parametrize("place", range(4))
def test_the_largest_difference_is_relative_to_the_largest_value_wherever_it_is(ours, expected, place):
    theirs = np.tile([3.0, 4.0], (4, 1))
    found = theirs.copy()
    found[place] = ours
    for sizes in ((4, 4), (3, 4), (4, 1)):
        assert largest_difference(Probe(found, sizes[0]), Probe(theirs, sizes[1]), np.arange(4)) == pytest.approx(
            expected
        )


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 3, 6, 32])
def test_a_trial_fills_whole_batches(bf16, monkeypatch, batch_size):
    drawn = []
    monkeypatch.setattr(precision, "drawn_clips", lambda *a: drawn.append(drawn_clips(*a)) or drawn[-1])
    network, _ = network_of(tiny_backbone.build(), "auto", batch_size=batch_size)
    assert network.batch_size == batch_size
    ((count, *_),) = (clips.shape for clips in drawn)
    assert count >= 4
    assert count % batch_size == 0


def test_recipes_are_compared_by_what_was_asked_not_by_what_was_seen():
    recipe = {"crop": 32, "precision": "bf16", "folded": True, "precision_cosine": 0.99991}
    check_recipe("f.h5", recipe, dict(recipe))
    check_recipe("f.h5", recipe, recipe | {"precision_cosine": 0.99992})
    for changed in ({"precision": "fp16"}, {"folded": False}, {"crop": 31}):
        with pytest.raises(RecipeError, match=f"f.h5: made by another recipe \\({next(iter(changed))}: "):
            check_recipe("f.h5", recipe, recipe | changed | {"precision_cosine": 0.99992})
