"""The same clips through the same weights, fed in every way that is tried."""

import numpy as np
import scipy.special
from tqdm import tqdm

from gcf.errors import UsageError
from gcf.explain.doctor.settings import Setting
from gcf.extract.network.clip_network import ClipNetwork
from gcf.extract.network.network_pool import NetworkPool


class Trial:
    """A network and n decoded clips (n, T, H, W, 3) uint8: asks for probabilities under any setting.

    bar: counts the clips that have been through the network.
    """

    def __init__(self, network: ClipNetwork, clips: np.ndarray, bar: tqdm):
        if not hasattr(network.backbone, "classify"):
            raise UsageError("this backbone has no classifier: what its pixels do to its answers cannot be seen")
        self.network, self.clips, self.bar = network, clips, bar

    def probabilities(self, setting: Setting, clips: np.ndarray | None = None) -> np.ndarray:
        """(n, K) of the clips, or of others of their shape, under a setting."""
        clips = self.clips if clips is None else clips
        network = self.network.fed_by(setting.pixels)
        starts = range(0, len(clips), network.batch_size)
        with NetworkPool([network]) as networks:
            batches = (np.ascontiguousarray(clips[start : start + network.batch_size]) for start in starts)
            jobs = [networks.submit(batch) for batch in batches]
            logits = []
            for job in jobs:
                logits.append(job.result()[1])
                self.bar.update(len(logits[-1]))
            return softmax(np.concatenate(logits))


def softmax(logits: np.ndarray) -> np.ndarray:
    """(n, K) logits to float64 probabilities; a row that is not finite knows nothing: all classes alike.

    Half precision overflows on pixels 255 times too large.
    """
    known = np.where(np.isfinite(logits).all(axis=1, keepdims=True), logits, 0.0).astype(np.float64)
    return scipy.special.softmax(known, axis=1)
