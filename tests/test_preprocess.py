import json

import numpy as np
import pytest
import torch
from torchvision.models.video import R3D_18_Weights

from gcf.extract.backbones.normalise import Normalise
from gcf.extract.decoding.preprocess import SCALES, Geometry, View, augmented_view, centre_view, draw_views
from gcf.extract.decoding.video import Video

KINETICS = Geometry(resize=112, crop=(112, 112))
GREY_LEVELS = {"channel_order": "RGB", "pixel_max": 255.0, "mean": [114.7748, 107.7354, 99.475], "std": [1, 1, 1]}
UNIT = {
    "channel_order": "RGB",
    "pixel_max": 1.0,
    "mean": [0.4345, 0.4051, 0.3775],
    "std": [0.2768, 0.2713, 0.2737],
}


def test_resize_and_crop_equal_the_original_transforms_at_every_size(parity):
    data = np.load(parity / "preproc_sizes.npz")
    cases = json.loads((parity / "preproc_sizes.json").read_text())["cases"]
    for case in cases:
        size = f"{case['h']}x{case['w']}"
        np.testing.assert_array_equal(centre_view(data[f"src_{size}"], KINETICS), data[f"crop_{size}"], err_msg=size)


@pytest.mark.parametrize(
    ("name", "recipe"),
    [("x_rgb", GREY_LEVELS), ("x_bgr", GREY_LEVELS | {"channel_order": "BGR"}), ("x_hara", UNIT)],
)
def test_normalised_clips_equal_the_original_transforms_to_the_last_bit(parity, name, recipe):
    data = np.load(parity / "preproc_frames_00_15.npz")
    crops = np.stack([centre_view(frame, KINETICS) for frame in data["frames_u8"]])
    np.testing.assert_array_equal(crops, data["crop_u8"])
    ours = Normalise(recipe)(torch.from_numpy(crops[None]))
    np.testing.assert_array_equal(ours[0].numpy(), data[name])


@pytest.mark.slow
def test_decoded_frames_equal_the_reference_decoder(parity, real):
    expected = np.load(parity / "preproc_frames_00_15.npz")["frames_u8"]
    frames = [pixels for pixels, _, _ in Video(real / "videos" / "k400_v_GGSY1Qvo990.mp4")]
    assert len(frames) == 355
    np.testing.assert_array_equal(np.stack(frames[:16]), expected)


def test_the_torchvision_rule_equals_the_transforms_of_torchvisions_weights():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (16, 150, 201, 3), dtype=np.uint8)
    transform = R3D_18_Weights.KINETICS400_V1.transforms()
    expected = transform(torch.from_numpy(frames).permute(0, 3, 1, 2))
    geometry = Geometry(tuple(transform.resize_size), tuple(transform.crop_size), "torchvision")
    recipe = {"channel_order": "RGB", "pixel_max": 1.0, "mean": transform.mean, "std": transform.std}
    crops = np.stack([centre_view(frame, geometry) for frame in frames])
    np.testing.assert_array_equal(Normalise(recipe)(torch.from_numpy(crops[None]))[0].numpy(), expected.numpy())


def test_an_augmented_view_is_the_named_corner_resized_and_mirrored():
    frame = np.zeros((40, 60, 3), np.uint8)
    frame[:20, 40:] = 200  # top right
    view = View(scale=0.5, position=(1.0, 0.0), flip=False)
    assert augmented_view(frame, view, (16, 16)).min() == 200
    whole = View(scale=1.0, position=(1.0, 0.0), flip=True)
    pixels = augmented_view(frame, whole, (16, 16))
    assert pixels[2, 2, 0] == 200  # mirrored: what was right is left
    assert pixels[2, 13, 0] == 0
    assert pixels[13, 2, 0] == 0


def test_views_depend_on_video_and_seed_alone_and_cover_scales_corners_and_flips():
    drawn = [draw_views(f"v{i}.mp4", count=2, seed=0) for i in range(200)]
    assert drawn == [draw_views(f"v{i}.mp4", count=2, seed=0) for i in range(200)]
    assert drawn != [draw_views(f"v{i}.mp4", count=2, seed=1) for i in range(200)]
    views = [v for pair in drawn for v in pair]
    assert {v.scale for v in views} == set(SCALES)
    assert len({v.position for v in views}) == 5
    assert 0.4 < np.mean([v.flip for v in views]) < 0.6
    assert draw_views("v0.mp4", count=1, seed=0) == drawn[0][:1]  # more views do not change the first
