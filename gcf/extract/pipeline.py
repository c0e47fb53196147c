"""Videos in, rows of descriptors out: decoder processes and network side by side, nothing on the disk."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from gcf.data.schema import VideoFeatures
from gcf.extract.assembly import Network, assemble
from gcf.extract.config import ExtractConfig
from gcf.extract.decoding import ClipJob
from gcf.extract.find import VideoPath
from gcf.extract.pool import DecoderPool, Failed
from gcf.extract.preprocess import Geometry

if TYPE_CHECKING:
    from gcf.extract.network import ClipNetwork


def load_network(backbone: str, weights: str, config: ExtractConfig) -> "tuple[ClipNetwork, dict]":
    """The network, ready, and the recipe of what it will make."""
    from gcf.extract.backbones import load_backbone  # late: this is where torch comes in
    from gcf.extract.network import ClipNetwork, choose_device
    from gcf.extract.recipe import make_recipe

    device = choose_device(config.device)
    module = load_backbone(backbone, weights, config.temporal_stride)
    recipe = make_recipe(module.recipe, config, device=device.type)
    network = ClipNetwork(module, device=device, precision=recipe["precision"], batch_size=config.batch_size)
    return network, recipe


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
    views = config.views, config.views_seed
    job = ClipJob(recipe["num_frames"], config.tail, Geometry.from_recipe(recipe), *views, config.max_frames)
    workers = config.workers or max(1, len(os.sched_getaffinity(0)) - 1)
    pool = DecoderPool(videos, job, num_workers=workers, ahead=2 * config.batch_size, deadline=config.deadline)
    try:
        yield from assemble(pool, _then(network, after_batch), batch_size=config.batch_size, dtype=config.dtype)
    finally:
        pool.close()


def _then(network: "ClipNetwork", after_batch: Callable[[], None]) -> Network:
    def run(pixels):
        rows = network(pixels)
        after_batch()
        return rows

    return run
