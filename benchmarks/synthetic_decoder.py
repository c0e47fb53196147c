"""A decoder process that invents its clips, or comes to grief, as a small JSON file in the video's place says.

{"clips": 3, "fault": "crash", "pause": 0.01}: clips to give, what happens half way, seconds of rest before each clip.
The pixels follow from the file's name alone, so that two runs over the same names must give the same bytes.
"""

import ctypes
import hashlib
import json
import os
import signal
import time

import numpy as np

from gcf.data.schema import VideoInfo
from gcf.extract.decoding import worker
from gcf.extract.decoding.jobs import Clip

RATE = 25
OUTBOX = -1  # set by main; the pipe that a torn or senseless message is written to


def _die(number: int) -> None:
    os.kill(os.getpid(), number)


def _tear() -> None:
    os.write(OUTBOX, b"\x40\x00")  # the first bytes of a message whose rest never comes
    _die(signal.SIGKILL)


def _babble() -> None:
    os.write(OUTBOX, b"\xff" * 64)
    time.sleep(3600)


def _raise(error: Exception) -> None:
    raise error


# What happens, and what the recorded reason must contain.
FAULTS = {
    "crash": (lambda: _die(signal.SIGSEGV), "signal 11"),
    "exit": (lambda: os._exit(7), "exit code 7"),
    "torn": (_tear, "signal 9"),
    "babble": (_babble, "decoder"),
    "hang": (lambda: ctypes.PyDLL(None).sleep(3600), "deadline"),  # holds the GIL, as a deadlocked decoder does
    "memory": (lambda: bytearray(worker.MEMORY_LIMIT + 1), "memory"),
    "lookup": (lambda: _raise(LookupError("unknown encoding")), "unknown encoding"),
    "end of file": (lambda: _raise(EOFError()), "EOFError"),
    "recursion": (lambda: _raise(RecursionError("too deep")), "too deep"),
    "permission": (lambda: _raise(PermissionError(13, "Permission denied")), "Permission denied"),
}


def decode_each(path, video_id, jobs, **_):
    """In place of decode_each: as many clips as the file says, then the facts, or the fault."""
    ((place, job),) = jobs.items()
    with open(path, "rb") as file:
        asked = json.load(file)
    seed = int.from_bytes(hashlib.sha256(os.fsencode(video_id)).digest()[:8], "little")
    rng, length = np.random.default_rng(seed), job.num_frames
    shape = (job.views, length, *job.geometry.crop, 3)
    for index in range(asked["clips"]):
        time.sleep(asked["pause"])
        if index == asked["clips"] // 2 and asked["fault"] in FAULTS:
            FAULTS[asked["fault"]][0]()
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        yield place, Clip(pixels, index * length, length, index * length / RATE, (index + 1) * length / RATE)
    yield place, _info(path, asked["clips"] * length, partial=asked["fault"] == "partial")


def _info(path, num_frames: int, *, partial: bool) -> VideoInfo:
    found = os.stat(path)
    return VideoInfo(
        fps=RATE,
        num_frames=num_frames,
        width=64,
        height=48,
        duration=num_frames / RATE,
        size=found.st_size,
        mtime_ns=found.st_mtime_ns,
        status="partial" if partial else "ok",
        note="half of it is missing" if partial else "",
    )


worker.decode_each = decode_each


def main(*pipes: str) -> None:
    """Serve as gcf.extract.decoding.worker does."""
    global OUTBOX
    OUTBOX = int(pipes[1])
    worker.main(*pipes)
