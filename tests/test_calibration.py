import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.calibration import calibration_curve

from gcf.head.fitting.calibration import expected_calibration_error, fit_temperature, reliability, with_temperature
from gcf.head.tables.plots import plot_reliability


def honest(n=20000, num_classes=6, seed=0):
    """Log probabilities (n, K) and labels (n,) that are drawn from them: calibrated by construction."""
    rng = np.random.default_rng(seed)
    logs = log_softmax(2 * rng.standard_normal((n, num_classes)), axis=1)
    return logs, (logs + rng.gumbel(size=logs.shape)).argmax(axis=1)


@pytest.mark.parametrize("planted", [0.4, 1.0, 2.5])
def test_a_planted_temperature_is_found_again(planted):
    logs, labels = honest()
    assert fit_temperature((logs * planted).astype(np.float32), labels) == pytest.approx(planted, rel=0.02)


def test_the_temperature_makes_an_overconfident_head_honest_and_changes_no_answer():
    logs, labels = honest()
    loud = log_softmax(3 * logs, axis=1)
    quiet = with_temperature(loud, fit_temperature(loud, labels))
    np.testing.assert_array_equal(quiet.argmax(axis=1), loud.argmax(axis=1))
    np.testing.assert_allclose(np.exp(quiet).sum(axis=1), 1, rtol=1e-12)
    right = loud.argmax(axis=1) == labels
    before, after = (expected_calibration_error(np.exp(x.max(axis=1)), right) for x in (loud, quiet))
    assert before > 0.1
    assert after < 0.02  # 20,000 videos in 15 bins: about 0.008 by chance


def test_where_every_video_is_right_the_temperature_stays_within_bounds():
    logs = np.log(np.array([[0.9, 0.1], [0.2, 0.8]]))
    assert 0.05 <= fit_temperature(logs, np.array([0, 1])) < 0.06
    assert 19 < fit_temperature(logs, np.array([1, 0])) <= 20


def test_always_sure_and_half_right_is_off_by_the_difference():
    assert expected_calibration_error(np.full(10, 0.9), np.arange(10) % 2 == 0) == pytest.approx(0.4)


def test_probabilities_that_come_true_are_off_by_nothing():
    confidence = np.repeat([0.25, 0.5, 1.0], 8)
    correct = np.concatenate([np.arange(8) < 2, np.arange(8) < 4, np.arange(8) < 8])
    assert expected_calibration_error(confidence, correct) == pytest.approx(0, abs=1e-12)


def test_gaps_in_two_bins_do_not_cancel():
    confidence, correct = np.array([0.9, 0.9, 0.1, 0.1]), np.array([True, False, True, False])
    assert expected_calibration_error(confidence, correct) == pytest.approx(0.4)


def test_the_bins_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    confidence = np.concatenate([0.5 * rng.random(300), [0.0, 0.5, 1.0]])  # 0.5 is an edge
    correct = rng.random(303) < confidence
    accuracy, mean = calibration_curve(correct, confidence, n_bins=10)
    rows = reliability(confidence, correct, bins=10)
    assert [row["accuracy"] for row in rows] == pytest.approx(accuracy.tolist())
    assert [row["confidence"] for row in rows] == pytest.approx(mean.tolist())
    assert sum(row["count"] for row in rows) == 303
    assert all(row["low"] <= row["confidence"] <= row["high"] for row in rows)


@pytest.mark.slow
def test_the_curves_are_drawn(tmp_path):
    rows = reliability(np.linspace(0.3, 1, 50), np.arange(50) % 3 > 0)
    plot_reliability(tmp_path / "r.png", {"before": rows, "after": rows[:1]})
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
