"""What must not grow: memory with the clips, open files with the parts, work with what is done already."""

import os
import resource
import tracemalloc

import numpy as np
import pytest
from contents import RECIPE, make_video
from stage_one import extract

from gcf.data import lock as lock_module
from gcf.data.features import FeatureFile
from gcf.data.gathered import OPEN_FILES, GatheredVideos, gather
from gcf.data.merge import merge_features
from gcf.data.parts import PartFolder
from gcf.data.schema import FeatureContent
from gcf.data.writer import write_features
from gcf.extract.stream import run

pytestmark = pytest.mark.slow


def shards(folder, *, videos, clips, width=64):
    """Two files of half the videos each."""
    folder.mkdir()
    made = [make_video(f"v{n:05d}.mp4", num_clips=clips, width=width) for n in range(videos)]
    for name, half in (("a.h5", made[::2]), ("b.h5", made[1::2])):
        write_features(folder / name, FeatureContent(RECIPE, half))
    return [folder / "a.h5", folder / "b.h5"]


def peak_of_merging(paths, out):
    tracemalloc.start()
    try:
        merge_features(paths, out)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_memory_of_a_merge_does_not_follow_the_clips(tmp_path):
    """Ten times the clips, so ten times the bytes of rows and of clips' times."""
    few = shards(tmp_path / "few", videos=300, clips=4)
    many = shards(tmp_path / "many", videos=300, clips=40)
    peak_of_merging(few, tmp_path / "warm.h5")
    small, large = (peak_of_merging(p, tmp_path / f"{p[0].parent.name}.h5") for p in (few, many))
    grown = (tmp_path / "many.h5").stat().st_size - (tmp_path / "few.h5").stat().st_size
    assert grown > 1_500_000
    assert large - small < grown / 10


def test_memory_of_opening_does_not_follow_the_clips(tmp_path):
    path = shards(tmp_path / "many", videos=40, clips=2000, width=8)[0]
    FeatureFile(path)
    tracemalloc.start()
    features = FeatureFile(path)
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held < features.num_clips * 4, "less than any one field of the clips"


def test_gathered_videos_are_columns_not_objects(tmp_path):
    files = [FeatureFile(path) for path in shards(tmp_path / "s", videos=100, clips=2)]
    videos = gather(files)
    assert isinstance(videos, GatheredVideos)
    assert videos.source.tolist() == [0, 1] * 50
    assert videos.row.tolist() == [n // 2 for n in range(100)]
    assert videos.ids[3] is files[1].ids[1], "no second copy of a name"
    assert len({id(text) for text in videos.status}) <= 2
    assert videos.counts.tolist() == [2] * 100
    assert videos.facts["fps"].dtype == np.float64


@pytest.mark.slow
def test_reading_many_parts_in_any_order_keeps_few_files_open(tmp_path):
    paths = [tmp_path / f"{n:02d}.h5" for n in range(3 * OPEN_FILES)]
    for n, path in enumerate(paths):
        rows = [make_video(f"{k}-{n:02d}.mp4", num_clips=1) for k in range(3)]  # so that every row is in another file
        write_features(path, FeatureContent(RECIPE, rows))
    before, most = len(os.listdir("/proc/self/fd")), 0
    for _ in gather([FeatureFile(path) for path in paths]).rows("descriptors"):
        most = max(most, len(os.listdir("/proc/self/fd")) - before)
    assert OPEN_FILES <= most <= OPEN_FILES + 1
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_run_with_nothing_to_do_leaves_the_finished_file_alone(folder, tmp_path, reference):
    out = tmp_path / "f.h5"
    out.write_bytes(reference)
    before = out.stat()
    assert extract(folder, out).extracted == 0
    after = out.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.h5"]


def test_new_annotations_are_written_although_no_video_is_new(folder, tmp_path, reference):
    out, table = tmp_path / "f.h5", tmp_path / "labels.csv"
    out.write_bytes(reference)
    ids = FeatureFile(out).ids
    table.write_text("path,label\n" + "".join(f"{name},other\n" for name in ids))
    assert extract(folder, out, annotations=table).extracted == 0
    assert FeatureFile(out).classes == ["other"]


@pytest.mark.slow
def test_a_part_is_opened_once_a_run(folder, tmp_path, monkeypatch):
    opened = []
    plain = FeatureFile.__init__
    monkeypatch.setattr(run, "PART_VIDEOS", 1)
    monkeypatch.setattr(FeatureFile, "__init__", lambda self, path: (opened.append(str(path)), plain(self, path))[1])
    with monkeypatch.context() as patch:
        patch.setattr(run.ExtractionRun, "merge", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            extract(folder, tmp_path / "f.h5")
    opened.clear()
    extract(folder, tmp_path / "f.h5")
    parts = [path for path in opened if path.endswith(".h5") and "/part-" in path]
    assert len(parts) == len(set(parts)) == 6


def test_a_lock_that_its_holder_has_removed_is_taken_anew(tmp_path, monkeypatch):
    """Between opening the lock file and locking it, the run before came to its end."""
    folder, ended, plain = PartFolder(tmp_path / "f.h5"), [], lock_module._lock

    def end_first(lock, of):
        if not ended:
            ended.append(True)
            (folder.folder / "lock").unlink()
        plain(lock, of)

    monkeypatch.setattr(lock_module, "_lock", end_first)
    with folder.locked():
        assert ended
        assert (folder.folder / "lock").exists(), "and so a third run finds it locked"


@pytest.mark.slow
def test_few_allowed_open_files_are_enough(tmp_path):
    """RLIMIT_NOFILE of 64, and more shards than that."""
    for n in range(70):
        write_features(tmp_path / f"{n:02d}.h5", FeatureContent(RECIPE, [make_video(f"{n:02d}.mp4", num_clips=1)]))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(64, len(os.listdir("/proc/self/fd")) + 24), limits[1]))
    try:
        assert merge_features(sorted(tmp_path.glob("??.h5")), tmp_path / "all.h5").num_videos == 70
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
