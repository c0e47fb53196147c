import warnings
from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from gcf.head.metrics import score
from gcf.head.statistics import (
    detectable_difference,
    holm,
    mcnemar_p,
    paired_difference,
    sign_flip_p,
    smallest_difference,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the libraries that statsmodels imports
    from statsmodels.stats.contingency_tables import mcnemar
    from statsmodels.stats.multitest import multipletests


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


def two_arms(num_seeds=5, num_videos=200, seed=0):
    """Arms that share what is easy, and differ in luck: correct and reference (S, n)."""
    rng = np.random.default_rng(seed)
    easy = rng.random(num_videos) < 0.6
    return tuple(
        np.where(rng.random((num_seeds, num_videos)) < 0.3, rng.random((num_seeds, num_videos)) < level, easy)
        for level in (0.7, 0.6)
    )


def test_the_interval_is_that_of_a_plain_loop_over_drawn_groups_and_seeds():
    one, other = two_arms()
    groups = np.random.default_rng(1).integers(12, size=200)  # of uneven sizes
    rng, found = np.random.default_rng(2), []
    members = [np.flatnonzero(groups == g) for g in range(12)]
    for _ in range(4000):
        drawn = np.concatenate([members[g] for g in rng.integers(12, size=12)])
        seeds = rng.integers(5, size=5)
        found.append(one[np.ix_(seeds, drawn)].mean() - other[np.ix_(seeds, drawn)].mean())
    ours = paired_difference(one, other, np.arange(200), [f"g{g}" for g in groups])
    width = np.std(found)
    # An end of the interval is a quantile of 4000 to 5000 draws, known to about 0.04 standard deviations.
    assert ours.low == pytest.approx(np.quantile(found, 0.025), abs=0.15 * width)
    assert ours.high == pytest.approx(np.quantile(found, 0.975), abs=0.15 * width)


def test_groups_that_act_as_one_widen_the_interval_by_the_root_of_their_size_and_raise_p():
    rng = np.random.default_rng(3)
    gains = np.repeat(rng.choice([1, 0, -1], p=[0.35, 0.4, 0.25], size=100), 9)  # design effect 9
    arms = (gains > 0)[None], (gains < 0)[None], np.arange(900)
    alone, grouped = paired_difference(*arms), paired_difference(*arms, [f"g{n // 9}" for n in range(900)])
    assert (alone.units, grouped.units) == (900, 100)
    assert grouped.delta == alone.delta
    assert (grouped.high - grouped.low) / (alone.high - alone.low) == pytest.approx(3, rel=0.1)
    assert grouped.p == pytest.approx(sign_flip_p(gains[::9]))
    assert grouped.p > alone.p
    assert grouped.mcnemar_p == alone.mcnemar_p


def test_p_with_groups_is_that_of_all_sign_patterns_of_whole_groups():
    one, other = two_arms(num_videos=40, seed=4)
    groups = np.array([f"g{n % 8}" for n in range(36)] + [""] * 4)  # the last four are units of their own
    found = paired_difference(one, other, np.arange(40), groups)
    gains = (one.astype(int) - other).sum(axis=0)
    of_units = [gains[groups == f"g{g}"].sum() for g in range(8)] + gains[36:].tolist()
    assert found.units == 12
    assert found.p == pytest.approx(enumerated_p(of_units), abs=1e-12)


def test_flips_are_counted_by_the_majority_of_seeds_and_tested_as_statsmodels_does():
    one, other = two_arms(seed=5)
    found = paired_difference(one, other, np.arange(200))
    ahead = one.sum(axis=0) - other.sum(axis=0)
    assert (found.gained, found.lost) == ((ahead > 0).sum(), (ahead < 0).sum())
    table = [[100, found.lost], [found.gained, 50]]  # the diagonal does not matter
    assert found.mcnemar_p == pytest.approx(mcnemar(table, exact=True).pvalue, rel=1e-9)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (5, 5), (3, 14), (240, 301)])
def test_mcnemars_p_is_that_of_statsmodels(gained, lost):
    assert mcnemar_p(gained, lost) == pytest.approx(mcnemar([[7, lost], [gained, 2]], exact=True).pvalue, rel=1e-9)


def test_with_one_seed_both_p_values_are_one():
    one, other = two_arms(num_seeds=1, seed=6)
    found = paired_difference(one, other, np.arange(200))
    assert found.p == pytest.approx(found.mcnemar_p, rel=1e-9)


@pytest.mark.parametrize("discordant", [0, 1, 5, 6, 7, 30, 253])
def test_the_smallest_difference_is_the_least_that_is_significant(discordant):
    every = range(discordant + 1)
    shown = [abs(2 * lost - discordant) for lost in every if discordant and binomtest(lost, discordant).pvalue < 0.05]
    assert smallest_difference(discordant, 5000) == (min(shown) / 5000 if shown else None)


def test_the_smallest_difference_nears_the_normal_limit():
    assert smallest_difference(4000, 1) == pytest.approx(1.96 * 4000**0.5, abs=3)  # steps of two, and continuity


def test_the_detectable_difference_solves_connors_equation():
    found = detectable_difference(120, 600)
    needed = (norm.ppf(0.975) * 0.2**0.5 + norm.ppf(0.8) * (0.2 - found**2) ** 0.5) ** 2 / found**2
    assert needed == pytest.approx(600, rel=1e-9)


def test_the_detectable_difference_is_found_in_four_of_five_simulated_test_sets():
    difference = detectable_difference(180, 900)
    rng = np.random.default_rng(0)
    gained, lost, _ = rng.multinomial(900, [0.1 + difference / 2, 0.1 - difference / 2, 0.8], size=20000).T
    power = (np.abs(gained - lost) > 1.96 * np.sqrt(gained + lost)).mean()  # McNemar's test without correction
    assert power == pytest.approx(0.8, abs=0.02)  # the formula is asymptotic


def test_where_nothing_could_be_shown_nothing_is_claimed():
    assert smallest_difference(0, 10) is None
    assert detectable_difference(0, 10) is None
    assert detectable_difference(3, 10) is None  # the formula asks for more than all that differ
    assert detectable_difference(1, 1) is None


@pytest.mark.parametrize("seed", range(5))
def test_holms_adjustment_is_that_of_statsmodels(seed):
    rng = np.random.default_rng(seed)
    ps = (rng.random(9) ** 3).round(2).tolist()  # with ties
    assert holm(ps) == pytest.approx(multipletests(ps, method="holm")[1], abs=1e-12)


def test_holm_of_nothing_is_nothing():
    assert holm([]) == []


def test_what_does_not_fit_together_is_refused():
    right = np.ones((2, 4), dtype=bool)
    with pytest.raises(ValueError, match="shapes differ"):
        paired_difference(right, right[:, :3], np.arange(4))
    with pytest.raises(ValueError, match="4 videos but 3 groups"):
        paired_difference(right, right, np.arange(4), ["a", "a", "b"])
    with pytest.raises(ValueError, match="empty"):
        paired_difference(right[:, :0], right[:, :0], np.arange(0))


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
