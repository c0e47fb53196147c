"""How many clips a second each backbone extracts here, and the table of docs/backbones.md with it.

    python benchmarks/backbones.py VIDEOS [NAME ...] [--seconds 8] [--json FILE] [--write docs/backbones.md]

Every network runs as `gcf extract` runs it, decoders and network together, in a process of its own, one after another:
random weights, precision auto, default clips. Clips are counted in full swing, for --seconds, after the first batches;
start-up is not in it. What was measured is kept in the JSON file at once, so that a run that was stopped goes on, and
names given on the command line are measured again. Without VIDEOS only the table is written.

Random weights take the time of others, with one exception: the trial of bfloat16 judges their descriptors, and where it
fails the network runs in float32, which the table says.
"""

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import joblib
from rates import local_copies, median_frames

from gcf.data.atomic import atomic_file
from gcf.extract.backbones.registry import SPECS, find_backbone
from gcf.extract.decoding.find import VideoPath, find_videos
from gcf.extract.stream.config import ExtractConfig
from gcf.extract.stream.pipeline import NetworkJob, load_network, stream_together
from gcf.terminal import guarded

KEPT = Path(__file__).with_suffix(".json")
WARM_BATCHES = 4  # two lanes take memory for the first time and fill up
LEAST_BATCHES = 4
REPEATS = 1000  # more videos than any network gets through
PATIENCE = 300.0  # seconds beside --seconds after which a network is given up


class _EnoughError(Exception):
    """The time is over."""


class Counted:
    """A ClipNetwork that notes when it was done with how many clips."""

    def __init__(self, network):
        self.network, self.done = network, []

    def __getattr__(self, name: str):
        return getattr(self.network, name)

    def __call__(self, pixels):
        """Descriptors and logits of a batch."""
        rows = self.network(pixels)
        self.done.append((time.perf_counter(), len(pixels)))  # two lanes may append at once; a list takes that
        return rows


def in_full_swing(done: list[tuple[float, int]], *, warm: int = WARM_BATCHES) -> tuple[int, float]:
    """Clips and seconds after the first `warm` batches: done has the time at the end of each batch and its clips.

    >>> in_full_swing([(9.0, 8), (10.0, 8), (12.0, 8), (13.0, 2)], warm=2)
    (10, 3.0)
    """
    done = sorted(done)
    return sum(clips for _, clips in done[warm:]), done[-1][0] - done[warm - 1][0]


def extract_for(videos: list[VideoPath], network: Counted, recipe: dict, config: ExtractConfig, seconds: float) -> None:
    """Extract the videos over and over until so many seconds have passed in full swing."""
    many = [VideoPath(v.path, f"{n}/{v.id}") for n in range(REPEATS) for v in videos]
    network_job = NetworkJob(network, recipe, {video.id for video in many})

    def look() -> None:
        if len(network.done) >= WARM_BATCHES + LEAST_BATCHES and in_full_swing(network.done)[1] >= seconds:
            raise _EnoughError

    try:
        for _ in stream_together(many, [network_job], config, after_batch=look):
            pass
    except _EnoughError:
        return


def measure(name: str, folder: Path, seconds: float) -> dict:
    """Rate, precision and memory of one backbone, in this process."""
    config = ExtractConfig()
    network, recipe = load_network(name, "random", config)
    import torch  # after load_network, which says how torch shall take memory

    counted = Counted(network)
    extract_for(find_videos([folder]), counted, recipe, config, seconds)
    clips, took = in_full_swing(counted.done)
    return {
        "clips_a_second": round(clips / took, 4),
        "clips": clips,
        "took": round(took, 6),
        "seconds": seconds,
        **{key: recipe[key] for key in ("precision", "precision_cosine", "batch_size", "num_frames", "crop")},
        "peak_rss_mib": _peak_mib(),
        "torch": torch.__version__,
        "processors": joblib.cpu_count(),
        "units": _bfloat16_units(),
    }


def _bfloat16_units() -> str:
    """What the processors multiply bfloat16 with, which decides most of the time."""
    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    return next((flag for flag in ("amx_bf16", "avx512_bf16") if flag in flags), "no unit for bfloat16")


def _peak_mib() -> int:
    """Most memory that this process has had, without its decoders."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) >> 10 for line in lines if line.startswith("VmHWM")), 0)


def measured_apart(name: str, folder: Path, seconds: float) -> dict:
    """`measure` in a new process; {"error"} where that fails or hangs."""
    command = [sys.executable, __file__, str(folder), name, "--alone", "--seconds", str(seconds)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        out, err = child.communicate(timeout=seconds + PATIENCE)
    except subprocess.TimeoutExpired:
        return {"error": f"no result after {seconds + PATIENCE:.0f} s"}
    finally:
        if child.poll() is None:  # a hang or Ctrl-C: its decoders go with it
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    if child.returncode:
        return {"error": (err.strip().splitlines() or [f"exit code {child.returncode}"])[-1]}
    return json.loads(out.splitlines()[-1])


def measure_all(names: list[str], videos: list[VideoPath], seconds: float, keep: Callable[[str, dict], None]) -> None:
    """Measure one after another; `keep` is given each result. Says what it is at and how long it may take yet."""
    folder, facts = Path(videos[0].path).parent, {"videos": len(videos), "frames": median_frames(videos)}
    begun = time.monotonic()
    for number, name in enumerate(names):
        result = measured_apart(name, folder, seconds)
        keep(name, result if "error" in result else result | facts)
        left = (time.monotonic() - begun) / (number + 1) * (len(names) - number - 1)
        said = result.get("error") or f"{result['clips_a_second']:.4g} clips/s, {result['precision']}, "
        said += f"{result['peak_rss_mib']} MiB" if "error" not in result else ""
        print(f"{number + 1}/{len(names)} {name}: {said}; about {left / 60:.1f} min left", file=sys.stderr, flush=True)


def read_kept(path: Path) -> dict[str, dict]:
    """What was measured before, by name."""
    return json.loads(path.read_text()) if path.exists() else {}


def write_table(path: Path, kept: dict[str, dict]) -> None:
    """Put the table into a file, between its markers."""
    from backbone_table import markdown, replaced, rows  # late: this brings torch

    text = replaced(path.read_text("utf-8"), markdown(rows(), kept), source=str(path))
    with atomic_file(path) as file:
        file.write(text.encode())


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", nargs="?", type=Path)
    parser.add_argument("names", nargs="*", help="backbones to measure, again if need be; default: those not measured")
    parser.add_argument("--seconds", type=float, default=8.0, help="seconds of full swing for each network")
    parser.add_argument("--count", type=int, default=8, help="videos, spread over those found")
    parser.add_argument("--json", type=Path, default=KEPT, help="where the results are kept")
    parser.add_argument("--write", type=Path, help="the file whose table is written")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Measure what is asked for, then write the table."""
    args = arguments()
    logging.disable(logging.WARNING)  # that random weights mean nothing is said above
    if args.alone:
        print(json.dumps(measure(args.names[0], args.videos, args.seconds)))
        return 0
    kept = read_kept(args.json)

    def keep(name: str, result: dict) -> None:
        kept[name] = result
        with atomic_file(args.json) as file:
            file.write(f"{json.dumps(kept, indent=1)}\n".encode())

    if args.videos:
        missing = [spec.name for spec in SPECS if "clips_a_second" not in kept.get(spec.name, {})]
        names = [find_backbone(name).name for name in args.names] or missing
        with local_copies(args.videos, args.count) as videos:
            measure_all(names, videos, args.seconds, keep)
    if args.write:
        write_table(args.write, kept)
    return int(any("error" in result for result in kept.values()))


if __name__ == "__main__":
    sys.exit(guarded(main))
