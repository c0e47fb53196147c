"""Small videos for tests, written by PyAV; what a frame shows says which frame it is."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def picture(index: int, *, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Frame `index` of the video `seed`: a drifting pattern with a bright square that moves, (H, W, 3) uint8."""
    y, x = np.mgrid[:height, :width]
    channels = [np.sin((x * (c + 1) + y * (seed % 5 + 1) + 3 * index) / 9) for c in range(3)]
    pixels = (np.stack(channels, axis=-1) * 90 + 120).astype(np.uint8)
    top, left = (index * 2 + seed) % max(1, height - 8), (index * 3 + 7 * seed) % max(1, width - 8)
    pixels[top : top + 8, left : left + 8] = 255
    return pixels


def write_video(
    path: Path,
    num_frames: int,
    *,
    size=(48, 64),
    codec="mpeg4",
    seed=0,
    pts=None,
    rate=25,
    pix_fmt="yuv420p",
    **options,
) -> Path:
    """Encode `num_frames` frames of (H, W) `size`; `pts` maps a frame's index to its time stamp in 1/1000 s."""
    path.parent.mkdir(parents=True, exist_ok=True)
    container_options = options.pop("container_options", {})
    with av.open(str(path), "w", container_options=container_options) as container:
        stream = container.add_stream(codec, rate=rate, options={k: str(v) for k, v in options.items()})
        stream.height, stream.width, stream.pix_fmt = *size, pix_fmt
        if pts:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(picture(index, height=size[0], width=size[1], seed=seed), format="rgb24")
            if pts:
                frame.pts, frame.time_base = pts(index), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_folder(root: Path, *, classes=("jump", "run"), videos=3, first_length=20) -> Path:
    """A folder of videos in a sub-folder per class, each of another length."""
    for c, name in enumerate(classes):
        for v in range(videos):
            write_video(root / name / f"v_{name}_g{v + 1:02d}_c01.avi", first_length + 9 * v + 5 * c, seed=10 * c + v)
    return root
