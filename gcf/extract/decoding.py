"""One video to clips of ready uint8 pixels, holding one clip in memory at a time."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gcf.data.schema import VideoInfo
from gcf.errors import VideoError
from gcf.extract.clips import fill_indices
from gcf.extract.preprocess import Geometry, augmented_view, centre_view, draw_views
from gcf.extract.sampling import Cut, at_rate, every_frame
from gcf.extract.video import Video


@dataclass(frozen=True)
class ClipJob:
    """What to make of every video: clips of `num_frames`, how to fill the last, how many views of each.

    A video of more than `max_frames` frames is given up; None sets no bound. fps: how many frames of a second are
    shown, by their times; None shows every frame.
    """

    num_frames: int
    tail: str
    geometry: Geometry
    views: int = 1
    views_seed: int = 0
    max_frames: int | None = None
    fps: float | None = None

    @classmethod
    def from_recipe(cls, recipe: dict, **more) -> "ClipJob":
        """What a feature file's recipe says of clips, of the centre view alone; more: the other fields."""
        geometry, fps = Geometry.from_recipe(recipe), recipe.get("sampling_fps")
        return cls(recipe["num_frames"], recipe["tail"], geometry, fps=fps, **more)


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
    video, num_clips = Video(path, max_frames=job.max_frames), 0
    augmented = draw_views(video_id, count=job.views - 1, seed=job.views_seed)
    for cut in _cuts(video, augmented, job):
        if len(cut.shown) == job.num_frames or job.tail != "drop":
            yield _clip(cut, job)
            num_clips += 1
    if not num_clips:
        raise VideoError(_too_short(video.info, job))
    yield video.info


def _cuts(video: Video, augmented: list, job: ClipJob) -> Iterator[Cut[np.ndarray]]:
    """The clips of the video, of frames' views (V, H, W, 3)."""

    def prepare(pixels: np.ndarray) -> np.ndarray:
        return _views(pixels, augmented, job.geometry)

    if job.fps is None:
        return every_frame(video, num_frames=job.num_frames, prepare=prepare)
    return at_rate(video, num_frames=job.num_frames, fps=job.fps, prepare=prepare)


def _too_short(info: VideoInfo, job: ClipJob) -> str:
    rate = "" if job.fps is None else f" at {job.fps:g} a second, the video {info.duration:g} s"
    return f"too short: {info.num_frames} frames, a clip has {job.num_frames}{rate} and the tail is dropped"


def _views(pixels: np.ndarray, augmented: list, geometry: Geometry) -> np.ndarray:
    """One frame's views, (V, H, W, 3)."""
    return np.stack(
        [centre_view(pixels, geometry)] + [augmented_view(pixels, view, geometry.crop) for view in augmented]
    )


def _clip(cut: Cut[np.ndarray], job: ClipJob) -> Clip:
    order = fill_indices(len(cut.shown), clip_len=job.num_frames, tail=job.tail)
    pixels = np.ascontiguousarray(np.stack([cut.shown[i] for i in order], axis=1))  # (V, T, H, W, 3)
    return Clip(pixels, cut.start_frame, len(cut.shown), cut.start, cut.end)
