"""The decoder process: takes a video's name, gives its clips; may crash, hang or run out of memory on its own."""

import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from gcf.data.schema import VideoInfo
from gcf.data.text import printable
from gcf.errors import VideoError
from gcf.extract.decoding import messages
from gcf.extract.decoding.child import confine
from gcf.extract.decoding.jobs import Clip, ClipJob, decode_each
from gcf.extract.decoding.preprocess import Geometry
from gcf.extract.decoding.source import UnreadableError, require_inside

ALIVE_SECONDS = 1.0  # between two signs of life
MEMORY_LIMIT = 4 << 30  # bytes of private memory; an 8192 x 8192 frame takes 200 MB as RGB


def main(*pipes: str) -> None:
    """Serve until the inbox closes: the jobs once, then one video after another. pipes: inbox and outbox, by number."""
    inbox, outbox = map(int, pipes)
    confine(MEMORY_LIMIT)
    jobs = jobs_from_json(messages.receive(inbox)[0])
    log = logging.getLogger("gcf")
    log.addHandler(_Sent(outbox))
    log.propagate = False
    messages.send(outbox, {"kind": "ready"})
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # from here on, what goes wrong is a message
    while True:
        try:
            task, _ = messages.receive(inbox)
        except messages.ClosedError:
            return
        path, root = (os.fsdecode(bytes.fromhex(task[key])) for key in ("path", "root"))
        wanted = {number: jobs[number] for number in task["jobs"]}
        if not _decode(path, task["id"], wanted, outbox, root=root):
            return


class _Sent(logging.Handler):
    """Log lines on their way to the extraction, which shows them as its own."""

    def __init__(self, outbox: int):
        super().__init__(logging.WARNING)
        self.outbox = outbox

    def emit(self, record: logging.LogRecord) -> None:
        messages.send(self.outbox, {"kind": "log", "text": printable(record.getMessage())})


def jobs_to_json(jobs: Sequence[ClipJob]) -> dict:
    """ClipJobs as a message's head."""
    return {"jobs": [asdict(job) for job in jobs]}


def jobs_from_json(head: dict) -> list[ClipJob]:
    """The ClipJobs of a message's head, tuples restored."""
    return [_job_from_json(fields) for fields in head["jobs"]]


def _job_from_json(fields: dict) -> ClipJob:
    geometry = fields["geometry"]
    resize = geometry["resize"] if isinstance(geometry["resize"], int) else tuple(geometry["resize"])
    sizes = {"resize": resize, "crop": tuple(geometry["crop"])}
    return ClipJob(**{**fields, "geometry": Geometry(**{**geometry, **sizes})})


def _decode(path: str, video_id: str, jobs: Mapping[int, ClipJob], outbox: int, *, root: str) -> bool:
    """Send what each job makes of a video, or the reason why there is nothing; False when this process is worn out.

    root: the folder out of which no link may lead; '' allows all.
    """

    def fail(reason: str, **more) -> None:
        messages.send(outbox, {"kind": "failed", "error": printable(reason)} | more)

    try:
        if root:
            require_inside(path, root)
        for number, item in decode_each(path, video_id, jobs, after_frame=_Alive(outbox)):
            _send(outbox, number, item)
    except VideoError as error:
        fail(str(error), errno=error.errno if isinstance(error, UnreadableError) else 0)
    except MemoryError:  # what took it may still hold it: the next video gets a process of its own
        fail("memory limit", worn=True)
        return False
    except BrokenPipeError:
        sys.exit()  # the extraction is gone
    except Exception as error:  # one odd video must not end the run: what it raised is its reason
        fail(f"{type(error).__name__}: {error}")
    return True


class _Alive:
    """Tells the extraction now and then that frames are coming, however long a clip takes to be full."""

    def __init__(self, outbox: int):
        self.outbox, self.told = outbox, time.monotonic()

    def __call__(self) -> None:
        if (now := time.monotonic()) - self.told >= ALIVE_SECONDS:
            self.told = now
            messages.send(self.outbox, {"kind": "alive"})


def _send(outbox: int, number: int, item: Clip | VideoInfo | VideoError) -> None:
    """One thing that a job made; a message without a job's number is about all that have not ended yet."""
    if isinstance(item, VideoInfo):
        messages.send(outbox, {"kind": "done", "job": number, "info": asdict(item)})
    elif isinstance(item, VideoError):
        messages.send(outbox, {"kind": "failed", "job": number, "error": printable(str(item))})
    else:
        head = {"kind": "clip", "job": number, "shape": item.pixels.shape}
        head |= {k: getattr(item, k) for k in ("start_frame", "num_real", "start_time", "end_time")}
        messages.send(outbox, head, memoryview(item.pixels).cast("B"))
