"""Many decoders, few files: the run goes on with those that can be started, and ends resumable where none can."""

import errno
import json
import os
import re
import resource
import subprocess
import sys

import pytest
import videos
from stage_one import TINY, extract

from gcf.errors import StoppedError
from gcf.extract.decoding import open_files, pool

pytestmark = pytest.mark.slow

FEWER = re.compile(r"(\d+) of (\d+) decoders run, one more cannot be started: (.+)")


@pytest.fixture
def folder(tmp_path):
    for n in range(13):
        videos.write_video(tmp_path / "v" / f"{n:02d}.avi", 20, seed=n)
    return tmp_path / "v"


def run(folder, *, soft: int, hard: int):
    """`gcf extract` with twelve workers, in a process of those limits of open files."""
    command = [sys.executable, "-m", "gcf.cli", "extract", str(folder), str(folder.parent / "f.h5")]
    command += ["--backbone", TINY, "--workers", "12", "--json"]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
    )


def test_with_few_open_files_the_decoders_that_there_are_do_the_work(folder):
    ran = run(folder, soft=36, hard=36)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["videos"] == 13
    ((running, wanted, reason),) = FEWER.findall(ran.stderr)
    assert 1 <= int(running) < int(wanted) == 12
    assert reason == os.strerror(errno.EMFILE)


def test_the_soft_limit_is_no_limit(folder):
    ran = run(folder, soft=36, hard=resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    assert (ran.returncode, json.loads(ran.stdout)["videos"]) == (0, 13), ran.stderr
    assert not FEWER.search(ran.stderr)


def only(monkeypatch, count: int, error: int = errno.EAGAIN) -> list:
    """From the count-th on, no process can be started; gives those that were asked for."""
    asked, popen = [], subprocess.Popen

    def start(*args, **options):
        asked.append(args)
        if len(asked) > count:
            raise OSError(error, os.strerror(error))
        return popen(*args, **options)

    monkeypatch.setattr(pool.subprocess, "Popen", start)
    return asked


def test_without_any_decoder_the_run_ends_and_can_be_resumed(folder, tmp_path, monkeypatch):
    extract(folder, tmp_path / "reference.h5")
    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        only(patch, 0, errno.EMFILE)
        with pytest.raises(StoppedError, match=r"^no decoder can be started \(Too many open files\)") as caught:
            extract(folder, tmp_path / "f.h5")
    assert caught.value.exit_code == 5
    assert len(os.listdir("/proc/self/fd")) == before
    extract(folder, tmp_path / "f.h5")
    assert (tmp_path / "f.h5").read_bytes() == (tmp_path / "reference.h5").read_bytes()


def test_a_decoder_that_cannot_be_replaced_leaves_its_work_to_the_others(folder, tmp_path, monkeypatch, caplog):
    for n in range(2):
        videos.write_video(folder / f"crash{n}.avi", 20)
    monkeypatch.setattr(pool, "WORKER", "faulty_worker")
    asked = only(monkeypatch, 3)
    summary = extract(folder, tmp_path / "f.h5", workers=3)
    assert summary.videos == 13
    assert [name for name, _ in summary.failures] == ["crash0.avi", "crash1.avi"]
    said = [FEWER.match(record.getMessage()) for record in caplog.records]
    assert [match[1] for match in filter(None, said)] == ["2", "1"][: len(asked) - 3]


def test_what_was_done_before_the_last_decoder_broke_is_kept(folder, tmp_path, monkeypatch):
    videos.write_video(folder / "05crash.avi", 20)
    monkeypatch.setattr(pool, "WORKER", "faulty_worker")
    with monkeypatch.context() as patch:
        only(patch, 1)
        with pytest.raises(StoppedError, match="no decoder can be started"):
            extract(folder, tmp_path / "f.h5", workers=1)
    summary = extract(folder, tmp_path / "f.h5", workers=1)
    assert (summary.videos, summary.extracted) == (13, 14 - 6)


def test_files_are_left_for_all_but_the_decoders():
    before = len(os.listdir("/proc/self/fd"))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + open_files.SPARE // 2, limits[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            open_files.require_spare()
        open_files.raise_limit()
        open_files.require_spare()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(os.listdir("/proc/self/fd")) == before
