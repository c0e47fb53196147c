"""The decoder process: takes a video's name, gives its clips; may crash, hang or run out of memory on its own."""

import ctypes
import os
import resource
import signal
import sys
from dataclasses import asdict

from gcf.data.schema import VideoInfo
from gcf.errors import VideoError
from gcf.extract import messages
from gcf.extract.decoding import Clip, ClipJob, decode_clips
from gcf.extract.preprocess import Geometry

MEMORY_LIMIT = 4 << 30  # bytes of private memory; an 8192 x 8192 frame takes 200 MB as RGB
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(*pipes: str) -> None:
    """Serve until the inbox closes: the job once, then one video after another. pipes: inbox and outbox, by number."""
    inbox, outbox = map(int, pipes)
    _confine()
    job = job_from_json(messages.receive(inbox)[0])
    messages.send(outbox, {"kind": "ready"})
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # from here on, what goes wrong is a message
    while True:
        try:
            task, _ = messages.receive(inbox)
        except messages.ClosedError:
            return
        _decode(os.fsdecode(bytes.fromhex(task["path"])), task["id"], job, outbox)


def job_to_json(job: ClipJob) -> dict:
    """A ClipJob as a message's head."""
    return asdict(job)


def job_from_json(fields: dict) -> ClipJob:
    """The ClipJob of a message's head, tuples restored."""
    geometry = fields["geometry"]
    resize = geometry["resize"] if isinstance(geometry["resize"], int) else tuple(geometry["resize"])
    return ClipJob(**{**fields, "geometry": Geometry(resize, tuple(geometry["crop"]), geometry["rule"])})


def _decode(path: str, video_id: str, job: ClipJob, outbox: int) -> None:
    """Send a video's clips and its facts, or the reason why there are none."""
    try:
        for item in decode_clips(path, video_id, job):
            if isinstance(item, VideoInfo):
                messages.send(outbox, {"kind": "done", "info": asdict(item)})
            else:
                _send_clip(outbox, item)
    except VideoError as error:
        messages.send(outbox, {"kind": "failed", "error": str(error)})
    except MemoryError:
        messages.send(outbox, {"kind": "failed", "error": "memory limit"})
    except BrokenPipeError:
        sys.exit()  # the extraction is gone
    except Exception as error:  # one odd video must not end the run: what it raised is its reason
        messages.send(outbox, {"kind": "failed", "error": f"{type(error).__name__}: {error}"})


def _send_clip(outbox: int, clip: Clip) -> None:
    head = {"kind": "clip", "shape": clip.pixels.shape}
    head |= {k: getattr(clip, k) for k in ("start_frame", "num_real", "start_time", "end_time")}
    messages.send(outbox, head, memoryview(clip.pixels).cast("B"))


def _confine() -> None:
    """Die with the parent, leave Ctrl-C to it, and bound the memory that one video may take."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_LIMIT, MEMORY_LIMIT))
