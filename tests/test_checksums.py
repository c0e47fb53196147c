"""Damage on the disk is named by file and video, and only what is damaged is made again."""

import random
import shutil
import struct
import zlib

import h5py
import numpy as np
import pytest
from contents import RECIPE, make_content, make_video
from stage_one import extract

import gcf.cli
from gcf import FeatureFile, verify_features
from gcf.data.checksums import video_checksum
from gcf.data.merge import merge_features
from gcf.data.parts import PartFolder
from gcf.data.schema import FeatureContent
from gcf.data.writer import write_features
from gcf.errors import FeatureFileError
from gcf.extract.stream import run


@pytest.fixture(scope="module")
def stopped(folder, tmp_path_factory):
    """`f.h5.parts/` with three parts of two videos each, the merge still to come."""
    place = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "PART_VIDEOS", 2)
        patch.setattr(run.ExtractionRun, "merge", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            extract(folder, place / "f.h5", workers=1)
    return place / "f.h5.parts"


@pytest.fixture
def parts(stopped, tmp_path):
    return shutil.copytree(stopped, tmp_path / "f.h5.parts")


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)


def place_of(path, name, video=0):
    """A byte within the rows of a video."""
    features = FeatureFile(path)
    place = features.row_place(name)
    return place.offset + int(features.offsets[video]) * place.row_bytes


def test_the_checksum_is_the_one_that_is_documented(tmp_path):
    """Restated with struct: names, facts, clips, descriptors, logits."""
    write_features(tmp_path / "f.h5", make_content())
    features = FeatureFile(tmp_path / "f.h5")
    for n, video in enumerate(make_content().videos):
        info, clips, count = video.info, video.clips, len(video.descriptors)
        data = video.id.encode() + b"\0" + b"ok\0" + b"\0"
        facts = (info.fps, info.num_frames, info.width, info.height, info.duration, info.size, info.mtime_ns)
        data += struct.pack("<dqiidqq", *facts)
        data += struct.pack(f"<{count}q", *clips.start_frame) + struct.pack(f"<{count}h", *clips.num_frames)
        data += struct.pack(f"<{count}d", *clips.start_time) + struct.pack(f"<{count}d", *clips.end_time)
        data += video.descriptors.tobytes() + video.logits.tobytes()
        assert features.checksums[n] == zlib.crc32(data) == video_checksum(features.video(n))


@pytest.mark.slow
def test_checksums_move_with_their_videos_into_a_merged_file(tmp_path):
    videos = make_content().videos
    for name, part in (("a.h5", videos[::2]), ("b.h5", videos[1::2])):
        write_features(tmp_path / name, FeatureContent(RECIPE, part))
    write_features(tmp_path / "whole.h5", FeatureContent(RECIPE, videos))
    merge_features([tmp_path / "b.h5", tmp_path / "a.h5"], tmp_path / "merged.h5")
    assert (tmp_path / "merged.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_a_long_video_is_copied_in_pieces_to_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("gcf.data.gathered.BLOCK_BYTES", 100)
    content = FeatureContent(RECIPE, [make_video("v", num_clips=70)])
    write_features(tmp_path / "a.h5", content)
    merge_features([tmp_path / "a.h5"], tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_a_file_from_before_there_were_checksums_is_read_and_merged(tmp_path):
    write_features(tmp_path / "a.h5", make_content())
    with h5py.File(tmp_path / "a.h5", "a") as h5:
        del h5["videos/crc32"]
    assert FeatureFile(tmp_path / "a.h5").checksums is None
    assert verify_features(tmp_path / "a.h5").sound
    assert merge_features([tmp_path / "a.h5"], tmp_path / "b.h5").checksums is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["descriptors", "logits", "clips/start_time", "clips/num_frames"])
def test_a_flipped_byte_stops_the_merge_and_names_part_and_video(folder, parts, reference, name):
    part, out = parts / "part-000002.h5", parts.with_name("f.h5")
    damaged = FeatureFile(part).ids[1]
    flip(part, place_of(part, name, video=1))
    with pytest.raises(
        FeatureFileError, match=rf"part-000002\.h5: damaged: {damaged!r} does not fit.*--repair"
    ) as found:
        extract(folder, out)
    assert found.value.exit_code == 4
    assert not out.exists()
    assert extract(folder, out, repair=True).extracted == 1
    assert out.read_bytes() == reference
    assert not parts.exists()


@pytest.mark.slow
@pytest.mark.parametrize("cut", [0, 1, 700, 0.5, -1])
def test_a_truncated_part_is_named_and_repaired(folder, parts, reference, cut):
    part, out = parts / "part-000001.h5", parts.with_name("f.h5")
    data = part.read_bytes()
    part.write_bytes(data[: int(len(data) * cut) if isinstance(cut, float) else cut])
    with pytest.raises(FeatureFileError, match=r"part-000001\.h5.*--repair"):
        extract(folder, out)
    assert extract(folder, out, repair=True).extracted == 2
    assert out.read_bytes() == reference


@pytest.mark.slow
def test_a_video_whose_size_is_damaged_is_not_taken_for_a_changed_one(folder, parts, reference):
    part, out = parts / "part-000003.h5", parts.with_name("f.h5")
    with h5py.File(part, "a") as h5:
        h5["videos/size"][0] += 1
    with pytest.raises(FeatureFileError, match=r"part-000003\.h5: damaged"):
        extract(folder, out)
    assert extract(folder, out, repair=True).extracted == 1
    assert out.read_bytes() == reference


@pytest.mark.slow
def test_a_repair_that_was_stopped_is_finished_without_doing_it_twice(folder, parts, reference, monkeypatch):
    part, out = parts / "part-000001.h5", parts.with_name("f.h5")
    flip(part, place_of(part, "descriptors"))
    with monkeypatch.context() as patch:
        patch.setattr(run.ExtractionRun, "merge", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            extract(folder, out, repair=True)
    assert extract(folder, out).extracted == 0
    assert out.read_bytes() == reference


@pytest.mark.slow
def test_a_damaged_finished_file_is_found_by_verify_and_repaired(folder, tmp_path, reference, capfd):
    out = tmp_path / "f.h5"
    out.write_bytes(reference)
    flip(out, place_of(out, "descriptors", video=4))
    found = verify_features(out)
    assert any(
        "do not fit their checksum in 1 video" in fault and FeatureFile(out).ids[4] in fault for fault in found.faults
    )
    assert gcf.cli.run(["verify", str(out)]) != 0
    assert extract(folder, out, repair=True).extracted == 1
    assert out.read_bytes() == reference


@pytest.mark.slow
def test_any_flipped_byte_is_refused_or_does_no_harm(stopped, tmp_path):
    """A spread sample of all bytes of a part: what opens and fits its checksums holds the rows that were written."""
    good, rng = (stopped / "part-000001.h5").read_bytes(), random.Random(0)
    path = tmp_path / "f.h5"
    path.write_bytes(good)
    wanted = [video_checksum(v) for v in map(FeatureFile(path).video, range(2))]
    for place in rng.sample(range(len(good)), 100):
        path.write_bytes(good)
        flip(path, place)
        try:
            merged = tmp_path / "merged.h5"
            merged.unlink(missing_ok=True)
            merge_features([path], merged)
        except FeatureFileError:
            continue
        features = FeatureFile(merged)
        assert [video_checksum(v) for v in map(features.video, range(2))] == wanted, place


def test_a_system_that_refuses_to_open_a_part_is_no_damage(parts, monkeypatch):
    def refuse(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(h5py, "File", refuse)
    with pytest.raises(gcf.GcfError, match=r"cannot be read .*Too many open files"):
        PartFolder(parts.with_name("f.h5")).parts(repair=True)
    assert len(list(parts.glob("part-*.h5"))) == 3, "a repair removes nothing then"


def test_checksums_of_another_type_are_refused(tmp_path):
    write_features(tmp_path / "f.h5", make_content())
    with h5py.File(tmp_path / "f.h5", "a") as h5:
        del h5["videos/crc32"]
        h5["videos/crc32"] = np.zeros(7)
    with pytest.raises(FeatureFileError, match="crc32 is float64"):
        FeatureFile(tmp_path / "f.h5")
