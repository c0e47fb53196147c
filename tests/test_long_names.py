"""Names of more bytes than any file's are refused in one line, before they cost memory."""

import json
import tracemalloc

import numpy as np
import pytest
from caches import one_video

import gcf.cli
from gcf.data.annotations import read_annotations
from gcf.data.schema import FeatureContent
from gcf.data.segments import read_segments
from gcf.data.writer import write_features
from gcf.errors import AnnotationError, FeatureFileError, RefusedError
from gcf.extract.decoding.find import find_videos

LONG = "/" * 65_536
SAID = r"a name of 65,\d\d\d bytes, '.*'\.\.\.; 4,096 are the most"


def csv_file(folder, name, label="run", group="g"):
    path = folder / "labels.csv"
    path.write_text(f"path,label,group\n{name},{label},{group}\n")
    return path


def json_file(folder, name, label="run"):
    path = folder / "labels.json"
    path.write_text(json.dumps({"database": {name: {"subset": "training", "annotations": [{"label": label}]}}}))
    return path


def hara_file(folder, name, label="run"):
    path = folder / "labels.json"
    entry = {"subset": "training", "annotations": {"label": "run"}}
    path.write_text(json.dumps({"labels": ["run", label], "database": {name: entry}}))
    return path


def kinetics_file(folder, name, label="run"):
    path = folder / "train.csv"
    path.write_text(f"label,youtube_id,time_start,time_end,split\n{label},{name},0,10,train\n")
    return path


def ucf101_folder(folder, name, label="Run"):
    (folder / "classInd.txt").write_text(f"1 {label}\n")
    (folder / "trainlist01.txt").write_text(f"{name} 1\n")
    (folder / "testlist01.txt").write_text("Run/b.avi 1\n")
    return folder


def hmdb51_folder(folder, name):
    (folder / "run_test_split1.txt").write_text(f"{name} 1\n")
    return folder


FORMATS = [csv_file, json_file, hara_file, kinetics_file, ucf101_folder, hmdb51_folder]


@pytest.mark.parametrize("write", FORMATS, ids=lambda f: f.__name__)
def test_a_long_name_of_a_video_is_refused_in_every_format(write, tmp_path):
    with pytest.raises(AnnotationError, match=SAID) as caught:
        read_annotations(write(tmp_path, LONG))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("write", FORMATS[:-1], ids=lambda f: f.__name__)
def test_a_long_name_of_a_class_is_refused_in_every_format(write, tmp_path):
    with pytest.raises(AnnotationError, match=SAID):
        read_annotations(write(tmp_path, "Run/a.avi", LONG))


def test_a_long_name_of_a_group_is_refused(tmp_path):
    with pytest.raises(AnnotationError, match=SAID):
        read_annotations(csv_file(tmp_path, "a.avi", group=LONG))


@pytest.mark.parametrize(("name", "label"), [(LONG, "run"), ("a.avi", LONG)])
def test_a_long_name_among_intervals_is_refused(name, label, tmp_path):
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"database": {name: {"annotations": [{"label": label, "segment": [0, 1]}]}}}))
    with pytest.raises(AnnotationError, match=SAID):
        read_segments(path, ["a.avi"])


def test_the_length_is_that_of_the_bytes(tmp_path):
    assert read_annotations(csv_file(tmp_path, "é" * 2048)).videos
    with pytest.raises(AnnotationError, match="a name of 4,098 bytes"):
        read_annotations(csv_file(tmp_path, "é" * 2049))


@pytest.mark.parametrize("name", ["videos.txt", "videos.csv"])
def test_a_long_name_in_a_list_of_videos_is_refused(name, tmp_path):
    (tmp_path / name).write_text("a" + LONG.replace("/", "/b")[:65_535] + ".avi\n")
    with pytest.raises(RefusedError, match=SAID) as caught:
        find_videos([tmp_path / name])
    assert len(str(caught.value)) < 400


def test_a_feature_file_with_a_long_name_is_not_written(tmp_path):
    video = one_video("a" * 4097, np.ones((1, 1, 2)))
    with pytest.raises(FeatureFileError, match="videos/id has a name of more than 4,096 bytes"):
        write_features(tmp_path / "f.h5", FeatureContent({}, [video]))
    assert list(tmp_path.iterdir()) == []


def test_a_command_takes_little_memory_for_a_long_name(folder, tmp_path, capfd):
    labels = csv_file(tmp_path, "a" + LONG.replace("/", "/a")[:65_535])
    tracemalloc.start()
    try:
        code = gcf.cli.run(["extract", str(folder), str(tmp_path / "f.h5"), "--annotations", str(labels)])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert code == 4
    (line,) = capfd.readouterr().err.splitlines()
    assert "a name of 65,536 bytes" in line
    assert peak < 50e6  # all that follows its slashes is 1 GB
