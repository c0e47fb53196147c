"""The pointing game and the boxes of heat maps, on pictures of 40 by 60."""

import numpy as np
import pytest
from compare import FLOAT32_FORWARD
from measured import heat_maps, reading

from gcf.data.segments import Segment
from gcf.explain.measures.pointing import frames_inside, heat_box, hottest, iou, judge, most_shared, pointing
from gcf.explain.reading.clip_reading import Localization

WHOLE = [Segment(0, 8, "run")]
BOX = (12, 10, 30, 20)  # left, top, right, bottom


def box_heat(box, size=(40, 60)):
    left, top, right, bottom = box
    heat = np.zeros(size, np.float32)
    heat[top:bottom, left:right] = 1
    return heat


def localization(values, *, name="v", label="run", shown=None, **parts):
    return Localization(
        name, reading(name, clips=len(values), **parts), heat=heat_maps(values, label=label, shown=shown)
    )


def test_a_heat_that_is_the_box_itself_hits_it_and_covers_it():
    found = judge(box_heat(BOX), BOX)
    assert (found.hit, found.iou, found.blank) == (True, 1.0, False)
    one = localization(np.stack([box_heat(BOX)[None]] * 4))
    judged = pointing([one], {"v": WHOLE}, {"v": [BOX] * 40}, share=0.5)
    assert (judged["accuracy"], judged["video_accuracy"], judged["low"], judged["high"]) == (1, 1, 1, 1)
    assert judged["iou"] == pytest.approx(1)
    assert (judged["frames"], judged["hits"], judged["videos"]) == (40, 40, 1)


def test_the_right_and_lower_sides_of_a_box_are_outside_it():
    for row, column, inside in ((10, 12, True), (19, 29, True), (20, 29, False), (19, 30, False), (9, 12, False)):
        heat = np.zeros((40, 60), np.float32)
        heat[row, column] = 1
        assert judge(heat, BOX).hit is inside, (row, column)


def test_of_equally_hot_points_the_one_nearest_to_their_middle_counts():
    assert hottest(box_heat((0, 0, 11, 21))) == (10, 5)
    far_apart = np.zeros((5, 9))
    far_apart[2, 0] = far_apart[2, 8] = 3
    assert far_apart[hottest(far_apart)] == 3  # their middle itself is cold


def test_the_heats_box_is_around_what_hangs_together_with_the_hottest_point():
    heat = box_heat((5, 5, 20, 15)) * 0.6
    heat[8, 7] = 1.0
    heat[0:4, 30:60] = heat[30:40, 30:60] = 0.9  # hotter than half, and larger, but elsewhere
    heat[5:15, 20:25] = 0.4  # touches, but is too cold
    heat *= 0.25  # of the video's hottest point; the frame's own is what counts
    assert heat_box(heat, (8, 7), share=0.5) == (5, 5, 20, 15)
    assert heat_box(heat, (8, 7), share=0.3) == (5, 5, 25, 15)
    assert heat_box(heat, (8, 7), share=0.7) == (7, 8, 8, 9)


def test_iou_is_intersection_over_union():
    assert iou((0, 0, 4, 4), (2, 2, 6, 6)) == 4 / 28
    assert iou((0, 0, 4, 4), (4, 0, 8, 4)) == 0
    assert iou(BOX, BOX) == 1


def test_only_frames_in_a_segment_of_the_shown_class_with_a_box_and_a_look_count():
    boxes = [BOX if n % 2 else None for n in range(40)]
    segments = [Segment(1.0, 3.0, "run"), Segment(3.2, 8.0, "sit")]  # 0.2 s a frame: frames 5 to 14
    looks = [Segment(1.0, 5.0, "run")]  # to frame 24
    one = localization(np.stack([box_heat(BOX)[None]] * 4), shown=[True, True, False, True])  # frames 0 to 19, 30 to 39
    judged = pointing([one], {"v": segments}, {"v": boxes})
    assert judged["frames"] == 5  # 5, 7, ..., 13
    assert [n for _, _, n in frames_inside(one.reading, one.heat.shown, segments[:1])] == list(range(5, 15))
    assert [n for _, _, n in frames_inside(one.reading, one.heat.shown, looks)] == list(range(5, 20))
    assert list(frames_inside(one.reading, one.heat.shown, looks))[5] == (1, 0, 10)


def test_frames_without_heat_are_misses_and_are_counted():
    values = np.stack([box_heat(BOX)[None], 0 * box_heat(BOX)[None]])
    judged = pointing([localization(values)], {"v": WHOLE}, {"v": [BOX] * 20}, share=0.5)
    assert (judged["frames"], judged["hits"], judged["blank"], judged["accuracy"]) == (20, 10, 10, 0.5)
    assert judged["iou"] == pytest.approx(0.5)
    assert judged["iou_good"] == 0.5


def test_what_blind_pointing_scores():
    centre, corner = (20, 15, 40, 25), (0, 0, 20, 10)  # 200 of 2400 pixels each
    values = np.stack([box_heat(corner)[None]] * 2)
    judged = pointing([localization(values)], {"v": WHOLE}, {"v": [centre] * 5 + [corner] * 15})
    assert judged["accuracy"] == 0.75
    assert judged["centre"] == 0.25
    assert judged["random"] == pytest.approx(200 / 2400)
    assert judged["central_box_iou"] == pytest.approx(0.25)  # the mean box in the middle is the first five's
    assert judged["central_box_good"] == 0.25
    assert judged["iou_good"] == 0.75


def test_the_best_still_points_hit_what_most_boxes_of_a_clip_have_in_common():
    boxes = [(n, 10, n + 4, 20) for n in range(0, 50, 5)] + [(n, 10, n + 10, 20) for n in range(10)]  # 10 and 10
    values = np.stack([box_heat(BOX)[None]] * 2)
    judged = pointing([localization(values)], {"v": WHOLE}, {"v": boxes})
    assert judged["still"] == (1 + 10) / 20  # the first clip's boxes lie apart, the second's share column 9
    rng = np.random.default_rng(0)
    for _ in range(20):
        corners = rng.integers(0, 12, (7, 2))
        random = np.hstack([corners, corners + rng.integers(1, 9, (7, 2))])
        depth = sum(box_heat(box, (24, 24)) for box in random.tolist())
        assert most_shared(random) == depth.max()


def test_frames_weigh_alike_over_all_and_videos_alike_in_the_mean():
    good, bad = np.stack([box_heat(BOX)[None]] * 3), np.stack([box_heat((40, 30, 50, 40))[None]])
    both = [localization(good, name="a"), localization(bad, name="b")]
    judged = pointing(both, {"a": WHOLE, "b": WHOLE}, {"a": [BOX] * 30, "b": [BOX] * 10})
    assert (judged["accuracy"], judged["video_accuracy"], judged["videos"]) == (0.75, 0.5, 2)
    assert (judged["low"], judged["high"]) == (0, 1)  # two videos, drawn as a whole


def test_a_video_whose_maps_show_another_class_is_said_and_does_not_count():
    one, other = localization(np.ones((1, 1, 4, 6))), localization(np.ones((1, 1, 4, 6)), name="w", label="sit")
    judged = pointing([one, other], {"v": WHOLE, "w": WHOLE}, {"v": [BOX] * 10, "w": [BOX] * 10})
    assert (judged["videos"], judged["other_class"]) == (1, 1)


def test_without_maps_or_boxes_there_is_nothing_to_say():
    assert pointing([Localization("v", reading())], {"v": WHOLE}, {"v": [BOX] * 40}) is None
    assert pointing([Localization("v", None, error="broken")], {"v": WHOLE}, {"v": [BOX] * 40}) is None
    assert pointing([localization(np.ones((4, 1, 4, 6)))], {"v": WHOLE}, {}) is None
    assert pointing([localization(np.ones((4, 1, 4, 6)))], {"v": WHOLE}, {"v": [None] * 40}) is None


def test_a_grids_peak_points_to_its_cells_middle():
    grid = np.zeros((1, 1, 4, 6))
    grid[0, 0, 1, 2] = 5  # of cells of 10 by 10 pixels: rows 10 to 19, columns 20 to 29
    heat = heat_maps(grid).frame(0, 4, (40, 60))
    row, column = hottest(heat)
    assert (row, column) in {(14, 24), (14, 25), (15, 24), (15, 25)}
    assert heat.max() == pytest.approx(0.9, abs=0.1 + FLOAT32_FORWARD)  # pixels beside the middle of a cell
