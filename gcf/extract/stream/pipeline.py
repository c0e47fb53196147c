"""Videos in, rows of descriptors out: decoder processes and network side by side, nothing on the disk."""

import functools
import os
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import joblib

from gcf.data.schema import VideoFeatures
from gcf.extract.decoding.find import VideoPath
from gcf.extract.decoding.jobs import ClipJob
from gcf.extract.decoding.pool import DecoderPool, Failed
from gcf.extract.stream.assembly import Batcher, assemble
from gcf.extract.stream.config import ExtractConfig

if TYPE_CHECKING:
    from gcf.extract.network.clip_network import ClipNetwork


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
    from gcf.extract.network.clip_network import choose_device
    from gcf.extract.network.conversion import ModelNames
    from gcf.extract.network.precision import precise_network
    from gcf.extract.stream.recipe import make_recipe, runtime_versions

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
class NetworkJob:
    """A network that reads videos, the recipe of what it makes of them, and the ids of those that it is to read."""

    network: "ClipNetwork"
    recipe: dict
    ids: Set[str]


def stream_features(
    videos: Sequence[VideoPath], network: "ClipNetwork", recipe: dict, config: ExtractConfig
) -> Iterator[tuple[str, VideoFeatures | Failed]]:
    """Each video's id and rows, or why there are none, in the order in which they are done.

    Memory holds a few batches of clips, whatever the videos' length. Closing the iterator stops the decoders.
    """
    network_job = NetworkJob(network, recipe, {video.id for video in videos})
    with closing(stream_together(videos, [network_job], config)) as stream:
        for _, outcome in stream:
            yield outcome


def stream_together(
    videos: Sequence[VideoPath],
    network_jobs: Sequence[NetworkJob],
    config: ExtractConfig,
    *,
    after_batch: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, tuple[str, VideoFeatures | Failed]]]:
    """The same for several networks, every video decoded once: the index of a network, and a video's id and rows.

    Networks that want the same clips get the same pixels. `after_batch` is called after each batch, also while no video
    is done.
    """
    from gcf.extract.network.network_pool import NetworkPool  # late: torch

    jobs, job_of = _jobs(network_jobs, config)
    wanted: dict[str, set[int]] = {video.id: set() for video in videos}
    for job, network_job in zip(job_of, network_jobs, strict=True):
        for video_id in wanted.keys() & network_job.ids:
            wanted[video_id].add(job)
    with NetworkPool([one.network for one in network_jobs], config.devices) as networks:
        batchers = [
            Batcher(
                functools.partial(networks.submit, network=index),
                batch_size=network_job.network.batch_size,
                dtype=config.dtype,
                job=job_of[index],
                ids=network_job.ids,
            )
            for index, network_job in enumerate(network_jobs)
        ]
        pool = DecoderPool(
            videos,
            jobs,
            num_workers=config.workers or joblib.cpu_count(),
            ahead=max(CLIPS_AHEAD, (networks.count + 1) * max(batcher.batch_size for batcher in batchers)),
            wanted={video_id: sorted(of_video) for video_id, of_video in wanted.items()},
            deadline=config.deadline,
            patience=PATIENCE,
        )
        try:
            waiting = max(networks.count, CLIPS_AHEAD // min(batcher.batch_size for batcher in batchers))
            yield from assemble(pool, batchers, waiting=waiting, after_batch=after_batch)
        finally:
            pool.close()


def _jobs(network_jobs: Sequence[NetworkJob], config: ExtractConfig) -> tuple[list[ClipJob], list[int]]:
    """What is to be made of videos, each once, and which of it each network reads."""
    settings = {name: getattr(config, name) for name in ("views", "views_seed", "max_frames", "max_gigapixels")}
    asked = [ClipJob.from_recipe(network_job.recipe, **settings) for network_job in network_jobs]
    jobs = list(dict.fromkeys(asked))
    return jobs, [jobs.index(job) for job in asked]
