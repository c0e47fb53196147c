import numpy as np
import pytest
import torch

from gcf.head.fitting.gate_health import GateHealth

FLOAT32_SUM = 1e-5  # a few thousand float32 values in another order


def health_of(batches):
    found = GateHealth()
    for gate, mask in batches:
        found.add(torch.from_numpy(gate), torch.from_numpy(mask))
    return found.fractions()


def random_batches(rng, shapes, *, centre=0.5, spread=0.5):
    for videos, clips in shapes:
        mask = np.arange(clips) < rng.integers(1, clips + 1, size=(videos, 1))
        gate = (centre + spread * (2 * rng.random((videos, clips)) - 1)).astype(np.float32)
        yield np.where(mask, gate, 0), mask


def test_every_figure_is_that_of_all_real_clips_put_together():
    batches = list(random_batches(np.random.default_rng(0), [(40, 5), (1, 9), (64, 3)]))
    found = health_of(batches)
    alpha = np.concatenate([gate[mask] for gate, mask in batches])
    videos = [row[real] for gate, mask in batches for row, real in zip(gate, mask, strict=True)]
    expected = {
        "mean_alpha": alpha.mean(dtype=np.float64),
        "std_alpha": alpha.std(dtype=np.float64),
        "share_above_half": (alpha > 0.5).mean(),
        "share_saturated": ((alpha < 0.05) | (alpha > 0.95)).mean(),
        "share_dead": (alpha < 0.05).mean(),
        "share_open": (alpha > 0.95).mean(),
        "videos_with_clip_above_half": np.mean([(v > 0.5).any() for v in videos]),
    }
    slots = [[v[c] for v in videos if len(v) > c] for c in range(max(map(len, videos)))]
    expected["always_on_slots"] = np.mean([min(of_slot) > 0.5 for of_slot in slots])
    expected["dead_slots"] = np.mean([max(of_slot) < 0.05 for of_slot in slots])
    assert found == pytest.approx(expected, rel=FLOAT32_SUM)


def test_a_slot_that_never_listens_is_counted_and_padding_is_no_slot():
    mask = np.array([[True, True, True, True, False], [True, True, False, False, False]])
    gate = np.array([[0.9, 0.01, 0.6, 0.02, 0.0], [0.8, 0.3, 0.0, 0.0, 0.0]], dtype=np.float32)
    found = health_of([(gate, mask)])
    assert found["always_on_slots"] == 0.5  # the first and the third of four
    assert found["dead_slots"] == 0.25  # the fourth
    assert found["share_dead"] == pytest.approx(2 / 6)


def test_a_tiny_spread_about_a_half_or_near_zero_does_not_drown():
    rng = np.random.default_rng(1)
    for centre in (0.5, 0.01):
        batches = list(random_batches(rng, [(128, 10)] * 20, centre=centre, spread=1e-4))
        alpha = np.concatenate([gate[mask] for gate, mask in batches]).astype(np.float64)
        assert health_of(batches)["std_alpha"] == pytest.approx(alpha.std(), rel=0.01)


def test_without_a_gate_there_is_nothing_to_say():
    health = GateHealth()
    health.add(None, torch.ones(2, 3, dtype=torch.bool))
    assert health.fractions() == {}


def test_a_gate_that_is_no_number_is_no_error():
    found = health_of([(np.full((2, 3), np.nan, dtype=np.float32), np.ones((2, 3), dtype=bool))])
    assert np.isnan(found["mean_alpha"])
    assert found["share_dead"] == found["dead_slots"] == 0
