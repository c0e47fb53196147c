"""Streams that are odd but sound, each with the frames and clips that it gives; rows 12 to 18 and 20 to 25."""

import json
import logging
from fractions import Fraction

import av
import numpy as np
import pytest
import videos
from stage_one import TINY

from gcf.data.schema import VideoInfo
from gcf.errors import VideoError
from gcf.extract.decoding import pool, video
from gcf.extract.decoding.jobs import Clip, ClipJob, decode_clips
from gcf.extract.decoding.preprocess import Geometry
from gcf.extract.decoding.video import Video

GEOMETRY = Geometry(16, (16, 16))


def clips_and_info(path, tail="loop", **job) -> tuple[list[Clip], VideoInfo]:
    *clips, info = decode_clips(path, "v", ClipJob(16, tail, GEOMETRY, **job))
    return clips, info


def frames(path) -> list[tuple[np.ndarray, float, float]]:
    return [(pixels.copy(), start, end) for pixels, start, end in Video(path)]


@pytest.mark.parametrize(
    ("num_frames", "looped", "dropped"),
    [(1, [1], 0), (15, [15], 0), (16, [16], 1), (17, [16, 1], 1), (31, [16, 15], 1)],
)
def test_every_length_has_its_clips_and_none_is_lost_in_silence(tmp_path, num_frames, looped, dropped):  # row 12
    path = videos.write_video(tmp_path / "v.mp4", num_frames, codec="libx264")
    for tail in ("loop", "repeat-last"):
        clips, info = clips_and_info(path, tail)
        assert [clip.num_real for clip in clips] == looped
        assert (info.num_frames, info.status) == (num_frames, "ok")
        assert all(clip.pixels.shape == (1, 16, 16, 16, 3) for clip in clips)
    if dropped:
        assert len(clips_and_info(path, "drop")[0]) == dropped
    else:
        with pytest.raises(VideoError, match=f"^too short: {num_frames} frames"):
            clips_and_info(path, "drop")


def test_frames_that_come_ever_later_are_neither_doubled_nor_left_out(tmp_path):  # row 13
    clips, info = clips_and_info(videos.write_video(tmp_path / "v.mkv", 48, codec="libx264", bf=0, pts=lambda i: i * i))
    assert (len(clips), info.num_frames, info.status) == (3, 48, "ok")
    for clip in clips:
        assert clip.start_time == pytest.approx(clip.start_frame**2 / 1000)
    assert clips[0].end_time == clips[1].start_time


def test_a_gap_of_ten_hours_is_not_filled(tmp_path):  # row 15
    ten_hours = 36_000_000
    path = videos.write_video(
        tmp_path / "v.mkv", 48, codec="libx264", bf=0, pts=lambda i: 40 * i + (ten_hours if i >= 24 else 0)
    )
    clips, info = clips_and_info(path)
    assert (len(clips), info.num_frames, info.status) == (3, 48, "ok")
    assert clips[1].end_time - clips[1].start_time == pytest.approx(ten_hours / 1000 + 0.04 * 16)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_turn_that_is_asked_for_is_made(tmp_path, turn):  # row 17
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=25, options={"crf": "0"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "rgb24"
        stream.set_display_rotation(turn)
        for index in range(3):
            picture = videos.picture(index, height=48, width=64)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    upright = np.rot90(videos.picture(0, height=48, width=64), turn // 90)
    np.testing.assert_array_equal(frames(path)[0][0], upright)
    _, info = clips_and_info(path)
    assert (info.height, info.width) == upright.shape[:2]


def test_a_change_of_size_is_worth_one_word_and_costs_no_frame(tmp_path, caplog):  # row 18
    names = ("a.ts", "b.ts", "a.ts")
    sizes = {"a.ts": (96, 128), "b.ts": (160, 192)}
    parts = [videos.write_video(tmp_path / n, 24, size=sizes[n], codec="libx264").read_bytes() for n in names]
    (tmp_path / "joined.ts").write_bytes(b"".join(parts))
    with caplog.at_level(logging.WARNING, logger="gcf"):
        clips, info = clips_and_info(tmp_path / "joined.ts")
    assert (info.height, info.width, info.status) == (96, 128, "ok")
    assert sum(clip.num_real for clip in clips) == info.num_frames == 72
    (line,) = [record.getMessage() for record in caplog.records]
    assert "joined.ts': frames change from 128 x 96 to 192 x 160 at frame 24; each is resized on its own" in line


@pytest.mark.slow
def test_a_small_file_of_countless_frames_is_bounded_by_rule(tmp_path):  # row 20
    path = videos.write_video(tmp_path / "v.mkv", 2_000, size=(16, 16), codec="libx264", preset="ultrafast")
    clips, info = clips_and_info(path, max_frames=2_000)
    assert (len(clips), info.num_frames) == (125, 2_000)
    given = []
    with pytest.raises(VideoError, match=r"^too long: over 1,999 frames, the bound that --max-frames sets$"):
        given.extend(decode_clips(path, "v", ClipJob(16, "loop", GEOMETRY, max_frames=1_999)))
    assert len(given) <= 124


@pytest.mark.parametrize(("codec", "name", "pix_fmt"), [("ffv1", "v.mkv", "bgr0"), ("qtrle", "v.mov", "argb")])
def test_lossless_pictures_come_out_bit_for_bit(tmp_path, codec, name, pix_fmt):  # row 22
    path = videos.write_video(tmp_path / name, 5, codec=codec, pix_fmt=pix_fmt)
    for index, (pixels, _, _) in enumerate(frames(path)):
        np.testing.assert_array_equal(pixels, videos.picture(index, height=48, width=64))


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (13, 17), (16, 8192)])
def test_frames_of_any_size_become_clips(tmp_path, size):  # row 23
    path = videos.write_video(tmp_path / "v.mkv", 2, size=size, codec="ffv1", pix_fmt="bgr0")
    clips, info = clips_and_info(path)
    assert clips[0].pixels.shape == (1, 16, 16, 16, 3)
    assert (info.height, info.width) == size


def test_fields_are_not_torn_apart(tmp_path):  # row 24
    path = videos.write_video(tmp_path / "v.mp4", 20, codec="libx264", flags="+ilme+ildct", crf=1)
    decoded = frames(path)
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    assert len(decoded) == 20
    difference = np.abs(decoded[0][0].astype(int) - videos.picture(0, height=48, width=64)).mean()
    assert difference < 12  # the colours lose half their resolution; a deinterlaced picture of two fields has 25 frames


def test_of_two_video_streams_the_first_is_taken_and_said_so(tmp_path, caplog):  # row 25
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("ffv1", rate=25) for _ in range(2)]
        for stream, side in zip(streams, (32, 64), strict=True):
            stream.height = stream.width = side
            stream.pix_fmt = "bgr0"
        for index in range(20):
            for stream, side in zip(streams, (32, 64), strict=True):
                picture = av.VideoFrame.from_ndarray(videos.picture(index, height=side, width=side), format="rgb24")
                picture.pts, picture.time_base = index, Fraction(1, 25)
                container.mux(stream.encode(picture))
        for stream in streams:
            container.mux(stream.encode())
    with caplog.at_level(logging.WARNING, logger="gcf"):
        _, info = clips_and_info(path)
    assert (info.num_frames, info.width) == (20, 32)
    assert [record.getMessage() for record in caplog.records] == [f"{str(path)!r}: 2 video streams, the first is taken"]


def test_a_small_file_of_large_frames_is_bounded_by_what_is_decoded(tmp_path, monkeypatch):
    path = videos.write_video(tmp_path / "v.mkv", 100, size=(64, 64), codec="libx264")
    pixels, size = 100 * 64 * 64, path.stat().st_size
    monkeypatch.setattr(video, "PIXELS_A_BYTE", pixels // size // 2)
    _, info = clips_and_info(path, max_gigapixels=pixels / 1e9)
    assert (info.num_frames, info.status) == (100, "ok"), "the bound itself is kept"
    given = []
    job = ClipJob(16, "loop", GEOMETRY, max_gigapixels=75 * 64 * 64 / 1e9)
    with pytest.raises(VideoError, match=r"^too much work: over 0.0003072 gigapixels, .* from [\d,]+ bytes$"):
        given.extend(decode_clips(path, "v", job))
    assert len(given) == 4
    monkeypatch.setattr(video, "PIXELS_A_BYTE", pixels // size + 1)
    assert clips_and_info(path, max_gigapixels=1e-9)[1].num_frames == 100, "its bytes are worth as many"


def test_frames_that_are_not_given_are_work_too(tmp_path, monkeypatch):
    """A stream that never has a clean key frame gives nothing, however much of it is decoded."""
    path = videos.write_video(tmp_path / "v.mkv", 100, size=(64, 64), codec="libx264")
    monkeypatch.setattr(video, "PIXELS_A_BYTE", 1)
    monkeypatch.setattr(Video, "_damage", lambda *_: "damaged")
    with pytest.raises(VideoError, match=r"^too much work"):
        list(Video(path, max_gigapixels=1e-6))


@pytest.mark.slow
def test_the_bound_of_the_command_reaches_the_decoders(tmp_path, monkeypatch, invoke):
    root = tmp_path / "v"
    videos.write_video(root / "costly.mkv", 100, size=(64, 64), codec="libx264", crf=40)
    videos.write_video(root / "dense.avi", 100, size=(64, 64), b=4_000_000)
    monkeypatch.setattr(pool, "WORKER", "frugal_worker")
    command = ["extract", root, tmp_path / "f.h5", "--backbone", TINY, "--json"]
    code, out, err = invoke(*command, "--max-gigapixels", 1e-4)
    assert code == 3, err
    ((name, reason),) = json.loads(out)["failures"]
    assert (name, reason[:38]) == ("costly.mkv", "too much work: over 0.0001 gigapixels,")
    code, out, err = invoke(*command)
    assert (code, json.loads(out)["failures"]) == (0, []), "with more room, resumed with the same recipe"
