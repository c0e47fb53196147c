"""Disks that fail, files that change, memory that runs out: rows 19, 33, 34 and 37, and a disk that is taken away."""

import errno
import json
import os
import resource
import subprocess
import sys

import av
import bad_videos
import numpy as np
import pytest
import videos
from shims import build_shim, can_build
from stage_one import TINY, extract

from gcf import FeatureFile
from gcf.errors import StoppedError, VideoError
from gcf.extract.decoding import messages, pool, source
from gcf.extract.decoding.source import UnreadableError
from gcf.extract.decoding.video import Video

NAMES = {
    "v.mp4": {"codec": "libx264", "container_options": {"movflags": "faststart"}},
    "v.mkv": {"codec": "libx264"},
    "v.avi": {"codec": "mpeg4"},
    "v.ts": {"codec": "mpeg2video"},
    "v.h264": {"codec": "libx264"},
}


@pytest.fixture(scope="module", params=NAMES)
def large(request, tmp_path_factory):
    """A video of 60 frames that takes several reads."""
    path = tmp_path_factory.mktemp("large") / request.param
    quality = {"crf": 4} if NAMES[request.param]["codec"] == "libx264" else {"b": 8_000_000}
    videos.write_video(path, 60, size=(240, 320), **quality, **NAMES[request.param])
    assert path.stat().st_size > 100_000
    return path


@pytest.fixture
def failing(monkeypatch):
    """failing(times): from now on that many reads fail; gives the list of the failures that there were."""
    plain = os.read

    def install(times: int) -> list[int]:
        failed = []

        def read(descriptor, count):
            if len(failed) < times:
                failed.append(count)
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return plain(descriptor, count)

        monkeypatch.setattr(source.os, "read", read)
        return failed

    return install


def frames(path):
    return [(pixels.copy(), start, end) for pixels, start, end in Video(path)]


@pytest.mark.slow
def test_a_read_that_fails_once_costs_nothing(large, failing):  # row 34
    expected, again = frames(large), []
    for pixels, start, end in Video(large):
        again.append((pixels.copy(), start, end))
        if len(again) == 5:
            failed = failing(times=1)
    assert len(failed) == 1
    assert len(again) == len(expected) == 60
    for ours, theirs in zip(again, expected, strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
        assert ours[1:] == theirs[1:]


def test_a_read_that_fails_twice_is_a_failure_and_no_part_of_a_video(large, failing):  # row 34
    given = iter(Video(large))
    next(given)
    failed = failing(times=2)
    with pytest.raises(UnreadableError, match=r"^cannot be read, tried 2 times: Input/output error$"):
        list(given)
    assert len(failed) == 2


@pytest.mark.slow
def test_a_disk_that_fails_in_the_middle_of_a_file_costs_that_video(tmp_path, monkeypatch, invoke):  # row 34
    """A read() of the C library that fails, in the decoders alone."""
    if not can_build():
        pytest.skip("no C compiler to build a failing read() with")
    shim = build_shim("io_shim", tmp_path)
    root = tmp_path / "v"
    for name in ("always_bad.avi", "good.avi"):
        videos.write_video(root / name, 40, size=(96, 128), b=4_000_000)
    for name, value in {"LD_PRELOAD": shim, "FAULT_NAME": "always_bad", "FAULT_FROM": 32_768}.items():
        monkeypatch.setenv(name, str(value))
    code, out, err = invoke("extract", root, tmp_path / "f.h5", "--backbone", TINY, "--json")
    assert code == 3, err
    facts = json.loads(out)
    assert facts["failures"] == [["always_bad.avi", "cannot be read, tried 2 times: Input/output error"]]
    assert (facts["videos"], facts["clips"]) == (1, 3)


def removed(path):
    path.unlink()


def replaced(path):
    videos.write_video(path.with_name("new.avi"), 400, seed=5).replace(path)


def truncated(path):
    os.truncate(path, path.stat().st_size // 2)


def written_to(path):
    path.write_bytes(path.read_bytes() + b"more")


@pytest.mark.slow
@pytest.mark.parametrize("change", [removed, replaced, truncated, written_to])
def test_a_file_that_changes_while_it_is_read_is_not_trusted(tmp_path, change):  # row 33
    path = videos.write_video(tmp_path / "v.avi", 400)
    given = iter(Video(path))
    next(given)
    change(path)
    said = "removed" if change is removed else "changed"
    with pytest.raises(VideoError, match=f"^{said} while it was read$"):
        list(given)


@pytest.mark.slow
def test_a_folder_of_videos_that_is_taken_away_stops_the_run_and_nothing_is_lost(tmp_path, monkeypatch):
    root, away, out = tmp_path / "v", tmp_path / "away", tmp_path / "f.h5"
    for n in range(6):
        videos.write_video(root / f"{n}.avi", 20, seed=n)
    extract(root, tmp_path / "reference.h5")
    start = pool._Decoder.start

    def start_but_the_fourth(self, video, jobs):
        if video.id == "3.avi":
            root.rename(away)
        start(self, video, jobs)

    with monkeypatch.context() as patch:
        patch.setattr(pool._Decoder, "start", start_but_the_fourth)
        with pytest.raises(StoppedError, match="this folder of videos is gone") as caught:
            extract(root, out, workers=1)
    assert caught.value.exit_code == 5
    assert str(root) in str(caught.value)
    assert not out.exists()
    away.rename(root)
    summary = extract(root, out)
    assert 0 < summary.extracted < 6
    assert out.read_bytes() == (tmp_path / "reference.h5").read_bytes()


@pytest.mark.slow
def test_one_video_that_is_gone_is_that_videos_failure_alone(tmp_path, monkeypatch):
    root = tmp_path / "v"
    for n in range(3):
        videos.write_video(root / f"{n}.avi", 20, seed=n)
    start = pool._Decoder.start

    def start_without_the_second(self, video, jobs):
        if video.id == "1.avi":
            os.unlink(video.path)
        start(self, video, jobs)

    monkeypatch.setattr(pool._Decoder, "start", start_without_the_second)
    summary = extract(root, tmp_path / "f.h5", workers=1)
    assert summary.failures == [("1.avi", "cannot be opened: No such file or directory")]
    assert summary.videos == 2


MEMORY = """
import resource, sys
from gcf.extract.decoding.video import Video
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    list(Video(sys.argv[1]))
except Exception as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bomb.mov", "bomb_that_lies.avi"])
def test_a_bomb_is_refused_before_it_takes_memory(tmp_path, name):  # row 19
    bad_videos.write_bombs(tmp_path)
    ran = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / name)], capture_output=True, text=True, check=True
    )
    reason, kibibytes = ran.stdout.splitlines()
    assert reason.startswith("frame too large")
    assert int(kibibytes) < 100 << 10  # one frame takes 256 MB as it is stored, 768 MB as RGB


@pytest.mark.slow
def test_a_decoder_that_ran_out_of_memory_is_not_given_another_video(tmp_path, monkeypatch):  # row 37
    """Real frames over a real limit; the next video gets a fresh process."""
    monkeypatch.setattr(pool, "WORKER", "small_worker")
    root = tmp_path / "v"
    videos.write_video(root / "b.avi", 20)
    with av.open(str(root / "a_large.mkv"), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = 6000, 8000, "yuvj420p"
        container.mux(stream.encode(av.VideoFrame(8000, 6000, "yuvj420p")))
        container.mux(stream.encode())
    begun = []
    original = pool._Decoder.__init__
    monkeypatch.setattr(pool._Decoder, "__init__", lambda self, job: (begun.append(1), original(self, job))[1])
    summary = extract(root, tmp_path / "f.h5", workers=1)
    assert summary.failures == [("a_large.mkv", "memory limit")]
    assert FeatureFile(tmp_path / "f.h5").ids == ["b.avi"]
    assert len(begun) == 2


@pytest.mark.slow
def test_a_decoder_that_sends_rubbish_costs_its_video_alone(tmp_path, monkeypatch):
    root = tmp_path / "v"
    for n in range(3):
        videos.write_video(root / f"{n}.avi", 20, seed=n)
    receive, seen = messages.receive, []

    def rubbish_once(descriptor, **options):
        head, payload = receive(descriptor, **options)
        if head["kind"] == "clip" and not seen:
            seen.append(head)
            head["shape"] = [1, 2, 3]
        return head, payload

    monkeypatch.setattr(messages, "receive", rubbish_once)
    summary = extract(root, tmp_path / "f.h5", workers=1)
    assert summary.failures == [("0.avi", "the decoder sent what is no message")]
    assert summary.videos == 2


def test_silence_while_everything_is_held_is_not_counted(monkeypatch):
    """Ctrl-Z holds the extraction and its decoders alike; the time until `fg` is no decoder's fault."""
    read, write = os.pipe()
    waited, poll = [], messages.select.poll

    class Held:
        def __init__(self):
            self.plain = poll()
            self.register = self.plain.register

        def poll(self, milliseconds):
            waited.append(milliseconds)
            if len(waited) == 3:
                os.write(write, b"x")
            return self.plain.poll(0)  # as if the wait had passed while the process was held

    monkeypatch.setattr(messages.select, "poll", Held)
    try:
        messages._wait(read, 60.0)
        assert len(waited) == 3
        os.read(read, 1)
        with pytest.raises(messages.StalledError):
            messages._wait(read, 5.0)
        assert sum(waited[3:]) == 5_000
    finally:
        os.close(read)
        os.close(write)


def test_the_main_process_keeps_no_descriptor_of_a_video(tmp_path):
    path = videos.write_video(tmp_path / "v.avi", 20)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        frames(path)
    assert len(os.listdir("/proc/self/fd")) == before
    assert resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY
