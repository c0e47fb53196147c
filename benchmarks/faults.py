"""Crashes, hangs and memory faults in ten per cent of many videos: what they cost, and that they cost nobody else.

    python benchmarks/faults.py [--videos 400] [--share 0.1] [--workers 2] [--deadline 5] [--seed 0]

The decoder is a synthetic one: the id of a video, such as `00017-hang-3`, says what comes of it after its first clip.
Wall time should be at most that of the same videos without faults + faults x deadline / workers, and one deadline more
for each of the first hangs, which are tried again alone.
"""

import argparse
import ctypes
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gcf.data.schema import VideoInfo
from gcf.extract.decoding import pool, worker
from gcf.extract.decoding.find import VideoPath
from gcf.extract.decoding.jobs import Clip, ClipJob
from gcf.extract.decoding.pool import DecoderPool, Failed
from gcf.extract.decoding.preprocess import Geometry

FAULTS = {"crash": "decoder crashed (signal 11)", "hang": "deadline: no progress for ", "memory": "memory limit"}
JOB = ClipJob(16, "loop", Geometry(4, (4, 4)))


def decode_each(path, video_id, jobs, **_):  # noqa: ARG001 - the signature of what it stands for
    """Clips (1, T, 4, 4, 3) that show the numbers of video and clip, 10 ms each; a fault after the first."""
    ((place, job),) = jobs.items()
    number, kind, num_clips = video_id.split("-")
    for index in range(int(num_clips)):
        time.sleep(0.01)
        pixels = np.full((1, job.num_frames, 4, 4, 3), (int(number) * 7 + index) % 256, np.uint8)
        yield place, Clip(pixels, index * job.num_frames, job.num_frames, float(index), index + 1.0)
        if kind == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif kind == "hang":
            ctypes.PyDLL(None).sleep(3600)  # holds the GIL, as a deadlocked decoder does
        elif kind == "memory":
            bytearray(worker.MEMORY_LIMIT + 1)
    yield place, VideoInfo(1.0, int(num_clips) * job.num_frames, 4, 4, float(num_clips), 1, 1)


def main(*pipes: str) -> None:
    """What a decoder process runs: this module in place of gcf.extract.decoding.worker."""
    worker.decode_each = decode_each
    worker.main(*pipes)


def make_jobs(count: int, *, share: float, seed: int) -> list[VideoPath]:
    """So many videos of 1 to 6 clips in random order, the share of them faulty, the kinds in turn."""
    rng, kinds = random.Random(seed), list(FAULTS)
    faulty = rng.sample(range(count), round(count * share))
    kind_of = {number: kinds[place % len(kinds)] for place, number in enumerate(faulty)}
    ids = [f"{number:05d}-{kind_of.get(number, 'ok')}-{rng.randint(1, 6)}" for number in range(count)]
    return [VideoPath(f"/synthetic/{video_id}", video_id) for video_id in ids]


def wrong_outcomes(videos: Sequence[VideoPath], *, workers: int, deadline: float) -> list[str]:
    """The ids of the videos that did not come out as they should: healthy ones whole, faulty ones with their reason."""
    clips, last = {}, {}
    for video, _, item in DecoderPool(videos, [JOB], num_workers=workers, ahead=16, deadline=deadline):
        if isinstance(item, Clip):
            clips.setdefault(video.id, []).append(int(item.pixels.flat[0]))
        else:
            last.setdefault(video.id, []).append(item)
    return [v.id for v in videos if not _is_right(v.id, clips.get(v.id), last.get(v.id, []))]


def _is_right(video_id: str, clips: list[int] | None, last: list) -> bool:
    number, kind, num_clips = video_id.split("-")
    if len(last) != 1:
        return False
    if kind == "ok":
        return isinstance(last[0], VideoInfo) and clips == [(int(number) * 7 + i) % 256 for i in range(int(num_clips))]
    return isinstance(last[0], Failed) and last[0].error.startswith(FAULTS[kind])


def timed(videos: Sequence[VideoPath], args: argparse.Namespace) -> tuple[float, list[str]]:
    """Seconds that the videos take, and those that came out wrong."""
    begun = time.monotonic()
    wrong = wrong_outcomes(videos, workers=args.workers, deadline=args.deadline)
    return time.monotonic() - begun, wrong


def report() -> int:
    """Print the figures; 1 when a video came out wrong or the bound is passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=400)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--deadline", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    pool.WORKER = Path(__file__).stem
    faulty = make_jobs(args.videos, share=args.share, seed=args.seed)
    healthy = [VideoPath(v.path, f"{v.id[:5]}-ok-{v.id[-1]}") for v in faulty]
    faults = sum("-ok-" not in v.id for v in faulty)
    plain, wrong = timed(healthy, args)
    print(f"{len(healthy)} videos without a fault, {args.workers} workers: {plain:.1f} s, {len(wrong)} wrong")
    seconds, more = timed(faulty, args)
    again = min(pool.RETRIES, sum("-hang-" in v.id for v in faulty))
    bound = plain + faults * args.deadline / args.workers + again * args.deadline
    print(f"{faults} of them faulty: {seconds:.1f} s, {len(more)} wrong")
    verdict = "kept" if seconds <= bound else "PASSED"
    print(f"bound, fault-free + faults x deadline / workers + {again} x deadline: {bound:.1f} s, {verdict}")
    for video_id in [*wrong, *more]:
        print(f"  wrong: {video_id}")
    return int(bool(wrong or more or seconds > bound))


if __name__ == "__main__":
    sys.exit(report())
