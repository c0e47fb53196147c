"""One video to clips of ready uint8 pixels, holding one clip in memory at a time."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gcf.data.schema import VideoInfo
from gcf.errors import VideoError
from gcf.extract.clips import fill_indices
from gcf.extract.preprocess import Geometry, augmented_view, centre_view, draw_views
from gcf.extract.video import Video


@dataclass(frozen=True)
class ClipJob:
    """What to make of every video: clips of `num_frames`, how to fill the last, how many views of each.

    A video of more than `max_frames` frames is given up; None sets no bound.
    """

    num_frames: int
    tail: str
    geometry: Geometry
    views: int = 1
    views_seed: int = 0
    max_frames: int | None = None


@dataclass(frozen=True)
class Clip:
    """One clip: pixels (V, T, H, W, 3) uint8, its place in frames and seconds, and how many frames are real."""

    pixels: np.ndarray
    start_frame: int
    num_real: int
    start_time: float
    end_time: float


def decode_clips(path: str | os.PathLike, video_id: str, job: ClipJob) -> Iterator[Clip | VideoInfo]:
    """The clips of a video in order, then its VideoInfo. Raises VideoError with the reason where there are none."""
    video, frames, num_clips = Video(path, max_frames=job.max_frames), [], 0
    augmented = draw_views(video_id, count=job.views - 1, seed=job.views_seed)
    start = 0.0
    for pixels, begins, ends in video:
        start = start if frames else begins
        frames.append(_views(pixels, augmented, job.geometry))
        last_end = ends
        if len(frames) == job.num_frames:
            yield _clip(frames, num_clips, (start, last_end), job)
            num_clips += 1
            frames = []
    if frames and job.tail != "drop":
        yield _clip(frames, num_clips, (start, last_end), job)
        num_clips += 1
    if not num_clips:
        raise VideoError(
            f"too short: {video.info.num_frames} frames, a clip has {job.num_frames} and the tail is dropped"
        )
    yield video.info


def _views(pixels: np.ndarray, augmented: list, geometry: Geometry) -> np.ndarray:
    """One frame's views, (V, H, W, 3)."""
    return np.stack(
        [centre_view(pixels, geometry)] + [augmented_view(pixels, view, geometry.crop) for view in augmented]
    )


def _clip(frames: list[np.ndarray], index: int, times: tuple[float, float], job: ClipJob) -> Clip:
    order = fill_indices(len(frames), clip_len=job.num_frames, tail=job.tail)
    pixels = np.ascontiguousarray(np.stack([frames[i] for i in order], axis=1))  # (V, T, H, W, 3)
    return Clip(pixels, index * job.num_frames, len(frames), *times)
