"""Kill or fail stage one's storage at every call that changes the disk, resume it, and count what was not as promised.

    python benchmarks/crash_points.py [--every 1] [--jobs 2] [--folder /dev/shm]

Decoders and network are made up (tests/crash_storage.py), all that writes is real: `gcf extract` of new videos,
`gcf extract --update` of a finished file, `gcf merge`. A point is one call of the main process (open with O_CREAT,
write, pwrite, writev, truncate, fsync, rename, link, unlink, mkdir, rmdir). Promised: no video that was committed is
lost or done again, none is there twice, the final file has the bytes of an undisturbed run, nothing temporary is left;
a disk that fails gives exit code 5 (4 where nothing was begun), no traceback, no signal. Needs a C compiler.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.append(str(TESTS))
from shims import build_shim  # noqa: E402 - it lies beside what it builds


def start(folder: Path, library: Path, *, every: int, offset: int) -> subprocess.Popen:
    """A process that walks every `every`-th point, one JSON object a line in `outcomes` in its folder."""
    folder.mkdir()
    command = [sys.executable, TESTS / "crash_storage.py", folder, "--every", str(every), "--offset", str(offset)]
    environment = os.environ | {"LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with (folder / "outcomes").open("w") as file:
        return subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.DEVNULL)


def _kind(message: str) -> str:
    """A message without the numbers and folders of one run."""
    return re.sub(r"[\d,]+ bytes", "N bytes", re.sub(r"/\S*/(work/)?|\.\d+\.tmp", "", message))


def show(outcomes: list[dict]) -> int:
    """Print the table; how many points had a problem."""
    groups = defaultdict(list)
    for outcome in outcomes:
        groups[outcome["scenario"], outcome["mode"]].append(outcome)
    print(f"{'scenario':24}{'mode':28}{'points':>7}{'problems':>9}  exit codes")
    for (scenario, mode), found in groups.items():
        codes = ", ".join(f"{code}: {count}" for code, count in sorted(Counter(o["code"] for o in found).items()))
        print(f"{scenario:24}{mode:28}{len(found):7}{sum(bool(o['problems']) for o in found):9}  {codes}")
    bad = [o for o in outcomes if o["problems"]]
    for outcome in bad[:20]:
        print(f"  {outcome['scenario']}, {outcome['mode']}, call {outcome['k']}: {'; '.join(outcome['problems'])}")
    for message in sorted({_kind(o["message"]) for o in outcomes if o["code"] in (4, 5)}):
        print(f"  said: {message}")
    return len(bad)


def main() -> None:
    """Walk, print, exit 1 where anything was not as promised."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="only every N-th point")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where to work; a file system in memory is fastest")
    args = parser.parse_args()
    begun, outcomes = time.monotonic(), []
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder, step = Path(name), args.every * args.jobs
        library = build_shim("crash_shim", folder)
        walkers = [start(folder / str(job), library, every=step, offset=job * args.every) for job in range(args.jobs)]
        codes = [walker.wait() for walker in walkers]
        if any(codes):
            sys.exit("a walk did not come to its end")
        for job in range(args.jobs):
            outcomes += [json.loads(line) for line in (folder / str(job) / "outcomes").read_text().splitlines()]
    bad = show(outcomes)
    print(f"{len(outcomes)} points, {bad} with problems, {time.monotonic() - begun:.0f} s")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
