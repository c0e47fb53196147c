"""Stage one's storage, killed or failed at its k-th call that changes the disk, then resumed: what is left of it?

Everything but decoders and network is real: `gcf extract` and `gcf merge` run in forked children of a process that was
started with crash_shim.c loaded. A point is (scenario, mode, k); `Driver.walk` gives one Outcome for each.

    LD_PRELOAD=shim.so python crash_storage.py FOLDER [--every N] [--offset I]
"""

import argparse
import ctypes
import errno
import json
import os
import shutil
import signal
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

import gcf.cli
from gcf.data import info, merge  # noqa: F401  commands load them late, each child anew
from gcf.data.features import FeatureFile
from gcf.data.schema import Clips, VideoFeatures, VideoInfo
from gcf.extract.decoding.pool import Failed
from gcf.extract.engines import local
from gcf.extract.stream import run

COUNT, KILL_BEFORE, KILL_HALF, KILL_AFTER, FAIL_ONCE, FAIL_FROM_HERE, SHORT_WRITE = range(7)
MODES = {
    "killed before the call": (KILL_BEFORE, 0),
    "killed after half a write": (KILL_HALF, 0),
    "killed after the call": (KILL_AFTER, 0),
    "ENOSPC once": (FAIL_ONCE, errno.ENOSPC),
    "EIO once": (FAIL_ONCE, errno.EIO),
    "EDQUOT once": (FAIL_ONCE, errno.EDQUOT),
    "ENOSPC from there on": (FAIL_FROM_HERE, errno.ENOSPC),
    "EIO from there on": (FAIL_FROM_HERE, errno.EIO),
    "EROFS from there on": (FAIL_FROM_HERE, errno.EROFS),
    "short write": (SHORT_WRITE, 0),
}
VIDEOS, BROKEN, INCOMPLETE, REFUSED, STOPPED = 6, "v3.mp4", 3, 4, 5
RECIPE = {"backbone": "made up", "weights": "none", "dtype": "float16", "views": 1, "num_frames": 16, "pixel_max": 1.0}
MERGE = "merge shards"


@dataclass
class Outcome:
    """What one point came to; `problems` is empty where all is as promised."""

    scenario: str
    mode: str
    k: int
    code: int
    message: str = ""
    redone: int = 0
    problems: list[str] = field(default_factory=list)


class _NoNetwork:
    """What the extraction asks of a network before it gives it to the stream."""

    recipe = RECIPE

    def __init__(self):
        self.backbone = self


def _features(video) -> VideoFeatures | Failed:
    """Made-up rows of a video, the same each time."""
    if video.id == BROKEN:
        return Failed("broken on purpose")
    number, found = int(video.id[1]), os.stat(video.path)
    rng, count = np.random.default_rng(number), 1 + number % 4
    starts = np.arange(count) * 16
    return VideoFeatures(
        id=video.id,
        descriptors=rng.normal(size=(count, 1, 600)).astype(np.float16),
        logits=rng.normal(size=(count, 5)).astype(np.float16),
        clips=Clips(starts, np.full(count, 16), starts / 25, (starts + 16) / 25),
        info=VideoInfo(25.0, 16 * count, 64, 48, count * 0.64, found.st_size, found.st_mtime_ns),
    )


class Driver:
    """Runs the scenarios of a folder in children; `shim` is the loaded library."""

    def __init__(self, folder: Path):
        self.shim = ctypes.CDLL(None)
        self.shim.crash_calls.restype = ctypes.c_long
        self.shim.crash_arm.argtypes = ctypes.c_long, ctypes.c_int, ctypes.c_int
        self.folder, self.videos, self.work = folder, folder / "videos", folder / "work"
        self.videos.mkdir()
        for n in range(VIDEOS):
            (self.videos / f"v{n}.mp4").write_bytes(bytes(n + 1))
        self.streamed: list[str] = []
        run.PART_VIDEOS = 2
        local.load_network = lambda *_, **__: (_NoNetwork(), RECIPE)
        run.stream_together = self._stream
        self._prepare()

    def _stream(self, videos, *_, **__):
        for video in sorted(videos, key=lambda v: v.id[::-1]):
            self.streamed.append(video.id)
            yield 0, (video.id, _features(video))

    def _prepare(self) -> None:
        """What the scenarios start from, and what they must end in."""
        self.before, self.commands, self.wanted = {}, {}, {}
        shards = [str(self.folder / f"shard{i}.h5") for i in (1, 2)]
        for i, shard in enumerate(shards, start=1):
            self._run(["extract", self.videos, shard, "--shard", f"{i}/2"])
        few = self.folder / "few"
        few.mkdir()
        for n in (0, 1, 4):
            shutil.copy2(self.videos / f"v{n}.mp4", few)
        self._run(["extract", few, self.folder / "old.h5"])
        out = self.work / "f.h5"
        self.commands = {
            "extract": ["extract", self.videos, out],
            "update a finished file": ["extract", self.videos, out, "--update"],
            MERGE: ["merge", *shards, out],
        }
        self.before = {"update a finished file": self.folder / "old.h5"}
        for scenario in self.commands:
            self._start(scenario)
            self._run(self.commands[scenario])
            self.wanted[scenario] = out.read_bytes()

    def _start(self, scenario: str) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()
        if scenario in self.before:
            shutil.copy2(self.before[scenario], self.work / "f.h5")

    def _run(self, args, *, mode=(COUNT, 0), k=0) -> tuple[int, str, dict]:
        """Exit code (negative: signal), what was said, and what the child reports where it lived."""
        said, (reading, writing) = self.folder / "said.txt", os.pipe()
        child = os.fork()
        if not child:
            self._child(args, mode, k, said, writing)
        os.close(writing)
        _, status = os.waitpid(child, 0)
        with os.fdopen(reading, "rb") as pipe:
            report = json.loads(pipe.read() or b"{}")
        return os.waitstatus_to_exitcode(status), said.read_text(), report

    def _child(self, args, mode: tuple[int, int], k: int, said: Path, writing: int) -> None:
        code = 99
        try:
            stream = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(stream, 1)
            os.dup2(stream, 2)
            self.shim.crash_arm(k, *mode)
            code = gcf.cli.run([str(a) for a in args])
            report = {"calls": self.shim.crash_calls(), "streamed": self.streamed}
            os.write(writing, json.dumps(report).encode())
            sys.stdout.flush()
        finally:
            os._exit(code)

    def count(self, scenario: str) -> int:
        """The points of a scenario."""
        self._start(scenario)
        return self._run(self.commands[scenario])[2]["calls"]

    def point(self, scenario: str, mode: str, k: int) -> Outcome:
        """Run a scenario into a point, then resume it."""
        self._start(scenario)
        code, said, _ = self._run(self.commands[scenario], mode=MODES[mode], k=k)
        outcome = Outcome(scenario, mode, k, code, said.strip().splitlines()[-1] if said.strip() else "")
        problem = outcome.problems.append
        done, there = 0 if scenario == MERGE else INCOMPLETE, self._committed(problem)
        if code == done:
            self._check_bytes(scenario, problem)  # a disk that fails may also keep what should go, for once
        elif mode.startswith("killed"):
            if code != -signal.SIGKILL:
                problem(f"ended with {code}, was to be killed")
        elif code not in (STOPPED, REFUSED) or "again" not in said + "again" * (code == REFUSED):
            problem(f"exit code {code}")
        if "Traceback" in said or "GCF_TRACEBACK" in said or (code > 0 and code != done and "f.h5" not in said):
            problem("no message of what, where, what to do")
        if scenario == MERGE and (self.work / "f.h5").exists():
            done = REFUSED  # complete: merging again is refused, and takes away what is left all the same
        code, said, report = self._run(self.commands[scenario])
        if code != done:
            problem(f"resuming ended with {code}: {said.strip()}")
            return outcome
        outcome.redone = len(report["streamed"])
        again = there & set(report["streamed"])
        if again:
            problem(f"committed, and done again: {sorted(again)}")
        self._check_end(scenario, problem)
        return outcome

    def _committed(self, problem) -> set[str]:
        """Ids of the videos that are safe; every file of a final name must be readable, no video twice."""
        found: list[str] = []
        for path in sorted(self.work.glob("f.h5.parts/part-*.h5")):
            found += FeatureFile(path).ids
        if len(set(found)) < len(found):
            problem("a video was committed twice")
        if (self.work / "f.h5").exists():
            found += FeatureFile(self.work / "f.h5").ids
        return set(found)

    def _check_end(self, scenario: str, problem) -> None:
        self._check_bytes(scenario, problem)
        left = sorted(p.name for p in self.work.iterdir() if p.name != "f.h5")
        if left:
            problem(f"left behind: {left}")

    def _check_bytes(self, scenario: str, problem) -> None:
        out = self.work / "f.h5"
        if not out.exists() or out.read_bytes() != self.wanted[scenario]:
            problem("the final file has other bytes")

    def walk(self, *, every: int = 1, offset: int = 0):
        """One Outcome for every `every`-th point of all scenarios and modes, counted through from `offset`."""
        points = [(s, m, k) for s in self.commands for m in MODES for k in range(1, self.count(s) + 1)]
        for scenario, mode, k in points[offset::every]:
            yield self.point(scenario, mode, k)


def main() -> None:
    """Print one JSON object for each point."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--offset", type=int, default=0)
    args = parser.parse_args()
    for outcome in Driver(args.folder).walk(every=args.every, offset=args.offset):
        sys.stdout.write(json.dumps(asdict(outcome)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
