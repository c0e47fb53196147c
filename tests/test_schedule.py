import math

import pytest

from gcf.head.fitting.schedule import Plateau, most_passes, passes_per_validation


def follow(losses, **settings):
    plateau = Plateau(**settings)
    return [plateau.observe(loss) for loss in losses]


def test_the_rate_falls_by_ten_after_patience_and_the_third_drop_gets_its_chance_too():
    factors = follow([1.0] * 9, patience=2, drops=3)
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001, None], nan_ok=True)


def test_an_improvement_starts_the_wait_anew_at_the_rate_reached():
    assert follow([1.0, 1.0, 0.5, 0.5, 0.4, 0.4, 0.4], patience=2, drops=1) == [1, 1, 1, 1, 1, 1, 0.1]


def test_a_gain_below_a_thousandth_is_not_waited_for_but_gains_add_up():
    creeping = [1.0 - 0.0006 * i for i in range(6)]
    assert follow(creeping, patience=3, drops=1) == [1] * 6
    assert follow([1.0, 0.9999, 0.9998, 0.9997], patience=3, drops=1)[-1] == 0.1


def test_a_loss_that_is_no_number_never_counts_as_better():
    assert follow([math.nan] * 2, patience=1, drops=1) == [0.1, None]


@pytest.mark.parametrize(("steps_per_pass", "apart", "most"), [(1, 20, 200), (3, 7, 100), (25, 1, 100), (3125, 1, 100)])
def test_few_videos_make_many_passes_and_many_make_the_usual_number(steps_per_pass, apart, most):
    assert passes_per_validation(steps_per_pass) == apart
    assert most_passes(steps_per_pass, None) == most
    assert most_passes(steps_per_pass, 7) == 7
