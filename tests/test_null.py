"""The tests that gcf's p was chosen from, as benchmarks/null_candidates.py computes them."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import permutation_test

from gcf.head.tables.statistics import paired_difference

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import null_candidates


@pytest.mark.parametrize(("seeds", "seed"), [(2, 0), (5, 1), (5, 2), (5, 3), (6, 4)])
def test_exchanged_seeds_have_the_p_of_all_ways_to_deal_the_runs(seeds, seed):
    ours, theirs = np.random.default_rng(seed).integers(300, 320, size=(2, seeds))

    def apart(one, other):
        return one.sum() - other.sum()

    found = permutation_test((ours, theirs), apart, n_resamples=np.inf).pvalue  # it doubles the smaller tail
    assert null_candidates.seed_exchange_p(ours, theirs) == pytest.approx(found)


def test_the_two_added_videos_matter_less_the_more_videos_are_judged():
    rng = np.random.default_rng(0)
    ratios = []
    for num_videos in (50, 500, 50000):
        ours, theirs = rng.random((2, 5, num_videos)) < rng.random(num_videos)
        present = paired_difference(ours, theirs, np.arange(num_videos)).p
        ratios.append(null_candidates.unadjusted_p(ours, theirs) / present)
    assert ratios == sorted(ratios)
    assert ratios[-1] == pytest.approx(1, abs=0.01)
