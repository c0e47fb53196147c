"""The deadline tells a stuck video from a stalled machine, and the first stuck ones have a second chance."""

import os
import sys
import threading

import numpy as np
import pytest
import videos
from stage_one import extract

from gcf.data.schema import VideoInfo
from gcf.errors import VideoError
from gcf.extract.decoding import messages, pool
from gcf.extract.decoding.attempts import Attempts
from gcf.extract.decoding.decoder_messages import Failed
from gcf.extract.decoding.find import VideoPath, find_videos
from gcf.extract.decoding.jobs import Clip, ClipJob
from gcf.extract.decoding.pool import DecoderPool
from gcf.extract.decoding.preprocess import Geometry
from gcf.extract.decoding.silence import TICKS, OwnTime

JOB = ClipJob(16, "loop", Geometry(16, (16, 16)))


@pytest.fixture
def faulty(monkeypatch):
    monkeypatch.setattr(pool, "WORKER", "faulty_worker")


def stat(folder, state: str, *, worked: float = 0.0, disk: float = 0.0) -> None:
    """/proc/7/stat of a process whose name is meant to mislead."""
    numbers = ["0"] * 50
    numbers[10], numbers[11], numbers[38] = str(round(worked * TICKS)), "0", str(round(disk * TICKS))
    (folder / "7").mkdir(exist_ok=True)
    (folder / "7" / "stat").write_text(f"7 (a) D b) {state} {' '.join(numbers)}\n")


def test_what_waits_for_a_disk_or_a_processor_is_not_its_own(tmp_path):
    own_time = OwnTime(7, proc=str(tmp_path))
    assert own_time(1.0) == 1.0, "what cannot be told counts"
    stat(tmp_path, "D", worked=3.0)
    assert own_time(1.0) == 0.0
    stat(tmp_path, "R", worked=3.25)
    assert own_time(1.0) == pytest.approx(0.25)
    stat(tmp_path, "R", worked=9.0)
    assert own_time(1.0) == 1.0, "never more than there was"
    stat(tmp_path, "S", worked=9.0)
    assert own_time(1.0) == 1.0, "asleep by its own will"
    stat(tmp_path, "S", worked=9.0, disk=0.75)
    assert own_time(1.0) == pytest.approx(0.25)
    (tmp_path / "7" / "stat").write_text("7 (odd) S")
    assert own_time(1.0) == 1.0


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="no /proc on this system")
def test_the_systems_own_words_are_understood():
    own_time = OwnTime(os.getpid())
    own_time(1.0)
    assert 0.0 <= own_time(1.0) <= 1.0
    assert own_time.last.state in "RSD"
    assert own_time.last.worked > 0


@pytest.fixture
def silent(monkeypatch):
    """A pipe on which nothing comes, without waiting: wait(own seconds of each second) -> seconds until it ends."""
    poll, read, write = messages.select.poll, *os.pipe()
    waited = []

    class Quick:
        def __init__(self):
            self.plain = poll()
            self.register = self.plain.register

        def poll(self, milliseconds):
            waited.append(milliseconds / 1000)
            return self.plain.poll(0)

    def wait(own: float, deadline: float) -> tuple[float, str]:
        waited.clear()
        monkeypatch.setattr(messages, "OwnTime", lambda _: lambda seconds: own * seconds)
        with pytest.raises(messages.StalledError) as caught:
            messages._wait(read, deadline, 7)
        return sum(waited), str(caught.value)

    monkeypatch.setattr(messages.select, "poll", Quick)
    yield wait
    os.close(read)
    os.close(write)


def test_the_deadline_counts_own_time_and_has_a_bound(silent):
    assert silent(1.0, 5.0) == (5.0, "no progress for 5 s")
    assert silent(0.5, 5.0) == (10.0, "no progress for 5 s")
    held_up = "no progress for 50 s, in which it waited for a disk or a processor"
    assert silent(0.0, 5.0) == silent(0.05, 5.0) == (50.0, held_up)
    assert silent(1.0, 0.5) == (0.5, "no progress for 0.5 s")


def outcomes(folder, *, deadline: float, workers: int = 2):
    """Per video its clips and what came last, and the ids in the order of their ends."""
    clips, last = {}, {}
    for video, _, item in DecoderPool(find_videos([folder]), [JOB], num_workers=workers, ahead=4, deadline=deadline):
        assert video.id not in last, "nothing may come after a video's outcome"
        if isinstance(item, Clip):
            clips.setdefault(video.id, []).append(item)
        else:
            last[video.id] = item
    return clips, last


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells that a process waits for a disk")
def test_a_decoder_that_waits_for_a_disk_is_given_longer(tmp_path, faulty, monkeypatch):
    path = videos.write_video(tmp_path / "disk.avi", 40)
    os.mkfifo(f"{path}.pipe")
    states, deadline = [], 2.0

    class Watched(OwnTime):
        def __call__(self, seconds):
            own = super().__call__(seconds)
            states.append(self.last.state)
            if states.count("D") == 2 * deadline:  # twice the deadline is over; the disk is back
                threading.Thread(target=lambda: os.close(os.open(f"{path}.pipe", os.O_WRONLY))).start()
            return own

    monkeypatch.setattr(messages, "OwnTime", Watched)
    clips, last = outcomes(tmp_path, deadline=deadline)
    assert isinstance(last["disk.avi"], VideoInfo)
    assert [clip.start_frame for clip in clips["disk.avi"]] == [0, 16, 32]
    assert states.count("D") >= 2 * deadline


@pytest.mark.slow
def test_a_stuck_video_is_tried_again_at_the_end_and_gives_each_clip_once(tmp_path, faulty):
    for name in ("a_once", "b", "c"):
        videos.write_video(tmp_path / "v" / f"{name}.avi", 40)
    extract(tmp_path / "v", tmp_path / "f.h5", deadline=4.0)
    (tmp_path / "v" / "a_once.avi.tried").unlink()
    clips, last = outcomes(tmp_path / "v", deadline=4.0)
    assert all(isinstance(item, VideoInfo) for item in last.values())
    assert list(last)[-1] == "a_once.avi"
    assert [clip.start_frame for clip in clips["a_once.avi"]] == [0, 16, 32]
    for ours, theirs in zip(clips["a_once.avi"], clips["b.avi"], strict=True):
        np.testing.assert_array_equal(ours.pixels, theirs.pixels)
    summary = extract(tmp_path / "v", tmp_path / "reference.h5", deadline=4.0)  # nothing is stuck any more
    assert summary.complete
    assert (tmp_path / "f.h5").read_bytes() == (tmp_path / "reference.h5").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("bounds", [{"RETRIES": 1}, {"IN_VAIN": 0.5}])
def test_second_attempts_are_bounded_in_number_and_time(tmp_path, faulty, monkeypatch, bounds):
    for name, value in bounds.items():
        monkeypatch.setattr(pool, name, value)
    for name in ("a_hang", "b_once", "c"):
        videos.write_video(tmp_path / f"{name}.avi", 40)
    _, last = outcomes(tmp_path, deadline=3.0, workers=1)
    stuck = Failed("deadline: no progress for 3 s")
    assert (last["a_hang.avi"], last["b_once.avi"]) == (stuck, stuck)
    assert isinstance(last["c.avi"], VideoInfo)


def clip(index: int, shade: int = 0) -> Clip:
    return Clip(np.full((1, 16, 4, 4, 3), shade, np.uint8), 16 * index, 16, float(index), index + 1.0)


INFO = VideoInfo(fps=16, num_frames=32, width=4, height=4, duration=2.0, size=10, mtime_ns=10)


def test_a_second_attempt_goes_on_where_the_first_one_ended():
    attempts = Attempts(VideoPath("/v", "v"), [0, 1])
    attempts.begin()
    assert [attempts.is_new(0, clip(0)), attempts.is_new(0, clip(1)), attempts.is_new(1, clip(0))] == [True] * 3
    attempts.begin()
    assert [attempts.is_new(0, clip(n)) for n in range(3)] == [False, False, True]
    assert [attempts.is_new(1, clip(n)) for n in range(2)] == [False, True]
    assert attempts.is_new(0, INFO)
    assert attempts.is_new(1, Failed("torn"))


@pytest.mark.parametrize("item", [clip(0, shade=1), clip(1), INFO])
def test_a_video_that_became_another_between_two_attempts_is_not_mixed(item):
    attempts = Attempts(VideoPath("/v", "v"), [0])
    attempts.begin()
    attempts.is_new(0, clip(0))
    attempts.begin()
    with pytest.raises(VideoError, match=r"^changed while it was read$"):
        attempts.is_new(0, item)
