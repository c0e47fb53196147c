"""When and where: the same from videos and from their rows, honest about what is missing, of the videos asked for."""

import csv
import json
import os
from dataclasses import replace

import av
import numpy as np
import pytest
import videos
from compare import FLOAT32_FORWARD, assert_bitwise_equal, relative_error
from stage_one import TINY, extract

import gcf
from gcf.data.features import FeatureFile
from gcf.errors import RecipeError, UsageError, VideoError
from gcf.explain import localizer
from gcf.explain.localize import LocalizeConfig, localize_videos
from gcf.explain.predict import predict_videos
from gcf.explain.reading import described
from gcf.explain.reading.intervals import IntervalSettings
from gcf.extract.decoding.pool import DecoderPool

pytestmark = pytest.mark.slow

MINE = {"backbone": TINY, "device": "cpu", "workers": 1}
NUMBERS = LocalizeConfig(heat=False, overlay=False, sheet=False)
MAPS = LocalizeConfig(overlay=False, sheet=False)
HOSTILE = ["=1+2.avi", "new\nline.avi", 'quo"te,comma.avi', os.fsdecode(b"\xff.avi"), "v.avi", "v.avi.mp4", "v.mp4"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A video of two clips and a half."""
    return videos.write_video(tmp_path_factory.mktemp("clip") / "v.avi", 40)


@pytest.fixture
def without_strides(monkeypatch):
    """The plug-in as a network of gcf's own would be: with a twin that has no strides in time."""
    real, changes = described.load_network, {}

    def load(backbone, weights, config):
        if config.temporal_stride == "trained":  # the one that describes the clips
            return real(backbone, weights, config)
        assert config.temporal_stride == "none"
        network, recipe = real(backbone, weights, replace(config, temporal_stride="trained"))
        for layer in (network.backbone.stem, network.backbone.conv):
            layer.stride = (1, *layer.stride[1:])
        return network, recipe | {"temporal_stride": "none"} | changes

    monkeypatch.setattr(described, "load_network", load)
    return changes


def one(run, path, config=NUMBERS, out=None, **options):
    (found,) = localize_videos(run, path, out, config=config, **MINE | options)
    return found


def shown(path):
    """Size (H, W) of a video's first frame."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        return frame.height, frame.width


def test_videos_and_their_feature_file_give_the_same(tiny_run, folder, features):
    seen, stored = localize_videos(tiny_run, folder, config=NUMBERS, **MINE), localize_videos(tiny_run, features)
    assert [v.id for v in seen] == [v.id for v in stored] == FeatureFile(features).ids
    for ours, theirs in zip(seen, stored, strict=True):
        assert ours.intervals == theirs.intervals
        assert ours.intervals
        assert ours.heat is theirs.heat is None
        for name in ("logits", "probabilities", "evidence", "gate", "attention", "starts", "ends"):
            assert_bitwise_equal(getattr(ours.reading, name), getattr(theirs.reading, name))
    assert seen.complete
    assert stored.complete


def test_the_classes_are_those_of_the_prediction(tiny_run, folder, features):
    predicted = {p.id: dict(p.classes) for p in predict_videos(tiny_run, folder, **MINE)}
    for found in localize_videos(tiny_run, features):
        reading = found.reading
        assert dict(zip(reading.classes, reading.probabilities.tolist(), strict=True)) == predicted[found.id]


def test_evidence_of_a_video_that_is_read_at_once_sums_to_its_logits(tiny_run, features):
    assert gcf.load_head(tiny_run).module.classifier.bias is None
    for found in localize_videos(tiny_run, features):
        assert found.reading.evidence_kind == "traced"
        assert relative_error(found.reading.evidence.sum(axis=0), found.reading.logits) < FLOAT32_FORWARD


def test_maps_are_of_the_most_probable_class_or_of_the_one_asked_for(tiny_run, clip):
    config = replace(MAPS, threshold=0.0)  # every clip passes
    found = {label: one(tiny_run, clip, replace(config, label=label)) for label in (None, "jump", "run")}
    assert {label: v.heat.label for label, v in found.items() if label} == {"jump": "jump", "run": "run"}
    top = found[None].reading.classes[found[None].reading.top]
    assert_bitwise_equal(found[None].heat.values, found[top].heat.values)
    assert not np.array_equal(found["jump"].heat.values, found["run"].heat.values)
    positive = one(tiny_run, clip, replace(config, label="run", channels="positive")).heat.values
    assert (positive >= found["run"].heat.values).all()
    assert (positive > found["run"].heat.values).any()


def test_steps_in_time_are_those_of_the_network_of_its_windows_or_of_the_frames(tiny_run, clip, without_strides):
    config, changes = replace(MAPS, threshold=0.0), [{}, {"windows": 2}, {"temporal_stride": "none"}]
    found = [one(tiny_run, clip, replace(config, **change)) for change in changes]
    assert [v.heat.values.shape for v in found] == [(3, 4, 8, 8), (3, 2, 8, 8), (3, 16, 8, 8)]
    assert [v.heat.strides[0] for v in found] == [4, None, 1]
    for v in found[1:]:  # the maps' network makes maps only
        assert_bitwise_equal(v.reading.evidence, found[0].reading.evidence)


def test_a_network_without_strides_that_is_another_one_is_refused(tiny_run, clip, without_strides, tmp_path):
    without_strides["weights_sha256"] = "0" * 64
    with pytest.raises(RecipeError, match="without strides in time is another one: weights_sha256"):
        one(tiny_run, clip, replace(MAPS, temporal_stride="none"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_video_shorter_than_a_clip_is_one_interval(tiny_run, tmp_path):
    found = one(tiny_run, videos.write_video(tmp_path / "v.avi", 7), LocalizeConfig(), tmp_path / "out")
    assert {(i.start, i.end, i.score) for i in found.intervals} == {(0.0, round(found.reading.ends[0], 6), 0.0)}
    assert found.heat.values.shape[0] == len(found.reading.evidence) == 1
    assert (tmp_path / "out" / "v.avi.png").is_file()
    assert shown(tmp_path / "out" / "v.avi.mp4")


def test_a_threshold_that_no_gate_passes_is_softened_and_no_failure(tiny_run, clip):
    found = localize_videos(tiny_run, clip, config=replace(MAPS, threshold=0.999), **MINE)
    assert "no clip's gate passes 0.999" in found[0].note
    assert found[0].heat.shown.any()
    assert found.complete
    assert found[0].note in found.describe()


def test_a_broken_video_is_named_and_the_others_are_localised(tiny_run, tmp_path):
    videos.write_video(tmp_path / "v" / "b.avi", 20)
    (tmp_path / "v" / "a.avi").write_bytes(b"")
    found = localize_videos(tiny_run, tmp_path / "v", config=NUMBERS, **MINE)
    assert [(v.id, v.error, v.reading is None) for v in found] == [("a.avi", "empty", True), ("b.avi", "", False)]
    assert not found.complete
    extract(tmp_path / "v", tmp_path / "f.h5")
    stored = localize_videos(tiny_run, tmp_path / "f.h5")
    assert [(v.id, v.error) for v in stored] == [(v.id, v.error) for v in found]
    assert not stored.complete


def test_a_part_of_a_video_is_localised_and_called_a_part(tiny_run, clip, tmp_path):
    (tmp_path / "v.avi").write_bytes(clip.read_bytes()[:-3000])
    found = localize_videos(tiny_run, tmp_path / "v.avi", config=MAPS, **MINE)
    assert "12 of 40 frames" in found[0].note
    assert found[0].heat is not None
    assert not found.complete


def test_what_cannot_be_drawn_is_said_and_what_is_said_of_sound_is_no_failure(tiny_run, clip, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise VideoError("not the video that was read")

    monkeypatch.setattr(localizer, "write_sheet", refuse)
    monkeypatch.setattr(localizer, "write_overlay", lambda *_, **__: "its sound is left out")
    found = localize_videos(tiny_run, clip, tmp_path / "out", config=LocalizeConfig(heat=False), **MINE)
    assert found[0].note == "its sound is left out; no sheet: not the video that was read"
    assert not found.complete
    config = LocalizeConfig(heat=False, sheet=False)
    found = localize_videos(tiny_run, clip, tmp_path / "other", config=config, **MINE)
    assert found[0].note == "its sound is left out"
    assert found.complete


def test_a_rotated_portrait_is_drawn_upright(tiny_run, tmp_path):
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 360, 640, "yuv420p"
        stream.set_display_rotation(90)
        for index in range(3):
            pixels = videos.picture(index, height=360, width=640)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    found = one(tiny_run, tmp_path / "v.mp4", LocalizeConfig(sheet=False), tmp_path / "out")
    height, width = shown(tmp_path / "out" / "v.mp4.mp4")
    assert (found.reading.info.height, found.reading.info.width) == (640, 360)
    assert (width, height > 1280) == (720, True)  # twice as large, the strip of facts below


def test_any_name_has_its_own_files(tiny_run, tmp_path):
    for n, name in enumerate(HOSTILE):
        made = videos.write_video(tmp_path / f"{n}{os.path.splitext(name)[1]}", 3, seed=n)
        (tmp_path / "v").mkdir(exist_ok=True)
        made.rename(tmp_path / "v" / name)
    found = localize_videos(tiny_run, tmp_path / "v", tmp_path / "out", config=replace(NUMBERS, sheet=True), **MINE)
    entries = json.loads((tmp_path / "out" / "localization.json").read_bytes())["videos"]
    files = [entry["files"][kind] for entry in entries for kind in ("clips", "sheet")]
    assert {entry["id"] for entry in entries} == {v.id for v in found} == set(HOSTILE)
    assert len(set(files)) == 2 * len(HOSTILE)
    assert all((tmp_path / "out" / name).is_file() for name in files)
    assert all(repr(name) in found.describe() for name in HOSTILE)


def test_a_fault_stops_the_decoders(tiny_run, folder, tmp_path, monkeypatch):
    closed, real = [], DecoderPool.close
    monkeypatch.setattr(DecoderPool, "close", lambda pool: closed.append(pool) or real(pool))
    monkeypatch.setattr(localizer, "read_video", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError) as caught:
        localize_videos(tiny_run, folder, config=NUMBERS, **MINE)
    assert closed  # also while the fault, and with it every frame of the work, is still held
    assert caught


def test_a_class_that_is_not_probable_has_intervals_and_clips_when_asked_for(tiny_run, folder, tmp_path):
    reading = gcf.localize_videos(tiny_run, folder, **MINE)[0].reading
    least = reading.classes[int(reading.probabilities.argmin())]
    config = LocalizeConfig(label=least, heat=False, intervals=IntervalSettings(min_probability=1.0))
    found = gcf.localize_videos(tiny_run, folder, tmp_path, config=config, **MINE)
    assert all(any(one.label == least for one in video.intervals) for video in found)
    rows = list(csv.DictReader((tmp_path / "clips.csv").read_text().splitlines()))
    assert {row["label"] for row in rows} == {least}
    assert f": {least} " in found.describe()


def test_settings_of_maps_mean_nothing_without_videos(tiny_run, folder, tmp_path):
    extract(folder, tmp_path / "f.h5")
    for wrong in ({"windows": 2}, {"channels": "positive"}, {"temporal_stride": "none"}):
        with pytest.raises(UsageError, match="no pixels"):
            gcf.localize_videos(tiny_run, tmp_path / "f.h5", tmp_path / "out", config=LocalizeConfig(**wrong))
    assert not (tmp_path / "out").exists()
