"""Decoder processes under supervision: a crash, hang or memory fault costs one video, never the run."""

import contextlib
import logging
import os
import queue
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from gcf.data.schema import VideoInfo
from gcf.data.text import printable
from gcf.errors import GcfError, StoppedError, VideoError
from gcf.extract.decoding import messages
from gcf.extract.decoding.attempts import Attempts
from gcf.extract.decoding.child import command, end_of
from gcf.extract.decoding.decoder_messages import Failed, MessageCheck
from gcf.extract.decoding.find import VideoPath
from gcf.extract.decoding.input_disk import InputDisk
from gcf.extract.decoding.jobs import Clip, ClipJob
from gcf.extract.decoding.open_files import raise_limit, require_spare
from gcf.extract.decoding.worker import jobs_to_json

log = logging.getLogger("gcf")

WORKER = "gcf.extract.decoding.worker"
START_DEADLINE = 120.0  # seconds for a decoder to start on a busy machine
KILL_SECONDS = 2.0
DEADLINE = 60.0  # seconds without a byte from a decoder that is being listened to
RETRIES = 8  # videos that are tried once more, alone: a machine that stalls costs every decoder one
IN_VAIN = 10  # deadlines that such attempts may take in vain; those left are recorded as they are


class DecoderPool:
    """Decode videos in `num_workers` processes: iterate for (video, number of a job, Clip | VideoInfo | Failed).

    Each video is decoded once for all jobs, or for those that `wanted` names, by its id. What a job makes of it comes
    in order: clips, then its VideoInfo, or at any point Failed; videos and jobs interleave.
    `ahead` bounds how many clips wait to be taken, and so the memory. With `patience`, None is given when nothing came
    for so many seconds, so that the one who listens can see to other things. Where the system allows fewer decoders,
    those that there are do the work; iterating raises StoppedError where there is none. The first videos of which
    nothing came for `deadline` seconds are tried once more at the end, alone, and go on after the clips they gave.
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
        self.again: deque[Attempts] = deque()
        self.num_retries, self.in_vain = 0, 0.0  # videos; seconds
        self.lock, self.at_work, self.places = threading.Lock(), count, count  # threads; decoders that there can be

    def __iter__(self) -> Iterator[tuple[VideoPath, int, Clip | VideoInfo | Failed] | None]:
        raise_limit()
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
        """One thread, until nothing is left to do; one that has no decoder leaves the rest to the others."""
        try:
            done = False
            while not done and not self.stopping.is_set():
                self._work_off()
                with self.lock:
                    done = self.at_work > 1 or not self._is_work_left()
                    self.at_work -= done
        except BaseException as error:  # handed to the consumer, which raises it
            self.results.put(error)
        finally:
            self.results.put(None)

    def _work_off(self) -> None:
        """Video after video with one decoder at a time, replaced whenever a video has broken it."""
        decoder = None
        try:
            while not self.stopping.is_set() and self._is_work_left():
                decoder = decoder or self._begin()
                attempts = self._next() if decoder else None
                if attempts is None:
                    return
                if not self._listen(decoder, attempts):
                    decoder = self._retire(decoder)
        finally:
            if decoder:
                self._retire(decoder)

    def _is_work_left(self) -> bool:
        return not self.todo.empty() or bool(self.at_work == 1 and self.again)

    def _next(self) -> Attempts | None:
        """The next video, after all others those that are tried again, while no other decoder is at work."""
        with contextlib.suppress(queue.Empty):
            video = self.todo.get_nowait()
            return Attempts(video, self.wanted[video.id])
        while self.at_work == 1 and self.again:
            attempts = self.again.popleft()
            if self.in_vain < IN_VAIN * self.deadline:
                return attempts
            self._give(attempts.video, attempts.jobs, Failed(attempts.reason))
        return None

    def _begin(self) -> "_Decoder | None":
        """A decoder that is ready, or None where there cannot be one more. Raises GcfError where there is no other."""
        with self.lock:
            if len(self.decoders) >= self.places:
                return None
            try:
                decoder = _Decoder(self.jobs)
            except OSError as error:
                self._do_with_fewer(str(error.strerror), otherwise=_none_can_start(error))
                return None
            self.decoders.add(decoder)
        try:
            decoder.await_ready()
        except GcfError as error:
            self._retire(decoder)
            with self.lock:
                self._do_with_fewer("its process ended", otherwise=error)
            return None
        return decoder

    def _do_with_fewer(self, reason: str, *, otherwise: GcfError) -> None:
        """Go on with the decoders that there are; raise `otherwise` where there is none."""
        self.places = len(self.decoders)
        if not self.places:
            raise otherwise
        if not self.stopping.is_set():
            log.warning("%d of %d decoders run, one more cannot be started: %s", self.places, len(self.threads), reason)

    def _retire(self, decoder: "_Decoder") -> None:
        decoder.kill()
        self.decoders.discard(decoder)  # last: its place is free when its files are closed

    def _listen(self, decoder: "_Decoder", attempts: Attempts) -> bool:
        """Pass on what the decoder makes of a video; False when the decoder is not fit for another."""
        video, check, about = attempts.video, MessageCheck(self.jobs, attempts.jobs), []
        attempts.begin()
        begun = time.monotonic()
        try:
            decoder.start(video, check.at_work)
            while check.at_work and not self.stopping.is_set():
                head, payload = decoder.receive(self.deadline)
                if head.get("kind") == "alive":
                    continue
                if head.get("kind") == "log":
                    log.warning("%s", printable(str(head.get("text"))))
                    continue
                about, item = check.take(head, payload)
                if isinstance(item, Failed) and item.errno:
                    self.disk.require_present()
                if all(attempts.is_new(number, item) for number in about):
                    self._give(video, about, item)
                if head.get("worn"):
                    return False
        except messages.StalledError as error:
            self._stalled(attempts, check.at_work, f"deadline: {error}", seconds=time.monotonic() - begun)
        except VideoError as error:
            self._give(video, sorted({*about, *check.at_work}), Failed(str(error)))
        except (messages.ClosedError, BrokenPipeError):
            self._give(video, check.at_work, Failed(decoder.cause_of_death()))
        except ValueError:
            self._give(video, check.at_work, Failed("the decoder sent what is no message"))
        else:
            return True
        return False

    def _stalled(self, attempts: Attempts, jobs: Sequence[int], reason: str, *, seconds: float) -> None:
        """Nothing came of a video for too long: keep it for the end, or record it."""
        with self.lock:
            again = not attempts.reason and self.num_retries < RETRIES
            self.num_retries += again
            self.in_vain += seconds if attempts.reason else 0
        attempts.jobs, attempts.reason = list(jobs), reason
        if again:
            self.again.append(attempts)
        else:
            self._give(attempts.video, jobs, Failed(reason))

    def _give(self, video: VideoPath, numbers: Sequence[int], item: Clip | VideoInfo | Failed) -> None:
        for number in numbers:
            self.results.put((video, number, item))


def _none_can_start(error: OSError) -> StoppedError:
    return StoppedError(
        f"no decoder can be started ({error.strerror}); allow more open files or processes (ulimit -n, -u) and run the "
        "same command again, finished videos are kept"
    )


class _Decoder:
    """A decoder process and the two pipes to it. Raises OSError where the system does not give them."""

    def __init__(self, jobs: Sequence[ClipJob]):
        self.jobs = jobs
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as its:
            child_inbox, self.outbox = _pipe(its, ours)
            self.inbox, child_outbox = _pipe(ours, its)
            require_spare()
            self.process = _start_worker(child_inbox, child_outbox)
            ours.pop_all()

    def await_ready(self) -> None:
        """Tell it the jobs and wait for it. Raises GcfError where it does not start."""
        try:
            messages.send(self.outbox, jobs_to_json(self.jobs))
            self.receive(START_DEADLINE)
        except (messages.ClosedError, messages.StalledError, BrokenPipeError, ValueError) as error:
            raise GcfError("the decoder process did not start; what it said is above") from error

    def receive(self, deadline: float) -> tuple[dict, bytearray]:
        """Its next message."""
        return messages.receive(self.inbox, deadline=deadline, pid=self.process.pid)

    def start(self, video: VideoPath, jobs: Sequence[int]) -> None:
        paths = {"path": os.fsencode(video.path).hex(), "root": os.fsencode(video.root).hex()}
        messages.send(self.outbox, paths | {"id": video.id, "jobs": list(jobs)})

    def cause_of_death(self) -> str:
        """Why the process is gone, as a reason for the video it was at."""
        return f"decoder {end_of(self.process, seconds=KILL_SECONDS)}"

    def kill(self) -> None:
        """End it; one that cannot be killed (a dead network disk) is left behind, not waited for."""
        self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=KILL_SECONDS)
        os.close(self.inbox)
        os.close(self.outbox)


def _pipe(reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[int, int]:
    """A pipe whose ends are closed with those who hold them."""
    ends = os.pipe()
    for holder, end in zip((reader, writer), ends, strict=True):
        holder.callback(os.close, end)
    return ends


def _start_worker(inbox: int, outbox: int) -> subprocess.Popen:
    return subprocess.Popen(
        command(WORKER, str(inbox), str(outbox)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=(inbox, outbox),
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # a decoder is one thread, also where torch resizes
    )
