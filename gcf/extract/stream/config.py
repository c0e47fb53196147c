"""What decides how videos become descriptors, beside the backbone and its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypedDict

from gcf.data.options import require_known
from gcf.errors import UsageError
from gcf.extract.decoding.clips import TAILS
from gcf.extract.decoding.sampling import MOST_FPS, rate_of

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
RUNTIMES = ("auto", "torch", "openvino")
DTYPES = ("float16", "float32")
ENGINES = ("local", "ray")
CHOICES = {"tail": TAILS, "precision": PRECISIONS, "runtime": RUNTIMES, "dtype": DTYPES, "engine": ENGINES}


@dataclass(frozen=True)
class ExtractConfig:
    """Settings of one extraction; those that decide numbers go into the recipe.

    sampling: native takes every frame, as the paper does; trained as many a second as the weights were trained with; a
    number so many a second, for weights of which gcf does not know it.
    views: the centre view and views - 1 augmented ones. clip_frames None: 16, or fewer where the weights were trained
    with fewer; with any sampling but native as many as they were trained with. workers None: one decoder process per
    processor. batch_size None: one clip on processors, 32 on GPUs.
    precision, runtime: with what numbers the network is computed, and by whom (see
    gcf.extract.network.precision); fp32 by torch is the network as it was published, to the bit.
    device: auto, cpu, cuda, cuda:1, or several GPUs, cuda:0,cuda:1. shard (i, n): the i-th of n parts, from 1.
    update: accept that the list of videos has changed since the output was made. deadline: seconds without progress
    after which a video is given up; what its decoder waits for a disk or a processor is not counted, up to ten
    times as many in all. The first eight such videos are tried once more, alone, at the end. max_frames: a video of
    more frames is recorded as failed; the default, eleven hours at 25 a second, bounds what a small file of
    countless tiny frames can cost. max_gigapixels: a video that decodes to more pixels is recorded as failed,
    unless its file has a byte for every 100,000 of them; the default, five hours of 1920 x 1080 at 25 a second,
    bounds what a small file of large frames can cost.
    stay_inside: follow no link out of the folder of the videos; what lies behind one is recorded as failed. repair: do
    videos again whose stored rows are damaged, instead of refusing them. engine: local, or ray for the nodes of a Ray
    cluster, where workers are decoders of each Ray worker and worker_cpus what it reserves of a node's CPUs; None: see
    docs/cluster.md.
    class_level: without annotations, the folder that names the class of a video: 1 for the first below the root and the
    subset, "last" for the one directly above the file; None: the last, refused where one name recurs below several.
    merge_labels: classes that differ in letter case or blanks only are one, by the commonest spelling.
    """

    temporal_stride: str = "trained"
    sampling: str | float = "native"
    views: int = 1
    views_seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    runtime: str = "auto"
    workers: int | None = None
    batch_size: int | None = None
    shard: tuple[int, int] | None = None
    tail: str = "loop"
    clip_frames: int | None = None
    dtype: str = "float16"
    update: bool = False
    deadline: float = 60.0
    max_frames: int | None = 1_000_000
    max_gigapixels: float | None = 1000.0
    stay_inside: bool = False
    repair: bool = False
    engine: str = "local"
    worker_cpus: int | None = None
    class_level: str | int | None = None
    merge_labels: bool = False

    def __post_init__(self):
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UsageError(f"{name} is one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        try:
            rate_of(self.sampling)
        except (ValueError, TypeError):
            raise UsageError(
                f"sampling is native, trained, or a number of frames a second, at most {MOST_FPS:g}, not "
                f"{self.sampling!r}"
            ) from None
        for name in ("views", "batch_size", "workers", "clip_frames", "max_frames", "worker_cpus"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, not {value}")
        if len(set(self.devices)) < len(self.devices) or (
            len(self.devices) > 1 and not all(name.startswith("cuda:") for name in self.devices)
        ):
            raise UsageError(f"several devices are GPUs, each named once, such as cuda:0,cuda:1, not {self.device!r}")
        if not self.deadline > 0:
            raise UsageError(f"deadline must be more than 0 s, not {self.deadline:g}")
        if self.max_gigapixels is not None and not self.max_gigapixels > 0:
            raise UsageError(f"max_gigapixels must be more than 0, not {self.max_gigapixels:g}")
        if self.shard and not 1 <= self.shard[0] <= self.shard[1]:
            raise UsageError(f"shard is i/n with 1 <= i <= n, not {self.shard[0]}/{self.shard[1]}")
        if self.engine == "local" and self.worker_cpus:
            raise UsageError("worker_cpus is for the workers of engine ray")
        if self.engine == "ray" and self.device not in ("auto", "cpu", "cuda"):
            raise UsageError(f"with engine ray the cluster chooses the device: auto, cpu or cuda, not {self.device!r}")

    @property
    def devices(self) -> list[str]:
        """The devices by name, at least one."""
        return [name.strip() for name in self.device.split(",")]


class ExtractOptions(TypedDict, total=False):
    """Keywords of `extract_videos` and `extract_together`: the fields of ExtractConfig."""

    temporal_stride: str
    sampling: str | float
    views: int
    views_seed: int
    device: str
    precision: str
    runtime: str
    workers: int | None
    batch_size: int | None
    shard: tuple[int, int] | None
    tail: str
    clip_frames: int | None
    dtype: str
    update: bool
    deadline: float
    max_frames: int | None
    max_gigapixels: float | None
    stay_inside: bool
    repair: bool
    engine: str
    worker_cpus: int | None
    class_level: str | int | None
    merge_labels: bool


def extract_config(options: Mapping[str, object]) -> ExtractConfig:
    """The config of these keywords. Raises UsageError for one that is no field of it."""
    require_known(options, [f.name for f in fields(ExtractConfig)])
    given: dict[str, Any] = dict(options)
    return ExtractConfig(**given)
