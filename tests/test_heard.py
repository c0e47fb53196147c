"""What a decoder says is believed only where it can be meant; all else costs its video, never the run."""

from dataclasses import asdict

import numpy as np
import pytest
import videos
from stage_one import extract

from gcf import FeatureFile
from gcf.data.schema import VideoInfo
from gcf.extract.decoding import pool
from gcf.extract.decoding.decoder_messages import Failed, MessageCheck
from gcf.extract.decoding.jobs import Clip, ClipJob
from gcf.extract.decoding.preprocess import Geometry

JOBS = [ClipJob(2, "loop", Geometry(4, (4, 6))), ClipJob(3, "loop", Geometry(4, (4, 4)), views=2)]
INFO = VideoInfo(fps=25, num_frames=2, width=8, height=8, duration=0.08, size=10, mtime_ns=10)
CLIP = {"kind": "clip", "job": 0, "shape": [1, 2, 4, 6, 3], "start_frame": 0, "num_real": 2}
CLIP |= {"start_time": 0, "end_time": 0.08}
DONE = {"kind": "done", "job": 0, "info": asdict(INFO)}
PIXELS = bytearray(range(144))


def test_what_is_meant_is_taken_as_it_is():
    check = MessageCheck(JOBS, [0, 1])
    about, clip = check.take(CLIP, PIXELS)
    assert about == [0]
    assert isinstance(clip, Clip)
    np.testing.assert_array_equal(clip.pixels.reshape(-1), np.arange(144))
    assert (clip.start_frame, clip.num_real, clip.start_time, clip.end_time) == (0, 2, 0, 0.08)
    assert check.take(DONE, b"") == ([0], INFO)
    assert check.at_work == [1]
    assert check.take({"kind": "failed", "error": "torn\x1b[2J"}, b"") == ([1], Failed("torn\\x1b[2J"))
    assert check.at_work == []


def test_a_failure_that_names_no_job_is_all_of_theirs_and_one_that_does_its_own():
    assert MessageCheck(JOBS, [0, 1]).take({"kind": "failed", "error": "x", "errno": 5}, b"") == (
        [0, 1],
        Failed("x", 5),
    )
    check = MessageCheck(JOBS, [0, 1])
    assert check.take({"kind": "failed", "job": 1, "error": "x"}, b"") == ([1], Failed("x"))
    assert check.at_work == [0]


NONSENSE = {
    "another shape": CLIP | {"shape": [1, 2, 6, 4, 3]},
    "another job's shape": CLIP | {"job": 1},
    "a shape that is none": CLIP | {"shape": 144},
    "no job": {name: value for name, value in CLIP.items() if name != "job"},
    "a job that is not there": CLIP | {"job": 2},
    "a job that is no number": CLIP | {"job": "0"},
    "a job before the first": CLIP | {"job": -1},
    "a job that is a truth": CLIP | {"job": False},
    "a time that is none": CLIP | {"end_time": float("nan")},
    "an endless time": CLIP | {"end_time": float("inf")},
    "a frame that is text": CLIP | {"start_frame": "0"},
    "a frame before the first": CLIP | {"start_frame": -1},
    "no real frame": CLIP | {"num_real": 0},
    "more real frames than frames": CLIP | {"num_real": 3},
    "a number that cannot be stored": CLIP | {"start_frame": 10**400},
    "an unknown kind": {"kind": "song", "job": 0},
    "no kind": {"job": 0},
    "an end without a clip": DONE,
    "a reason that is no text": {"kind": "failed", "error": 7},
    "a fault that is no number": {"kind": "failed", "error": "x", "errno": "5"},
}


@pytest.mark.parametrize("head", NONSENSE.values(), ids=list(NONSENSE))
def test_nonsense_is_refused(head):
    with pytest.raises(ValueError, match=r"."):
        MessageCheck(JOBS, [0, 1]).take(head, PIXELS)


FACTS = {
    "text for a number": {"fps": "x"},
    "a number for text": {"note": 5},
    "no such state": {"status": "fine"},
    "one fact too many": {"more": 1},
    "not finite": {"duration": float("nan")},
    "a float for a count": {"width": 1.5},
    "a negative duration": {"duration": -1.0},
    "a negative rate": {"fps": -25},
    "a width that is not stored": {"width": 1 << 40},
}


@pytest.mark.parametrize("change", FACTS.values(), ids=list(FACTS))
def test_facts_that_cannot_be_are_refused(change):
    check = MessageCheck(JOBS, [0, 1])
    check.take(CLIP, PIXELS)
    with pytest.raises(ValueError, match=r"."):
        check.take(DONE | {"info": DONE["info"] | change}, b"")
    del (lacking := dict(DONE["info"]))["fps"]
    with pytest.raises(ValueError, match="others"):
        check.take(DONE | {"info": lacking}, b"")


def test_pixels_that_are_fewer_than_their_shape_says_are_refused():
    with pytest.raises(ValueError, match="reshape"):
        MessageCheck(JOBS, [0]).take(CLIP, PIXELS[:-1])


LIES = ["shape", "info", "error", "early", "list", "order"]


@pytest.mark.slow
@pytest.mark.parametrize("lie", LIES)
def test_a_decoder_that_lies_costs_its_video_alone(tmp_path, monkeypatch, lie):
    for name in ("a", lie, "z"):
        videos.write_video(tmp_path / "v" / f"{name}.avi", 20)
    monkeypatch.setattr(pool, "WORKER", "lying_worker")
    summary = extract(tmp_path / "v", tmp_path / "f.h5", workers=1)
    assert summary.failures == [(f"{lie}.avi", "the decoder sent what is no message")]
    assert FeatureFile(summary.path).ids == ["a.avi", "z.avi"]


@pytest.mark.slow
def test_frames_are_a_sign_of_life_however_long_a_clip_takes(tmp_path, monkeypatch):
    videos.write_video(tmp_path / "v" / "slow frames.avi", 12)
    monkeypatch.setattr(pool, "WORKER", "lying_worker")
    summary = extract(tmp_path / "v", tmp_path / "f.h5", workers=1, deadline=2.0)
    assert (summary.failures, summary.clips) == ([], 1)
