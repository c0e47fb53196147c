"""A clip made here, decoded as extraction decodes: do its colours, frames and times come out as they went in?"""

import tempfile
from pathlib import Path

import av
import numpy as np

from gcf.data.schema import VideoInfo
from gcf.explain.doctor.finding import FAULT, OK, WARNING, Finding
from gcf.extract.decoding.find import VideoPath
from gcf.extract.decoding.jobs import Clip, ClipJob
from gcf.extract.decoding.pool import DecoderPool
from gcf.extract.decoding.preprocess import Geometry

SIDE, RATE = 64, 25  # pixels, frames a second
NUM_FRAMES, CLIP_FRAMES = 18, 16  # two clips, the second of two frames
COLOURS = ((200, 40, 40), (40, 200, 40), (40, 40, 200))  # RGB of the left, middle and right third of every frame
STEP = 3  # grey levels by which every frame is brighter than the one before it
TOLERANCE = 8.0  # grey levels; mpeg4 at its best quality was within 3, a swap of channels or of frames 16 apart is far
DEADLINE = 20.0  # seconds without progress
DO = "PyAV or the worker process does not work: reinstall PyAV (python -m pip install --force-reinstall av)"


def check_decoding() -> Finding:
    """Write a clip with PyAV, decode it through a real decoder process, compare every frame's colours and time."""
    with tempfile.TemporaryDirectory(prefix="gcf-doctor-") as folder:
        path = Path(folder) / "clip.mp4"
        try:
            write_clip(path)
        except (av.error.FFmpegError, ValueError, OSError) as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())
            return Finding("decoding", WARNING, f"not tried: no test clip could be written ({said})", DO)
        wrong = what_is_wrong(decode_clip(path))
    if wrong:
        return Finding("decoding", FAULT, wrong, DO)
    return Finding("decoding", OK, f"a clip of {NUM_FRAMES} frames came back through a decoder process as it was made")


def write_clip(path: Path) -> None:
    """Three coloured bars that brighten from frame to frame, as mpeg4."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE, options={"qmin": "1", "qmax": "2"})
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        for index in range(NUM_FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(index), format="rgb24")))
        container.mux(stream.encode())


def picture(index: int) -> np.ndarray:
    """Frame `index` as it is meant to come back, (H, W, 3) uint8."""
    bars = np.repeat(np.array(COLOURS), [SIDE // 3, SIDE - 2 * (SIDE // 3), SIDE // 3], axis=0)  # (W, 3)
    return np.broadcast_to(bars + STEP * index, (SIDE, SIDE, 3)).astype(np.uint8)


def decode_clip(path: Path) -> list:
    """What the decoder process gives: Clips and a VideoInfo, or Failed."""
    job = ClipJob(CLIP_FRAMES, "loop", Geometry(SIDE, (SIDE, SIDE)))
    pool = DecoderPool([VideoPath(str(path), path.name)], [job], num_workers=1, ahead=2, deadline=DEADLINE)
    return [item for _, _, item in pool]


def what_is_wrong(items: list) -> str:
    """In words; '' where all is as it was made."""
    clips, last = [item for item in items if isinstance(item, Clip)], items[-1] if items else None
    if not isinstance(last, VideoInfo):
        return f"a clip made here cannot be decoded ({getattr(last, 'error', 'the decoder gave nothing')})"
    if last.num_frames != NUM_FRAMES or [clip.num_real for clip in clips] != [CLIP_FRAMES, NUM_FRAMES - CLIP_FRAMES]:
        return f"{last.num_frames} frames came back of {NUM_FRAMES}, in clips of {[clip.num_real for clip in clips]}"
    if abs(last.duration - NUM_FRAMES / RATE) > 0.5 / RATE:
        return f"{last.duration:.3f} s came back of {NUM_FRAMES / RATE:.3f} s"
    shown = np.concatenate([clip.pixels[0, : clip.num_real] for clip in clips]).astype(float)  # (T, H, W, 3)
    meant = np.stack([picture(index) for index in range(NUM_FRAMES)])
    middles = [SIDE // 6, SIDE // 2, SIDE - SIDE // 6]  # columns: chroma is smeared where bars meet
    worst = float(np.abs(shown - meant)[:, :, middles].max())
    if worst > TOLERANCE:
        return f"colours came back up to {worst:.0f} grey levels off, at most {TOLERANCE:g} are mpeg4's own"
    return ""
