"""The same clips through the same weights, fed in every way that is tried."""

import copy

import numpy as np
import scipy.special
from tqdm import tqdm

from gcf.errors import UsageError
from gcf.explain.doctor.settings import Setting
from gcf.extract.network import ClipNetwork


class Trial:
    """A network and n decoded clips (n, T, H, W, 3) uint8: asks for probabilities under any setting."""

    def __init__(self, network: ClipNetwork, clips: np.ndarray, *, progress: bool = False):
        if not hasattr(network.backbone, "classify"):
            raise UsageError("this backbone has no classifier: what its pixels do to its answers cannot be seen")
        self.network, self.clips, self.progress = network, clips, progress

    def probabilities(self, setting: Setting, clips: np.ndarray | None = None) -> np.ndarray:
        """(n, K) of the clips, or of others of their shape, under a setting."""
        clips = self.clips if clips is None else clips
        network, found = fed_by(self.network, setting), []
        starts = range(0, len(clips), network.batch_size)
        for start in tqdm(starts, desc=setting.name, unit="batch", disable=not self.progress, leave=False):
            found.append(network(np.ascontiguousarray(clips[start : start + network.batch_size]))[1])
        return softmax(np.concatenate(found))


def fed_by(network: ClipNetwork, setting: Setting) -> ClipNetwork:
    """The same weights, device and precision with other pixels; the first network stays as it is."""
    backbone = copy.copy(network.backbone)  # shares the parameters
    backbone.recipe = network.backbone.recipe | setting.pixels
    return ClipNetwork(backbone, device=network.device, precision=network.precision, batch_size=network.batch_size)


def softmax(logits: np.ndarray) -> np.ndarray:
    """(n, K) logits to float64 probabilities; a row that is not finite knows nothing: all classes alike.

    Half precision overflows on pixels 255 times too large.
    """
    known = np.where(np.isfinite(logits).all(axis=1, keepdims=True), logits, 0.0).astype(np.float64)
    return scipy.special.softmax(known, axis=1)
