"""In which precision a network runs: the fastest that the device has, if its descriptors agree with float32's."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from gcf.data.motions import MOTIONS
from gcf.data.scenes import Sprite, draw_frames, draw_scene
from gcf.extract.batch_size import batch_size_of, largest_map
from gcf.extract.network import ClipNetwork

log = logging.getLogger("gcf")
WORST_COSINE = 0.999  # between a clip's descriptors in half and in full precision
TRIED_CLIPS = 4


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with this thread alone, and put torch's setting back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def natural_precision(device: torch.device) -> str:
    """What `auto` means: bf16 where the device multiplies in it, else fp16 on a GPU and fp32 on a processor."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    has = any(getattr(torch.cpu, name, bool)() for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return "bf16" if device.type == "cpu" and has else "fp32"


def precise_network(
    backbone: nn.Module, *, device: torch.device, precision: str, batch_size: int | None, num_frames: int
) -> tuple[ClipNetwork, dict]:
    """The network in the precision asked for, and what the recipe says of it.

    Half precision is tried on a few drawn clips first. Where a descriptor's cosine to float32's is below 0.999, or the
    device cannot run it, float32 is used instead, with a warning. batch_size None: as batch_size.py has it. The
    recipe's entries: precision; folded: whether batch norms are folded; precision_cosine: the worst one seen, None in
    float32; batch_size.
    """
    chosen = natural_precision(device) if precision == "auto" else precision
    if chosen != "fp32":
        found = _agreeing(backbone, device=device, precision=chosen, batch_size=batch_size, num_frames=num_frames)
        if found:
            return found
    size = batch_size or batch_size_of(0, device=device, bytes_each=4)
    return _entered(ClipNetwork(backbone, device=device, precision="fp32", batch_size=size), None)


def _entered(network: ClipNetwork, worst: float | None) -> tuple[ClipNetwork, dict]:
    """A network and its entries in the recipe."""
    names = ("precision", "folded", "batch_size")
    return network, {name: getattr(network, name) for name in names} | {"precision_cosine": worst}


def _agreeing(
    backbone: nn.Module, *, device: torch.device, precision: str, batch_size: int | None, num_frames: int
) -> tuple[ClipNetwork, dict] | None:
    """The network in half precision; None, with a warning, where it is not exact enough or cannot be run."""
    clips = drawn_clips(num_frames, backbone.recipe["crop"])
    try:
        size = batch_size or batch_size_of(_largest_map(backbone, device, clips), device=device, bytes_each=2)
        network = ClipNetwork(backbone, device=device, precision=precision, batch_size=size)
        few = ClipNetwork(backbone, device=device, precision="fp32", batch_size=len(clips))
        with one_thread():  # as in the lanes, and the same digits whatever the number of processors
            worst = worst_cosine(network, few, clips)
    except torch.OutOfMemoryError:  # float32 would take more memory still
        raise
    except (RuntimeError, NotImplementedError) as error:
        log.warning("%s cannot be used (%s); float32 is used instead", precision, str(error).splitlines()[0])
    else:
        if worst >= WORST_COSINE:
            return _entered(network, worst)
        log.warning(
            "%s is not exact enough for this network (a descriptor's cosine to float32's is %.5f, at least %g is asked "
            "for); float32 is used instead",
            *(precision, worst, WORST_COSINE),
        )
    return None


def _largest_map(backbone: nn.Module, device: torch.device, clips: np.ndarray) -> int:
    """Values of the largest feature map that a clip has on its way."""
    with largest_map(backbone) as largest:
        ClipNetwork(backbone, device=device, precision="fp32", batch_size=1).feature_map(clips[:1])
    return largest[0]


def worst_cosine(network: ClipNetwork, exact: ClipNetwork, clips: np.ndarray) -> float:
    """The smallest cosine between the two networks' descriptors of clips (n, T, H, W, 3) uint8, rounded down to 1e-5.

    0 where a descriptor is not finite.
    """
    worst = 1.0
    size = min(network.batch_size, exact.batch_size)
    for first in range(0, len(clips), size):
        batch = clips[first : first + size]
        ours, theirs = (each(batch)[0].astype(np.float64) for each in (network, exact))
        with np.errstate(invalid="ignore"):  # infinite ones give NaN, and NaN counts as 0
            lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
            cosines = (ours * theirs).sum(axis=1) / np.maximum(lengths, 1e-300)
        cosines[~(ours.any(axis=1) | theirs.any(axis=1))] = 1.0  # nothing in both is agreement, in one it is not
        worst = min(worst, float(np.nan_to_num(cosines, nan=0.0).min()))
    return float(np.floor(worst * 1e5) / 1e5)


def drawn_clips(num_frames: int, crop: int | list[int], count: int = TRIED_CLIPS) -> np.ndarray:
    """Drawn clips (count, T, H, W, 3) uint8, the same on every run and machine: a sprite that moves over a background.

    Not the videos at hand: shards and resumed runs would each see others.
    """
    size = (crop, crop) if isinstance(crop, int) else tuple(crop)
    clips = []
    for seed, motion in zip(range(count), MOTIONS.values(), strict=False):
        rng = np.random.default_rng(seed)
        scene, track = draw_scene(size, rng), motion(num_frames, rng)
        clips.append(draw_frames(scene, [(Sprite("star", seed / count), track)], rng)[0])
    return np.stack(clips)
