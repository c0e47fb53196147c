"""What runs on a node of the cluster: networks, their decoders, their parts; faults go back as values, never raised."""

import os
import socket
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from gcf.data.parts import PartFolder
from gcf.errors import RefusedError, StoppedError
from gcf.extract.decoding.find import VideoPath
from gcf.extract.engines.ray_faults import Fault, WorkEnded, told
from gcf.extract.stream.config import ExtractConfig
from gcf.extract.stream.pipeline import load_network
from gcf.extract.stream.run import ExtractionRun, work

MARKER = "ray-"  # a file in the parts' folder, of one run: workers of a run that is over see that it is gone


@dataclass(frozen=True)
class Model:
    """A backbone and its weights, by names that mean the same on every node, and the settings it works with."""

    backbone: str
    weights: str
    config: ExtractConfig


@dataclass(frozen=True)
class WorkerJob:
    """What a worker needs to know.

    outs: the output of each of the models; run: names the marker file beside each; writer: this worker's parts;
    threads: lanes of its networks on a processor; sample: a video that every node must see.
    """

    outs: Sequence[str]
    run: str
    writer: str
    models: Sequence[Model]
    threads: int
    sample: str


def recipe_on_node(model: Model) -> "dict | Fault":
    """The recipe that this node makes."""
    return told(lambda: load_network(model.backbone, model.weights, model.config)[1])


class RayWorker:
    """The actor. Its methods may run at the same time: `extract` works, `progress` and `stop` are asked meanwhile."""

    def __init__(self, job: WorkerJob):
        self.job, self.stopping = job, threading.Event()
        self.parts = [PartFolder(Path(out), job.writer) for out in job.outs]
        self.clips: list[int] = []

    def prepare(self) -> "dict | Fault":
        """Load the networks; node, process id and recipes, or why this node cannot take part."""
        return told(self._prepare)

    def extract(self, videos: Sequence[VideoPath], lacked: Sequence[Collection[str]]) -> Fault | None:
        """Extract and commit videos; what goes wrong with one of them is recorded, what stops the work is returned.

        lacked: of every output, the ids of those videos that it lacks.
        """
        return told(self._extract, videos, lacked)

    def progress(self, since: int) -> list[int]:
        """Clips of each video that this call of `extract` has settled, from the since-th on; 0 is a failure."""
        return self.clips[since:]

    def stop(self) -> None:
        """Commit what is in hand and end `extract`."""
        self.stopping.set()

    def _prepare(self) -> dict:
        import torch

        for parts in self.parts:
            if not self.current(parts):
                raise RefusedError(f"does not see {parts.folder}; put the output on storage that all nodes share")
        if not os.path.lexists(self.job.sample):
            raise RefusedError(f"does not see {self.job.sample}; put the videos on storage that all nodes share")
        torch.set_num_threads(self.job.threads)
        loaded = [load_network(model.backbone, model.weights, model.config) for model in self.job.models]
        self.networks, self.recipes = zip(*loaded, strict=True)
        return {"node": socket.gethostname(), "pid": os.getpid(), "recipes": list(self.recipes)}

    def _extract(self, videos: Sequence[VideoPath], lacked: Sequence[Collection[str]]) -> None:
        self.clips = []
        shares = []
        for index, ids in enumerate(lacked):
            shares.append(Share(self, index, [video for video in videos if video.id in ids]))
        work(shares, self.networks, videos, self)

    def advance(self, *, clips: int) -> None:
        """One more video is settled: the part of a progress bar."""
        self.clips.append(clips)

    def current(self, parts: PartFolder) -> bool:
        """Whether the run that this worker belongs to still makes this output."""
        return (parts.folder / f"{MARKER}{self.job.run}").exists()


class Share(ExtractionRun):
    """A worker's share of a run, as the local engine does it whole, that can be stopped."""

    def __init__(self, worker: RayWorker, index: int, videos: Sequence[VideoPath]):
        classes = worker.networks[index].backbone.recipe.get("classes")
        config = worker.job.models[index].config
        super().__init__(videos, worker.parts[index], config, worker.recipes[index], classes)
        self.worker = worker

    def commit_in_time(self) -> None:
        """The same; raises WorkEnded where the driver has asked for an end."""
        if self.worker.stopping.is_set():
            raise WorkEnded  # `work` commits on its way out
        super().commit_in_time()

    def commit(self) -> None:
        """The same, unless the run is over, or the videos are gone with their disk."""
        if not self.worker.current(self.parts):  # whoever goes on from here does not expect us any more
            self.videos, self.failures = [], []
            raise WorkEnded
        lost = bool(self.failures) and not os.path.lexists(self.worker.job.sample)
        if lost:  # not the videos' failures, then
            self.failures = []
        super().commit()
        if lost:
            raise StoppedError(
                f"{self.worker.job.sample} is not to be seen any more; mount the videos again and run the same "
                "command again, finished videos are kept"
            )
