import csv
import json
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from compare import assert_bitwise_equal

from gcf.data.schema import Clips, VideoInfo
from gcf.errors import RefusedError, StoppedError
from gcf.explain.files.localization_files import file_name, write_localization, write_tables
from gcf.explain.reading.clip_reading import ClipReading, Localization
from gcf.explain.reading.intervals import Interval

ODD = ["a/b c.avi", 'quote"comma,.mp4', "line\nbreak\r.mp4", "caf\udce9.mp4", "日本/動画.mp4"]


def reading(video_id, *, count=3, gate=True):
    rng = np.random.default_rng(4)
    start = np.arange(count) * 0.64 + 2.0
    clips = Clips(np.arange(count) * 16, np.array([16] * (count - 1) + [7]), start, start + 0.64)
    info = VideoInfo(25.0, count * 16 - 9, 64, 48, 1.56, 1, 1)
    probabilities = np.array([0.1, 0.7, 0.2], np.float32)
    evidence = rng.standard_normal((count, 3)).astype(np.float32)
    part = rng.random(count).astype(np.float32) if gate else None
    classes = ("a", "b, c", "d")
    return ClipReading(video_id, clips, info, classes, np.log(probabilities), probabilities, evidence, "traced", part)


def localization(video_id, **options):
    intervals = [Interval(0.0, 1.28, "b, c", 0.9), Interval(1.0, 1.5000001, "a", 0.25)]
    return Localization(video_id, reading(video_id, **options), intervals, note="a note")


@pytest.mark.parametrize("sign", "=+-@\t")
def test_tables_run_no_formula_and_leave_numbers_alone(sign, tmp_path):
    name = f"{sign}1+2"
    shown = replace(reading(name), classes=("a", name, "d"))
    write_tables(tmp_path, [Localization(name, shown, [Interval(0.0, 1.28, name, 0.9)])])
    intervals, clips = table(tmp_path / "intervals.csv"), table(tmp_path / "clips.csv")
    assert {(row["video"], row["label"]) for row in intervals + clips} == {(f"'{name}", f"'{name}")}
    evidence = [float(row["evidence"]) for row in clips]
    assert min(evidence) < 0
    np.testing.assert_allclose(evidence, shown.evidence[:, 1], rtol=1e-5)  # six digits are written
    assert list(json.loads((tmp_path / "intervals.json").read_text())["results"]) == [name]


FAILED = Localization("gone.mp4", None, error="cannot be decoded")


def table(path):
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def test_a_video_leaves_its_arrays_and_an_entry(tmp_path):
    one = localization("sub/v.avi")
    entry = write_localization(tmp_path, one)
    assert entry["files"] == {"clips": "sub/v.avi.npz", "overlay": None, "sheet": None}
    with np.load(tmp_path / "sub/v.avi.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {"start", "end", "num_frames", "gate", "evidence", "logits", "probabilities"}
        for name in ("gate", "evidence", "logits", "probabilities"):
            assert_bitwise_equal(arrays[name], getattr(one.reading, name))
        assert_bitwise_equal(arrays["start"], one.reading.starts)
        assert arrays["start"][0] == 0
        assert arrays["num_frames"].tolist() == [16, 16, 7]
    assert entry["top"] == [["b, c", pytest.approx(0.7)], ["d", pytest.approx(0.2)], ["a", pytest.approx(0.1)]]
    assert (entry["duration"], entry["width"], entry["height"], entry["fps"]) == (1.56, 64, 48, 25.0)
    assert entry["intervals"][1] == {"start": 1.0, "end": 1.5, "label": "a", "score": 0.25}
    assert (entry["id"], entry["error"], entry["note"]) == ("sub/v.avi", "", "a note")
    assert json.loads(json.dumps(entry, allow_nan=False)) == entry


def test_a_video_that_gave_nothing_leaves_an_entry_alone(tmp_path):
    entry = write_localization(tmp_path, FAILED)
    assert list(tmp_path.iterdir()) == []
    assert entry["files"]["clips"] is None
    assert (entry["top"], entry["intervals"], entry["error"]) == ([], [], "cannot be decoded")


def test_parts_that_a_head_lacks_are_left_out(tmp_path):
    write_localization(tmp_path, localization("v", gate=False))
    assert "gate" not in np.load(tmp_path / "v.npz")


def test_the_same_video_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        write_localization(tmp_path / name, localization("v.mp4"))
    assert (tmp_path / "one/v.mp4.npz").read_bytes() == (tmp_path / "two/v.mp4.npz").read_bytes()


def activity_net_reader(path):
    """What ActivityNet's evaluator asks of a file of results, and the table that it makes of it."""
    data = json.loads(Path(path).read_text("utf-8"))
    assert all(field in data for field in ("results", "version", "external_data"))
    return [
        (video, result["label"], float(result["segment"][0]), float(result["segment"][1]), result["score"])
        for video, results in data["results"].items()
        for result in results
    ]


@pytest.mark.parametrize("video_id", ODD)
def test_tables_keep_names_of_any_kind(tmp_path, video_id):
    write_tables(tmp_path, [localization(video_id), FAILED])
    rows = activity_net_reader(tmp_path / "intervals.json")
    assert rows == [(video_id, "b, c", 0.0, 1.28, 0.9), (video_id, "a", 1.0, 1.5, 0.25)]
    intervals = table(tmp_path / "intervals.csv")
    assert list(intervals[0]) == ["video", "start", "end", "label", "score"]
    assert [(r["video"], r["label"], *map(float, (r["start"], r["end"], r["score"]))) for r in intervals] == rows
    clips = table(tmp_path / "clips.csv")
    assert [r["video"] for r in clips] == [video_id] * 3
    assert list(clips[0]) == ["video", "clip", "start", "end", "frames", "gate", "attention", "label", "evidence"]


def test_videos_without_intervals_are_in_the_results_all_the_same(tmp_path):
    write_tables(tmp_path, [FAILED])
    assert json.loads((tmp_path / "intervals.json").read_text())["results"] == {"gone.mp4": []}
    assert table(tmp_path / "clips.csv") == []


def test_the_clips_table_has_the_evidence_for_the_top_class(tmp_path):
    one = localization("v.mp4")
    write_tables(tmp_path, [one])
    for clip, row in enumerate(table(tmp_path / "clips.csv")):
        assert int(row["clip"]) == clip
        assert row["label"] == "b, c"
        assert float(row["evidence"]) == pytest.approx(one.reading.evidence[clip, 1], rel=1e-5)
        assert float(row["gate"]) == pytest.approx(one.reading.gate[clip], rel=1e-5)
        assert float(row["start"]) == pytest.approx(0.64 * clip)
        assert row["attention"] == ""
        assert int(row["frames"]) == (16, 16, 7)[clip]


@pytest.mark.parametrize("video_id", ODD)
def test_plain_names_are_files_names_as_they_are(tmp_path, video_id):
    assert file_name(video_id, ".npz") == video_id + ".npz"
    entry = write_localization(tmp_path, localization(video_id))
    assert (tmp_path / entry["files"]["clips"]).is_file()


STRANGE = [
    "../x.mp4",
    "/x.mp4",
    "a/../../x.mp4",
    "..",
    ".",
    "",
    "a//x.mp4",
    "a/",
    "x" * 300 + ".mp4",
    "日" * 90,
    "a\0b",
]


@pytest.mark.parametrize("video_id", STRANGE)
def test_no_name_leads_outside_the_folder_or_is_too_long(tmp_path, video_id):
    folder = tmp_path / "deep" / "out"
    name = write_localization(folder, localization(video_id))["files"]["clips"]
    assert ".." not in PurePosixPath(name).parts
    assert (folder / name).resolve().is_relative_to(folder.resolve())
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [folder / name]


def test_no_two_videos_share_a_file():
    ids = [*STRANGE, *ODD, "_/x.mp4", "x.mp4", "a/x.mp4", "a/_/x.mp4", "x" * 301, "_"]
    assert len({file_name(video_id, ".npz") for video_id in ids}) == len(ids)


def test_a_folder_that_cannot_be_written_is_refused_in_a_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RefusedError, match="cannot be written") as error:
        write_tables(tmp_path / "file", [FAILED])
    assert "\n" not in str(error.value)


def test_nothing_unfinished_is_left_behind(tmp_path, monkeypatch):
    def cut(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gcf.data.atomic.os.fsync", cut)
    with pytest.raises(StoppedError, match="No space"):
        write_localization(tmp_path, localization("v.mp4"))
    assert list(tmp_path.iterdir()) == []
