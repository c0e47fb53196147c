"""A decoder process in which the names of videos bring about what damaged files bring about at random."""

import ctypes
import os
import signal
import struct
import sys
import time

from gcf.extract.decoding import worker

original = worker.decode_each


def decode_each(path, video_id, jobs, **options):
    clips = original(path, video_id, jobs, **options)
    yield next(clips)
    if "crash" in video_id:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "exit" in video_id:
        os._exit(7)
    if "hang" in video_id:
        ctypes.PyDLL(None).sleep(3600)  # holds the GIL, as a deadlocked decoder does
    if "liar" in video_id:
        os.write(int(sys.argv[2]), struct.pack("<IQ", 2, 1 << 62) + b"{}")
    if "signal" in video_id:
        os.kill(os.getpid(), signal.SIGTERM)
    if "memory" in video_id:
        bytearray(worker.MEMORY_LIMIT + 1)
    if "odd" in video_id:
        raise LookupError("unknown encoding")
    if "once" in video_id and not os.path.exists(f"{path}.tried"):
        open(f"{path}.tried", "w").close()
        ctypes.PyDLL(None).sleep(3600)
    if "disk" in video_id:  # in uninterruptible wait (D), as for a disk, until somebody opens the other end
        wait = [(os.POSIX_SPAWN_OPEN, 99, f"{path}.pipe", os.O_RDONLY, 0)]
        os.posix_spawn(sys.executable, [sys.executable, "-c", ""], os.environ, file_actions=wait)
    if "slow" in video_id:
        time.sleep(0.5)
    yield from clips


worker.decode_each = decode_each
main = worker.main
