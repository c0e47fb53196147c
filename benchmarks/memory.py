"""Peak memory of `gcf extract`, decoders included, for a 1-minute and a 10-minute video: it must not grow.

python benchmarks/memory.py [--backbone mobilenetv2_0.2x]
"""

import argparse
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE, HEIGHT, WIDTH = 25, 240, 320


def write_video(path: Path, seconds: int) -> None:
    """A synthetic video of drifting noise, H.264, 320 x 240, 25 frames a second."""
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH * 2, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for index in range(seconds * RATE):
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(noise[:, index % WIDTH :][:, :WIDTH]), format="rgb24"
            )
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def resident(pid: int) -> int:
    """Bytes of resident memory of a process and its descendants."""
    total, todo = 0, [pid]
    while todo:
        pid = todo.pop()
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
            for task in Path(f"/proc/{pid}/task").iterdir():
                todo += map(int, (task / "children").read_text().split())
        except OSError:  # ended in the meantime
            continue
    return total


def peak(command: list[str]) -> tuple[int, float]:
    """The most memory that a command and its children held at once, sampled every 50 ms, and its seconds."""
    begun, most = time.monotonic(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            most = max(most, resident(process.pid))
            time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return most, time.monotonic() - begun


def main() -> None:
    """Print one line per length and the growth."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="mobilenetv2_0.2x")
    backbone = parser.parse_args().backbone
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        for minutes in (1, 10):
            video = Path(folder) / f"{minutes}.mp4"
            write_video(video, 60 * minutes)
            command = [sys.executable, "-m", "gcf.cli", "extract", str(video), f"{folder}/{minutes}.h5"]
            peaks[minutes], seconds = peak([*command, "--backbone", backbone, "--weights", "random"])
            print(f"{minutes:2} min: peak {peaks[minutes] / 1e6:.0f} MB, {seconds:.0f} s")
    print(f"growth {(peaks[10] - peaks[1]) / 1e6:+.0f} MB ({backbone}, random weights)")


if __name__ == "__main__":
    main()
