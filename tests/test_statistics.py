from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest

from gcf.head.metrics import score
from gcf.head.statistics import paired_difference, sign_flip_p


def enumerated_p(gains):
    """All 2^U sign patterns, one by one."""
    sums = [abs(sum(s * g for s, g in zip(signs, gains, strict=True))) for signs in product([1, -1], repeat=len(gains))]
    return np.mean([s >= abs(sum(gains)) for s in sums])


@pytest.mark.parametrize("seed", range(8))
def test_the_p_value_is_that_of_all_sign_patterns(seed):
    gains = np.random.default_rng(seed).integers(-3, 5, size=10)
    assert sign_flip_p(gains) == pytest.approx(enumerated_p(gains), abs=1e-12)


@pytest.mark.parametrize(("better", "worse"), [(9, 2), (30, 31), (400, 320), (0, 5)])
def test_with_one_seed_the_p_value_is_mcnemars_exact_one(better, worse):
    gains = np.array([1] * better + [-1] * worse + [0] * 50)
    assert sign_flip_p(gains) == pytest.approx(binomtest(better, better + worse).pvalue, rel=1e-9)


def test_no_difference_at_all_has_p_one_and_an_empty_interval():
    same = np.ones((3, 20), dtype=bool)
    found = paired_difference(same, same, np.arange(20))
    assert (found.delta, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_delta_is_the_difference_of_the_pooled_accuracies():
    rng = np.random.default_rng(0)
    one, other = rng.random((4, 50)) < 0.8, rng.random((4, 50)) < 0.6
    found = paired_difference(one, other, np.arange(50))
    assert found.delta == pytest.approx(one.mean() - other.mean())
    assert found.low < found.delta < found.high


def test_the_interval_is_as_wide_as_theory_says_for_independent_videos():
    rng = np.random.default_rng(1)
    gains = rng.choice([1, 0, -1], p=[0.3, 0.5, 0.2], size=400)
    one, other = (gains > 0)[None], (gains < 0)[None]
    found = paired_difference(one, other, np.arange(400))
    assert found.high - found.low == pytest.approx(2 * 1.96 * gains.std() / 20, rel=0.1)


def test_seeds_that_disagree_widen_the_interval():
    right = np.zeros((4, 40), dtype=bool)
    right[:2] = True  # two seeds are right everywhere, two nowhere
    found = paired_difference(right, np.zeros_like(right), np.arange(40))
    assert found.delta == 0.5
    assert found.low <= 0.0 + 0.01
    assert found.high >= 1.0 - 0.01


def test_a_video_judged_in_several_splits_is_one_video():
    rng = np.random.default_rng(2)
    gains = rng.choice([1, 0, -1], p=[0.4, 0.4, 0.2], size=40)
    one, other = gains > 0, gains < 0
    once = paired_difference(one, other, np.arange(40))
    thrice = paired_difference(np.tile(one, 3), np.tile(other, 3), np.tile(np.arange(40), 3))
    assert thrice.p == pytest.approx(once.p)
    assert thrice.high - thrice.low == pytest.approx(once.high - once.low, rel=0.1)


def test_metrics_agree_with_plain_loops():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((60, 8))
    logs = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
    labels = rng.integers(0, 7, size=60)  # class 7 does not occur
    found = score(logs, labels)
    ranks = [int((row > row[k]).sum()) for row, k in zip(logs, labels, strict=True)]
    recalls = [np.mean([ranks[i] == 0 for i in range(60) if labels[i] == c]) for c in sorted(set(labels))]
    assert (found["k"], found["n"]) == (ranks.count(0), 60)
    assert found["top1"] == pytest.approx(ranks.count(0) / 60)
    assert found["top5"] == pytest.approx(np.mean([r < 5 for r in ranks]))
    assert found["mean_class"] == pytest.approx(np.mean(recalls))
    assert found["loss"] == pytest.approx(-np.mean([row[k] for row, k in zip(logs, labels, strict=True)]), rel=1e-6)


def test_top5_of_five_classes_or_fewer_is_one():
    assert score(np.log(np.full((4, 2), 0.5)), np.array([0, 1, 0, 1]))["top5"] == 1
