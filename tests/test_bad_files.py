"""Files that are no videos, or damaged ones, each with what is recorded for it; rows 1 to 11, 19, 21 and 27 to 31."""

import re

import bad_videos
import numpy as np
import pytest
import videos

from gcf.data.schema import VideoInfo
from gcf.errors import UsageError, VideoError
from gcf.extract.decoding.find import find_videos
from gcf.extract.decoding.jobs import Clip, ClipJob, decode_clips
from gcf.extract.decoding.preprocess import Geometry
from gcf.extract.decoding.source import require_inside
from gcf.extract.decoding.video import Video

JOB = ClipJob(16, "loop", Geometry(16, (16, 16)))
FAILED = [name for name in bad_videos.EXPECTED if not bad_videos.is_partial(name)]
PARTIAL = [name for name in bad_videos.EXPECTED if bad_videos.is_partial(name)]


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    root = tmp_path_factory.mktemp("bad")
    return bad_videos.write_all(root / "v", videos.write_video(root / "lure.mp4", 20))


def by_row(names):
    return [pytest.param(name, id=f"row{bad_videos.EXPECTED[name][0]}-{name}") for name in names]


def clips_and_info(path, job=JOB) -> tuple[list[Clip], VideoInfo]:
    *clips, info = decode_clips(path, "v", job)
    return clips, info


@pytest.mark.slow
@pytest.mark.parametrize("name", by_row(FAILED))
def test_what_gives_no_frame_says_why(bad, name):
    """A pipe or device that was waited for would hold this test for ever."""
    with pytest.raises(VideoError) as caught:
        clips_and_info(bad / name)
    assert re.fullmatch(bad_videos.EXPECTED[name][1], str(caught.value))


@pytest.mark.slow
@pytest.mark.parametrize("name", by_row(PARTIAL))
def test_what_is_damaged_gives_the_frames_before_the_damage(bad, name, tmp_path):
    clips, info = clips_and_info(bad / name)
    assert info.status == "partial"
    assert re.fullmatch(bad_videos.EXPECTED[name][1], info.note)
    assert info.note.startswith(f"{info.num_frames} of ")
    assert sum(clip.num_real for clip in clips) == info.num_frames
    bad_videos.streaming_mp4(tmp_path / "whole.mp4")
    whole = [pixels for pixels, _, _ in Video(tmp_path / "whole.mp4")]
    for ours, theirs in zip(Video(bad / name), whole[: info.num_frames], strict=True):
        np.testing.assert_array_equal(ours[0], theirs)


@pytest.mark.slow
def test_nine_frames_before_the_cut_are_one_padded_clip(tmp_path):  # row 5
    data = bad_videos.streaming_mp4(tmp_path / "v.mp4")
    for size in range(len(data) // 2, 0, -50):  # where the ninth frame ends depends on the encoder
        (tmp_path / "v.mp4").write_bytes(data[:size])
        clips, info = clips_and_info(tmp_path / "v.mp4")
        if info.num_frames <= 9:
            break
    assert info.num_frames == 9
    assert info.note.startswith("9 of 48 frames: ")
    assert [(clip.start_frame, clip.num_real) for clip in clips] == [(0, 9)]
    np.testing.assert_array_equal(clips[0].pixels[0, 9:], clips[0].pixels[0, :7])


def test_a_container_that_counts_too_many_frames_is_partial_by_what_decodes(bad):  # row 21
    clips, info = clips_and_info(bad / "samples.mp4")
    assert (len(clips), info.num_frames) == (3, 48)


def test_links_out_of_the_folder_are_followed_unless_they_are_to_stay_inside(tmp_path):  # row 31
    outside, root = tmp_path / "outside", tmp_path / "root"
    videos.write_video(outside / "a.avi", 20)
    videos.write_video(root / "own.avi", 20)
    (root / "file.avi").symlink_to(outside / "a.avi")
    (root / "within.avi").symlink_to(root / "own.avi")
    (root / "linked").symlink_to(outside)
    assert [v.id for v in find_videos([root])] == ["file.avi", "linked/a.avi", "own.avi", "within.avi"]
    found = find_videos([root], stay_inside=True)
    assert [v.id for v in found] == ["file.avi", "linked", "own.avi", "within.avi"]
    for video in found:
        if video.id in ("file.avi", "linked"):
            with pytest.raises(VideoError, match="a link leads out of the folder of the videos"):
                require_inside(video.path, video.root)
        else:
            require_inside(video.path, video.root)


def test_a_root_that_is_itself_a_link_holds_its_videos(tmp_path):  # row 31
    videos.write_video(tmp_path / "real" / "a.avi", 20)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for source in ([tmp_path / "link"], [tmp_path / "link" / "a.avi"]):
        (video,) = find_videos(source, stay_inside=True)
        require_inside(video.path, video.root)


@pytest.mark.parametrize("options", [{"max_frames": 0}, {"deadline": 0.0}, {"deadline": -1.0}, {"max_gigapixels": 0.0}])
def test_bounds_that_nothing_could_keep_are_refused(options):
    from gcf.extract.stream.config import ExtractConfig

    with pytest.raises(UsageError, match="must be"):
        ExtractConfig(**options)
