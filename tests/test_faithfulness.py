"""Deletion and insertion curves, on heads whose answer to every set of clips is known."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from caches import one_video
from compare import FLOAT32_FORWARD, assert_bitwise_equal, relative_error
from measured import reading
from small_heads import TRAINING, mean_head, saved
from torch import nn

from gcf.explain.measures.bootstrap import mean_interval
from gcf.explain.measures.faithfulness import POINTS, area, ask, clip_scores, faithfulness
from gcf.head.models.build import build_head, head_config
from gcf.head.models.output import HeadOutput
from gcf.head.models.saved import SavedHead


class OneClip(nn.Module):
    """Reads the clip in one slot and nothing else: logits (its number, 0), or (0, 0) without it."""

    def __init__(self, slot):
        super().__init__()
        self.slot = slot
        self.asked = 0

    def forward(self, descriptors, mask):
        self.asked += len(mask)
        own = descriptors[:, self.slot, 0] * mask[:, self.slot]
        return HeadOutput(torch.stack([own, torch.zeros_like(own)], dim=1))


def videos_of(*rows):
    return [one_video(f"v{n}", np.asarray(row, np.float32)[:, None, None]) for n, row in enumerate(rows)]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def trapezoids(curve):
    return np.mean([(a + b) / 2 for a, b in pairwise(curve)])


def test_the_curves_of_the_mean_head_are_its_closed_form():
    row = [0.5, 3.0, -1.0, 2.0, 0.25]
    found = faithfulness(mean_head(), videos_of(row), {"v0": {"evidence": np.array(row)}})
    best = sorted(row, reverse=True)
    gone = [sigmoid(np.mean(best[n:])) for n in range(5)]
    there = [sigmoid(np.mean(best[: n + 1])) for n in range(5)]
    assert relative_error(found["deletion"]["evidence"]["area"], trapezoids(gone)) < FLOAT32_FORWARD
    assert relative_error(found["insertion"]["evidence"]["area"], trapezoids(there)) < FLOAT32_FORWARD
    curve = found["deletion"]["evidence"]["curve"]
    assert len(curve) == 21
    assert relative_error(curve[::5], gone) < FLOAT32_FORWARD


@pytest.mark.parametrize("count", [2, 7])
def test_a_head_that_reads_one_clip_loses_all_with_it(count):
    head, clips = saved(OneClip(1)), np.full(count, 2.0)
    scores = {"knows": np.eye(count)[1], "wrong": -np.eye(count)[1]}
    found = faithfulness(head, videos_of(clips), {"v0": scores}, repeats=2000)
    p, steps = sigmoid(2.0), count - 1
    lost = ((p + 0.5) / 2 + 0.5 * (steps - 1)) / steps
    assert found["deletion"]["knows"]["area"] == pytest.approx(lost, rel=FLOAT32_FORWARD)
    assert found["deletion"]["wrong"]["area"] == pytest.approx(p, rel=FLOAT32_FORWARD)
    assert found["insertion"]["knows"]["area"] == pytest.approx(p, rel=FLOAT32_FORWARD)
    # a random order has the clip at each rank alike, at rank r it is there for r steps
    chance = np.mean([trapezoids([p] * (r + 1) + [0.5] * (steps - r)) for r in range(count)])
    assert found["deletion"]["random"]["area"] == pytest.approx(chance, abs=0.01)  # of 2000 orders
    assert found["deletion"]["knows"]["difference"] == pytest.approx(lost - found["deletion"]["random"]["area"])
    assert found["deletion"]["knows"]["better"] == 1
    assert found["deletion"]["wrong"]["better"] == 0


def test_no_order_is_better_than_the_evidence_of_the_mean_head():
    rng = np.random.default_rng(0)
    rows = [rng.standard_normal(int(rng.integers(2, 10))) + 1 for _ in range(40)]
    videos = videos_of(*rows)
    scores = {v.id: {"evidence": np.array(row), "noise": rng.random(len(row))}
              for v, row in zip(videos, rows, strict=True) if np.mean(row) > 0}  # fmt: skip
    found = faithfulness(mean_head(), videos, scores)
    assert found["videos"] == len(scores)
    for kind, sign in (("deletion", -1), ("insertion", 1)):
        evidence, noise = found[kind]["evidence"], found[kind]["noise"]
        assert evidence["better"] == 1
        assert sign * evidence["low"] > 0
        assert sign * evidence["high"] > 0
        assert noise["low"] < 0 < noise["high"]
        assert evidence["low"] < evidence["difference"] < evidence["high"]


def test_insertion_is_the_deletion_of_the_opposite_order_backwards():
    rng = np.random.default_rng(1)
    row = rng.standard_normal(8)
    scores = {"v0": {"one": row, "opposite": -row}}
    found = faithfulness(mean_head(), videos_of(row), scores)
    assert found["insertion"]["one"]["area"] == pytest.approx(found["deletion"]["opposite"]["area"], rel=1e-12)
    assert found["insertion"]["one"]["curve"] == pytest.approx(found["deletion"]["opposite"]["curve"][::-1], rel=1e-12)


def test_the_class_is_the_one_that_the_head_predicts_on_all_clips():
    head = mean_head()
    clips = np.array([[-4.0], [1.0], [-0.5]], np.float32)
    masks = np.array([[True, True, True], [False, True, False], [True, True, True]])
    assert ask(head, clips, masks) == pytest.approx([sigmoid(3.5 / 3), sigmoid(-1.0), sigmoid(3.5 / 3)], rel=1e-5)


def test_sets_of_clips_that_come_again_are_asked_for_once():
    head = saved(OneClip(0))
    ask(head, np.ones((3, 1)), np.array([[True, False, True]] * 50 + [[True, True, True]] * 50))
    assert head.module.asked == 1 + 2


def test_only_the_clips_that_the_head_reads_take_part():
    row = np.array([0, 2, 1, 3, -1, 2, 0, 1, 3, 2, -2, 1]) / 2
    head = mean_head(num_clips=4)
    chosen = head.choose(12)
    found = faithfulness(head, videos_of(row), {"v0": {"evidence": row}})
    same = faithfulness(head, videos_of(row[chosen]), {"v0": {"evidence": row[chosen]}})
    assert len(chosen) == 4
    assert found["deletion"]["evidence"] == same["deletion"]["evidence"]


def test_a_looped_clip_is_taken_away_with_all_its_repeats():
    row = np.array([2.0, -1.0, 0.5])
    counts = np.array([2, 1, 1])  # of each clip in four slots
    head = mean_head(num_clips=4, padding="loop")
    found = faithfulness(head, videos_of(row), {"v0": {"evidence": row}})
    left = [[0, 1, 2], [1, 2], [1]]  # clip 0 goes first, then clip 2
    gone = [sigmoid(np.average(row[own], weights=counts[own])) for own in left]
    assert relative_error(found["deletion"]["evidence"]["area"], trapezoids(gone)) < FLOAT32_FORWARD
    single = faithfulness(head, videos_of([1.0]), {"v0": {"evidence": np.ones(1)}})
    assert single is None  # four times one clip has no order


def test_a_long_video_is_asked_for_twenty_one_numbers_of_clips():
    row = np.linspace(2, -1, 500)
    found = faithfulness(mean_head(num_clips=500), videos_of(row), {"v0": {"evidence": row}}, repeats=3)
    gone = [sigmoid(np.mean(row[n:])) for n in range(500)]
    # evenly spread to the clip: the curve is smooth, so the trapezoids of 21 points are near those of 500
    assert found["deletion"]["evidence"]["area"] == pytest.approx(trapezoids(gone), abs=1e-3)
    head = saved(OneClip(0), num_clips=500)
    faithfulness(head, videos_of(row), {"v0": {"evidence": row}}, repeats=3)
    assert head.module.asked <= 1 + 2 * 4 * POINTS


def test_videos_without_scores_or_of_one_clip_have_no_curve():
    videos = videos_of([1.0, 2.0], [1.0], [3.0, 4.0])
    scores = {"v0": {"gate": np.array([1, 0])}, "v1": {"gate": np.array([1])}}
    found = faithfulness(mean_head(), videos, scores)
    assert (found["videos"], found["single_clip"]) == (1, 1)
    assert faithfulness(mean_head(), videos, {}) is None


def test_an_order_that_some_videos_lack_counts_those_that_have_it():
    videos = videos_of([2.0, -1.0], [3.0, 1.0])
    scores = {"v0": {"evidence": np.array([2.0, -1.0])}, "v1": {"evidence": np.array([3.0, 1]), "gate": np.ones(2)}}
    found = faithfulness(mean_head(), videos, scores)["deletion"]
    assert (found["evidence"]["videos"], found["gate"]["videos"], found["random"]["videos"]) == (2, 1, 2)


def test_the_same_seed_gives_the_same_figures_and_another_one_others():
    rows = np.random.default_rng(2).standard_normal((6, 9))
    scores = {f"v{n}": {"evidence": row} for n, row in enumerate(rows)}
    one, again, other = (faithfulness(mean_head(), videos_of(*rows), scores, seed=s) for s in (1, 1, 2))
    assert one == again == faithfulness(mean_head(), videos_of(*rows)[::-1], scores, seed=1)
    assert one["deletion"]["random"] != other["deletion"]["random"]
    assert one["deletion"]["evidence"]["area"] == other["deletion"]["evidence"]["area"]


def test_videos_have_random_orders_of_their_own():
    row = np.random.default_rng(6).standard_normal(9)
    videos = videos_of(row, row)
    one, other = (faithfulness(mean_head(), [v], {v.id: {"evidence": row}})["deletion"] for v in videos)
    assert one["evidence"]["area"] == other["evidence"]["area"]
    assert one["random"]["area"] != other["random"]["area"]


@pytest.mark.parametrize("name", ["gcf-256", "gcf-256-g0", "clip", "max", "mil", "stpn", "topk", "transformer", "gru"])
def test_every_head_takes_clips_away(name):
    config = head_config(name, width=8)
    head = SavedHead(build_head(config, 6, 3).eval(), config, 6, ("a", "b", "c"), {}, TRAINING)
    rng = np.random.default_rng(3)
    video = one_video("v", rng.standard_normal((7, 1, 6)).astype(np.float16))
    found = faithfulness(head, [video], {"v": {"noise": rng.random(7)}})
    assert np.isfinite(found["deletion"]["noise"]["curve"]).all()
    assert 0 < found["deletion"]["noise"]["area"] < 1
    whole = head.probabilities(head(video.descriptors[:, 0]).logits[0]).max()
    assert found["deletion"]["noise"]["curve"][0] == pytest.approx(float(whole), rel=FLOAT32_FORWARD)


def test_groups_are_drawn_as_a_whole():
    rng = np.random.default_rng(4)
    of_group = np.repeat(rng.standard_normal(30), 6)
    alone = mean_interval(of_group, np.arange(180))
    grouped = mean_interval(of_group, np.repeat(np.arange(30), 6))
    assert (grouped[1] - grouped[0]) / (alone[1] - alone[0]) == pytest.approx(6**0.5, rel=0.1)
    assert alone[1] - alone[0] == pytest.approx(2 * 1.96 * of_group.std() / 180**0.5, rel=0.1)
    sizes = np.array([1, 9] * 20)
    low, high = mean_interval(np.repeat(sizes == 9, sizes), np.repeat(np.arange(40), sizes))
    assert 0.7 < low < 0.9 < high  # large units weigh more: the mean is 0.9, not 0.5
    row = [1.0, -1.0, 0.5]
    scores = {f"v{n}": {"evidence": np.array(row)} for n in range(4)}
    found = faithfulness(mean_head(), videos_of(*[row] * 4), scores, groups={"v0": "a", "v1": "a", "v2": ""})
    assert found["units"] == 3


def test_a_reading_gives_the_orders_that_it_has():
    evidence = np.array([[1.0, 5.0], [2.0, 4.0], [3.0, 3.0]], np.float32)
    found = clip_scores(reading(clips=3, evidence=evidence, probabilities=(0.2, 0.8)))
    assert list(found) == ["evidence"]
    assert_bitwise_equal(found["evidence"], evidence[:, 1])
    assert list(clip_scores(reading(gate=np.ones(4), attention=np.ones(4)))) == ["evidence", "gate", "attention"]


def test_the_area_is_normalised_to_the_way_that_is_gone():
    assert area(np.array([0, 0.25, 1]), np.array([[1, 1, 1], [1, 0, 0]])).tolist() == [1, 0.125]
