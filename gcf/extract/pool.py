"""Decoder processes under supervision: a crash, hang or memory fault costs one video, never the run."""

import contextlib
import logging
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gcf.data.schema import VideoInfo
from gcf.errors import GcfError
from gcf.extract import messages
from gcf.extract.decoding import Clip, ClipJob
from gcf.extract.find import VideoPath
from gcf.extract.input_disk import InputDisk
from gcf.extract.worker import job_to_json

log = logging.getLogger("gcf")

WORKER = "gcf.extract.worker"
START_DEADLINE = 120.0  # seconds for a decoder to start on a busy machine
KILL_SECONDS = 2.0
DEADLINE = 60.0  # seconds without a byte from a decoder that is being listened to


@dataclass(frozen=True)
class Failed:
    """A video gave nothing, and why; errno: how the file system failed it, 0 where it did not."""

    error: str
    errno: int = 0


class DecoderPool:
    """Decode videos in `num_workers` processes: iterate for (video, Clip | VideoInfo | Failed).

    A video's clips come in order and are followed by its VideoInfo, or at any point by Failed; videos interleave.
    `ahead` bounds how many clips wait to be taken, and so the memory. With `patience`, None is given when nothing came
    for so many seconds, so that the one who listens can see to other things.
    """

    def __init__(
        self,
        videos: Sequence[VideoPath],
        job: ClipJob,
        *,
        num_workers: int,
        ahead: int,
        deadline: float = DEADLINE,
        patience: float | None = None,
    ):
        self.job, self.deadline, self.patience = job, deadline, patience
        self.disk = InputDisk([v.path for v in videos])
        self.todo: queue.SimpleQueue[VideoPath] = queue.SimpleQueue()
        for video in videos:
            self.todo.put(video)
        self.results: queue.Queue = queue.Queue(maxsize=max(1, ahead))
        self.stopping = threading.Event()
        self.decoders: set[_Decoder] = set()
        count = max(1, min(num_workers, len(videos)))
        self.threads = [threading.Thread(target=self._supervise, daemon=True) for _ in range(count)]

    def __iter__(self) -> Iterator[tuple[VideoPath, Clip | VideoInfo | Failed] | None]:
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
                    decoder = _Decoder(self.job)
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
        try:
            decoder.start(video)
            while not self.stopping.is_set():
                head, payload = messages.receive(decoder.inbox, deadline=self.deadline)
                if head["kind"] == "log":
                    log.warning("%s", head["text"])
                    continue
                item = _unpack(head, payload)
                if isinstance(item, Failed) and item.errno:
                    self.disk.require_present()
                self.results.put((video, item))
                if head["kind"] != "clip":
                    return not head.get("worn")
        except messages.StalledError:
            self.results.put((video, Failed(f"deadline: no progress for {self.deadline:g} s")))
        except (messages.ClosedError, BrokenPipeError):
            self.results.put((video, Failed(decoder.cause_of_death())))
        except (ValueError, KeyError, TypeError):
            self.results.put((video, Failed("the decoder sent what is no message")))
        return False


class _Decoder:
    """A decoder process and the two pipes to it."""

    def __init__(self, job: ClipJob):
        child_inbox, self.outbox = os.pipe()
        self.inbox, child_outbox = os.pipe()
        code = f"import sys; sys.path[:] = {sys.path!r}; from {WORKER} import main; main(*sys.argv[1:])"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(child_inbox), str(child_outbox)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(child_inbox, child_outbox),
            env=os.environ | {"OMP_NUM_THREADS": "1"},  # a decoder is one thread, also where torch resizes
        )
        os.close(child_inbox)
        os.close(child_outbox)
        try:
            messages.send(self.outbox, job_to_json(job))
            messages.receive(self.inbox, deadline=START_DEADLINE)
        except (messages.ClosedError, messages.StalledError, BrokenPipeError, ValueError) as error:
            self.kill()
            raise GcfError("the decoder process did not start; what it said is above") from error

    def start(self, video: VideoPath) -> None:
        paths = {"path": os.fsencode(video.path).hex(), "root": os.fsencode(video.root).hex()}
        messages.send(self.outbox, paths | {"id": video.id})

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


def _unpack(head: dict, payload: bytearray) -> Clip | VideoInfo | Failed:
    if head["kind"] == "failed":
        return Failed(head["error"], head.get("errno", 0))
    if head["kind"] == "done":
        return VideoInfo(**head["info"])
    pixels = np.frombuffer(payload, np.uint8).reshape(head["shape"])
    return Clip(pixels, head["start_frame"], head["num_real"], head["start_time"], head["end_time"])
