"""Where float16 is too coarse for the descriptors that were computed: below 6e-5 it has fewer and fewer digits."""

import numpy as np

from gcf.data.features import FeatureFile

WORDS = "float16 loses digits"  # the notes of such videos have them
COARSE = 2.0**-10  # of a clip's length; where all digits are kept, rounding stays below half of it


def lost_digits(computed: np.ndarray, stored: np.ndarray) -> str:
    """What is to be noted of a video whose float16 rows are not what was computed, '' where they are.

    computed, stored: (C, V, D), float32 and as they go into the file. The worst clip is named, with the length of its
    error as a share of its own.
    """
    exact = computed.reshape(len(computed), -1).astype(np.float64)  # squares of small numbers are smaller still
    length = np.linalg.norm(exact, axis=1)
    error = np.linalg.norm(stored.reshape(exact.shape) - exact, axis=1)
    share = np.divide(error, length, out=np.zeros(len(length)), where=length > 0)
    if share.max(initial=0) < COARSE:
        return ""
    worst = int(share.argmax())
    return f"{WORDS}: clip {worst} is {100 * share[worst]:.3g} % off"


def noted_losses(features: FeatureFile) -> list[tuple[str, str]]:
    """The videos of which extraction noted that digits were lost, each with its note."""
    return [(i, note) for i, note in zip(features.ids, features.videos.note, strict=True) if WORDS in note]
