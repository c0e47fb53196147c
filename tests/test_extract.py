"""Stage one whole, on small videos and a small plug-in: files, resumption, faults; always the same bytes."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import videos
from compare import assert_bitwise_equal

import gcf
from gcf import FeatureFile, extract_videos, merge_features
from gcf.errors import RecipeError, RefusedError, StoppedError, UsageError
from gcf.extract import extractor, pool
from gcf.extract.network import ClipNetwork
from gcf.extract.normalise import Normalise
from gcf.extract.preprocess import Geometry, centre_view
from gcf.extract.video import Video

TINY = str(Path(__file__).with_name("tiny_backbone.py"))


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Two classes, three videos each, 20 to 43 frames."""
    return videos.write_folder(tmp_path_factory.mktemp("videos"))


def extract(source, out, **options):
    return extract_videos(source, out, backbone=TINY, **{"batch_size": 4, "workers": 2} | options)


@pytest.fixture(scope="session")
def reference(folder, tmp_path_factory):
    """The bytes of an undisturbed run with one worker."""
    out = tmp_path_factory.mktemp("reference") / "f.h5"
    extract(folder, out, workers=1)
    return out.read_bytes()


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


RUN = """
import sys, time
from gcf import extract_videos
from gcf.extract import extractor, network
extractor.PART_VIDEOS = 1
plain = network.ClipNetwork.__call__
network.ClipNetwork.__call__ = lambda self, pixels: (time.sleep(0.2), plain(self, pixels))[1]  # time to be killed in
extract_videos(sys.argv[1], sys.argv[2], backbone=sys.argv[3], batch_size=4, workers=2)
"""


def test_a_run_killed_again_and_again_ends_in_the_same_bytes(folder, tmp_path, reference):
    out, rng = tmp_path / "f.h5", random.Random(0)
    for wanted in (1, 2, 4):
        process = subprocess.Popen([sys.executable, "-c", RUN, str(folder), str(out), TINY])
        while len(list(tmp_path.glob("f.h5.parts/part-*.h5"))) < wanted and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.2))
        process.kill()
        assert process.wait() == -signal.SIGKILL, "it was to be killed before its end"
    extract(folder, out)
    assert out.read_bytes() == reference
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.h5"]


def test_a_stopped_run_keeps_what_it_has_committed_and_does_not_do_it_again(folder, tmp_path, reference, monkeypatch):
    out = tmp_path / "f.h5"
    monkeypatch.setattr(extractor, "PART_VIDEOS", 1)
    seen = []

    def stop_after_three(self, *, clips):
        seen.append(clips)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(extractor.Progress, "advance", stop_after_three)
        with pytest.raises(KeyboardInterrupt):
            extract(folder, out)
    assert not out.exists()
    summary = extract(folder, out)
    assert summary.extracted == 3
    assert summary.videos == 6
    assert out.read_bytes() == reference


def test_a_second_run_does_nothing_and_a_changed_video_is_done_again(folder, tmp_path):
    copy, out = tmp_path / "videos", tmp_path / "f.h5"
    shutil.copytree(folder, copy)
    assert extract(copy, out).extracted == 6
    before = out.read_bytes()
    assert extract(copy, out).extracted == 0
    assert out.read_bytes() == before
    videos.write_video(copy / "run" / "v_run_g01_c01.avi", 33, seed=77)
    assert extract(copy, out).extracted == 1
    assert FeatureFile(out).videos.num_frames[3] == 33


def test_another_list_of_videos_is_refused_until_update_is_asked(folder, tmp_path):
    copy, out = tmp_path / "videos", tmp_path / "f.h5"
    shutil.copytree(folder, copy)
    extract(copy, out)
    videos.write_video(copy / "run" / "new.avi", 20)
    with pytest.raises(RefusedError, match=r"1 more now, 0 gone, e.g. 'run/new.avi'.*--update"):
        extract(copy, out)
    (copy / "jump" / "v_jump_g01_c01.avi").unlink()
    summary = extract(copy, out, update=True)
    assert (summary.extracted, summary.videos) == (1, 6)
    assert "run/new.avi" in FeatureFile(out).ids


@pytest.mark.parametrize("change", [{"clip_frames": 8}, {"tail": "drop"}, {"views": 2}, {"dtype": "float32"}])
def test_another_recipe_is_refused_and_the_file_left_alone(folder, tmp_path, change):
    out = tmp_path / "f.h5"
    extract(folder, out)
    before = out.read_bytes()
    with pytest.raises(RecipeError, match="another recipe"):
        extract(folder, out, **change)
    assert out.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["f.h5"]


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


def test_a_failure_that_was_mended_is_tried_again_on_resumption(folder, tmp_path, monkeypatch):
    copy, out = tmp_path / "videos", tmp_path / "f.h5"
    shutil.copytree(folder, copy)
    (copy / "jump" / "a.avi").write_bytes(b"")
    monkeypatch.setattr(extractor, "PART_VIDEOS", 1)
    monkeypatch.setattr(extractor._Run, "merge", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        extract(copy, out)
    monkeypatch.undo()
    shutil.copy(copy / "jump" / "v_jump_g01_c01.avi", copy / "jump" / "a.avi")
    summary = extract(copy, out)
    assert (summary.extracted, summary.videos, summary.failures) == (1, 7, [])


def test_a_video_that_changes_before_the_merge_is_reported_not_lost(folder, tmp_path, monkeypatch):
    copy, out = tmp_path / "videos", tmp_path / "f.h5"
    shutil.copytree(folder, copy)
    merge = extractor._Run.merge

    def touch_then_merge(*args):
        os.utime(copy / "run" / "v_run_g01_c01.avi", (1, 1))
        merge(*args)

    with monkeypatch.context() as patch:
        patch.setattr(extractor._Run, "merge", touch_then_merge)
        summary = extract(copy, out)
    assert [f[0] for f in summary.failures] == ["run/v_run_g01_c01.avi"]
    assert "run the same command again" in summary.failures[0][1]
    assert not summary.complete
    assert extract(copy, out).failures == []


def test_finished_videos_are_committed_while_a_long_one_is_under_way(tmp_path, monkeypatch):
    videos.write_video(tmp_path / "v" / "a.avi", 20)
    videos.write_video(tmp_path / "v" / "long.avi", 800)
    monkeypatch.setattr(extractor, "PART_SECONDS", 0.0)
    counts, commit = [], extractor.PartFolder.commit

    def counted(self, content):
        counts.append([v.id for v in content.videos])
        commit(self, content)

    monkeypatch.setattr(extractor.PartFolder, "commit", counted)
    extract(tmp_path / "v", tmp_path / "f.h5", workers=2)
    assert counts == [["a.avi"], ["long.avi"]]


def test_parts_of_another_recipe_are_refused_even_without_their_run_file(folder, tmp_path, monkeypatch):
    out = tmp_path / "f.h5"
    monkeypatch.setattr(extractor._Run, "merge", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        extract(folder, out)
    monkeypatch.undo()
    (tmp_path / "f.h5.parts" / "run.json").unlink()
    with pytest.raises(RecipeError, match="num_frames"):
        extract(folder, out, clip_frames=8)


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


def test_a_second_process_on_the_same_output_is_refused_and_a_dead_one_is_no_obstacle(folder, tmp_path):
    out = tmp_path / "f.h5"
    code = f"""
import sys, time
from pathlib import Path
from gcf.data.parts import PartFolder
with PartFolder(Path({str(out)!r})).locked():
    print("locked", flush=True)
    time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(RefusedError, match=f"in use by process {holder.pid} on"):
            extract(folder, out)
        assert (tmp_path / "f.h5.parts").is_dir(), "the other's work is left alone"
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert extract(folder, out).videos == 6


@pytest.mark.parametrize("room", [3000, 20000, 60000])
def test_a_full_disk_stops_the_run_which_then_resumes(folder, tmp_path, reference, monkeypatch, room):
    out = tmp_path / "f.h5"
    monkeypatch.setattr(extractor, "PART_VIDEOS", 2)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        stopped = None
        try:
            extract(folder, out)
        except StoppedError as error:
            stopped = error
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    if room < 60000:
        assert stopped is not None
        assert stopped.exit_code == 5
        assert str(out) in str(stopped)
        assert "run the same command again" in str(stopped)
        assert not out.exists()
    extract(folder, out)
    assert out.read_bytes() == reference


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
    for options in ({"tail": "cut"}, {"views": 0}, {"precision": "fp8"}, {"shard": (3, 2)}, {"device": "tpu9"}):
        with pytest.raises(UsageError):
            extract(folder, tmp_path / "f.h5", **options)
    with pytest.raises(UsageError, match="known"):
        extract_videos(folder, tmp_path / "f.h5", backbone="resnext1001")


def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path):
    """Peak memory of the decoder, 30 s against 5 min at 25 frames a second; benchmarks/memory.py measures all of it."""
    code = """
import resource, sys
from gcf.extract.decoding import ClipJob, decode_clips
from gcf.extract.preprocess import Geometry
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
