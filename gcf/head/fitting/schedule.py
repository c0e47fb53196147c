"""When to validate, when to lower the rate, when to stop: numbers in, decisions out.

The paper divides the rate by 10 three times when the validation loss stops improving. How long that takes to see is
a matter of steps, not of passes: with sixty videos one pass is one step, with 400,000 it is 3,125. So validations lie
at least VALIDATE_STEPS apart, over as many passes as that takes, patience counts validations, and the number of
passes is bounded by LIMITS, by passes or by what makes so many steps, whichever is more.
"""

import math

VALIDATE_STEPS = 20
LIMITS = {"plateau": (100, 200), "cosine": (40, 240)}  # passes, or what makes so many steps
WARM_UP = 0.1  # of all steps
THRESHOLD = 1e-3  # a relative gain in validation loss smaller than this is no improvement to wait for
FACTOR = 0.1


def passes_per_validation(steps_per_pass: int) -> int:
    """Passes over the training videos between two validations.

    >>> passes_per_validation(1), passes_per_validation(3125)
    (20, 1)
    """
    return math.ceil(VALIDATE_STEPS / steps_per_pass)


def most_passes(steps_per_pass: int, epochs: int | None, schedule: str = "plateau") -> int:
    """Passes at most: what was asked for, or the default of a schedule.

    >>> most_passes(1, None), most_passes(3125, None), most_passes(1, 30), most_passes(3, None, "cosine")
    (200, 100, 30, 80)
    """
    passes, least = LIMITS[schedule]
    return epochs if epochs is not None else max(passes, math.ceil(least / steps_per_pass))


class Cosine:
    """The share of the rate for each step: it rises in a line over the first tenth, then falls as a cosine to 0."""

    def __init__(self, steps: int):
        self.steps, self.taken = steps, 0

    def next(self) -> float:
        """Of the step that is about to be taken.

        >>> cosine = Cosine(100)
        >>> [round(share, 2) for share in (cosine.next() for _ in range(12))][::3]
        [0.1, 0.4, 0.69, 0.98]
        """
        warm = min(1.0, (self.taken + 1) / (WARM_UP * self.steps))
        falling = 0.5 * (1 + math.cos(math.pi * self.taken / self.steps))
        self.taken += 1
        return warm * falling


class Plateau:
    """Divide the rate by 10 when the validation loss has not improved for `patience` validations; stop after `drops`.

    `observe` gives the factor for the rate from now on, or None when the last drop has brought nothing either.
    """

    def __init__(self, *, patience: int, drops: int):
        self.patience, self.drops = patience, drops
        self.best, self.waited, self.dropped = math.inf, 0, 0

    def observe(self, loss: float) -> float | None:
        """Take in one validation loss."""
        if loss < self.best * (1 - THRESHOLD):
            self.best, self.waited = loss, 0
            return FACTOR**self.dropped
        self.waited += 1
        if self.waited >= self.patience:
            self.waited = 0
            self.dropped += 1
        return None if self.dropped > self.drops else FACTOR**self.dropped
