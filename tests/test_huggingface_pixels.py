"""A processor's pixels and gcf's are the same: every class of processor, many settings, frames of many sizes."""

import hf_models
import numpy as np
import pytest
import torch
from hf_models import run_processor
from transformers import (
    TimesformerVideoProcessor,
    VideoMAEImageProcessor,
    VideoMAEVideoProcessor,
    VivitImageProcessor,
    VivitVideoProcessor,
    VJEPA2VideoProcessor,
)
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

from gcf.errors import UsageError
from gcf.explain.reading.heat import crop_box
from gcf.extract.backbones.huggingface_pixels import TOLERANCE, pixels_of
from gcf.extract.backbones.normalise import Normalise
from gcf.extract.decoding.jobs import ClipJob
from gcf.extract.decoding.preprocess import Geometry, centre_view
from gcf.extract.decoding.video import Video
from gcf.extract.decoding.worker import jobs_from_json, jobs_to_json

BICUBIC, LANCZOS = 3, 1
PROCESSORS = {
    "videomae": VideoMAEImageProcessor(),
    "videomae-pil": VideoMAEImageProcessorPil(),
    "videomae-video": VideoMAEVideoProcessor(),
    "timesformer": TimesformerVideoProcessor(),
    "vivit": VivitImageProcessor(),
    "vivit-without-offset": VivitImageProcessor(offset=False, rescale_factor=1 / 255),
    "vivit-video": VivitVideoProcessor(),
    "vjepa2": VJEPA2VideoProcessor(),
    "bicubic": VideoMAEImageProcessor(resample=BICUBIC),
    "bicubic-pil": VideoMAEImageProcessorPil(resample=BICUBIC),
    "whole": VideoMAEImageProcessor(size={"height": 120, "width": 160}, do_center_crop=False),
    "rectangle": VideoMAEImageProcessor(size={"height": 131, "width": 171}, crop_size={"height": 112, "width": 96}),
    "grey-levels": VideoMAEImageProcessor(do_rescale=False, image_mean=[114.0, 107.0, 99.0], image_std=[1.0, 1.0, 1.0]),
    "raw": VideoMAEImageProcessor(do_rescale=False, do_normalize=False),
    "unit": VideoMAEImageProcessor(do_normalize=False),
    "unit-offset": VivitImageProcessor(do_normalize=False),
    "small": VideoMAEImageProcessor(**hf_models.CROPPED),
}
SIZES = ((240, 320), (241, 323), (323, 241), (480, 853), (100, 131), (224, 224), (256, 257), (1080, 1920))


def recipe_of(processor, place="hf:a/b"):
    return pixels_of(processor, lambda frames: run_processor(processor, frames)[0].float(), place=place)


def ours(frames, recipe):
    """Frames through gcf: (1, T, 3, h, w)."""
    pixels = np.stack([centre_view(frame, Geometry.from_recipe(recipe)) for frame in frames])
    return Normalise(recipe)(torch.from_numpy(pixels[None])).transpose(1, 2)


def assert_same(actual, expected, recipe):
    """To a thousandth of a grey level: equal pixels, whose float32 was rounded in another order."""
    assert actual.shape == expected.shape
    level = recipe["pixel_max"] / 255 / torch.tensor(recipe["std"]).view(3, 1, 1)
    assert ((actual - expected.float()) / level).abs().max() <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("name", PROCESSORS)
def test_pixels_are_the_processors_own_at_every_size(name):
    recipe = recipe_of(PROCESSORS[name])
    for seed, size in enumerate(SIZES):
        frames = hf_models.noise(100 + seed, 2, *size, 3)
        assert_same(ours(frames, recipe), run_processor(PROCESSORS[name], frames), recipe)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["videomae", "vivit", "vjepa2", "bicubic"])
def test_pixels_of_real_videos_are_the_processors_own(name, real):
    recipe = recipe_of(PROCESSORS[name])
    for path in sorted((real / "videos").glob("*.*4")):
        frames = np.stack([pixels for (pixels, _, _), _ in zip(Video(path), range(4), strict=False)])
        assert_same(ours(frames, recipe), run_processor(PROCESSORS[name], frames), recipe)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("videomae", "torchvision-antialias"),
        ("videomae-pil", "pillow"),
        ("vivit", "pillow"),
        ("vivit-video", "torchvision-antialias"),
        ("bicubic", "torchvision-antialias-bicubic"),
        ("bicubic-pil", "pillow-bicubic"),
    ],
)
def test_the_rule_is_that_of_the_library_that_the_processor_resizes_with(name, rule):
    assert recipe_of(PROCESSORS[name])["resize_rule"] == rule


def test_the_offset_of_vivit_is_in_the_mean():
    recipe = recipe_of(PROCESSORS["vivit"])
    assert recipe["pixel_max"] == 2
    assert recipe["mean"] == [1.5, 1.5, 1.5]


class Mirrored(VideoMAEImageProcessor):
    def resize(self, image, *args, **kwargs):
        return super().resize(image, *args, **kwargs).flip(-1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processor", "message"),
    [
        (VideoMAEImageProcessor(do_resize=False), "does not resize"),
        (VideoMAEImageProcessor(do_center_crop=False), "does not crop"),
        (VideoMAEImageProcessor(size={"shortest_edge": 224, "longest_edge": 300}), "resizes to .*longest_edge"),
        (VideoMAEImageProcessor(crop_size={"height": 256, "width": 224}), "crops .*would be padded"),
        (VideoMAEImageProcessor(resample=LANCZOS), "resizes by filter 1; 2 and 3 are known"),
        (VideoMAEImageProcessor(rescale_factor=-1.0), "rescale_factor -1"),
        (Mirrored(), "its Mirrored does with frames what gcf cannot do: pixels differ by"),
    ],
)
def test_what_cannot_be_had_is_refused_in_one_line(processor, message):
    with pytest.raises(UsageError, match=f"hf:a/b: its .*{message}|hf:a/b: {message}") as refused:
        recipe_of(processor)
    assert "\n" not in str(refused.value)


def test_heat_lies_on_the_part_of_the_frame_that_the_rule_crops():
    for rule, left in (("floor", 17), ("round", 18)):  # half of the margin of 67 - 32
        geometry = Geometry(36, (32, 32), crop_rule=rule)
        assert crop_box((36, 67), geometry) == (2, left, 34, left + 32)


def test_the_rules_reach_the_decoders_through_their_pipe():
    geometry = Geometry(36, (32, 30), rule="torchvision-antialias", crop_rule="floor")
    job = ClipJob(4, "loop", geometry)
    pair = ClipJob(4, "loop", Geometry((36, 40), (32, 30)))
    assert jobs_from_json(jobs_to_json([job, pair])) == [job, pair]
