"""The folder of a localisation holds what it says, and a run that was stopped goes on to the same."""

import csv
import json
import os

import numpy as np
import pytest
import videos
from compare import assert_bitwise_equal
from measured import write_truth
from stage_one import TINY

import gcf
from gcf.errors import RefusedError, UsageError
from gcf.explain import localizer
from gcf.explain.files.localization_folder import LocalizationFolder
from gcf.explain.localize import LocalizeConfig, localize_videos
from gcf.explain.pages.write import write_pages

pytestmark = pytest.mark.slow

MINE = {"backbone": TINY, "device": "cpu", "workers": 1}
PICTURES = LocalizeConfig(heat=False)
NAMES = ["a.avi", "b/a.avi", "b/c.avi"]
FACTS = {"gcf": "0", "head": "run", "head_sha256": "0", "classes": ["a"], "settings": {"windows": 1}}


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Three videos of two and three clips."""
    root = tmp_path_factory.mktemp("three")
    for n, name in enumerate(NAMES):
        videos.write_video(root / name, 20 + 8 * n, seed=n)
    return root


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    entries = {"b/a.avi": ("test", [(0.25, 0.875, "run")]), "b/c.avi": ("test", [(0.0, 0.5, "jump")])}
    return write_truth(tmp_path_factory.mktemp("truth") / "truth.json", entries)


@pytest.fixture(scope="module")
def whole(tiny_run, three, truth, tmp_path_factory):
    """What an undisturbed run leaves, and its result: with everything."""
    out = tmp_path_factory.mktemp("whole") / "seen"
    return out, localize_videos(tiny_run, three, out, truth=truth, **MINE)


@pytest.fixture
def drawn(monkeypatch):
    """Overlays are small files; the videos that were drawn. Set `drawn.stop` to stop before that many are."""

    class Drawn(list):
        stop = None

    drawn = Drawn()

    def draw(out, path, localization, *, segments):
        if drawn.stop == len(drawn):
            raise KeyboardInterrupt
        drawn.append(localization.id)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(f"{localization.id} {len(segments)}")
        return f"of {localization.id}: no sound"

    monkeypatch.setattr(localizer, "write_overlay", draw)
    monkeypatch.setattr(localizer, "write_sheet", lambda *_, **__: None)
    return drawn


def facts_of(folder):
    return json.loads((folder / "localization.json").read_bytes())


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_every_file_is_named_and_every_name_is_a_file(whole):
    out, _ = whole
    facts = facts_of(out)
    assert (facts["format"], facts["version"], facts["complete"]) == ("gcf-localization", 1, True)
    assert (facts["evidence_kind"], facts["classes"]) == ("traced", ["jump", "run"])
    assert [entry["id"] for entry in facts["videos"]] == NAMES
    named = {name for entry in facts["videos"] for name in entry["files"].values()}
    assert named == {f"{name}.{suffix}" for name in NAMES for suffix in ("npz", "mp4", "png")}
    tables = {"localization.json", "intervals.json", "intervals.csv", "clips.csv"}
    assert set(contents(out)) == named | tables


def test_tables_and_arrays_say_what_python_does(whole):
    out, found = whole
    intervals = [(v.id, i.label, i.score, i.start, i.end) for v in found for i in v.intervals]
    results = json.loads((out / "intervals.json").read_bytes())["results"]
    stored = [(name, i["label"], i["score"], *i["segment"]) for name, own in results.items() for i in own]
    read = [
        (r["video"], r["label"], *(float(r[c]) for c in ("score", "start", "end"))) for r in rows(out / "intervals.csv")
    ]
    assert stored == read == [(*one[:2], *(pytest.approx(x, abs=1e-6) for x in one[2:])) for one in intervals]
    clips = rows(out / "clips.csv")
    for v in found:
        own, reading = [row for row in clips if row["video"] == v.id], v.reading
        assert {row["label"] for row in own} == {reading.classes[reading.top]}
        for name, expected in {"evidence": reading.evidence[:, reading.top], "gate": reading.gate}.items():
            assert [float(row[name]) for row in own] == pytest.approx(expected.tolist(), rel=1e-5)
        with np.load(out / f"{v.id}.npz") as arrays:
            assert_bitwise_equal(arrays["evidence"], reading.evidence)
            assert_bitwise_equal(arrays["end"], reading.ends)


def test_the_report_of_it_shows_what_is_annotated(whole):
    out, found = whole
    pages = write_pages(out)
    assert [str(page.relative_to(out)) for page in pages] == ["index.html", *(f"{name}.html" for name in NAMES)]
    texts = dict(zip(NAMES, [page.read_text() for page in pages[1:]], strict=True))
    listed = {name: [row for row in text.splitlines() if "<td>annotated</td>" in row] for name, text in texts.items()}
    assert {name: len(found) for name, found in listed.items()} == {"a.avi": 0, "b/a.avi": 1, "b/c.avi": 1}
    assert all(text in listed["b/a.avi"][0] for text in (">run<", ">0.25<", ">0.88<"))
    assert "temporal mAP" in pages[0].read_text()
    assert facts_of(out)["metrics"] == found.metrics


def test_a_run_that_was_stopped_goes_on_without_drawing_again(tiny_run, three, drawn, tmp_path):
    expected = localize_videos(tiny_run, three, tmp_path / "whole", config=PICTURES, **MINE)
    assert len(drawn) == 3
    drawn.clear()
    drawn.stop = 2
    with pytest.raises(KeyboardInterrupt):
        localize_videos(tiny_run, three, tmp_path / "seen", config=PICTURES, **MINE)
    facts = facts_of(tmp_path / "seen")
    assert (facts["complete"], {v["id"] for v in facts["videos"]}) == (False, set(drawn))
    done = list(drawn)
    drawn.stop = None
    found = localize_videos(tiny_run, three, tmp_path / "seen", config=PICTURES, **MINE)
    assert len(drawn) == 3
    assert drawn[:2] == done
    assert contents(tmp_path / "seen") == contents(tmp_path / "whole")
    assert found.summary()["videos"] == expected.summary()["videos"]
    assert found.describe() == expected.describe().replace("whole", "seen")


def test_a_stop_loses_nothing_of_what_an_earlier_one_left(tiny_run, three, drawn, tmp_path):
    localize_videos(tiny_run, three, tmp_path, config=PICTURES, **MINE)
    (tmp_path / "b" / "a.avi.mp4").unlink()
    drawn.stop = 3
    with pytest.raises(KeyboardInterrupt):
        localize_videos(tiny_run, three, tmp_path, config=PICTURES, **MINE)
    facts = facts_of(tmp_path)
    assert (facts["complete"], [v["id"] for v in facts["videos"]]) == (False, NAMES)
    drawn.stop = None
    localize_videos(tiny_run, three, tmp_path, config=PICTURES, **MINE)
    assert (len(drawn), drawn[-1]) == (4, "b/a.avi")
    assert facts_of(tmp_path)["complete"]


def test_another_video_or_annotation_is_drawn_again(tiny_run, three, truth, drawn, tmp_path):
    localize_videos(tiny_run, three, tmp_path, config=PICTURES, **MINE)
    drawn.clear()
    os.utime(three / "b" / "c.avi", ns=(1, 1))
    localize_videos(tiny_run, three, tmp_path, config=PICTURES, **MINE)
    assert drawn == ["b/c.avi"]
    localize_videos(tiny_run, three, tmp_path, config=PICTURES, truth=truth, **MINE)
    assert sorted(drawn[1:]) == ["b/a.avi", "b/c.avi"]


def test_another_head_or_setting_needs_to_be_asked_to_overwrite(tiny_run, three, drawn, tmp_path):
    out, video = tmp_path / "seen", three / "a.avi"
    localize_videos(tiny_run, video, out, config=PICTURES, **MINE)
    before = contents(out)
    other = gcf.load_head(tiny_run)
    other.module.classifier.weight.data += 1
    settings = LocalizeConfig(heat=False, threshold=0.25)
    for head, config in ((other, PICTURES), (tiny_run, settings)):
        with pytest.raises(RefusedError, match="by another head or with other settings"):
            localize_videos(head, video, out, config=config, **MINE)
        assert contents(out) == before
    localize_videos(tiny_run, video, out, config=settings, overwrite=True, **MINE)
    assert facts_of(out)["settings"]["threshold"] == 0.25
    assert drawn == ["a.avi"] * 2


def test_another_name_of_the_same_head_is_the_same_head(tiny_run, three, drawn, tmp_path):
    localize_videos(tiny_run, three / "a.avi", tmp_path / "seen", config=PICTURES, **MINE)
    localize_videos(gcf.load_head(tiny_run), three / "a.avi", tmp_path / "seen", config=PICTURES, **MINE)
    assert drawn == ["a.avi"]


def test_a_run_of_fewer_videos_loses_the_others_only_when_asked_to(tiny_run, three, drawn, tmp_path):
    localize_videos(tiny_run, three, tmp_path, config=PICTURES, **MINE)
    fewer = [three / "a.avi", three / "b" / "a.avi"]
    with pytest.raises(RefusedError, match=r"1 other videos, such as 'b/c\.avi'"):
        localize_videos(tiny_run, fewer, tmp_path, config=PICTURES, **MINE)
    assert len(facts_of(tmp_path)["videos"]) == 3
    localize_videos(tiny_run, fewer, tmp_path, config=PICTURES, overwrite=True, **MINE)
    assert [entry["id"] for entry in facts_of(tmp_path)["videos"]] == ["a.avi", "b/a.avi"]
    assert list(json.loads((tmp_path / "intervals.json").read_bytes())["results"]) == ["a.avi", "b/a.avi"]
    assert len(drawn) == 3


def test_a_folder_of_something_else_is_refused_and_left_as_it_is(tmp_path):
    other = {"format": "another", "version": 1, "facts": {}, "videos": []}
    later = other | {"format": "gcf-localization", "version": 2}
    foreign = [("note.txt", "mine"), *(("localization.json", json.dumps(text)) for text in (other, later, [], {}))]
    for n, (name, text) in enumerate(foreign):
        (tmp_path / str(n)).mkdir()
        (tmp_path / str(n) / name).write_text(text)
        for overwrite in (False, True):
            with pytest.raises(RefusedError, match="no localisation of gcf"):
                LocalizationFolder.begin(tmp_path / str(n), FACTS, videos=(), overwrite=overwrite)
        assert contents(tmp_path / str(n)) == {name: text.encode()}
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RefusedError, match="is a file"):
        LocalizationFolder.begin(tmp_path / "file", FACTS, videos=())


def test_a_run_that_came_to_nothing_is_in_nobodys_way(tmp_path):
    (tmp_path / ".localization.json.1.tmp").write_text("half of it")
    LocalizationFolder.begin(tmp_path, FACTS, videos=())
    LocalizationFolder.begin(tmp_path, FACTS | {"settings": {"windows": 2}}, videos=())
    assert facts_of(tmp_path)["settings"] == {"windows": 2}


def test_what_was_drawn_among_the_videos_is_no_video(tiny_run, three, drawn, tmp_path):
    source = tmp_path / "v"
    videos.write_video(source / "a.avi", 20)
    for _ in range(2):
        found = localize_videos(tiny_run, source, source / "seen", config=PICTURES, **MINE)
        assert [v.id for v in found] == ["a.avi"]
    with pytest.raises(UsageError, match="all the videos lie in this folder"):
        localize_videos(tiny_run, source / "a.avi", source, config=PICTURES, **MINE)
