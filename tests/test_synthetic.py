"""Synthetic videos: does the truth say what the pixels show?"""

import errno
import json
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from compare import assert_bitwise_equal

from gcf.data import plans as planning
from gcf.data import synthetic
from gcf.data.annotations import read_annotations
from gcf.data.motions import MARGIN, MIRRORED, MOTIONS, PRIMITIVES
from gcf.data.plans import CLASSES, DISTRACTORS, KEYS, plan_videos
from gcf.data.scenes import SHAPES, Sprite, draw_frames, draw_scene
from gcf.data.segments import Segment, read_segments
from gcf.data.synthetic import render, write_demo_videos
from gcf.errors import AnnotationError, RefusedError, StoppedError, UsageError
from gcf.extract.decoding.video import Video

VIVID = 90  # channels of a sprite's colour differ by more, those of a background by less, H.264's losses included
SEEDS = range(40)


@pytest.fixture(scope="module")
def actions(tmp_path_factory):
    return write_demo_videos(tmp_path_factory.mktemp("synthetic") / "actions", videos=12, seed=3)


@pytest.fixture(scope="module")
def trimmed(tmp_path_factory):
    return write_demo_videos(tmp_path_factory.mktemp("synthetic") / "trimmed", videos=24, seed=3, trimmed=True)


def database(made) -> dict:
    return json.loads(made.truth.read_bytes())["database"]


def vivid_box(frame):
    """(left, top, right, bottom) of the vivid pixels of a frame, single ones apart; None where there are hardly any."""
    vivid = np.ptp(frame.astype(int), axis=2) > VIVID
    rows, columns = np.flatnonzero(vivid.sum(axis=1) > 1), np.flatnonzero(vivid.sum(axis=0) > 1)
    return (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if vivid.sum() > 12 else None


def overlap(a, b) -> float:
    """Intersection over union of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0, width) * max(0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return shared / (sum(areas) - shared)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["actions", "trimmed"])
def test_decoded_frames_show_the_sprite_where_the_truth_says(kind, request):
    made, overlaps, empty = request.getfixturevalue(kind), [], 0
    for name, entry in database(made).items():
        frames = [frame for frame, _, _ in Video(made.folder / name)]
        assert len(frames) == len(entry["boxes"])
        for number, (frame, box) in enumerate(zip(frames, entry["boxes"], strict=True)):
            found = vivid_box(frame)
            assert (found is None) == (box is None), (name, number)
            empty += box is None
            overlaps += [] if box is None else [overlap(found, box)]
    assert empty > 20
    assert np.mean(overlaps) > 0.9
    assert np.quantile(overlaps, 0.01) > 0.7  # a star's tip is lost to the halved resolution of H.264's colours


@pytest.mark.slow
def test_segments_in_seconds_are_the_frames_that_were_drawn(actions):
    for name, entry in database(actions).items():
        times = np.array([(begin, end) for _, begin, end in Video(actions.folder / name)])
        segments = [tuple(act["segment"]) for act in entry["annotations"] + entry["distractors"]]
        with_sprite = sum(end - start for start, end in segments)
        assert with_sprite <= entry["duration"] + 1e-4
        assert entry["duration"] == pytest.approx(times[-1, 1], abs=1e-3)
        for start, end in segments:
            assert np.abs(times[:, 0] - start).min() < 1e-3  # each begins with a frame and ends with one
            assert np.abs(times[:, 1] - end).min() < 1e-3
            inside = (times[:, 0] >= start - 1e-3) & (times[:, 1] <= end + 1e-3)
            assert any(box for box, here in zip(entry["boxes"], inside, strict=True) if here)
        outside = np.ones(len(times), bool)
        for start, end in segments:
            outside &= (times[:, 1] <= start + 1e-3) | (times[:, 0] >= end - 1e-3)
        assert not any(box for box, here in zip(entry["boxes"], outside, strict=True) if here)


def test_the_class_is_the_unordered_pair_of_the_actions(actions):
    for entry in database(actions).values():
        first, second = entry["annotations"]
        assert first["label"] == second["label"] == "+".join(sorted([first["primitive"], second["primitive"]]))
        assert first["sprite"] == second["sprite"]
        assert first["segment"][1] <= second["segment"][0]
        assert all(act["primitive"] in DISTRACTORS for act in entry["distractors"])
        assert all(act["sprite"]["shape"] != first["sprite"]["shape"] for act in entry["distractors"])
    assert not set(KEYS) & set(DISTRACTORS)
    assert len(CLASSES) == 10


@pytest.mark.slow
def test_neither_order_nor_amount_nor_a_single_clip_tells_the_class():
    orders, amounts = Counter(), {True: [], False: []}
    for plan in plan_videos(600, seed=0, trimmed=False):
        (one, first), (two, second) = ((n, act) for n, act in enumerate(plan.acts) if act.action)
        orders[first.primitive <= second.primitive] += first.primitive != second.primitive
        amounts[first.primitive == second.primitive].append(first.frames + second.frames)
        assert planning.VIDEO_FRAMES[0] <= sum(act.frames for act in plan.acts) <= planning.VIDEO_FRAMES[1]
        assert sum(act.frames for act in plan.acts[one + 1 : two]) >= 16
    assert 0.4 < orders[True] / (orders[True] + orders[False]) < 0.6
    assert abs(np.mean(amounts[True]) - np.mean(amounts[False])) < 2  # of 64 frames


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_every_distractor_lasts_long_enough_to_be_seen(seed):
    for plan in plan_videos(300, seed=seed, trimmed=False):
        shown = [act for act in plan.acts if act.primitive != "none"]
        assert min(act.frames for act in shown) >= 12
        assert all(MOTIONS[act.primitive](act.frames, np.random.default_rng(seed)).visible.any() for act in shown)


@pytest.mark.slow
def test_subsets_hold_whole_groups_and_all_classes_alike():
    plans = plan_videos(600, seed=0, trimmed=False)
    assert len({(plan.group, plan.subset) for plan in plans}) == len({plan.group for plan in plans}) == 100
    assert Counter(plan.subset for plan in plans) == {"training": 360, "validation": 60, "testing": 180}
    for subset, count in (("training", 36), ("validation", 6), ("testing", 18)):
        assert set(Counter(p.label for p in plans if p.subset == subset).values()) == {count}
    for group in {plan.group for plan in plans}:
        assert len({(p.size, p.rate, p.scene_seed) for p in plans if p.group == group}) == 1
    assert len({p.size for p in plans}) == len(planning.SIZES)
    assert len({p.rate for p in plans}) == len(planning.RATES)


def test_both_files_give_the_same_labels_and_subsets(actions):
    table, truth = read_annotations(actions.labels), read_annotations(actions.truth)
    assert table.classes == truth.classes
    for name, found in table.videos.items():
        assert (found.label, found.subset) == (truth.videos[name].label, truth.videos[name].subset)
        assert found.group == database(actions)[name]["group"]


def test_segments_are_read_as_they_were_written(actions):
    truth = database(actions)
    for name, segments in read_segments(actions.truth, list(truth)).items():
        assert segments == [Segment(*a["segment"], a["label"]) for a in truth[name]["annotations"]]
    one = next(iter(truth))
    assert list(read_segments(actions.truth, [one.rsplit("/")[-1]])) == [one.rsplit("/")[-1]]


@pytest.mark.parametrize(
    "annotations",
    ['[{"label": "a"}]', '[{"label": "a", "segment": [2, 1]}]', '[{"label": 3, "segment": [1, 2]}]', '{"label": "a"}']
    + ['[{"label": "a", "segment": [0, Infinity]}]', "[3]", '[{"label": "a", "segment": "12"}]']
    + [f'[{{"label": "a", "segment": [0, {10**400}]}}]', '[{"label": "a", "segment": ["1", "2"]}]'],
)
def test_a_segment_that_is_none_is_named_with_its_place(tmp_path, annotations):
    path = tmp_path / "truth.json"
    path.write_text(f'{{"database": {{"v1": {{"annotations": {annotations}}}}}}}')
    with pytest.raises(AnnotationError, match=r"truth.json: database\['v1'\]"):
        read_segments(path, ["v1.mp4"])
    with pytest.raises(AnnotationError, match="names none of the 1 videos"):  # its own fault is no matter then
        read_segments(path, ["v2.mp4"])


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_and_another_one_others(tmp_path, actions):
    again = write_demo_videos(tmp_path / "again", videos=12, seed=3)
    for path in sorted(p.relative_to(actions.folder) for p in actions.folder.rglob("*") if p.is_file()):
        assert (again.folder / path).read_bytes() == (actions.folder / path).read_bytes(), path
    plans = [plan_videos(12, seed=seed, trimmed=False) for seed in (3, 4)]
    frames = [render(plan[0])[0] for plan in plans]
    assert frames[0].shape != frames[1].shape or (frames[0] != frames[1]).mean() > 0.5


@pytest.mark.slow
def test_what_is_finished_is_used_again_and_only_what_is_lost_is_made_anew(tmp_path):
    first = write_demo_videos(tmp_path / "v", videos=3)
    videos = sorted((tmp_path / "v").rglob("*.mp4"))
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in [*videos, first.truth, first.labels]}
    assert first.num_reused == 0
    assert write_demo_videos(tmp_path / "v", videos=3).num_reused == 3
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before}
    for lost, kept in ((videos[1], 2), (first.labels, 3), (first.truth, 0)):
        lost.unlink()
        assert write_demo_videos(tmp_path / "v", videos=3).num_reused == kept
        assert {path: path.read_bytes() for path in before} == {path: data for path, (data, _) in before.items()}


@pytest.mark.slow
def test_an_interrupted_set_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    whole = write_demo_videos(tmp_path / "whole", videos=6)
    real, done = synthetic._encode, []

    def dies_after_three(frames, rate):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(1)
        return real(frames, rate)

    monkeypatch.setattr(synthetic, "_encode", dies_after_three)
    with pytest.raises(KeyboardInterrupt):
        write_demo_videos(tmp_path / "v", videos=6)
    monkeypatch.undo()
    (tmp_path / "v" / whole.folder.glob("*/*.mp4").__next__().parent.name / ".x.mp4.7.tmp").write_bytes(b"of a kill")
    made = write_demo_videos(tmp_path / "v", videos=6)
    assert made.num_reused == 3
    found = {p.relative_to(made.folder): p.read_bytes() for p in made.folder.rglob("*") if p.is_file()}
    assert found == {p.relative_to(whole.folder): p.read_bytes() for p in whole.folder.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_a_kill_before_the_first_video_is_no_stranger(tmp_path):
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / ".synthetic.json.7.tmp").write_bytes(b"")
    assert write_demo_videos(tmp_path / "v", videos=1).num_reused == 0


@pytest.mark.slow
def test_a_full_disk_stops_and_can_be_resumed(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "v.mp4")

    monkeypatch.setattr(synthetic, "_encode", full)
    with pytest.raises(StoppedError, match=r"v\.mp4: No space left on device; make room"):
        write_demo_videos(tmp_path / "v", videos=1)


@pytest.mark.slow
def test_a_folder_with_something_else_is_left_alone(tmp_path):
    write_demo_videos(tmp_path / "v", videos=1)
    for options in ({"videos": 2}, {"videos": 1, "seed": 1}, {"videos": 1, "trimmed": True}):
        with pytest.raises(RefusedError, match="holds other synthetic videos"):
            write_demo_videos(tmp_path / "v", **options)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(RefusedError, match="not made by gcf demo-videos"):
        write_demo_videos(tmp_path / "mine", videos=1)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    with pytest.raises(RefusedError, match="is a file"):
        write_demo_videos(tmp_path / "mine" / "thesis.txt", videos=1)
    with pytest.raises(RefusedError, match="cannot be written"):
        write_demo_videos(tmp_path / "mine" / "thesis.txt" / "v", videos=1)


@pytest.mark.parametrize("wrong", [{"videos": 0}, {"videos": 1, "seed": -1}])
def test_a_count_or_seed_out_of_range_is_refused(tmp_path, wrong):
    with pytest.raises(UsageError, match="need at least one video"):
        write_demo_videos(tmp_path / "v", **wrong)
    assert not (tmp_path / "v").exists()


@pytest.mark.parametrize("name", PRIMITIVES)
def test_a_moving_sprite_stays_in_the_central_square(name):
    for seed in SEEDS:
        path = MOTIONS[name](32, np.random.default_rng(seed))
        for axis in (path.x, path.y):
            assert (axis - path.size / 2 >= MARGIN - 1e-9).all()
            assert (axis + path.size / 2 <= 1 - MARGIN + 1e-9).all()
        assert all(len(values) == 32 for values in vars(path).values())


def test_motions_move_as_they_are_called():
    for seed in SEEDS:
        path = {name: MOTIONS[name](32, np.random.default_rng(seed)) for name in PRIMITIVES}
        assert (np.diff(path["slide-left"].x) < 0).all()
        assert (np.diff(path["slide-right"].x) > 0).all()
        assert (np.diff(path["grow"].size) > 0).all()
        assert (np.diff(path["shrink"].size) < 0).all()
        assert np.ptp(path["bounce"].y) > 0.2 > 1e-9 > np.ptp(path["bounce"].x)
        assert min(np.ptp(path["orbit"].x), np.ptp(path["orbit"].y)) > 0.28
        assert 0.11 < np.ptp(path["shake"].x) < 0.21
        assert 0.3 < path["blink"].visible.mean() < 0.7
        assert not path["none"].visible.any()
        assert all((values == values[0]).all() for values in vars(path["still"]).values())


def test_a_sprite_turns_clockwise_as_its_angle_grows():
    rng = np.random.default_rng(1)
    track = MOTIONS["spin"](16, rng)
    frames, boxes = draw_frames(draw_scene((120, 160), rng), [(Sprite("disk", 0.0), track)], rng)
    angles = []
    for frame, (left, top, right, bottom) in zip(frames, boxes, strict=True):
        part = frame[top:bottom, left:right].astype(int)
        red_half = (part[..., 0] > 200) & (part[..., 1] < 60) & (part[..., 2] < 60)  # the other half is a dark orange
        y, x = np.nonzero(red_half)
        angles.append(np.arctan2(y.mean() - (bottom - top) / 2, x.mean() - (right - left) / 2))  # y grows downwards
    turned = np.degrees(np.diff(np.unwrap(angles)))
    assert np.abs(turned - np.diff(track.angle)).max() < 6


def test_spins_go_both_ways():
    turns = [np.diff(MOTIONS["spin"](16, np.random.default_rng(seed)).angle) for seed in SEEDS]
    assert {int(np.sign(turn[0])) for turn in turns} == {-1, 1}
    assert all((np.abs(turn) >= 12).all() and (np.abs(turn) <= 26).all() for turn in turns)


@pytest.mark.parametrize(("name", "mirrored"), MIRRORED.items())
def test_a_mirrored_motion_is_the_one_that_its_name_says(name, mirrored):
    assert MIRRORED[mirrored] == name
    track, other = (MOTIONS[n](32, np.random.default_rng(5)) for n in (name, mirrored))
    assert np.allclose(track.x, 1 - other.x)
    assert_bitwise_equal(track.y, other.y)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_box_is_the_extent_of_what_the_sprite_changed(shape):
    still = MOTIONS["still"](3, np.random.default_rng(2))
    scene = draw_scene((128, 128), np.random.default_rng(3))
    hidden = type(still)(**vars(still) | {"visible": np.zeros(3, bool)})
    with_sprite, boxes = draw_frames(scene, [(Sprite(shape, 0.3), still)], np.random.default_rng(4))
    without, none = draw_frames(scene, [(Sprite(shape, 0.3), hidden)], np.random.default_rng(4))
    assert none == [None] * 3
    for k, (left, top, right, bottom) in enumerate(boxes):
        changed = (with_sprite[k] != without[k]).any(axis=2)
        assert changed[top:bottom, left:right].any(axis=0).all()
        assert changed[top:bottom, left:right].any(axis=1).all()
        changed[max(0, top - 1) : bottom + 1, max(0, left - 1) : right + 1] = False  # the soft rim of a pixel
        assert not changed.any()


def test_the_background_moves_under_a_sprite_at_rest():
    rng = np.random.default_rng(6)
    frames, _ = draw_frames(draw_scene((120, 160), rng), [(Sprite("disk", 0.5), MOTIONS["none"](40, rng))], rng)
    assert all((a != b).any() for a, b in pairwise(frames))
    assert (frames[0] != frames[20]).mean() > 0.8
    again = draw_scene((120, 160), np.random.default_rng(7)), draw_scene((120, 160), np.random.default_rng(7))
    assert_bitwise_equal(*(np.asarray(scene.canvas) for scene in again))


def test_in_a_relation_no_action_says_anything_about_the_class():
    plans = plan_videos(4000, seed=0, trimmed=False, task="relation")
    shown = {label: Counter() for label in ("alike", "unlike")}
    for plan in plans:
        acting = [act.primitive for act in plan.acts if act.action]
        assert len(acting) == 2
        moving = [name in planning.MOVING for name in acting]
        assert (moving[0] == moving[1]) == (plan.label == "alike")
        shown[plan.label].update(acting)
    for counts in shown.values():
        assert set(counts) == set(KEYS)
        assert max(counts.values()) < 1.15 * min(counts.values())


def test_of_presence_a_video_shows_one_action_and_it_is_the_class():
    plans = plan_videos(300, seed=0, trimmed=False, task="presence")
    assert {plan.label for plan in plans} == set(KEYS)
    for plan in plans:
        assert [act.primitive for act in plan.acts if act.action] == [plan.label]
        assert sum(act.frames for act in plan.acts) >= planning.VIDEO_FRAMES[0]
    assert len({sum(a.frames for a in plan.acts[:1]) for plan in plans}) > 10  # not always at one place


def test_a_set_of_another_task_is_not_gone_on_with(tmp_path):
    made = write_demo_videos(tmp_path, videos=2, task="presence")
    assert {entry["annotations"][0]["label"] for entry in database(made).values()} <= set(KEYS)
    assert write_demo_videos(tmp_path, videos=2, task="presence").num_reused == 2
    with pytest.raises(RefusedError, match="other synthetic videos"):
        write_demo_videos(tmp_path, videos=2)
    with pytest.raises(UsageError, match="unknown task 'both'; known: pairs, presence, relation"):
        write_demo_videos(tmp_path / "new", videos=2, task="both")
    with pytest.raises(UsageError, match="leave out the task"):
        write_demo_videos(tmp_path / "new", videos=2, task="presence", trimmed=True)
