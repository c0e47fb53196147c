import os
import time
from pathlib import Path

import pytest
import videos

from gcf.data.schema import VideoInfo
from gcf.errors import GcfError
from gcf.extract.decoding import pool
from gcf.extract.decoding.find import find_videos
from gcf.extract.decoding.jobs import Clip, ClipJob
from gcf.extract.decoding.pool import DecoderPool, Failed
from gcf.extract.decoding.preprocess import Geometry

pytestmark = pytest.mark.slow

JOB = ClipJob(16, "loop", Geometry(16, (16, 16)))


@pytest.fixture
def faulty(monkeypatch):
    monkeypatch.setattr(pool, "WORKER", "faulty_worker")


def outcomes(folder: Path, *, workers=2, deadline=20.0, ahead=4):
    """Per video id: how many clips came, and what came last."""
    found, clips, last = find_videos([folder]), {}, {}
    for video, _, item in DecoderPool(found, [JOB], num_workers=workers, ahead=ahead, deadline=deadline):
        assert video.id not in last, "nothing may come after a video's outcome"
        if isinstance(item, Clip):
            clips[video.id] = clips.get(video.id, 0) + 1
        else:
            last[video.id] = item
    assert last.keys() == {v.id for v in found}
    return clips, last


def test_every_clip_of_every_video_comes_once(tmp_path):
    for n in range(7):
        videos.write_video(tmp_path / f"{n}.avi", 10 + 16 * n)
    clips, last = outcomes(tmp_path, workers=3)
    assert clips == {f"{n}.avi": n + 1 for n in range(7)}
    assert [last[f"{n}.avi"].num_frames for n in range(7)] == [10 + 16 * n for n in range(7)]


def test_a_fault_costs_its_own_video_alone_and_is_named(tmp_path, faulty):
    for name in ("crash", "exit", "liar", "memory", "odd"):
        videos.write_video(tmp_path / f"{name}.avi", 40)
        for n in range(2):
            videos.write_video(tmp_path / f"good_{name}_{n}.mkv".replace(name, name[::-1]), 40)
    clips, last = outcomes(tmp_path)
    errors = {video_id: item.error for video_id, item in last.items() if isinstance(item, Failed)}
    assert errors == {
        "crash.avi": "decoder crashed (signal 11)",
        "exit.avi": "decoder ended with exit code 7",
        "liar.avi": "the decoder sent what is no message",
        "memory.avi": "memory limit",
        "odd.avi": "LookupError: unknown encoding",
    }
    healthy = [video_id for video_id in last if video_id.startswith("good")]
    assert len(healthy) == 10
    assert all(clips[video_id] == 3 and isinstance(last[video_id], VideoInfo) for video_id in healthy)


def test_a_signal_to_the_whole_job_is_for_the_extraction_to_obey(tmp_path, faulty):
    videos.write_video(tmp_path / "signal.avi", 40)
    _, last = outcomes(tmp_path)
    assert isinstance(last["signal.avi"], VideoInfo)


def test_a_hanging_decoder_is_given_up_after_the_deadline_of_silence(tmp_path, faulty):
    videos.write_video(tmp_path / "hang.avi", 40)
    videos.write_video(tmp_path / "slow.avi", 40)
    _, last = outcomes(tmp_path, deadline=4.0)
    assert last["hang.avi"].error == "deadline: no progress for 4 s"
    assert list(last)[-1] == "hang.avi", "it is tried again, after all others"
    assert isinstance(last["slow.avi"], VideoInfo)


def test_a_consumer_that_is_slower_than_the_deadline_is_no_fault_of_the_video(tmp_path):
    videos.write_video(tmp_path / "v.avi", 200)
    found = find_videos([tmp_path])
    items = []
    for _, _, item in DecoderPool(found, [JOB], num_workers=1, ahead=1, deadline=5.0):
        if not items:
            time.sleep(7)
        items.append(item)
    assert len(items) == 14
    assert isinstance(items[-1], VideoInfo)


def test_a_decoder_that_cannot_be_killed_does_not_hold_up_the_others(tmp_path, faulty, monkeypatch):
    for name in ("ahang.avi", "good.avi"):
        videos.write_video(tmp_path / name, 40)
    left = []
    monkeypatch.setattr(pool.subprocess.Popen, "kill", lambda self: left.append(self))
    try:
        _, last = outcomes(tmp_path, workers=1, deadline=3.0)
        assert isinstance(last["good.avi"], VideoInfo)
    finally:
        monkeypatch.undo()
        for process in left:
            process.kill()
            process.wait()


def test_a_decoder_that_does_not_start_ends_the_run_with_a_clear_error(tmp_path, monkeypatch, capfd):
    videos.write_video(tmp_path / "v.avi", 20)
    monkeypatch.setattr(pool, "WORKER", "no_such_worker")
    with pytest.raises(GcfError, match="decoder process did not start"):
        outcomes(tmp_path)
    assert "no_such_worker" in capfd.readouterr().err


def test_a_decoder_that_is_gone_before_it_knows_its_job_has_not_started_either(tmp_path, monkeypatch):
    videos.write_video(tmp_path / "v.avi", 20)

    def send(*_):
        raise BrokenPipeError

    monkeypatch.setattr(pool.messages, "send", send)
    with pytest.raises(GcfError, match="decoder process did not start"):
        outcomes(tmp_path)


def test_leaving_early_stops_the_decoders(tmp_path):
    for n in range(4):
        videos.write_video(tmp_path / f"{n}.avi", 200)
    decoders = DecoderPool(find_videos([tmp_path]), [JOB], num_workers=2, ahead=1)
    for _ in decoders:
        break
    processes = [d.process for d in decoders.decoders]
    decoders.close()
    assert not any(thread.is_alive() for thread in decoders.threads)
    assert all(process.poll() is not None for process in processes)


def test_descriptors_of_files_and_processes_do_not_leak(tmp_path, faulty):
    for n in range(6):
        videos.write_video(tmp_path / f"crash{n}.avi", 20)
    before = len(os.listdir("/proc/self/fd"))
    outcomes(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before
