"""How well two ways of computing one network agree: their descriptors of a few drawn clips."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

from gcf.data.motions import MOTIONS
from gcf.data.scenes import Sprite, draw_frames, draw_scene
from gcf.extract.network.clip_network import ClipNetwork

Comparison = Callable[[ClipNetwork, ClipNetwork, np.ndarray], float]


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with this thread alone, and put torch's setting back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def worst_cosine(network: ClipNetwork, exact: ClipNetwork, clips: np.ndarray) -> float:
    """The smallest cosine between the two networks' descriptors of clips (n, T, H, W, 3) uint8, rounded down to 1e-5.

    0 where a descriptor is not finite.
    """
    ours, theirs = _descriptors(network, clips), _descriptors(exact, clips)
    with np.errstate(invalid="ignore"):  # infinite ones give NaN, and NaN counts as 0
        lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
        cosines = (ours * theirs).sum(axis=1) / np.maximum(lengths, 1e-300)
    cosines[~(ours.any(axis=1) | theirs.any(axis=1))] = 1.0  # nothing in both is agreement, in one it is not
    return float(np.floor(np.nan_to_num(cosines, nan=0.0).min() * 1e5) / 1e5)


def largest_difference(network: ClipNetwork, exact: ClipNetwork, clips: np.ndarray) -> float:
    """The largest difference between the two networks' descriptors of clips (n, T, H, W, 3) uint8, relative to the
    largest value of `exact`; infinite where a descriptor is not finite."""
    ours, theirs = _descriptors(network, clips), _descriptors(exact, clips)
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return float("inf")
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-300))


def _descriptors(network: ClipNetwork, clips: np.ndarray) -> np.ndarray:
    """(n, D) float64, computed in the network's own batches."""
    starts = range(0, len(clips), network.batch_size)
    batches = [network(clips[start : start + network.batch_size])[0] for start in starts]
    return np.concatenate(batches).astype(np.float64)


def drawn_clips(num_frames: int, crop: int | list[int], count: int) -> np.ndarray:
    """Drawn clips (count, T, H, W, 3) uint8, the same on every run and machine: a sprite that moves over a background.

    Not the videos at hand: shards and resumed runs would each see others.
    """
    size = (crop, crop) if isinstance(crop, int) else tuple(crop)
    clips = []
    for seed, motion in zip(range(count), itertools.cycle(MOTIONS.values()), strict=False):
        rng = np.random.default_rng(seed)
        scene, track = draw_scene(size, rng), motion(num_frames, rng)
        clips.append(draw_frames(scene, [(Sprite("star", seed / count), track)], rng)[0])
    return np.stack(clips)
