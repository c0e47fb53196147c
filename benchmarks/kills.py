"""SIGKILL `gcf extract` again and again, resume it until it ends, compare the bytes with an undisturbed run.

    python benchmarks/kills.py [VIDEOS] [--kills 200] [--seed 0] [--backbone FILE.py|NAME] [--workers 2 4]

Without VIDEOS forty small synthetic ones are made. In turns a decoder, the main process, its whole process group are
killed at random moments of the work, and the main process while it writes the finished file. A part holds four videos
here, not 256, so that short runs have some to lose. The command is run in a fork of this process, which has loaded
torch already: each run is then a second. Exit code 1 where a byte differs, a video is lost or twice, a committed one is
decoded again, or a temporary file or a process is left.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a fork does not take threads along

from memory import write_video
from watched import family

import gcf.cli
from gcf import FeatureFile
from gcf.data.atomic import left_behind
from gcf.extract.decoding.find import find_videos
from gcf.extract.network import clip_network as network  # noqa: F401  torch is loaded once, here
from gcf.extract.stream import run

TINY = Path(__file__).resolve().parents[1] / "tests" / "tiny_backbone.py"
KINDS = ("decoder", "main", "group", "merge")
LEFT_SECONDS = 20.0  # within which a killed process's decoders must be gone, also on a busy machine


class Run:
    """One `gcf extract` in a session of its own; its JSON goes into the file `said`."""

    def __init__(self, args: argparse.Namespace, out: Path, *, workers: int = 2):
        self.out, self.said, self.code = out, out.with_suffix(".json"), None
        command = ["extract", args.videos, str(out), "--backbone", args.backbone, "--weights", args.weights]
        self.pid = os.fork()
        if not self.pid:
            os.setsid()
            os.dup2(os.open(self.said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            code = 1
            try:
                run.PART_VIDEOS = 4
                code = gcf.cli.run([*command, "--workers", str(workers), "--batch-size", "4", "--json"])
                sys.stdout.flush()
            finally:
                os._exit(code)

    def running(self) -> bool:
        """Whether it has not ended."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code is None

    def wait(self, until=lambda: False) -> bool:
        """Wait for its end, or for what `until` says; whether it still runs."""
        while self.running() and not until():
            time.sleep(0.0005)
        return self.code is None

    def decoders(self) -> list[int]:
        """Its children."""
        return family(self.pid)[1:]


@dataclass
class Moments:
    """Random moments after the first decoder's start, most of them before the end, however busy the machine is."""

    rng: random.Random
    length: float

    def draw(self) -> float:
        """Seconds."""
        return self.rng.uniform(0, self.length)

    def learn(self, *, in_time: bool) -> None:
        """Draw from a longer time where the kill came in time, from a shorter one where the run had ended."""
        self.length *= 1.03 if in_time else 0.9


def kill(run: Run, kind: str, moments: Moments) -> bool:
    """Wait for the moment and kill; False where the run ended before."""
    if kind == "merge":
        if not run.wait(lambda: left_behind(run.out.parent, run.out.name)):
            return False
        ends = time.monotonic() + moments.rng.uniform(0, 0.03)
    else:
        if not run.wait(run.decoders):
            return False
        ends = time.monotonic() + moments.draw()
    if not run.wait(lambda: time.monotonic() >= ends):
        return False
    decoders = run.decoders()
    if kind == "decoder":
        if not decoders:
            return False
        os.kill(moments.rng.choice(decoders), signal.SIGKILL)
        return True
    (os.killpg if kind == "group" else os.kill)(run.pid, signal.SIGKILL)
    run.wait()
    ends = time.monotonic() + LEFT_SECONDS
    while any(Path(f"/proc/{pid}").exists() for pid in decoders):
        if time.monotonic() > ends:
            raise SystemExit(f"decoders {decoders} outlived the main process, killed by {kind}")
        time.sleep(0.002)
    return True


def committed(out: Path) -> set[str]:
    """The videos that parts and the finished file hold."""
    files = [*out.with_name(out.name + ".parts").glob("part-*.h5"), *([out] if out.exists() else [])]
    return {video_id for path in files for video_id in FeatureFile(path).ids}


def digest(path: Path) -> str:
    """sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def cycle(args: argparse.Namespace, out: Path, kinds: list[str], moments: Moments):
    """Kill and resume as `kinds` say, then to the end; (kills made by kind, most committed, problems)."""
    made, kept = Counter(), set()
    for kind in kinds:
        run = Run(args, out)
        in_time = kill(run, kind, moments)
        made[kind] += in_time
        if kind != "merge":
            moments.learn(in_time=in_time)
        run.wait()
        kept = committed(out)
    problems, run = [], Run(args, out)
    run.wait()
    wanted = [v.id for v in find_videos([args.videos])]
    if run.code or FeatureFile(out).ids != wanted:
        return made, len(kept), [f"the last run after {kinds} ended with {run.code}"]
    again = json.loads(run.said.read_text())["extracted"]
    if again > len(wanted) - len(kept):
        problems.append(f"{len(kept)} of {len(wanted)} were committed, yet {again} decoded after {kinds}")
    names = sorted(p.name for p in out.parent.iterdir())
    if names != sorted((out.name, run.said.name)):
        problems.append(f"left behind after {kinds}: {names}")
    return made, len(kept), problems


def reference(args: argparse.Namespace, folder: Path) -> tuple[str, float]:
    """The digest of an undisturbed run, and its seconds from the first decoder to the end."""
    run = Run(args, folder / "reference.h5")
    run.wait(run.decoders)
    begun = time.monotonic()
    run.wait()
    if run.code:
        raise SystemExit(f"the undisturbed run ended with {run.code}")
    length, found = time.monotonic() - begun, digest(run.out)
    print(f"undisturbed: {length:.1f} s from the first decoder on, sha256 {found[:16]}")
    for workers in args.workers:
        run = Run(args, folder / f"{workers}.h5", workers=workers)
        run.wait()
        print(f"{workers} workers: {'same bytes' if digest(run.out) == found else 'DIFFERENT'}", flush=True)
    return found, length


def main() -> None:
    """Print one line per cycle of kills and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", nargs="?")
    parser.add_argument("--backbone", default=str(TINY))
    parser.add_argument("--weights", default="default")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 4])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, made, problems, kept = random.Random(args.seed), Counter(), [], 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not args.videos:
            args.videos = str(folder / "videos")
            (folder / "videos").mkdir()
            for n in range(40):
                write_video(folder / "videos" / f"{n:02d}.mp4", rng.randint(8, 64), size=(48, 64), seed=n)
        same, length = reference(args, folder)
        moments = Moments(rng, length)
        while sum(made.values()) < args.kills:
            place = folder / "killed"
            place.mkdir()
            kinds = [rng.choice(KINDS) for _ in range(rng.randint(1, 6))]
            kills, most, found = cycle(args, place / "feats.h5", kinds, moments)
            if not found and digest(place / "feats.h5") != same:
                found.append(f"other bytes after {kinds}")
            made, kept, problems = made + kills, kept + most, problems + found
            print(f"{dict(+kills)}, then to the end: {'; '.join(found) or 'same bytes'}", flush=True)
            for path in sorted(place.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            place.rmdir()
    print(f"{made.total()} kills {dict(made)}, {kept} videos committed at the last kill of each cycle")
    print(*(problems or ["0 differences, no video lost, twice or decoded again, nothing left behind"]), sep="\n")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
