"""What runs on a node of the cluster: one network, its decoders, its parts; faults go back as values, never raised."""

import os
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gcf.data.parts import PartFolder
from gcf.errors import RefusedError, StoppedError
from gcf.extract.config import ExtractConfig
from gcf.extract.engines.ray_faults import Fault, WorkEnded, told
from gcf.extract.find import VideoPath

MARKER = "ray-"  # a file in the parts' folder, of one run: workers of a run that is over see that it is gone


@dataclass(frozen=True)
class WorkerJob:
    """What a worker needs to know.

    run: names the marker file; writer: this worker's parts; threads: lanes of its network on a processor; sample: a
    video that every node must see.
    """

    out: str
    run: str
    writer: str
    backbone: str
    weights: str
    config: ExtractConfig
    threads: int
    sample: str


def recipe_on_node(backbone: str, weights: str, config: ExtractConfig) -> "dict | Fault":
    """The recipe that this node makes."""
    from gcf.extract.pipeline import load_network

    return told(lambda: load_network(backbone, weights, config)[1])


class RayWorker:
    """The actor. Its methods may run at the same time: `extract` works, `progress` and `stop` are asked meanwhile."""

    def __init__(self, job: WorkerJob):
        self.job, self.stopping = job, threading.Event()
        self.parts = PartFolder(Path(job.out), job.writer)
        self.clips: list[int] = []

    def prepare(self) -> "dict | Fault":
        """Load the network; node, process id, recipe and class names, or why this node cannot take part."""
        return told(self._prepare)

    def extract(self, videos: Sequence[VideoPath]) -> Fault | None:
        """Extract and commit videos; what goes wrong with one of them is recorded, what stops the work is returned."""
        return told(self._extract, videos)

    def progress(self, since: int) -> list[int]:
        """Clips of each video that this call of `extract` has settled, from the since-th on; 0 is a failure."""
        return self.clips[since:]

    def stop(self) -> None:
        """Commit what is in hand and end `extract`."""
        self.stopping.set()

    def _prepare(self) -> dict:
        import torch

        from gcf.extract.pipeline import load_network

        if not self.current():
            raise RefusedError(f"does not see {self.parts.folder}; put the output on storage that all nodes share")
        if not os.path.lexists(self.job.sample):
            raise RefusedError(f"does not see {self.job.sample}; put the videos on storage that all nodes share")
        torch.set_num_threads(self.job.threads)
        self.network, self.recipe = load_network(self.job.backbone, self.job.weights, self.job.config)
        self.classes = self.network.backbone.recipe.get("classes")
        return {"node": socket.gethostname(), "pid": os.getpid(), "recipe": self.recipe, "classes": self.classes}

    def _extract(self, videos: Sequence[VideoPath]) -> None:
        self.clips = []
        share = _share_of_run()(list(videos), self.parts, self.job.config, self.recipe, self.classes)
        share.worker = self
        share.work(list(videos), self.network, self)

    def advance(self, *, clips: int) -> None:
        """One more video is settled: the part of a progress bar."""
        self.clips.append(clips)

    def current(self) -> bool:
        """Whether the run that this worker belongs to goes on."""
        return (self.parts.folder / f"{MARKER}{self.job.run}").exists()


def _share_of_run():
    """The class of a share of a run, as the local engine does it whole, that can be stopped."""
    from gcf.extract.extractor import _Run  # late: the extractor imports the engines

    class Share(_Run):
        worker: RayWorker

        def _commit_in_time(self) -> None:
            if self.worker.stopping.is_set():
                raise WorkEnded  # `work` commits on its way out
            super()._commit_in_time()

        def _commit(self) -> None:
            if not self.worker.current():  # whoever goes on from here does not expect us any more
                self.videos, self.failures = [], []
                raise WorkEnded
            lost = bool(self.failures) and not os.path.lexists(self.worker.job.sample)
            if lost:  # not the videos' failures, then
                self.failures = []
            super()._commit()
            if lost:
                raise StoppedError(
                    f"{self.worker.job.sample} is not to be seen any more; mount the videos again and run the same "
                    "command again, finished videos are kept"
                )

    return Share
