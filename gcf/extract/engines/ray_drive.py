"""One run over a Ray cluster: workers are fed from a queue, their answers awaited, what dies with them done again."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from gcf.data.features import FeatureFile
from gcf.data.parts import PartFolder
from gcf.errors import FeatureFileError, GcfError, StoppedError
from gcf.extract.decoding.find import VideoPath, size_on_disk
from gcf.extract.engines.chunks import Chunk, ChunkQueue
from gcf.extract.engines.ray_cluster import Cluster, nodes
from gcf.extract.engines.ray_faults import Fault, as_error, check_same, last_line
from gcf.extract.stream.run import ExtractionRun

POLL_SECONDS, NODES_SECONDS, STOP_SECONDS = 0.5, 5.0, 20.0
LISTING_SECONDS = 90.0  # NFS keeps the listing of a folder for up to a minute
DEATHS_IN_A_ROW = 24  # of workers, with nothing committed between them: more than any one chunk can cost
log = logging.getLogger("gcf")


@dataclass
class Worker:
    """A worker as the driver sees it: starting, idle, or busy with a chunk."""

    actor: object
    writer: str
    waiting: object  # the reference of what it was asked last, None when idle
    ready: bool = False
    node: str = ""
    chunk: Chunk | None = None
    asked: object = None  # the reference of a question about its progress
    seen: int = 0  # videos of the chunk that the bar has counted


@dataclass
class Drive:
    """One run over the cluster: workers, what each has, what is left."""

    cluster: Cluster
    runs: Sequence[ExtractionRun]
    todo: list[VideoPath]  # what at least one of the runs lacks
    bar: object
    start: Callable[[str], Worker]  # one more worker, given a video that every node must see
    deliver: Callable[[], None]  # what a signal asked for that came during a call of Ray
    least: int  # videos of a chunk at least
    workers: list[Worker] = field(default_factory=list)
    deaths: int = 0  # in a row
    places: int = 0
    counted: float = float("-inf")

    def __post_init__(self):
        self.ray = self.cluster.ray
        self.queue = ChunkQueue([(v, size_on_disk(v.path)) for v in self.todo], least=self.least)
        self.sample = next((v.path for v in self.todo if os.path.lexists(v.path)), self.runs[0].parts.folder)
        self.lacked = [_ids(run.todo) for run in self.runs]

    def loop(self) -> None:
        """Until nothing is queued and nobody is at work."""
        while self.queue or any(w.chunk for w in self.workers):
            self.deliver()
            self._count_nodes()
            while len(self.workers) < min(self.places, len(self.queue) + sum(bool(w.chunk) for w in self.workers)):
                self.workers.append(self.start(str(self.sample)))
            for worker in self.workers:
                if worker.waiting is None and (chunk := self.queue.take(max(1, self.places))):
                    worker.chunk, worker.seen, worker.asked = chunk, 0, None
                    lacked = [ids & _ids(chunk.videos) for ids in self.lacked]
                    worker.waiting = worker.actor.extract.remote(chunk.videos, lacked)
            self._hear()

    def _count_nodes(self) -> None:
        if time.monotonic() - self.counted < NODES_SECONDS:
            return
        self.counted, had, self.places = time.monotonic(), self.places, self.cluster.places()
        if had and not self.places:
            log.warning("no node of the Ray cluster has room for a worker any more; waiting for one")
        ready = sum(w.ready for w in self.workers)
        self.bar.bar.set_description_str(f"{len(nodes(self.ray))} nodes, {ready} workers", refresh=True)

    def _hear(self) -> None:
        """Wait for the next answer, or a moment; then ask how far everyone is."""
        waiting = {w.waiting: w for w in self.workers if w.waiting is not None}
        if not waiting:
            time.sleep(POLL_SECONDS)
            return
        answered, _ = self.ray.wait(list(waiting), num_returns=1, timeout=POLL_SECONDS)
        for reference in answered:
            self._answer(waiting[reference], reference)
        for worker in self.workers:
            if worker.chunk:
                self._ask(worker)

    def _answer(self, worker: Worker, reference) -> None:
        worker.waiting = None
        try:
            answer = self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            raise GcfError(f"Ray worker: {last_line(error)}") from None
        except self.ray.exceptions.RayError as error:
            self._bury(worker, error)
            return
        if isinstance(answer, Fault):
            raise as_error(answer)
        if not worker.ready:
            self._welcome(worker, answer)
        else:
            self._advance(worker, self._progress(worker))
            self.bar.bar.update(len(worker.chunk.videos) - worker.seen)  # what it could not say any more
            self.deaths, worker.chunk = 0, None

    def _welcome(self, worker: Worker, answer: dict) -> None:
        for run, recipe in zip(self.runs, answer["recipes"], strict=True):
            check_same(answer["node"], recipe, run.recipe)
        worker.ready, worker.node, self.counted = True, answer["node"], float("-inf")

    def _bury(self, worker: Worker, error) -> None:
        """A worker is dead or out of reach: what it has not committed is queued again."""
        if getattr(error, "actor_init_failed", False):
            raise GcfError(f"Ray worker: cannot start ({last_line(error)}); install gcf on every node")
        self.workers.remove(worker)
        self.ray.kill(worker.actor)
        self.deaths, self.counted = self.deaths + 1, float("-inf")
        if worker.chunk:
            self._requeue(worker)
        if self.deaths >= DEATHS_IN_A_ROW:
            raise StoppedError(
                f"{self.deaths} Ray workers died in a row, the last on {worker.node or 'a node'}, with nothing done "
                "between; Ray's logs in /tmp/ray there may say why; the same command goes on from what is committed"
            )

    def _requeue(self, worker: Worker) -> None:
        left_of = self._left(worker.chunk.videos, worker.writer)
        ids_left = set().union(*left_of)
        left = [video for video in worker.chunk.videos if video.id in ids_left]
        self.bar.bar.update(len(worker.chunk.videos) - len(left) - worker.seen)
        self.deaths *= len(left) == len(worker.chunk.videos)
        hopeless = self.queue.lost(worker.chunk, left)
        if hopeless:
            for run, ids in zip(self.runs, left_of, strict=True):
                if hopeless.id in ids:
                    run.failures.append((hopeless.id, "the worker process died at it, again and again"))
                    run.commit()
            self.bar.advance(clips=0)
            self.deaths = 0

    def _left(self, videos: Sequence[VideoPath], writer: str) -> list[set[str]]:
        """Of every run, the ids of those videos that it lacks and that a writer, or all (`*`), has not committed."""
        ids = {v.id for v in videos}
        return [
            (ids & lacked) - committed_by(run.parts, writer) for run, lacked in zip(self.runs, self.lacked, strict=True)
        ]

    def _ask(self, worker: Worker) -> None:
        """Move the bar by what a worker has settled, without waiting for it."""
        if worker.asked is None:
            worker.asked = worker.actor.progress.remote(worker.seen)
        elif self.ray.wait([worker.asked], timeout=0)[0]:
            with contextlib.suppress(self.ray.exceptions.RayError):  # its death shows where it is waited for
                self._advance(worker, self.ray.get(worker.asked))
            worker.asked = None

    def _progress(self, worker: Worker) -> Sequence[int]:
        with contextlib.suppress(self.ray.exceptions.RayError):
            if worker.asked is not None:
                self._advance(worker, self.ray.get(worker.asked, timeout=STOP_SECONDS))
            return self.ray.get(worker.actor.progress.remote(worker.seen), timeout=STOP_SECONDS)
        return []

    def _advance(self, worker: Worker, clips: Sequence[int]) -> None:
        worker.seen += len(clips)
        for count in clips:
            self.bar.advance(clips=count)

    def stop(self) -> None:
        """Have everybody commit what is in hand."""
        busy = [w for w in self.workers if w.chunk and w.waiting is not None]
        for worker in busy:
            worker.actor.stop.remote()
        if busy:
            self.ray.wait([w.waiting for w in busy], num_returns=len(busy), timeout=STOP_SECONDS)

    def end(self) -> None:
        """Let go of all workers."""
        for worker in self.workers:
            with contextlib.suppress(self.ray.exceptions.RayError):
                self.ray.kill(worker.actor)
        self.bar.bar.set_description_str("")

    def await_parts(self) -> None:
        """Wait until all that was committed can be listed here: shared storage may show a new name late."""
        ends = time.monotonic() + LISTING_SECONDS
        while missing := set().union(*self._left(self.todo, "*")):
            self.deliver()
            if time.monotonic() > ends:
                folders = ", ".join(str(run.parts.folder) for run in self.runs)
                raise StoppedError(
                    f"{folders}: {len(missing)} videos that workers have committed do not show here; "
                    "is it on shared storage? the same command goes on from what shows"
                )
            time.sleep(POLL_SECONDS)


def committed_by(parts: PartFolder, writer: str) -> set[str]:
    """The ids in the parts of a writer, or of all (`*`); failures included."""
    settled: set[str] = set()
    for path in parts.folder.glob("part-*.h5" if writer == "*" else f"part-*-{writer}.h5"):
        with contextlib.suppress(FeatureFileError):  # whoever reads all parts says it
            part = FeatureFile(path)
            settled |= {*part.ids, *(video_id for video_id, _ in part.failures)}
    return settled


def _ids(videos: Iterable[VideoPath]) -> set[str]:
    return {video.id for video in videos}
