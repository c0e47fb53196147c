import csv
import json
import os

import numpy as np
import pytest
from caches import one_video
from compare import assert_bitwise_equal

import gcf.cli
from gcf.data import export
from gcf.data.export import array_name, export_features
from gcf.data.features import FeatureFile
from gcf.data.schema import FeatureContent, id_key
from gcf.data.writer import write_features
from gcf.errors import RefusedError, UsageError

NAMES = ["a/same.mp4", "b/same.mp4", "..hidden", 'with, "quotes"\nand\ttabs.avi', "ü.mp4", os.fsdecode(b"\xff.avi")]
NAMES = sorted([*NAMES, "x" * 400], key=id_key)


@pytest.fixture
def features(tmp_path):
    """Seven videos of one to seven clips, two views, values that need all of float16's bits."""
    rng = np.random.default_rng(0)
    videos = [one_video(name, rng.standard_normal((n + 1, 2, 3)).astype(np.float16)) for n, name in enumerate(NAMES)]
    content = FeatureContent({"crop": 8}, videos, labels=[0, 1, -1, 0, 1, 0, 1], classes=["jump, high", "run"])
    write_features(tmp_path / "f.h5", content)
    return FeatureFile(tmp_path / "f.h5")


def read(path):
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


LABELS = ["jump, high", "run", "", "jump, high", "run", "jump, high", "run"]


def test_every_video_becomes_an_array_that_the_index_leads_to(features, tmp_path):
    found = export_features(features, npy=tmp_path / "arrays")
    index = read(tmp_path / "arrays" / "index.csv")
    assert [row["id"] for row in index] == NAMES
    assert [row["label"] for row in index] == LABELS
    assert {row["file"] for row in index} | {"index.csv"} == {p.name for p in (tmp_path / "arrays").iterdir()}
    for n, row in enumerate(index):
        array = np.load(tmp_path / "arrays" / row["file"], allow_pickle=False)
        assert_bitwise_equal(array, features.descriptors[features.offsets[n] : features.offsets[n + 1]])
    assert (found.videos, found.clips) == (7, 28)


def test_every_clip_becomes_a_line_whose_numbers_come_back_bit_for_bit(features, tmp_path):
    export_features(features.path, csv=tmp_path / "clips.csv")
    lines = read(tmp_path / "clips.csv")
    assert list(lines[0]) == ["id", "clip", "start_time", "end_time", "label", "d0", "d1", "d2"]
    assert [(line["id"], int(line["clip"])) for line in lines] == [
        (name, clip) for n, name in enumerate(NAMES) for clip in range(n + 1)
    ]
    assert [line["label"] for line in lines] == [label for n, label in enumerate(LABELS) for _ in range(n + 1)]
    values = np.array([[float(line[f"d{i}"]) for i in range(3)] for line in lines]).astype(np.float16)
    assert_bitwise_equal(values, features.descriptors[:, 0])
    for name in ("start_time", "end_time"):
        assert_bitwise_equal(np.array([float(line[name]) for line in lines]), getattr(features.clips, name))


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_an_array_is_safe_everywhere(name):
    assert all(char.isascii() and (char.isalnum() or char in "-_.") for char in array_name(3, name))
    assert len(array_name(3, name)) < 120
    assert array_name(3, name).startswith("000003")


@pytest.mark.parametrize("kind", ["npy", "csv"])
def test_what_is_there_already_is_left_alone(features, tmp_path, kind):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").touch()
    for out in ("out", "f.h5"):
        with pytest.raises(RefusedError, match="exists already"):
            export_features(features, **{kind: tmp_path / out})
    with pytest.raises(RefusedError, match="there is no folder"):
        export_features(features, **{kind: tmp_path / "no" / "out"})


@pytest.mark.parametrize("kind", ["npy", "csv"])
def test_an_export_that_fails_leaves_nothing(features, tmp_path, monkeypatch, kind):
    calls = []

    def broken(features, n):
        calls.append(n)
        if n == 3:
            raise OSError("disk full")
        return ""

    monkeypatch.setattr(export, "_label", broken)
    with pytest.raises(RefusedError, match=r"out: cannot be written \(disk full\)"):
        export_features(features, **{kind: tmp_path / "out"})
    assert calls[-1] == 3
    assert [p.name for p in tmp_path.iterdir()] == ["f.h5"]


@pytest.mark.parametrize("places", [{}, {"npy": "a", "csv": "b"}])
def test_one_form_is_asked_for(features, places):
    with pytest.raises(UsageError, match="either a folder"):
        export_features(features, **places)


@pytest.mark.slow
def test_the_command_says_what_it_wrote(features, tmp_path, capfd):
    assert gcf.cli.run(["export", str(features.path), "--npy", str(tmp_path / "arrays"), "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {"path": str(tmp_path / "arrays"), "videos": 7, "clips": 28}
    assert gcf.cli.run(["export", str(features.path), "--csv", str(tmp_path / "clips.csv")]) == 0
    assert "7 videos, 28 clips" in capfd.readouterr().out
    assert gcf.cli.run(["export", str(features.path)]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("sign", "=+-@\t")
def test_exports_run_no_formula_and_leave_numbers_alone(sign, tmp_path):
    name = f"{sign}1+2"
    content = FeatureContent({}, [one_video(name, np.full((1, 1, 2), -1.5))], labels=[0], classes=[name])
    write_features(tmp_path / "f.h5", content)
    export_features(tmp_path / "f.h5", npy=tmp_path / "arrays")
    export_features(tmp_path / "f.h5", csv=tmp_path / "clips.csv")
    (index,), (clip,) = read(tmp_path / "arrays" / "index.csv"), read(tmp_path / "clips.csv")
    assert (index["id"], index["label"]) == (clip["id"], clip["label"]) == (f"'{name}", f"'{name}")
    assert clip["d0"] == "-1.5"
