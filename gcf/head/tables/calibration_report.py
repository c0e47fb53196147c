"""How far an arm's probabilities can be believed, before and after its temperature."""

from collections.abc import Sequence

import numpy as np

from gcf.head.fitting.calibration import expected_calibration_error, reliability
from gcf.head.trials.results import EvaluationSet, SeedResult


def calibration_of(results: Sequence[SeedResult], evaluated: EvaluationSet) -> dict | None:
    """Temperature (the median over seeds and splits), ECE and reliability rows before and after it; seeds pooled.

    None where there is no temperature: without a test set, and for classes that do not exclude each other.
    """
    if any(result.calibrated is None for result in results):
        return None
    correct = np.concatenate([evaluated.right(result.predicted) for result in results])
    before = np.concatenate([result.confidence for result in results])
    after = np.concatenate([result.calibrated for result in results])
    return {
        "temperature": float(np.median([t for result in results for t in result.temperatures])),
        "ece_before": float(expected_calibration_error(before, correct)),
        "ece_after": float(expected_calibration_error(after, correct)),
        "before": reliability(before, correct),
        "after": reliability(after, correct),
    }
