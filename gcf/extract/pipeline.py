"""Videos in, rows of descriptors out: decoder processes and network side by side, nothing on the disk."""

import functools
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import joblib

from gcf.data.schema import VideoFeatures
from gcf.extract.assembly import Desk, assemble
from gcf.extract.config import ExtractConfig
from gcf.extract.decoding import ClipJob
from gcf.extract.find import VideoPath
from gcf.extract.pool import DecoderPool, Failed

if TYPE_CHECKING:
    from gcf.extract.network import ClipNetwork


PATIENCE = 1.0  # seconds without a clip after which finished batches are looked after
ANY, SAFETENSORS = "any", "safetensors"  # kinds of weights' files
CLIPS_AHEAD = 8  # decoded and waiting, so that neither decoders nor lanes stand still at every hand-over


def load_network(backbone: str, weights: str, config: ExtractConfig, kinds: str = ANY) -> "tuple[ClipNetwork, dict]":
    """The network, ready, and the recipe of what it will make. On several devices it is the first one's.

    kinds: which files of weights may be read of a Hugging Face repository, ANY or SAFETENSORS (WeightsError where it
    has no such).
    """
    # Half of a batch's time on a processor can be the system's zeroing of fresh pages; large pages take a tenth of it.
    # PyTorch reads this once, before it takes memory for the first time.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    from gcf.extract.backbones import load_backbone  # late: this is where torch comes in
    from gcf.extract.conversion import ModelNames
    from gcf.extract.network import choose_device
    from gcf.extract.precision import precise_network
    from gcf.extract.recipe import make_recipe, runtime_versions

    device = choose_device(config.devices[0])
    if kinds == SAFETENSORS:
        from gcf.extract.backbones.huggingface import require_safetensors  # nobody else needs it

        require_safetensors(backbone, weights)
    module = load_backbone(backbone, weights, config.temporal_stride)
    recipe = make_recipe(module.recipe, config, device=device.type)
    network, entries = precise_network(
        module,
        device=device,
        precision=config.precision,
        batch_size=config.batch_size,
        num_frames=recipe["num_frames"],
        runtime=config.runtime,
        names=ModelNames(backbone, weights, config.temporal_stride),
    )
    versions = recipe["versions"] | runtime_versions(network.runtime)
    return network, recipe | entries | {"versions": versions}


@dataclass(frozen=True, eq=False)
class Reader:
    """A network that reads videos, the recipe of what it makes of them, and the ids of those that it is to read."""

    network: "ClipNetwork"
    recipe: dict
    ids: Collection[str]


def stream_features(
    videos: Sequence[VideoPath], network: "ClipNetwork", recipe: dict, config: ExtractConfig
) -> Iterator[tuple[str, VideoFeatures | Failed]]:
    """Each video's id and rows, or why there are none, in the order in which they are done.

    Memory holds a few batches of clips, whatever the videos' length. Closing the iterator stops the decoders.
    """
    reader = Reader(network, recipe, {video.id for video in videos})
    with closing(stream_together(videos, [reader], config)) as stream:
        for _, outcome in stream:
            yield outcome


def stream_together(
    videos: Sequence[VideoPath],
    readers: Sequence[Reader],
    config: ExtractConfig,
    *,
    after_batch: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, tuple[str, VideoFeatures | Failed]]]:
    """The same for several networks, every video decoded once: the index of a reader, and a video's id and rows.

    Readers that want the same clips get the same pixels. `after_batch` is called after each batch, also while no video
    is done.
    """
    from gcf.extract.lanes import Lanes  # late: torch

    jobs, job_of = _jobs(readers, config)
    wanted = {
        video.id: sorted({job for job, reader in zip(job_of, readers, strict=True) if video.id in reader.ids})
        for video in videos
    }
    with Lanes([reader.network for reader in readers], config.devices) as lanes:
        desks = [
            Desk(
                functools.partial(lanes.submit, network=index),
                batch_size=reader.network.batch_size,
                dtype=config.dtype,
                job=job_of[index],
                ids=reader.ids,
            )
            for index, reader in enumerate(readers)
        ]
        pool = DecoderPool(
            videos,
            jobs,
            num_workers=config.workers or joblib.cpu_count(),
            ahead=max(CLIPS_AHEAD, (lanes.count + 1) * max(desk.batch_size for desk in desks)),
            wanted=wanted,
            deadline=config.deadline,
            patience=PATIENCE,
        )
        try:
            waiting = max(lanes.count, CLIPS_AHEAD // min(desk.batch_size for desk in desks))
            yield from assemble(pool, desks, waiting=waiting, after_batch=after_batch)
        finally:
            pool.close()


def _jobs(readers: Sequence[Reader], config: ExtractConfig) -> tuple[list[ClipJob], list[int]]:
    """What is to be made of videos, each once, and which of it each reader reads."""
    settings = {name: getattr(config, name) for name in ("views", "views_seed", "max_frames", "max_gigapixels")}
    asked = [ClipJob.from_recipe(reader.recipe, **settings) for reader in readers]
    jobs = list(dict.fromkeys(asked))
    return jobs, [jobs.index(job) for job in asked]
