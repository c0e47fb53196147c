"""Decoder processes under supervision: a crash, hang or memory fault costs one video, never the run."""

import contextlib
import logging
import os
import queue
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence

from gcf.data.schema import VideoInfo
from gcf.data.text import printable
from gcf.errors import GcfError
from gcf.extract import messages
from gcf.extract.child import command
from gcf.extract.decoding import Clip, ClipJob
from gcf.extract.find import VideoPath
from gcf.extract.heard import Failed, Hearing
from gcf.extract.input_disk import InputDisk
from gcf.extract.worker import jobs_to_json

log = logging.getLogger("gcf")

WORKER = "gcf.extract.worker"
START_DEADLINE = 120.0  # seconds for a decoder to start on a busy machine
KILL_SECONDS = 2.0
DEADLINE = 60.0  # seconds without a byte from a decoder that is being listened to


class DecoderPool:
    """Decode videos in `num_workers` processes: iterate for (video, number of a job, Clip | VideoInfo | Failed).

    Each video is decoded once for all jobs, or for those that `wanted` names, by its id. What a job makes of it comes
    in order: clips, then its VideoInfo, or at any point Failed; videos and jobs interleave.
    `ahead` bounds how many clips wait to be taken, and so the memory. With `patience`, None is given when nothing came
    for so many seconds, so that the one who listens can see to other things.
    """

    def __init__(
        self,
        videos: Sequence[VideoPath],
        jobs: Sequence[ClipJob],
        *,
        num_workers: int,
        ahead: int,
        wanted: Mapping[str, Sequence[int]] | None = None,
        deadline: float = DEADLINE,
        patience: float | None = None,
    ):
        self.jobs, self.deadline, self.patience = jobs, deadline, patience
        self.wanted = dict.fromkeys((v.id for v in videos), range(len(jobs))) if wanted is None else wanted
        self.disk = InputDisk([v.path for v in videos])
        self.todo: queue.SimpleQueue[VideoPath] = queue.SimpleQueue()
        for video in videos:
            self.todo.put(video)
        self.results: queue.Queue = queue.Queue(maxsize=max(1, ahead))
        self.stopping = threading.Event()
        self.decoders: set[_Decoder] = set()
        count = max(1, min(num_workers, len(videos)))
        self.threads = [threading.Thread(target=self._supervise, daemon=True) for _ in range(count)]

    def __iter__(self) -> Iterator[tuple[VideoPath, int, Clip | VideoInfo | Failed] | None]:
        for thread in self.threads:
            thread.start()
        running = len(self.threads)
        try:
            while running:
                try:
                    item = self.results.get(timeout=self.patience)
                except queue.Empty:
                    yield None
                    continue
                if item is None:
                    running -= 1
                elif isinstance(item, BaseException):
                    raise item
                else:
                    yield item
        finally:
            self.close()

    def close(self) -> None:
        """Stop the decoders, whatever they are doing."""
        self.stopping.set()
        for decoder in list(self.decoders):
            decoder.process.kill()
        while any(thread.is_alive() for thread in self.threads):
            try:
                self.results.get(timeout=0.05)  # a supervisor may wait for room
            except queue.Empty:
                continue

    def _supervise(self) -> None:
        """One thread: one decoder at a time, replaced whenever a video has broken it."""
        decoder = None
        try:
            while not self.stopping.is_set():
                try:
                    video = self.todo.get_nowait()
                except queue.Empty:
                    break
                if decoder is None:
                    decoder = _Decoder(self.jobs)
                    self.decoders.add(decoder)
                if not self._listen(decoder, video):
                    decoder = self._retire(decoder)
        except BaseException as error:  # handed to the consumer, which raises it
            self.results.put(error)
        finally:
            if decoder:
                self._retire(decoder)
            self.results.put(None)

    def _retire(self, decoder: "_Decoder") -> None:
        self.decoders.discard(decoder)
        decoder.kill()

    def _listen(self, decoder: "_Decoder", video: VideoPath) -> bool:
        """Pass on what the decoder makes of a video; False when the decoder is not fit for another."""
        hearing = Hearing(self.jobs, self.wanted[video.id])
        try:
            decoder.start(video, hearing.at_work)
            while hearing.at_work and not self.stopping.is_set():
                head, payload = messages.receive(decoder.inbox, deadline=self.deadline)
                if head.get("kind") == "alive":
                    continue
                if head.get("kind") == "log":
                    log.warning("%s", printable(str(head.get("text"))))
                    continue
                about, item = hearing.take(head, payload)
                if isinstance(item, Failed) and item.errno:
                    self.disk.require_present()
                self._give(video, about, item)
                if head.get("worn"):
                    return False
        except messages.StalledError:
            self._give(video, hearing.at_work, Failed(f"deadline: no progress for {self.deadline:g} s"))
        except (messages.ClosedError, BrokenPipeError):
            self._give(video, hearing.at_work, Failed(decoder.cause_of_death()))
        except ValueError:
            self._give(video, hearing.at_work, Failed("the decoder sent what is no message"))
        else:
            return True
        return False

    def _give(self, video: VideoPath, numbers: Sequence[int], item: Clip | VideoInfo | Failed) -> None:
        for number in numbers:
            self.results.put((video, number, item))


class _Decoder:
    """A decoder process and the two pipes to it."""

    def __init__(self, jobs: Sequence[ClipJob]):
        child_inbox, self.outbox = os.pipe()
        self.inbox, child_outbox = os.pipe()
        self.process = subprocess.Popen(
            command(WORKER, str(child_inbox), str(child_outbox)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(child_inbox, child_outbox),
            env=os.environ | {"OMP_NUM_THREADS": "1"},  # a decoder is one thread, also where torch resizes
        )
        os.close(child_inbox)
        os.close(child_outbox)
        try:
            messages.send(self.outbox, jobs_to_json(jobs))
            messages.receive(self.inbox, deadline=START_DEADLINE)
        except (messages.ClosedError, messages.StalledError, BrokenPipeError, ValueError) as error:
            self.kill()
            raise GcfError("the decoder process did not start; what it said is above") from error

    def start(self, video: VideoPath, jobs: Sequence[int]) -> None:
        paths = {"path": os.fsencode(video.path).hex(), "root": os.fsencode(video.root).hex()}
        messages.send(self.outbox, paths | {"id": video.id, "jobs": list(jobs)})

    def cause_of_death(self) -> str:
        """Why the process is gone, as a reason for the video it was at."""
        try:
            code = self.process.wait(timeout=KILL_SECONDS)
        except subprocess.TimeoutExpired:
            return "decoder closed its pipe"
        return f"decoder crashed (signal {-code})" if code < 0 else f"decoder ended with exit code {code}"

    def kill(self) -> None:
        """End it; one that cannot be killed (a dead network disk) is left behind, not waited for."""
        self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=KILL_SECONDS)
        os.close(self.inbox)
        os.close(self.outbox)
