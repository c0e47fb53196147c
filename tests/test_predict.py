"""Predictions come one by one, in any order, the same from videos and from their rows; and leave in three forms."""

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import videos
from stage_one import TINY, extract
from torch import nn

import gcf
import gcf.cli
from gcf.data.features import FeatureFile
from gcf.errors import RecipeError, RefusedError, UsageError
from gcf.explain.predict import VideoPrediction, predict_videos, stream_predictions
from gcf.explain.prediction_files import json_line, write_table
from gcf.explain.reading import described
from gcf.extract.decoding.pool import DecoderPool
from gcf.head.models.output import HeadOutput

MINE = {"backbone": TINY, "device": "cpu"}
HOSTILE = ["=1+2.avi", "new\nline.avi", 'quo"te,comma.avi', os.fsdecode(b"\xff.avi"), "動画.avi"]


@pytest.fixture(scope="module")
def run(features):
    return gcf.train_head(features, features.with_name("run"), epochs=2).path


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A video and an empty file under every name that a careless program breaks at."""
    root = tmp_path_factory.mktemp("hostile")
    for n, name in enumerate(HOSTILE):
        (root / str(n)).mkdir()
        os.rename(videos.write_video(root / "v.avi", 20, seed=n), root / name)
        (root / str(n) / name).write_bytes(b"")
    return root


def outcomes_of(rewrite):
    """`stream_features` with its outcomes rewritten: a list in, a list out."""
    real = described.stream_features

    def stream(*args, **kw):
        yield from rewrite(list(real(*args, **kw)))

    return stream


@pytest.mark.slow
def test_the_order_in_which_videos_are_done_changes_nothing(run, folder, monkeypatch):
    expected = predict_videos(run, folder, workers=1, **MINE)
    assert [p.id for p in expected] == sorted(p.id for p in expected)
    assert predict_videos(run, folder, workers=3, **MINE) == expected
    monkeypatch.setattr(described, "stream_features", outcomes_of(lambda done: done[::-1]))
    assert [p.id for p in stream_predictions(run, folder, workers=1, **MINE)] == [p.id for p in expected[::-1]]
    assert predict_videos(run, folder, **MINE) == expected


@pytest.mark.slow
def test_a_prediction_is_given_before_the_next_video_is_done(run, folder, monkeypatch):
    taken, real = [], described.stream_features

    def stream(*args, **kw):
        for outcome in real(*args, **kw):
            taken.append(outcome[0])
            yield outcome

    monkeypatch.setattr(described, "stream_features", stream)
    predictions = stream_predictions(run, folder, **MINE)
    assert next(predictions).id == taken[-1]
    assert len(taken) == 1
    predictions.close()
    assert len(taken) == 1


@pytest.mark.slow
def test_closing_a_stream_stops_its_decoders(run, folder, monkeypatch):
    closed, real = [], DecoderPool.close
    monkeypatch.setattr(DecoderPool, "close", lambda pool: closed.append(pool) or real(pool))
    predictions = stream_predictions(run, folder, **MINE)
    next(predictions)
    assert not closed
    predictions.close()
    assert closed


def test_checks_come_before_the_first_prediction_is_asked_for(run, folder, features, tmp_path):
    with pytest.raises(UsageError, match="top must be at least 1"):
        stream_predictions(run, folder, top=0)
    with pytest.raises(UsageError, match=r"f\.h5: there are no frames to draw in a feature file"):
        stream_predictions(run, features, pictures=tmp_path / "p")
    assert not (tmp_path / "p").exists()


@pytest.mark.slow
def test_videos_and_their_feature_file_get_the_same_probabilities(run, folder, features):
    assert predict_videos(run, features, top=2) == predict_videos(run, folder, top=2, **MINE)


@pytest.mark.slow
def test_an_unlabelled_feature_file_is_predicted(run, folder, tmp_path):
    extract(folder / "run", tmp_path / "f.h5")
    assert FeatureFile(tmp_path / "f.h5").labels.tolist() == [-1, -1, -1]
    assert predict_videos(run, tmp_path / "f.h5") == predict_videos(run, folder / "run", **MINE)


def test_descriptors_that_are_no_numbers_have_no_classes_and_spoil_no_other_video(run, features, tmp_path, invoke):
    broken = tmp_path / "broken.h5"
    shutil.copy(features, broken)
    with h5py.File(broken, "r+") as file:
        file["descriptors"][0, 0, 0] = np.inf
    code, out, _ = invoke("predict", run, broken, "--jsonl")
    first, *others = [json.loads(line) for line in out.splitlines()]
    assert code == 3
    assert first["classes"] == []
    assert first["error"].startswith("descriptors with NaN or infinite values in 1 of")
    assert others
    assert not any(one["error"] for one in others)


@pytest.mark.slow
def test_a_video_shorter_than_a_clip_has_its_classes(run, tmp_path):
    path = videos.write_video(tmp_path / "short.avi", 7)
    (prediction,) = predict_videos(run, path, **MINE)
    assert prediction.num_clips == 1
    assert sum(share for _, share in prediction.classes) == pytest.approx(1)
    extract(path, tmp_path / "f.h5")
    assert predict_videos(run, tmp_path / "f.h5") == [prediction]


class Fixed(nn.Module):
    """A head that says the same of every video."""

    def __init__(self, *logits: float):
        super().__init__()
        self.logits = torch.tensor([logits])

    def forward(self, *_):
        return HeadOutput(self.logits)


def test_of_several_classes_a_video_may_have_all_likely_ones_are_shown(run, features):
    head = gcf.load_head(run)
    classes = tuple("abcd")
    several = replace(
        head, module=Fixed(2.0, -1.0, 3.0, 0.5), classes=classes, config=replace(head.config, exclusive=False)
    )
    assert [[name for name, _ in p.classes] for p in predict_videos(several, features, top=1)] == [["c", "a", "d"]] * 6
    assert [name for name, _ in predict_videos(several, features, top=4)[0].classes] == ["c", "a", "d", "b"]
    one = replace(several, config=head.config)
    assert [name for name, _ in predict_videos(one, features, top=1)[0].classes] == ["c"]


@pytest.mark.slow
def test_lines_of_json_hold_any_name(run, hostile, invoke):
    code, out, _ = invoke("predict", run, hostile, "--backbone", TINY, "--jsonl", "--top", "1")
    assert code == 3
    lines = out.splitlines()
    assert len(lines) == 2 * len(HOSTILE)
    found = {p["id"]: p for p in map(json.loads, lines)}
    assert found.keys() == {*HOSTILE, *(f"{n}/{name}" for n, name in enumerate(HOSTILE))}
    for name in HOSTILE:
        ((label, share),) = found[name]["classes"]
        assert label in ("jump", "run")
        assert 0.5 <= share <= 1
        assert (found[name]["error"], found[name]["num_clips"]) == ("", 2)
    assert found["0/=1+2.avi"] == {"id": "0/=1+2.avi", "classes": [], "num_clips": 0, "error": "empty", "note": ""}


@pytest.mark.slow
def test_the_table_holds_what_the_lines_say_and_runs_no_formula(run, hostile, tmp_path, invoke):
    table = tmp_path / "t.csv"
    code, out, _ = invoke("predict", run, hostile, "--backbone", TINY, "--jsonl", "--top", "2", "-o", table)
    assert code == 3
    with table.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = {row["video"]: row for row in csv.DictReader(file)}
    lines = {p["id"]: p for p in map(json.loads, out.splitlines())}
    assert rows.keys() == {"'=1+2.avi" if name == "=1+2.avi" else name for name in lines}
    assert list(rows["0/=1+2.avi"].values()) == ["0/=1+2.avi", "", "", "", "", "0", "empty", ""]
    assert list(rows["'=1+2.avi"]) == "video class_1 probability_1 class_2 probability_2 clips error note".split()
    for name in HOSTILE[1:]:
        (first, second), row = lines[name]["classes"], rows[name]
        assert [row["class_1"], float(row["probability_1"])] == first
        assert [row["class_2"], float(row["probability_2"])] == second


def test_a_table_is_complete_or_absent_and_replaces_nothing(tmp_path):
    path = tmp_path / "t.csv"

    def failing():
        yield VideoPrediction("a.mp4", [("x", 1.0)], 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_table(path, failing())
    assert not list(tmp_path.iterdir())
    write_table(path, [VideoPrediction("b.mp4", [], 0, "+gone"), VideoPrediction("a.mp4", [("-x", 0.5)], 1, note="@n")])
    text = "video,class_1,probability_1,clips,error,note\na.mp4,'-x,0.5,1,,'@n\nb.mp4,,,0,'+gone,\n"
    assert path.read_text() == text
    with pytest.raises(RefusedError, match="exists already"):
        write_table(path, [])
    assert path.read_text() == text


def test_lines_refuse_numbers_that_json_does_not_have():
    with pytest.raises(ValueError, match="JSON"):
        json_line(VideoPrediction("a", [("x", float("nan"))], 1))


MISTAKES = {
    "both forms": (["--json", "--jsonl"], 2, "--jsonl prints one for each video"),
    "watch as one object": (["--json", "--watch"], 2, "also with --watch"),
    "a pace without a watch": (["--every", "3"], 2, "--every is for --watch"),
    "no pace": (["--watch", "--every", "0"], 2, "more than 0, not 0"),
    "truth of what is to come": (
        ["--watch", "--pictures", "{tmp}/p", "--truth", "{features}"],
        2,
        "nothing is annotated",
    ),
    "two folders to watch": (["{videos}", "--watch"], 2, "--watch takes one folder, not 2 names"),
    "a table that is there": (["-o", "{features}"], 4, "exists already"),
    "a table nowhere": (["-o", "{tmp}/no/t.csv"], 4, "there is no folder"),
    "another network": (["--backbone", "{tmp}/other.py"], 4, 'channel_order: "BGR" against "RGB"'),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line(case, run, folder, features, tmp_path, invoke):
    (tmp_path / "other.py").write_text(Path(TINY).read_text().replace('"RGB"', '"BGR"'))
    args, expected, text = MISTAKES[case]
    places = {"tmp": tmp_path, "videos": folder, "features": features}
    code, out, err = invoke("predict", run, folder, *[a.format(**places) for a in args])
    assert code == expected, err
    (line,) = [line for line in err.splitlines() if line.startswith("gcf: ")]
    assert text in line
    assert not out
    assert not (tmp_path / "p").exists()


@pytest.mark.slow
def test_a_recipe_that_is_not_the_heads_is_refused_in_one_line(run, folder, features, tmp_path, invoke):
    extract(folder, tmp_path / "f.h5", tail="drop")
    code, out, err = invoke("predict", run, tmp_path / "f.h5")
    assert (code, out) == (4, "")
    (line,) = err.splitlines()
    assert 'tail: "loop" against "drop"' in line
    with pytest.raises(RecipeError):
        predict_videos(run, tmp_path / "f.h5")


@pytest.mark.slow
def test_lines_that_nobody_reads_end_the_work_without_a_fault(run, folder):
    command = f"({sys.executable} -m gcf.cli predict {run} {folder} --backbone {TINY} --jsonl; echo code $? >&2) | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "code 0"
    assert "Error" not in done.stderr
