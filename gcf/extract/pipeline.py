"""Videos in, rows of descriptors out: decoder processes and network side by side, nothing on the disk."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from gcf.data.schema import VideoFeatures
from gcf.extract.assembly import assemble
from gcf.extract.config import ExtractConfig
from gcf.extract.decoding import ClipJob
from gcf.extract.find import VideoPath
from gcf.extract.pool import DecoderPool, Failed

if TYPE_CHECKING:
    from gcf.extract.network import ClipNetwork


PATIENCE = 1.0  # seconds without a clip after which finished batches are looked after


def load_network(backbone: str, weights: str, config: ExtractConfig) -> "tuple[ClipNetwork, dict]":
    """The network, ready, and the recipe of what it will make. On several devices it is the first one's."""
    # Half of a batch's time on a processor can be the system's zeroing of fresh pages; large pages take a tenth of it.
    # PyTorch reads this once, before it takes memory for the first time.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    from gcf.extract.backbones import load_backbone  # late: this is where torch comes in
    from gcf.extract.network import choose_device
    from gcf.extract.precision import precise_network
    from gcf.extract.recipe import make_recipe

    device = choose_device(config.devices[0])
    module = load_backbone(backbone, weights, config.temporal_stride)
    recipe = make_recipe(module.recipe, config, device=device.type)
    network, entries = precise_network(
        module,
        device=device,
        precision=config.precision,
        batch_size=config.batch_size,
        num_frames=recipe["num_frames"],
    )
    return network, recipe | entries


def stream_features(
    videos: Sequence[VideoPath],
    network: "ClipNetwork",
    recipe: dict,
    config: ExtractConfig,
    *,
    after_batch: Callable[[], None] = lambda: None,
) -> Iterator[tuple[str, VideoFeatures | Failed]]:
    """Each video's id and rows, or why there are none, in the order in which they are done.

    Memory holds a few batches of clips, whatever the videos' length. `after_batch` is called after each of them, also
    while no video is done. Closing the iterator stops the decoders.
    """
    from gcf.extract.lanes import Lanes  # late: torch

    settings = {name: getattr(config, name) for name in ("views", "views_seed", "max_frames")}
    job = ClipJob.from_recipe(recipe, **settings)
    workers = config.workers or len(os.sched_getaffinity(0))
    with Lanes(network, config.devices) as lanes:
        ahead = (lanes.count + 1) * network.batch_size
        pool = DecoderPool(videos, job, num_workers=workers, ahead=ahead, deadline=config.deadline, patience=PATIENCE)
        try:
            yield from assemble(
                pool,
                lanes.submit,
                batch_size=network.batch_size,
                dtype=config.dtype,
                waiting=lanes.count,
                after_batch=after_batch,
            )
        finally:
            pool.close()
