"""All figures of a set of localisations, and how they are told."""

import json

import numpy as np
import pytest
from caches import one_video
from measured import heat_maps, reading, truth_entry, write_truth
from small_heads import mean_head

from gcf.data.boxes import read_boxes, read_groups
from gcf.data.segments import Segment
from gcf.errors import AnnotationError, UsageError
from gcf.explain.files.localization_files import write_tables
from gcf.explain.measures.detection_map import detection_map
from gcf.explain.measures.measure import describe_measures, measure
from gcf.explain.reading.clip_reading import Localization
from gcf.explain.reading.intervals import Interval, propose_intervals


def localization(name, *intervals, **parts):
    return Localization(name, reading(name, **parts), [Interval(*one) for one in intervals])


GOOD = [
    localization("run/a.mp4", (2, 6, "run", 0.9)),
    localization("run/b.mp4", (0, 4, "run", 0.8), (6, 8, "sit", 0.1)),
    localization("sit/c.mp4", (4, 8, "sit", 0.7), probabilities=(0.25, 0.75)),
]
DATABASE = {
    "run/a.mp4": ("testing", [(2, 6, "run")]),
    "run/b.mp4": ("testing", [(0, 4, "run")]),
    "sit/c.mp4": ("testing", [(4, 8, "sit")]),
    "sit/d.mp4": ("testing", [(0, 4, "sit")]),
    "run/e.mp4": ("training", [(0, 4, "run")]),
}


@pytest.fixture
def truth(tmp_path):
    return write_truth(tmp_path / "truth.json", DATABASE)


def test_what_was_localised_is_judged_beside_what_blind_placing_scores(truth):
    found = measure(GOOD, truth)
    assert (found["videos"], found["segments"], found["classes"]) == (3, 3, 2)
    assert (found["failed"], found["missed"], found["unannotated"], found["not_judged"]) == (0, 0, 0, 2)
    timed = found["temporal"]
    assert timed["localized"]["map"] == timed["ceiling"]["map"] == [1] * 9
    assert timed["ceiling"]["mean_tiou"] == 1
    assert timed["mean_segment"] == 4
    # pieces (0, 4) and (4, 8); run: of a, a miss with 1/3 at the lower thresholds, of b a hit at once
    assert timed["uniform"]["map"][-1] < 1
    assert timed["random"]["map"][-1] < timed["uniform"]["map"][-1]
    assert timed["times_uniform"] == pytest.approx(1 / timed["uniform"]["map"][4])
    assert timed["of_ceiling"] == 1
    assert found["pointing"] is None
    assert found["faithfulness"] is None
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_failed_video_counts_as_missed(truth):
    broken = Localization("sit/c.mp4", None, error="no frame decodes")
    found = measure([*GOOD[:2], broken], truth)
    assert (found["videos"], found["failed"]) == (3, 1)
    assert found["temporal"]["localized"]["map"] == found["temporal"]["ceiling"]["map"] == [0.5] * 9
    assert found["temporal"]["localized"]["classes"]["sit"] == [0] * 9
    assert "videos that could not be read and count as missed: 1" in describe_measures(found)


def test_with_a_subset_the_videos_that_were_not_localised_count_as_missed(truth):
    found = measure(GOOD, truth, subset="test")
    assert (found["videos"], found["missed"], found["not_judged"]) == (4, 1, 1)
    assert found["temporal"]["localized"]["classes"] == {"run": [1] * 9, "sit": [0.5] * 9}
    text = describe_measures(found)
    assert "in 4 videos in test" in text
    assert "videos that were not localised and count as missed: 1" in text
    assert "videos that are annotated, but were not localised and do not count: 1" in text


def test_videos_that_the_file_does_not_name_do_not_count(truth):
    stranger = localization("zoo/x.mp4", (0, 1, "run", 1.0))
    found = measure([*GOOD, stranger], truth)
    assert found["unannotated"] == 1
    assert found["temporal"] == measure(GOOD, truth)["temporal"]
    assert measure([*GOOD, localization("run/e.mp4", (0, 1, "run", 1))], truth, subset="test")["unannotated"] == 1


def test_the_order_of_the_localisations_does_not_matter(truth):
    assert measure(GOOD[::-1], truth)["temporal"] == measure(GOOD, truth)["temporal"]


def test_the_class_known_shows_the_placing_alone(truth):
    confused = [
        localization("run/a.mp4", (2, 6, "sit", 0.9), probabilities=(0.25, 0.75)),
        localization("sit/c.mp4", (4, 8, "run", 0.7)),
    ]
    placed = {"run/a.mp4": (2, 6), "sit/c.mp4": (4, 8)}
    asked = []

    def propose(reading, labels):
        asked.append((reading.id, labels))
        return [Interval(*placed[reading.id], label, 0.5) for label in labels]

    found = measure(confused, truth, propose=propose)["temporal"]
    assert sorted(asked) == [("run/a.mp4", ["run"]), ("sit/c.mp4", ["sit"])]
    assert found["localized"]["map"] == [0] * 9
    assert found["uniform"]["map"] == [0] * 9
    assert found["times_uniform"] is None
    assert found["known_class"]["localized"]["map"] == [1] * 9
    assert found["known_class"]["uniform"]["map"][0] > 0
    assert set(measure(confused, truth)["temporal"]["known_class"]) == {"uniform"}


@pytest.mark.slow
def test_boxes_and_orders_are_judged_where_they_are_known(tmp_path):
    boxes = [[0, 0, 10, 10]] * 20 + [None] * 20
    database = {
        "v0": truth_entry("test", [(0, 8, "run")], boxes=boxes, group="g"),
        "v1": truth_entry("test", [(0, 8, "run")], group="g"),
    }
    path = write_truth(tmp_path / "truth.json", database)
    grid = np.zeros((4, 1, 4, 6))
    grid[:, 0, 0, 0] = 1
    both = [Localization(name, reading(name), [Interval(0, 8, "run", 1)], heat_maps(grid)) for name in ("v0", "v1")]
    videos = [one_video(name, np.array([3.0, 1.0, 0.0, -1.0], np.float32)[:, None, None]) for name in ("v0", "v1")]
    found = measure(both, path, head=mean_head(), videos=videos)
    assert (found["pointing"]["frames"], found["pointing"]["accuracy"]) == (20, 1)
    # the readings' evidence grows with the clip, the head's falls: the worst of all orders
    assert found["faithfulness"]["deletion"]["evidence"]["better"] == 0
    assert (found["faithfulness"]["videos"], found["faithfulness"]["units"]) == (2, 1)
    text = describe_measures(found)
    assert "pointing game: 100.0 % of 20 frames (20), 100.0 % on average over 1 video;" in text
    assert "95 %" not in text  # of one video, of one group, there is no telling how others would come out
    assert "deletion (lower is better): evidence" in text
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_figures_are_told_in_percent_with_what_they_are_judged_by(truth):
    lines = describe_measures(measure(GOOD, truth)).splitlines()
    assert lines[0].endswith("truth.json: 3 segments of 2 classes in 3 videos")
    rows = {line[:34].strip(): line[34:].split() for line in lines if line.startswith("  ")}
    assert rows["localised"] == ["100.0"] * 11
    assert rows["ceiling of the clips"] == ["100.0"] * 11
    assert len(rows["uniform intervals"]) == len(rows["random intervals"]) == 11
    assert any("times uniform intervals'" in line and "100.0 % of the ceiling's 100.0 %" in line for line in lines)


def test_the_map_is_that_of_the_intervals_that_are_written(tmp_path):
    readings = [reading(f"v{n}", clips=n, clip_seconds=1 / 3) for n in range(3, 12)]  # no border is a round number
    localized = [Localization(one.id, one, propose_intervals(one)) for one in readings]
    write_tables(tmp_path, localized)
    results = json.loads((tmp_path / "intervals.json").read_text())["results"]
    written = {
        video: [Interval(*one["segment"], one["label"], one["score"]) for one in found]
        for video, found in results.items()
    }
    twice = {  # the best interval is half of what is annotated: a tIoU that a threshold meets exactly
        video: ("test", [(one.start, 2 * one.end - one.start, one.label)]) for video, (one, *_) in written.items()
    }
    path = write_truth(tmp_path / "t.json", twice)
    expected = detection_map(written, {video: [Segment(*s) for s in own] for video, (_, own) in twice.items()})
    assert expected.at(0.5) > 0
    assert measure(localized, path)["temporal"]["localized"]["map"] == expected.map.tolist()


def test_a_truth_of_other_classes_or_videos_is_refused(tmp_path, truth):
    other = write_truth(tmp_path / "other.json", {"run/a.mp4": ("test", [(0, 1, "jump"), (1, 2, "swim")])})
    with pytest.raises(AnnotationError, match=r"other.json: its classes, such as 'jump', are none of the he"):
        measure(GOOD, other)
    empty = write_truth(tmp_path / "empty.json", {"run/a.mp4": ("test", [])})
    with pytest.raises(AnnotationError, match="annotates no segment of the 1 videos"):
        measure(GOOD, empty)
    with pytest.raises(AnnotationError, match="names none of the 1 videos"):
        measure([localization("zoo/x.mp4")], truth)
    with pytest.raises(AnnotationError, match="names none of the 0 videos"):
        measure([], truth, subset="test")
    with pytest.raises(AnnotationError, match="has no video in the subset 'val'"):
        measure(GOOD, truth, subset="val")
    with pytest.raises(UsageError, match="unknown subset 'testing'"):
        measure(GOOD, truth, subset="testing")


def test_a_class_that_the_head_does_not_know_counts_as_missed_and_is_said(tmp_path):
    path = write_truth(tmp_path / "t.json", {"run/a.mp4": ("test", [(2, 6, "run"), (6, 8, "swim")])})
    asked = []
    found = measure(GOOD[:1], path, propose=lambda _, labels: asked.append(labels) or [])
    assert asked == [["run"]]
    assert found["unknown_classes"] == ["swim"]
    assert found["temporal"]["of_ceiling"] == 0.5
    assert found["temporal"]["mean_segment"] == 3
    assert found["temporal"]["localized"]["map"] == [0.5] * 9
    assert "classes that the head does not know and that count as missed: 1 (swim)" in describe_measures(found)


def test_where_every_video_failed_nothing_is_found(truth):
    found = measure([Localization(one.id, None, error="broken") for one in GOOD], truth)
    assert found["failed"] == 3
    assert found["temporal"]["localized"]["map"] == [0] * 9
    assert "0.0 %" in describe_measures(found)


def test_boxes_are_read_by_the_frame(tmp_path):
    path = write_truth(
        tmp_path / "t.json",
        {"run/a.mp4": truth_entry("test", [], boxes=[None, [1, 2, 3, 4]], group="g1"), "run/b.mp4": ("test", [])},
    )
    assert read_boxes(path, ["a.mp4", "run/a.mp4", "run/b.mp4"][1:]) == {"run/a.mp4": [None, (1, 2, 3, 4)]}
    assert read_groups(path, ["run/a.mp4", "run/b.mp4"]) == {"run/a.mp4": "g1"}


@pytest.mark.parametrize(
    ("boxes", "place"),
    [
        ({}, "expected a list"),
        ([None, [1, 2, 3]], r"boxes\[1\]"),
        ([[3, 2, 3, 4]], r"boxes\[0\]"),
        ([["1", 2, 3, 4]], ""),
    ],
)
def test_boxes_that_are_none_are_named_with_their_place(tmp_path, boxes, place):
    path = write_truth(tmp_path / "t.json", {"a.mp4": truth_entry("test", [], boxes=boxes)})
    with pytest.raises(AnnotationError, match=rf"t.json: database\['a.mp4'\].*{place}"):
        read_boxes(path, ["a.mp4"])
