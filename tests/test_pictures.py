"""Pictures of predictions: complete PNG files whatever the video and its name, and no prediction lost for one."""

import os
from dataclasses import replace

import numpy as np
import pytest
import videos
from compare import FLOAT32_FORWARD, assert_bitwise_equal
from matplotlib.figure import Figure
from PIL import Image
from stage_one import TINY, extract

import gcf
from gcf.data.features import FeatureFile
from gcf.data.schema import Clips
from gcf.data.segments import Segment
from gcf.errors import AnnotationError, RefusedError, UsageError, VideoError
from gcf.explain import predict as predicting
from gcf.explain.drawing import pictures
from gcf.explain.drawing.pictures import FRAME_PIXELS, INCHES, TALLEST, Reading, draw_video, middle_frames
from gcf.explain.reading import described
from gcf.extract.decoding.video import Video

pytestmark = pytest.mark.slow


def clips_of(count: int, *, last: int = 16) -> Clips:
    """`count` clips of a video at 16 frames a second."""
    real = np.array([16] * (count - 1) + [last])
    starts = np.arange(count) * 16
    return Clips(starts, real, starts / 16.0, (starts + real) / 16.0)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return videos.write_video(tmp_path_factory.mktemp("video") / "v.avi", 40)


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    extract(folder, out / "f.h5")
    gcf.train_head(out / "f.h5", out / "run", epochs=1)
    gcf.train_head(out / "f.h5", out / "clip", head="clip", epochs=1)
    return out


def test_each_clip_is_shown_by_its_middle_frame(video):
    decoded = [frame for frame, _, _ in Video(video)]
    for frame, index in zip(middle_frames(video, clips_of(3, last=8)), (8, 24, 36), strict=True):
        assert_bitwise_equal(frame, decoded[index])
    with pytest.raises(VideoError, match="fewer frames now"):
        middle_frames(video, clips_of(4))


def test_large_frames_are_made_small(tmp_path):
    path = videos.write_video(tmp_path / "v.avi", 16, size=(720, 1280))
    (frame,) = middle_frames(path, clips_of(1))
    assert frame.shape == (FRAME_PIXELS * 720 // 1280, FRAME_PIXELS, 3)


@pytest.mark.parametrize("name", ["plain", "costs $5^ and $x", "v\udcff", "動画", "a_b^{c"])
@pytest.mark.parametrize("values", [True, False])
def test_any_name_and_any_head_give_a_picture(video, tmp_path, name, values):
    numbers = np.linspace(-1, 1, 3) if values else None
    reading = Reading(name, numbers, numbers, numbers, [Segment(0.5, 1.5, "a"), Segment(2, 99, "a")] if values else [])
    draw_video(tmp_path / "deep" / "er.png", video, clips_of(3, last=8), reading, origin=0.0)
    with Image.open(tmp_path / "deep" / "er.png") as picture:
        picture.verify()
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["er.png"]


def test_a_long_or_tall_video_stays_a_picture(tmp_path):
    long = videos.write_video(tmp_path / "long.avi", 16 * 60, size=(16, 256))
    tall = videos.write_video(tmp_path / "tall.avi", 16, size=(256, 16))
    for path, count in ((long, 60), (tall, 1)):
        draw_video(tmp_path / "p.png", path, clips_of(count), Reading("t", np.ones(count), None), origin=0.0)
        with Image.open(tmp_path / "p.png") as picture:
            assert picture.size[0] < 110 * INCHES * 1.01
            assert picture.size[1] < 110 * (TALLEST + 2.7)


def test_segments_are_shaded_where_their_clips_stand():
    axes = Figure().subplots()
    shifted = clips_of(3, last=8)
    shifted = Clips(shifted.start_frame, shifted.num_frames, shifted.start_time + 7, shifted.end_time + 7)
    pictures._draw_segments(axes, shifted, [Segment(0.5, 2.25, "a"), Segment(-1, 99, "a")], origin=7.0)
    spans = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in axes.patches]
    assert spans == [(0.5, 2.5), (0.0, 3.0)]  # the last clip is half as long, and as wide


def test_predictions_are_the_same_with_pictures(run, folder, tmp_path):
    plain = gcf.predict_videos(run / "run", folder, backbone=TINY)
    drawn = gcf.predict_videos(run / "run", folder, backbone=TINY, pictures=tmp_path / "p")
    assert drawn == plain
    found = sorted(str(p.relative_to(tmp_path / "p")) for p in (tmp_path / "p").rglob("*") if p.is_file())
    assert found == [f"{p.id}.png" for p in plain]
    assert gcf.predict_videos(run / "clip", folder, backbone=TINY, pictures=tmp_path / "q")


def test_a_looped_clip_is_drawn_once_for_all_its_repeats(run, folder, tmp_path, monkeypatch):
    head = gcf.load_head(run / "run")
    head = replace(head, training=head.training | {"padding": "loop"})
    drawn = {}

    def keep(path, _, clips, reading, origin):
        drawn[path.name] = clips, reading

    monkeypatch.setattr(predicting, "draw_video", keep)
    found = gcf.predict_videos(head, folder, backbone=TINY, pictures=tmp_path / "p")
    assert len(drawn) == len(found)
    features = FeatureFile(run / "f.h5")
    for n, video_id in enumerate(features.ids):
        clips, reading = drawn[f"{os.path.basename(video_id)}.png"]
        expected = features.video(n)
        said = head(expected)
        logit, gate = float(said.logits[0].max()), said.gate[0]
        rounding = FLOAT32_FORWARD * float(said.logits.abs().max())
        count = len(expected.descriptors)
        assert count < 10 == len(gate)
        assert_bitwise_equal(clips.start_frame, expected.clips.start_frame)
        assert (len(reading.evidence), len(reading.gate), len(reading.attention)) == (count,) * 3
        assert reading.evidence.sum() == pytest.approx(logit, abs=rounding)
        assert reading.gate[0] == pytest.approx(float(gate[::count].mean()), rel=FLOAT32_FORWARD)
        assert reading.attention.sum() == pytest.approx(1)


def test_a_picture_that_fails_costs_no_prediction(run, folder, tmp_path, monkeypatch):
    real, calls = predicting.draw_video, []

    def fails_once(path, *args, **kw):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device", str(path))
        real(path, *args, **kw)

    monkeypatch.setattr(predicting, "draw_video", fails_once)
    found = gcf.predict_videos(run / "run", folder, backbone=TINY, pictures=tmp_path / "p")
    assert len(found) == 6
    assert all(p.classes for p in found)
    assert [p.note for p in found if p.note] == [f"no picture: [Errno 28] No space left on device: '{calls[1]}'"]


def test_where_pictures_cannot_go_or_truth_is_of_others_nothing_is_begun(run, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(described, "load_network", lambda *_: pytest.fail("begun"))
    (tmp_path / "file").write_text("")
    with pytest.raises(RefusedError, match="is a file; name a folder"):
        gcf.predict_videos(run / "run", folder, backbone=TINY, pictures=tmp_path / "file")
    with pytest.raises(UsageError, match="name their folder"):
        gcf.predict_videos(run / "run", folder, backbone=TINY, truth=tmp_path / "file")
    (tmp_path / "t.json").write_text('{"database": {"other": {"annotations": []}}}')
    with pytest.raises(AnnotationError, match="names none of the 6 videos"):
        gcf.predict_videos(run / "run", folder, backbone=TINY, pictures=tmp_path / "p", truth=tmp_path / "t.json")


def test_a_broken_video_has_its_error_and_no_picture(run, tmp_path):
    root = tmp_path / "v"
    videos.write_video(root / os.fsdecode(b"\xff.avi"), 20)
    (root / "b.avi").write_bytes(b"")
    broken, odd = gcf.predict_videos(run / "run", root, backbone=TINY, pictures=tmp_path / "p")
    assert broken.error == "empty"
    assert odd.classes
    assert [p.name for p in (tmp_path / "p").iterdir()] == [os.fsdecode(b"\xff.avi.png")]
