import warnings
from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest, t, ttest_ind

from gcf.head.fitting.metrics import score
from gcf.head.tables.statistics import holm, mcnemar_p, paired_difference, sign_flip_p

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the libraries that statsmodels imports
    from statsmodels.regression.linear_model import OLS
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


WITHOUT_CHANCE = {"by_chance": (False, False)}


def two_arms(num_seeds=5, num_videos=200, seed=0):
    """Arms that share what is easy, and differ in luck: correct and reference (S, n)."""
    rng = np.random.default_rng(seed)
    easy = rng.random(num_videos) < 0.6
    return tuple(
        np.where(rng.random((num_seeds, num_videos)) < 0.3, rng.random((num_seeds, num_videos)) < level, easy)
        for level in (0.7, 0.6)
    )


def reach(found) -> float:
    """Half of the interval's width."""
    return (found.high - found.low) / 2


def test_arms_that_are_always_alike_have_p_one_and_an_interval_as_wide_as_one_video_either_way():
    same = np.ones((3, 20), dtype=bool)
    found = paired_difference(same, same, np.arange(20))
    assert (found.delta, found.p) == (0, 1)
    assert found.low == -found.high
    assert found.high == pytest.approx(2.093 * 2**0.5 / 22, rel=1e-3)  # t with 19 degrees of freedom


def test_delta_is_the_difference_of_the_pooled_accuracies():
    rng = np.random.default_rng(0)
    one, other = rng.random((4, 50)) < 0.8, rng.random((4, 50)) < 0.6
    found = paired_difference(one, other, np.arange(50))
    assert found.delta == pytest.approx(one.mean() - other.mean())
    assert found.low < found.delta < found.high


def analysis_of_variance(ours, theirs):
    """The variance of the difference by the mean squares of seeds, arm x video, and the rest, one cell at a time."""
    seeds, videos = ours.shape
    arms = np.stack([ours, theirs]).astype(float)  # (2, S, V)
    of_seeds, rest = 0.0, 0.0
    for arm in arms:
        for run in arm:
            of_seeds += videos * (run.mean() - arm.mean()) ** 2
            for v in range(videos):
                rest += (run[v] - run.mean() - arm[:, v].mean() + arm.mean()) ** 2
    of_seeds /= 2 * (seeds - 1)
    rest /= 2 * (seeds - 1) * (videos - 1)
    gains = arms[0].mean(axis=0) - arms[1].mean(axis=0)
    of_videos = seeds / 2 * ((gains - gains.mean()) ** 2).sum() / (videos - 1)
    return 2 / (seeds * videos) * of_seeds, 2 / (seeds * videos) * max(of_videos - rest, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_the_variance_is_that_of_the_published_analysis_of_variance(seed):
    one, other = two_arms(num_videos=3000, seed=seed)
    other[:, :300] = False  # videos that the arms differ in
    of_seeds, of_videos = analysis_of_variance(one, other)
    assert of_videos > 0
    found = paired_difference(one, other, np.arange(3000))
    variance = of_seeds + of_videos
    parts = [r.mean(axis=1).var(ddof=1) / 5 for r in (one, other)]
    freedom = variance**2 / (sum(part**2 for part in parts) / 4 + of_videos**2 / 2999)
    assert reach(found) == pytest.approx(t.ppf(0.975, freedom) * variance**0.5, rel=5e-3)  # one video either way
    assert np.log(found.p) == pytest.approx(np.log(2 * t.sf(found.delta / variance**0.5, freedom)), rel=0.02)


def test_where_only_seeds_vary_it_is_welchs_test():
    rng = np.random.default_rng(1)
    order = rng.random(50_000)  # how hard each video is, the same for all
    one, other = (order < level + rng.normal(0, 0.02, size=(5, 1)) for level in (0.72, 0.7))
    found = paired_difference(one, other, np.arange(50_000))
    expected = ttest_ind(one.mean(axis=1), other.mean(axis=1), equal_var=False)
    assert found.p == pytest.approx(expected.pvalue, rel=0.02)


@pytest.mark.parametrize("grouped", [False, True])
def test_without_chance_in_training_it_is_the_test_over_videos_or_groups(grouped):
    one, other = (runs[:1] for runs in two_arms(num_videos=4000, seed=3))
    group = np.random.default_rng(1).integers(150, size=4000) if grouped else np.arange(4000)  # of uneven sizes
    found = paired_difference(one, other, np.arange(4000), [f"g{g}" for g in group], **WITHOUT_CHANCE)
    gains = one[0].astype(float) - other[0]
    expected = OLS(gains, np.ones(4000)).fit(cov_type="cluster", cov_kwds={"groups": group}, use_t=True)
    assert found.delta == pytest.approx(expected.params[0])
    assert [found.low, found.high] == pytest.approx(expected.conf_int()[0], rel=5e-3)


def test_equal_runs_of_an_arm_without_chance_count_as_one():
    one, other = two_arms()
    once = paired_difference(one, other[:1], np.arange(200), by_chance=(True, False))
    five = paired_difference(one, np.repeat(other[:1], 5, axis=0), np.arange(200), by_chance=(True, False))
    assert once == five
    assert once.missing is None


def test_seeds_are_not_pairs():
    one, other = two_arms()
    found, turned = (paired_difference(runs, other, np.arange(200)) for runs in (one, one[::-1]))
    assert (turned.p, turned.low) == pytest.approx((found.p, found.low), rel=1e-12)


@pytest.mark.parametrize("discordant", range(4, 9))
@pytest.mark.parametrize("videos", [40, 100, 1000])
def test_few_discordant_videos_are_judged_as_the_exact_test_judges_them(discordant, videos):
    one = np.arange(videos)[None] < discordant
    found = paired_difference(one, np.zeros_like(one), np.arange(videos), **WITHOUT_CHANCE)
    assert (found.p < 0.05) == (binomtest(discordant, discordant).pvalue < 0.05)


@pytest.mark.parametrize("seed", range(20))
def test_p_is_below_five_percent_exactly_where_the_interval_leaves_0_out(seed):
    one, other = two_arms(num_videos=80, seed=seed)
    found = paired_difference(one, other, np.arange(80), [f"g{n % 13}" for n in range(80)])
    assert (found.p < 0.05) == (found.low > 0 or found.high < 0)
    assert (abs(found.delta) > found.smallest) == (found.p < 0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("videos", "spread", "group"), [(100, 0.0, 1), (400, 0.05, 1), (2000, 0.05, 1), (400, 0.02, 40)]
)
def test_two_trainings_of_one_head_are_told_apart_in_one_of_twenty_cases_at_most(videos, spread, group):
    rng, found = np.random.default_rng(0), []
    groups = [f"g{n // group}" for n in range(videos)]
    for _ in range(400):
        shared = rng.normal(size=videos // group).repeat(group) + rng.normal(size=videos)
        arms = [shared + rng.normal(size=(5, videos)) + rng.normal(0, 6 * spread, size=(5, 1)) > -1.5 for _ in range(2)]
        found.append(paired_difference(*arms, np.arange(videos), groups).p)
    assert np.mean(np.array(found) < 0.05) < 0.05 + 2 * (0.05 * 0.95 / 400) ** 0.5


@pytest.mark.slow
def test_the_detectable_difference_is_found_in_four_of_five_simulated_cases():
    rng, found, at = np.random.default_rng(0), [], []
    for _ in range(400):
        shared = rng.normal(size=500)
        arms = [
            shared + rng.normal(size=(5, 500)) + rng.normal(0, 0.05, size=(5, 1)) > level for level in (-0.98, -0.8)
        ]
        one = paired_difference(*arms, np.arange(500))
        found.append(one.p < 0.05)
        at.append((one.delta, one.detectable))
    true, detectable = np.mean(at, axis=0)
    assert true == pytest.approx(detectable, rel=0.1)  # the level above was chosen so
    assert np.mean(found) == pytest.approx(0.8, abs=0.06)


def test_a_video_judged_in_several_splits_is_one_video():
    rng = np.random.default_rng(2)
    gains = rng.choice([1, 0, -1], p=[0.4, 0.4, 0.2], size=40)
    one, other = gains > 0, gains < 0
    once = paired_difference(one, other, np.arange(40), **WITHOUT_CHANCE)
    thrice = paired_difference(np.tile(one, 3), np.tile(other, 3), np.tile(np.arange(40), 3), **WITHOUT_CHANCE)
    assert thrice.p == pytest.approx(once.p)
    assert reach(thrice) == pytest.approx(reach(once))


def test_groups_that_act_as_one_widen_the_interval_by_the_root_of_their_size_and_raise_p():
    rng = np.random.default_rng(3)
    gains = np.repeat(rng.choice([1, 0, -1], p=[0.35, 0.4, 0.25], size=100), 9)  # design effect 9
    arms = (gains > 0)[None], (gains < 0)[None], np.arange(900)
    alone = paired_difference(*arms, **WITHOUT_CHANCE)
    grouped = paired_difference(*arms, [f"g{n // 9}" for n in range(900)], **WITHOUT_CHANCE)
    assert (alone.units, grouped.units) == (900, 100)
    assert grouped.delta == alone.delta
    assert reach(grouped) / reach(alone) == pytest.approx(3, rel=0.05)
    assert grouped.p > alone.p
    assert grouped.mcnemar_p == alone.mcnemar_p


def test_videos_without_a_group_are_units_of_their_own():
    one, other = two_arms(num_videos=40, seed=4)
    groups = np.array([f"g{n % 8}" for n in range(36)] + [""] * 4)
    assert paired_difference(one, other, np.arange(40), groups).units == 12


def test_flips_are_counted_by_the_majority_of_seeds_and_tested_as_statsmodels_does():
    one, other = two_arms(seed=5)
    found = paired_difference(one, other, np.arange(200))
    ahead = one.sum(axis=0) - other.sum(axis=0)
    assert (found.gained, found.lost) == ((ahead > 0).sum(), (ahead < 0).sum())
    table = [[100, found.lost], [found.gained, 50]]  # the diagonal does not matter
    assert found.mcnemar_p == pytest.approx(mcnemar(table, exact=True).pvalue, rel=1e-9)
    uneven = paired_difference(one, other[:2], np.arange(200))
    ahead = one.mean(axis=0) - other[:2].mean(axis=0)
    assert (uneven.gained, uneven.lost) == ((ahead > 1e-9).sum(), (ahead < -1e-9).sum())


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (5, 5), (3, 14), (240, 301)])
def test_mcnemars_p_is_that_of_statsmodels(gained, lost):
    assert mcnemar_p(gained, lost) == pytest.approx(mcnemar([[7, lost], [gained, 2]], exact=True).pvalue, rel=1e-9)


@pytest.mark.parametrize("arms", [(1, 1), (1, 5), (5, 1)])
def test_one_seed_gives_no_p_and_says_how_many_would_do(arms):
    one, other = two_arms()
    found = paired_difference(one[: arms[0]], other[: arms[1]], np.arange(200))
    assert found.p is found.low is found.high is found.smallest is found.detectable is None
    assert "Two seeds (--seeds 2) would do" in found.missing
    assert found.delta == pytest.approx(one[: arms[0]].mean() - other[: arms[1]].mean())
    assert found.mcnemar_p < 1


def test_one_group_gives_no_p():
    found = paired_difference(*two_arms(), np.arange(200), ["g"] * 200)
    assert found.p is None
    assert "All videos are of one group" in found.missing


@pytest.mark.slow
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
