import json

import numpy as np
import pytest
import videos

from gcf.data.schema import VideoInfo
from gcf.errors import VideoError
from gcf.extract.decoding.clips import fill_indices
from gcf.extract.decoding.jobs import ClipJob, decode_clips
from gcf.extract.decoding.preprocess import Geometry

SMALL = Geometry(resize=16, crop=(16, 16))


def clips_of(path, *, tail="loop", views=1):
    *clips, info = decode_clips(path, path.name, ClipJob(16, tail, SMALL, views))
    assert isinstance(info, VideoInfo)
    return clips, info


@pytest.mark.slow
@pytest.mark.parametrize("num_frames", [1, 2, 5, 15, 16, 17, 31, 32, 33, 40, 100])
def test_windows_and_loop_padding_are_those_of_3d_resnets_pytorch(parity, tmp_path, num_frames):
    expected = json.loads((parity / "temporal_oracle.json").read_text())["hara_SlidingWindow_16_16"][str(num_frames)]
    clips, _ = clips_of(videos.write_video(tmp_path / "v.avi", num_frames))
    ours = [
        [c.start_frame + i + 1 for i in fill_indices(c.num_real, clip_len=16, tail="loop")]  # the oracle counts from 1
        for c in clips
    ]
    assert ours == expected


@pytest.mark.parametrize(
    ("num_frames", "looped", "dropped"), [(1, 1, 0), (15, 1, 0), (16, 1, 1), (17, 2, 1), (31, 2, 1)]
)
def test_every_decodable_video_has_a_clip_unless_short_tails_are_dropped(tmp_path, num_frames, looped, dropped):
    path = videos.write_video(tmp_path / "v.avi", num_frames)
    assert len(clips_of(path)[0]) == looped
    if dropped:
        assert len(clips_of(path, tail="drop")[0]) == dropped
    else:
        with pytest.raises(VideoError, match="too short"):
            clips_of(path, tail="drop")


def test_the_last_clip_says_how_many_of_its_frames_are_real_and_repeats_them(tmp_path):
    path = videos.write_video(tmp_path / "v.avi", 21)
    for tail, order in (("loop", [0, 1, 2, 3, 4] * 4), ("repeat-last", [0, 1, 2, 3, 4] + [4] * 11)):
        clips, _ = clips_of(path, tail=tail)
        last = clips[-1]
        assert (last.start_frame, last.num_real, last.pixels.shape) == (16, 5, (1, 16, 16, 16, 3))
        np.testing.assert_array_equal(last.pixels[0], last.pixels[0][order[:16]])
        assert len({frame.tobytes() for frame in last.pixels[0]}) == 5


def test_clips_do_not_overlap_and_times_come_from_time_stamps(tmp_path):
    path = videos.write_video(tmp_path / "v.mkv", 40, codec="ffv1", pts=lambda i: i * i)  # slower and slower
    clips, info = clips_of(path)
    assert [(c.start_frame, c.num_real) for c in clips] == [(0, 16), (16, 16), (32, 8)]
    assert [c.start_time for c in clips] == [0.0, 0.256, 1.024]
    assert [c.end_time for c in clips[:2]] == [0.256, 1.024]
    assert info.duration == pytest.approx(1.521 + 0.077)  # the last frame lasts as long as the one before it
    assert info.num_frames == 40


def test_the_pixels_of_each_clip_are_those_of_its_own_frames(tmp_path):
    path = videos.write_video(tmp_path / "v.mkv", 35, size=(16, 16), codec="ffv1", pix_fmt="bgr0")  # lossless
    clips, _ = clips_of(path)
    for clip in clips:
        for i in range(clip.num_real):
            expected = videos.picture(clip.start_frame + i, height=16, width=16)
            np.testing.assert_array_equal(clip.pixels[0, i], expected)


def test_augmented_views_stand_beside_an_unchanged_centre_view(tmp_path):
    path = videos.write_video(tmp_path / "v.avi", 20)
    plain, viewed = clips_of(path)[0], clips_of(path, views=4)[0]
    again = clips_of(path, views=4)[0]
    for a, b, c in zip(plain, viewed, again, strict=True):
        assert b.pixels.shape == (4, 16, 16, 16, 3)
        np.testing.assert_array_equal(a.pixels[0], b.pixels[0])
        np.testing.assert_array_equal(b.pixels, c.pixels)
    assert len({v.tobytes() for v in viewed[0].pixels}) > 1
