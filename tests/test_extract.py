"""Stage one whole, on small videos and a small plug-in: what it makes of them."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import videos
from compare import assert_bitwise_equal
from stage_one import TINY, extract

import gcf
from gcf import FeatureFile, extract_videos, merge_features
from gcf.errors import RecipeError, RefusedError, UsageError
from gcf.extract.backbones.normalise import Normalise
from gcf.extract.decoding import pool
from gcf.extract.decoding.preprocess import Geometry, centre_view
from gcf.extract.decoding.video import Video
from gcf.extract.network.clip_network import ClipNetwork

pytestmark = pytest.mark.slow


def test_descriptors_equal_a_plain_clip_by_clip_pass(folder, tmp_path):
    out = tmp_path / "f.h5"
    extract(folder, out, dtype="float32")
    features, backbone = FeatureFile(out), gcf.load_backbone(TINY)
    geometry, normalise = Geometry.from_recipe(backbone.recipe), Normalise(backbone.recipe)
    for n, video_id in enumerate(features.ids):
        frames = [centre_view(pixels, geometry) for pixels, _, _ in Video(folder / video_id)]
        rows = features.video(n)
        assert rows.info.num_frames == len(frames)
        for i, start in enumerate(range(0, len(frames), 16)):
            window = frames[start : start + 16]
            assert rows.clips.num_frames[i] == len(window)
            clip = np.stack([window[k % len(window)] for k in range(16)])
            with torch.no_grad():
                expected = backbone.descriptor(backbone.feature_map(normalise(torch.from_numpy(clip[None]))))
                logits = backbone.classify(expected)
            np.testing.assert_allclose(rows.descriptors[i, 0], expected[0].numpy(), rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(rows.logits[i], logits[0].numpy(), rtol=2e-3, atol=1e-4)  # float16


def test_labels_groups_classes_and_recipe_are_recorded(folder, tmp_path):
    extract(folder, tmp_path / "f.h5")
    features = FeatureFile(tmp_path / "f.h5")
    assert features.classes == ["jump", "run"]
    assert features.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert features.groups == ["g01", "g02", "g03"] * 2
    assert features.backbone_classes == list("abcde")
    recipe = features.recipe
    wanted = {
        "backbone": "tiny",
        "weights": "procedural",
        "channel_order": "RGB",
        "pixel_max": 1.0,
        "resize": 36,
        "crop": 32,
        "num_frames": 16,
        "tail": "loop",
        "sampling": "native",
        "views": 1,
        "temporal_stride": "trained",
        "precision": "fp32",
    }
    assert wanted.items() <= recipe.items()
    assert {"gcf", "torch", "av"} <= recipe["versions"].keys()
    assert len(recipe["weights_sha256"]) == 64
    assert not list(tmp_path.glob("*.parts"))


@pytest.mark.parametrize("workers", [2, 4])
def test_the_number_of_workers_does_not_change_a_byte(folder, tmp_path, reference, workers):
    extract(folder, tmp_path / "f.h5", workers=workers)
    assert (tmp_path / "f.h5").read_bytes() == reference


@pytest.mark.parametrize("backbone", ["tiny", "mobilenetv2_0.2x", "shufflenetv2_0.25x"])
def test_a_clips_numbers_do_not_depend_on_its_place_or_neighbours_in_a_batch(backbone):
    module = gcf.load_backbone(TINY) if backbone == "tiny" else gcf.load_backbone(backbone, weights="random")
    network = ClipNetwork(module, device=torch.device("cpu"), precision="fp32", batch_size=8)
    rng = np.random.default_rng(0)
    size = module.recipe["crop"]
    clips = rng.integers(0, 256, (8, 16, size, size, 3), dtype=np.uint8)
    alone = [network(clip[None]) for clip in clips]
    for order in (np.arange(8), rng.permutation(8), np.array([3, 3, 1])):
        descriptors, logits = network(clips[order])
        for place, n in enumerate(order):
            assert_bitwise_equal(descriptors[place], alone[n][0][0])
            assert_bitwise_equal(logits[place], alone[n][1][0])


def test_broken_videos_are_recorded_and_the_good_ones_are_untouched_by_them(folder, tmp_path, reference):
    copy, out = tmp_path / "videos", tmp_path / "f.h5"
    shutil.copytree(folder, copy)
    (copy / "jump" / "empty.mp4").write_bytes(b"")
    (copy / "run" / "page.mp4").write_text("<html>")
    (copy / "aaa.avi").write_bytes((copy / "jump" / "v_jump_g01_c01.avi").read_bytes()[:3000])
    summary = extract(copy, out)
    assert not summary.complete
    assert [f[0] for f in summary.failures] == ["aaa.avi", "jump/empty.mp4", "run/page.mp4"]
    features = FeatureFile(out)
    (tmp_path / "reference.h5").write_bytes(reference)
    expected = FeatureFile(tmp_path / "reference.h5")
    assert features.ids == expected.ids
    assert_bitwise_equal(np.array(features.descriptors), np.array(expected.descriptors))
    again = extract(copy, out)  # failures are tried again, the good ones are not
    assert again.extracted == 3


def test_an_edited_plug_in_is_another_recipe(folder, tmp_path):
    plugin, out = tmp_path / "mine.py", tmp_path / "f.h5"
    plugin.write_text(Path(TINY).read_text())
    extract_videos(folder, out, backbone=str(plugin))
    plugin.write_text(Path(TINY).read_text().replace("feature_map.mean(", "feature_map.amax("))
    with pytest.raises(RecipeError, match="plugin_sha256"):
        extract_videos(folder, out, backbone=str(plugin))


def test_torchvisions_resize_rule_extracts_too(folder, tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        Path(TINY).read_text().replace('"resize": 36', '"resize_rule": "torchvision", "resize": [36, 40]')
    )
    summary = extract_videos(folder, tmp_path / "f.h5", backbone=str(plugin))
    assert (summary.videos, summary.failures) == (6, [])


def test_recipes_that_cannot_be_right_are_refused(folder, tmp_path):
    plugin = tmp_path / "mine.py"
    for old, new, said in (('"resize": 36', '"resize": 28', "larger than resize"), ('"d", "e"]', '"d"]', "4 classes")):
        plugin.write_text(Path(TINY).read_text().replace(old, new))
        with pytest.raises(UsageError, match=said):
            extract_videos(folder, tmp_path / "f.h5", backbone=str(plugin))


def test_a_crashing_decoder_costs_one_video(folder, tmp_path, monkeypatch):
    copy = tmp_path / "videos"
    shutil.copytree(folder, copy)
    shutil.copy(copy / "jump" / "v_jump_g01_c01.avi", copy / "jump" / "crash.avi")
    monkeypatch.setattr(pool, "WORKER", "faulty_worker")
    summary = extract(copy, tmp_path / "f.h5")
    assert summary.failures == [("jump/crash.avi", "decoder crashed (signal 11)")]
    assert summary.videos == 6


def test_shards_merge_to_the_bytes_of_one_run(folder, tmp_path, reference):
    for i in (1, 2):
        summary = extract(folder, tmp_path / f"{i}.h5", shard=(i, 2))
        assert not summary.missing
    merge_features([tmp_path / "2.h5", tmp_path / "1.h5"], tmp_path / "f.h5")
    assert (tmp_path / "f.h5").read_bytes() == reference


def test_augmented_views_stand_beside_the_centre_view(folder, tmp_path, reference):
    extract(folder, tmp_path / "f.h5", views=3)
    (tmp_path / "reference.h5").write_bytes(reference)
    plain, viewed = FeatureFile(tmp_path / "reference.h5"), FeatureFile(tmp_path / "f.h5")
    assert viewed.descriptors.shape == (plain.num_clips, 3, 24)
    assert_bitwise_equal(np.array(viewed.descriptors[:, 0]), np.array(plain.descriptors[:, 0]))
    assert_bitwise_equal(np.array(viewed.logits), np.array(plain.logits))
    assert (viewed.descriptors[:, 1] != viewed.descriptors[:, 0]).any()


def test_outputs_that_cannot_be_are_refused_before_any_work(folder, tmp_path):
    cases = {
        tmp_path / "absent" / "f.h5": "there is no folder",
        tmp_path: "is a folder",
        Path("/proc/f.h5"): "cannot be",
    }
    for out, message in cases.items():
        with pytest.raises(RefusedError, match=message):
            extract(folder, out)


def test_settings_that_do_not_exist_are_usage_errors(folder, tmp_path):
    for options in (
        {"tail": "cut"},
        {"views": 0},
        {"precision": "fp8"},
        {"shard": (3, 2)},
        {"device": "tpu9"},
        {"worker_cpus": 2},
    ):
        with pytest.raises(UsageError):
            extract(folder, tmp_path / "f.h5", **options)
    with pytest.raises(UsageError, match="known"):
        extract_videos(folder, tmp_path / "f.h5", backbone="resnext1001")


def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path):
    """Peak memory of the decoder, 30 s against 5 min at 25 frames a second; benchmarks/memory.py measures all of it."""
    code = """
import resource, sys
from gcf.extract.decoding.jobs import ClipJob, decode_clips
from gcf.extract.decoding.preprocess import Geometry
for clip in decode_clips(sys.argv[1], "v", ClipJob(16, "loop", Geometry(112, (112, 112)))):
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    peaks = []
    for num_frames in (750, 7500):
        path = videos.write_video(tmp_path / f"{num_frames}.avi", num_frames, size=(120, 160))
        run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, check=True, text=True)
        peaks.append(int(run.stdout))
    assert peaks[1] - peaks[0] < 20_000  # KiB
