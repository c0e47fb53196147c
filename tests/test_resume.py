"""Stage one stopped, killed, repeated, out of room: nothing committed is lost, and the bytes are the same."""

import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
import videos
from stage_one import TINY, extract

from gcf import FeatureFile
from gcf.data import lock, parts
from gcf.errors import RecipeError, RefusedError, StoppedError
from gcf.extract import extractor
from gcf.extract.engines.ray_faults import check_same
from gcf.extract.network import precision
from gcf.extract.stream import run

pytestmark = pytest.mark.slow

RUN = """
import sys, time
from gcf import extract_videos
from gcf.extract.stream import run
from gcf.extract.network import clip_network as network
run.PART_VIDEOS = 1
plain = network.ClipNetwork.__call__
network.ClipNetwork.__call__ = lambda self, pixels: (time.sleep(0.2), plain(self, pixels))[1]  # time to be killed in
options = {"batch_size": 4, "workers": 2, "precision": "fp32", "runtime": "torch"}
extract_videos(sys.argv[1], sys.argv[2], backbone=sys.argv[3], **options)
"""


def test_a_run_killed_again_and_again_ends_in_the_same_bytes(folder, tmp_path, reference):
    out, rng = tmp_path / "f.h5", random.Random(0)
    for wanted in (1, 2, 4):
        process = subprocess.Popen([sys.executable, "-c", RUN, str(folder), str(out), TINY])
        while len(list(tmp_path.glob("f.h5.parts/part-*.h5"))) < wanted and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.2))
        process.kill()
        assert process.wait() == -signal.SIGKILL, "it was to be killed before its end"
    extract(folder, out)
    assert out.read_bytes() == reference
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.h5"]


def test_a_stopped_run_keeps_what_it_has_committed_and_does_not_do_it_again(folder, tmp_path, reference, monkeypatch):
    out = tmp_path / "f.h5"
    monkeypatch.setattr(run, "PART_VIDEOS", 1)
    seen = []

    def stop_after_three(self, *, clips):
        seen.append(clips)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(extractor.Progress, "advance", stop_after_three)
        with pytest.raises(KeyboardInterrupt):
            extract(folder, out)
    assert not out.exists()
    summary = extract(folder, out)
    assert summary.extracted == 3
    assert summary.videos == 6
    assert out.read_bytes() == reference


def test_a_second_run_does_nothing_and_a_changed_video_is_done_again(folder, tmp_path):
    copy, out = tmp_path / "videos", tmp_path / "f.h5"
    shutil.copytree(folder, copy)
    assert extract(copy, out).extracted == 6
    before = out.read_bytes()
    assert extract(copy, out).extracted == 0
    assert out.read_bytes() == before
    videos.write_video(copy / "run" / "v_run_g01_c01.avi", 33, seed=77)
    assert extract(copy, out).extracted == 1
    assert FeatureFile(out).videos.num_frames[3] == 33


def test_another_measured_cosine_leaves_the_finished_file_alone(folder, tmp_path, reference, monkeypatch):
    out = tmp_path / "f.h5"
    out.write_bytes(reference)
    plain = precision.precise_network
    measured = {"precision_cosine": 0.9991}
    monkeypatch.setattr(
        precision, "precise_network", lambda *a, **b: (lambda found: (found[0], found[1] | measured))(plain(*a, **b))
    )
    assert extract(folder, out).extracted == 0
    assert out.read_bytes() == reference


def test_another_list_of_videos_is_refused_until_update_is_asked(folder, tmp_path):
    copy, out = tmp_path / "videos", tmp_path / "f.h5"
    shutil.copytree(folder, copy)
    extract(copy, out)
    videos.write_video(copy / "run" / "new.avi", 20)
    with pytest.raises(RefusedError, match=r"1 more now, 0 gone, e.g. 'run/new.avi'.*--update"):
        extract(copy, out)
    (copy / "jump" / "v_jump_g01_c01.avi").unlink()
    summary = extract(copy, out, update=True)
    assert (summary.extracted, summary.videos) == (1, 6)
    assert "run/new.avi" in FeatureFile(out).ids


@pytest.mark.parametrize("change", [{"clip_frames": 8}, {"tail": "drop"}, {"views": 2}, {"dtype": "float32"}])
def test_another_recipe_is_refused_and_the_file_left_alone(folder, tmp_path, change):
    out = tmp_path / "f.h5"
    extract(folder, out)
    before = out.read_bytes()
    with pytest.raises(RecipeError, match="another recipe"):
        extract(folder, out, **change)
    assert out.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["f.h5"]


def test_a_failure_that_was_mended_is_tried_again_on_resumption(folder, tmp_path, monkeypatch):
    copy, out = tmp_path / "videos", tmp_path / "f.h5"
    shutil.copytree(folder, copy)
    (copy / "jump" / "a.avi").write_bytes(b"")
    monkeypatch.setattr(run, "PART_VIDEOS", 1)
    monkeypatch.setattr(run.ExtractionRun, "merge", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        extract(copy, out)
    monkeypatch.undo()
    shutil.copy(copy / "jump" / "v_jump_g01_c01.avi", copy / "jump" / "a.avi")
    summary = extract(copy, out)
    assert (summary.extracted, summary.videos, summary.failures) == (1, 7, [])


def test_a_video_that_changes_before_the_merge_is_reported_not_lost(folder, tmp_path, monkeypatch):
    copy, out = tmp_path / "videos", tmp_path / "f.h5"
    shutil.copytree(folder, copy)
    merge = run.ExtractionRun.merge

    def touch_then_merge(*args):
        os.utime(copy / "run" / "v_run_g01_c01.avi", (1, 1))
        merge(*args)

    with monkeypatch.context() as patch:
        patch.setattr(run.ExtractionRun, "merge", touch_then_merge)
        summary = extract(copy, out)
    assert [f[0] for f in summary.failures] == ["run/v_run_g01_c01.avi"]
    assert "run the same command again" in summary.failures[0][1]
    assert not summary.complete
    assert extract(copy, out).failures == []


def test_finished_videos_are_committed_while_a_long_one_is_under_way(tmp_path, monkeypatch):
    videos.write_video(tmp_path / "v" / "a.avi", 20)
    videos.write_video(tmp_path / "v" / "long.avi", 4000)  # longer than a late start of the other decoder
    monkeypatch.setattr(run, "PART_SECONDS", 0.0)
    counts, commit = [], extractor.PartFolder.commit

    def counted(self, content):
        counts.append([v.id for v in content.videos])
        commit(self, content)

    monkeypatch.setattr(extractor.PartFolder, "commit", counted)
    extract(tmp_path / "v", tmp_path / "f.h5", workers=2)
    assert counts == [["a.avi"], ["long.avi"]]


def test_parts_of_another_recipe_are_refused_even_without_their_run_file(folder, tmp_path, monkeypatch):
    out = tmp_path / "f.h5"
    monkeypatch.setattr(run.ExtractionRun, "merge", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        extract(folder, out)
    monkeypatch.undo()
    (tmp_path / "f.h5.parts" / "run.json").unlink()
    with pytest.raises(RecipeError, match="num_frames"):
        extract(folder, out, clip_frames=8)


def test_a_second_process_on_the_same_output_is_refused_and_a_dead_one_is_no_obstacle(folder, tmp_path):
    out = tmp_path / "f.h5"
    code = f"""
import sys, time
from pathlib import Path
from gcf.data.parts import PartFolder
with PartFolder(Path({str(out)!r})).locked():
    print("locked", flush=True)
    time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(RefusedError, match=f"in use by process {holder.pid} on"):
            extract(folder, out)
        assert (tmp_path / "f.h5.parts").is_dir(), "the other's work is left alone"
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert extract(folder, out).videos == 6


def test_another_precision_is_refused_with_the_option_that_helps():
    half, full = {"precision": "bf16", "folded": True}, {"precision": "fp32", "folded": False}
    with pytest.raises(RecipeError, match='"bf16" against "fp32"\\); name the --precision, --runtime'):
        parts.check_recipe("f.h5", half, full)
    with pytest.raises(
        RecipeError, match=r"on here: would make other numbers.*; give --runtime torch --precision fp32, which"
    ):
        check_same("here", full, half)


def test_storage_without_locks_is_used_with_a_warning(folder, tmp_path, reference, monkeypatch, caplog):
    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    extract(folder, tmp_path / "f.h5")
    assert (tmp_path / "f.h5").read_bytes() == reference
    assert "this storage has no locks; see to it that no other process works on it" in caplog.text


@pytest.mark.parametrize("room", [3000, 20000, 60000])
def test_a_full_disk_stops_the_run_which_then_resumes(folder, tmp_path, reference, monkeypatch, room):
    out = tmp_path / "f.h5"
    monkeypatch.setattr(run, "PART_VIDEOS", 2)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        stopped = None
        try:
            extract(folder, out)
        except StoppedError as error:
            stopped = error
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    if room < 60000:
        assert stopped is not None
        assert stopped.exit_code == 5
        assert str(out) in str(stopped)
        assert "run the same command again" in str(stopped)
        assert not out.exists()
    extract(folder, out)
    assert out.read_bytes() == reference
