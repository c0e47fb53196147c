"""Extract on a local Ray cluster of two nodes, kill a worker or a node at work, compare with the local engine's bytes.

    python benchmarks/ray_kill.py VIDEOS --backbone tests/tiny_backbone.py [--weights W] [--node] [--kills 1]

Each node has one CPU and one worker with one decoder. The kill falls when the first part is committed, further ones
each time that another part has come. `--node` kills a node's raylet, and its worker with it, not the worker alone.
"""

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ray.cluster_utils import Cluster

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}


def start(args: argparse.Namespace, out: Path, *options: str, address: str = "") -> subprocess.Popen:
    """The extraction as a user would run it, with one thread, as each worker has."""
    command = [sys.executable, "-m", "gcf.cli", "extract", args.videos, str(out), "--backbone", args.backbone]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "RAY_ADDRESS": address}
    return subprocess.Popen([*command, "--weights", args.weights, *options], env=environment, stdout=subprocess.DEVNULL)


def workers_of(node) -> list[int]:
    """Process ids of the extraction's workers on a node: children of its raylet."""
    raylets, found = {p.process.pid for p in node.all_processes["raylet"]}, []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent in raylets and b"ray::RayWorker" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:  # it has ended
            continue
    return found


def kill_one(cluster: Cluster, *, whole_node: bool) -> str:
    """Kill a worker that is there, or its node; what was killed."""
    while True:
        for node in list(cluster.worker_nodes):
            if pids := workers_of(node):
                if not whole_node:
                    os.kill(pids[0], signal.SIGKILL)
                    return f"worker process {pids[0]}"
                raylet = node.all_processes["raylet"][0].process.pid
                cluster.remove_node(node, allow_graceful=False)
                cluster.add_node(**NODE)
                return f"node (raylet {raylet}) with worker {pids[0]}; another node joined"
        time.sleep(0.01)


def extract_and_kill(args: argparse.Namespace, cluster: Cluster, out: Path) -> int:
    """Run on the cluster with kills; how many there were. Prints what happened when."""
    begun, kills, seen = time.monotonic(), 0, 0
    process = start(args, out, "--engine", "ray", "--workers", "1", address=cluster.address)
    while process.poll() is None:
        parts = len(list(out.with_name(out.name + ".parts").glob("part-*.h5")))
        if kills < args.kills and parts > seen:
            seen, kills = parts, kills + 1
            print(
                f"{time.monotonic() - begun:5.1f} s, {parts} parts: killed {kill_one(cluster, whole_node=args.node)}",
                flush=True,
            )
        time.sleep(0.02)
    print(f"{time.monotonic() - begun:5.1f} s: exit code {process.returncode}", flush=True)
    return kills


def main() -> None:
    """Print what happened and the verdict; exit 1 when a byte differs, nothing was killed or something is left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos")
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--weights", default="default")
    parser.add_argument("--node", action="store_true")
    parser.add_argument("--kills", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        local, out = Path(name) / "local.h5", Path(name) / "ray.h5"
        begun = time.monotonic()
        start(args, local).wait()
        print(f"{time.monotonic() - begun:5.1f} s: local engine, {local.stat().st_size:,} bytes")
        head = {**NODE, "num_cpus": 0, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            cluster.add_node(**NODE)
            cluster.add_node(**NODE)
            kills = extract_and_kill(args, cluster, out)
        finally:
            cluster.shutdown()
        digests = [hashlib.sha256(p.read_bytes()).hexdigest()[:16] if p.exists() else "absent" for p in (local, out)]
        left = sorted(p.name for p in Path(name).iterdir() if p not in (local, out))
        same = digests[0] == digests[1]
        verdict = "same bytes" if same else "DIFFERENT"
        print(f"{kills} killed: {verdict}, sha256 {' '.join(digests)}, left: {left or 'nothing'}")
    sys.exit(not same or not kills or bool(left))


if __name__ == "__main__":
    main()
