"""The only float comparisons of the suite: each tolerance carries its reason."""

import numpy as np
import torch

FLOAT32_FORWARD = 1e-5  # summation order alone moved the reference networks by up to 1.5e-6; 1e-5 leaves room
FLOAT64_FORWARD = 1e-9  # the same in float64
FLOAT16_STORAGE = 2.0**-10  # one rounding to float16 (relative 2^-11), doubled


def relative_error(actual, expected) -> float:
    """max |actual - expected| / max |expected|, the measure of the parity data."""
    actual, expected = (np.asarray(x, dtype=np.float64) for x in (actual, expected))
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def assert_bitwise_equal(actual, expected) -> None:
    """Same shape, dtype and bits."""
    actual, expected = (
        x.detach().numpy() if isinstance(x, torch.Tensor) else np.asarray(x) for x in (actual, expected)
    )
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    assert actual.tobytes() == expected.tobytes()
