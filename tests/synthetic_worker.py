"""A decoder process without a decoder: an id such as `00017-hang` or `00018-ok-3` says what comes of the video."""

import ctypes
import os
import signal

import numpy as np

from gcf.data.schema import VideoInfo
from gcf.extract import worker
from gcf.extract.decoding import Clip


def decode_clips(path, video_id, job):  # noqa: ARG001 - the signature of what it stands for
    """`num` clips (1, T, 4, 4, 3) that show the number of the video and of the clip; a fault after the first."""
    number, kind, num = video_id.split("-")
    for index in range(int(num)):
        pixels = np.full((1, job.num_frames, 4, 4, 3), (int(number) * 7 + index) % 256, np.uint8)
        yield Clip(pixels, index * job.num_frames, job.num_frames, float(index), index + 1.0)
        if kind == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif kind == "hang":
            ctypes.PyDLL(None).sleep(3600)  # holds the GIL, as a deadlocked decoder does
        elif kind == "memory":
            bytearray(worker.MEMORY_LIMIT + 1)
    frames = int(num) * job.num_frames
    yield VideoInfo(1.0, frames, 4, 4, float(num), 1, 1)


worker.decode_clips = decode_clips
main = worker.main
