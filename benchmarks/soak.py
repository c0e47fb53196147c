"""Hours of extraction with a decoder that invents its clips and sometimes fails: nothing may be lost, nothing may grow.

    python benchmarks/soak.py [--seconds 3600] [--jobs 200] [--faulty 0.05] [--deadline 5] [--pause 0.02]

One process extracts the same synthetic jobs again and again, each round under another folder name, with the real
decoder pool, assembly, parts and merge; every fourth round as two shards that `merge_features` joins. All rounds must
give the same bytes, every healthy job once, every faulty one its reason. What the main process holds is sampled at
each outcome (at work) and between rounds (at rest); the last quarter is compared with the second.
"""

import argparse
import hashlib
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from synthetic_decoder import FAULTS
from watched import Held, Peaks, held

from gcf import FeatureFile, extract_videos
from gcf.data.merge import merge_features
from gcf.extract.decoding import pool
from gcf.extract.stream import run

TINY = Path(__file__).resolve().parents[1] / "tests" / "tiny_backbone.py"
KINDS = (*FAULTS, "partial")
SLACK = 0.02  # of the memory at rest: medians of quarters of a run that leaks nothing differ by less


@dataclass(frozen=True)
class Job:
    """A synthetic video: how many clips it has, and the name of what befalls its decoder, or nothing."""

    id: str
    clips: int
    fault: str = ""


@dataclass(frozen=True)
class Round:
    """What the main process held after a round and the most during it, and the most memory of one decoder."""

    seconds: float
    rest: Held
    work: Held
    decoder: int
    digest: str


@dataclass
class Soak:
    """A folder of jobs, extracted again and again; `problems` says what went wrong, in words."""

    folder: Path
    jobs: list[Job]
    deadline: float
    workers: int = 2
    rounds: list[Round] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def round(self) -> Round:
        """Extract every job once, check the file, remove it."""
        count, begun = len(self.rounds), time.monotonic()
        videos = self.folder / f"videos-{count:06d}"
        next(self.folder.glob("videos-*")).rename(videos)  # no cache of paths may grow unseen
        self.arrived, self.work, self.peaks = Counter(), held(), Peaks()
        out = self.folder / "feats.h5"
        if count % 4 == 3:
            shards = [self.folder / f"shard-{n}.h5" for n in (1, 2)]
            for n, path in enumerate(shards, start=1):
                self._extract(videos, path, shard=(n, 2))
            merge_features(shards, out)
            for path in shards:
                path.unlink()
        else:
            self._extract(videos, out)
        self._check(out)
        digest = hashlib.sha256(out.read_bytes()).hexdigest()
        out.unlink()
        if self.rounds and digest != self.rounds[0].digest:
            self.problems.append(f"round {count}: the file differs from the first round's")
        self.rounds.append(Round(time.monotonic() - begun, held(), self.work, self.peaks.largest_child, digest))
        return self.rounds[-1]

    def _extract(self, videos: Path, out: Path, **options) -> None:
        """The real extraction, its decoder replaced, many small parts, every outcome counted on its way."""
        plain = run.stream_together

        def counted(*args, **kwargs) -> Iterator:
            stream = plain(*args, **kwargs)
            try:
                for index, (video_id, outcome) in stream:
                    self.arrived[video_id] += 1
                    self.work = self.work.most(held())
                    self.peaks.sample(os.getpid())
                    yield index, (video_id, outcome)
            finally:
                stream.close()

        with ExitStack() as stack:
            stack.enter_context(mock.patch.object(pool, "WORKER", "synthetic_decoder"))
            stack.enter_context(mock.patch.object(run, "PART_VIDEOS", 16))
            stack.enter_context(mock.patch.object(run, "stream_together", counted))
            extract_videos(
                videos, out, backbone=str(TINY), workers=self.workers, deadline=self.deadline, batch_size=8, **options
            )

    def _check(self, out: Path) -> None:
        """Every job arrived once and stands in the file once, as what it is."""
        features = FeatureFile(out)
        failures, ids = dict(features.failures), features.ids
        clips = {v.id: len(v.clips.start_frame) for v in map(features.video, range(features.num_videos))}
        notes = dict(zip(ids, features.videos.note, strict=True))
        for job in self.jobs:
            if self.arrived[job.id] != 1:
                self._blame(job, f"arrived {self.arrived[job.id]} times")
            if job.fault in FAULTS:
                wanted = FAULTS[job.fault][1]
                if job.id in clips or wanted not in failures.get(job.id, ""):
                    self._blame(job, f"recorded as {failures.get(job.id)!r}, not with {wanted!r}")
            elif clips.get(job.id) != job.clips or bool(notes[job.id]) != (job.fault == "partial"):
                self._blame(job, f"gave {clips.get(job.id)} of {job.clips} clips, {failures.get(job.id)!r}")
        if len(features.failures) + len(ids) != len(self.jobs):
            self.problems.append(f"{len(ids)} videos and {len(features.failures)} failures of {len(self.jobs)} jobs")

    def _blame(self, job: Job, what: str) -> None:
        self.problems.append(f"round {len(self.rounds)}: {job.id} ({job.fault or 'healthy'}) {what}")

    def report(self) -> list[str]:
        """What grew, a line each; the first quarter is left out as the start."""
        quarter = max(1, len(self.rounds) // 4)
        early, late = self.rounds[quarter : 2 * quarter] or self.rounds[-1:], self.rounds[-quarter:]
        lines = []
        for place in ("rest", "work"):
            for name in Held.__dataclass_fields__:
                before, after = (
                    statistics.median(getattr(getattr(r, place), name) for r in rounds) for rounds in (early, late)
                )
                limit = before * (1 + SLACK) if name == "memory" else before
                # At work, how many decoders are being replaced at once is chance; at rest, all are counted exactly.
                grew = after > limit and (place == "rest" or name == "memory")
                lines.append(f"{name} at {place}: {before:,.0f} -> {after:,.0f}{'  GREW' if grew else ''}")
        return lines


def make_jobs(count: int, *, faulty: float, seed: int = 0) -> list[Job]:
    """`count` jobs of one to four clips; that share of them fails, every kind in turn."""
    rng = random.Random(seed)
    chosen = sorted(rng.sample(range(count), round(count * faulty)))
    faults = {index: KINDS[n % len(KINDS)] for n, index in enumerate(chosen)}
    return [Job(f"{n % 10}/{n:06d}.mp4", rng.randint(1, 4), faults.get(n, "")) for n in range(count)]


def write_jobs(folder: Path, jobs: list[Job], *, pause: float = 0.0) -> None:
    """A file for each job under folder/videos-start, as the synthetic decoder reads it."""
    for job in jobs:
        path = folder / "videos-start" / job.id
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"clips": job.clips, "fault": job.fault, "pause": pause}))


def line(soak: Soak, began: float) -> str:
    """The last round in words."""
    last, seconds = soak.rounds[-1], time.monotonic() - began
    rest, work = last.rest, last.work
    return (
        f"{seconds:6.0f} s  {len(soak.rounds) * len(soak.jobs):7,} jobs  at rest {rest.memory / 1e6:6.1f} MB, "
        f"{rest.descriptors} descriptors, {rest.threads} threads, {rest.children} children; at work at most "
        f"{work.memory / 1e6:6.1f} MB, {work.descriptors}, {work.threads}, {work.children}; "
        f"largest decoder {last.decoder / 1e6:.0f} MB"
    )


def main() -> None:
    """Print a line a minute and the comparison at the end; exit 1 where something was lost or grew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3600, help="a round that has begun is finished")
    parser.add_argument("--jobs", type=int, default=200, help="a round")
    parser.add_argument("--faulty", type=float, default=0.05, help="share of the jobs that fail")
    parser.add_argument("--deadline", type=float, default=5.0, help="seconds of silence after which a decoder hangs")
    parser.add_argument("--pause", type=float, default=0.02, help="seconds of rest before each clip")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--every", type=float, default=60, help="seconds between two lines")
    args = parser.parse_args()
    jobs = make_jobs(args.jobs, faulty=args.faulty)
    with tempfile.TemporaryDirectory() as folder:
        write_jobs(Path(folder), jobs, pause=args.pause)
        soak = Soak(Path(folder), jobs, args.deadline, args.workers)
        began = shown = time.monotonic()
        while time.monotonic() - began < args.seconds:
            soak.round()
            if time.monotonic() - shown >= args.every or len(soak.rounds) == 1:
                shown = time.monotonic()
                print(line(soak, began), flush=True)
    kinds = Counter(job.fault for job in jobs if job.fault)
    print(f"{len(soak.rounds)} rounds of {len(jobs)} jobs; faults a round: {dict(kinds)}")
    print(*soak.report(), sep="\n")
    print(
        *(
            soak.problems[:20]
            or ["every healthy job once, every faulty one with its reason, all rounds the same bytes"]
        ),
        sep="\n",
    )
    sys.exit(bool(soak.problems) or any("GREW" in found for found in soak.report()))


if __name__ == "__main__":
    main()
