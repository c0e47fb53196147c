"""One video to clips of ready uint8 pixels, decoded once for all that is to be made of it, holding one clip of each."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from gcf.data.schema import VideoInfo
from gcf.errors import VideoError
from gcf.extract.decoding.clips import fill_indices
from gcf.extract.decoding.preprocess import Geometry, View, augmented_view, centre_view, draw_views
from gcf.extract.decoding.sampling import AtRate, Cut, EveryFrame
from gcf.extract.decoding.video import Video


@dataclass(frozen=True)
class ClipJob:
    """What to make of every video: clips of `num_frames`, how to fill the last, how many views of each.

    A video of more than `max_frames` frames, or of more than `max_gigapixels` for a small file, is given up; None sets
    no bound. fps: how many frames of a second are shown, by their times; None shows every frame.
    """

    num_frames: int
    tail: str
    geometry: Geometry
    views: int = 1
    views_seed: int = 0
    max_frames: int | None = None
    max_gigapixels: float | None = None
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
    for _, item in decode_each(path, video_id, {0: job}):
        if isinstance(item, VideoError):
            raise item
        yield item


def decode_each(
    path: str | os.PathLike,
    video_id: str,
    jobs: Mapping[int, ClipJob],
    *,
    after_frame: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, Clip | VideoInfo | VideoError]]:
    """The same for several jobs, the video decoded once: a job's number and its clips in order, then its end.

    The end is the VideoInfo, or a VideoError where this job has no clip. Raises VideoError where none can have any.
    after_frame is called after each frame: it may be long until one more clip is full.
    """
    bounds = {(job.max_frames, job.max_gigapixels) for job in jobs.values()}
    ((max_frames, max_gigapixels),) = bounds  # of a video, not of what is made of it
    video = Video(path, max_frames=max_frames, max_gigapixels=max_gigapixels)
    at_work = {number: _JobAtWork(job, video_id) for number, job in jobs.items()}
    for pixels, begins, ends in video:
        frame = _Frame(pixels)
        for number, job in at_work.items():
            for clip in job.take(frame, begins, ends):
                yield number, clip
        after_frame()
    for number, job in at_work.items():
        for item in job.finish(video.info):
            yield number, item


class _Frame:
    """A decoded frame and what has been made of it, so that jobs of one geometry share the work."""

    def __init__(self, pixels: np.ndarray):
        self.pixels, self.made = pixels, {}

    def views(self, geometry: Geometry, augmented: tuple[View, ...]) -> np.ndarray:
        """(V, h, w, 3): the centre view and the augmented ones."""
        key = geometry, augmented
        if key not in self.made:
            views = [centre_view(self.pixels, geometry)]
            self.made[key] = np.stack(views + [augmented_view(self.pixels, view, geometry.crop) for view in augmented])
        return self.made[key]


class _JobAtWork:
    """A job on its way through a video."""

    def __init__(self, job: ClipJob, video_id: str):
        self.job, self.num_clips = job, 0
        augmented = tuple(draw_views(video_id, count=job.views - 1, seed=job.views_seed))

        def prepare(frame: _Frame) -> np.ndarray:
            return frame.views(job.geometry, augmented)

        if job.fps is None:
            self.cutter = EveryFrame(job.num_frames, prepare=prepare)
        else:
            self.cutter = AtRate(job.num_frames, fps=job.fps, prepare=prepare)

    def take(self, frame: _Frame, begins: float, ends: float) -> Iterator[Clip]:
        """The next frame; gives the clips that are certain now."""
        return self._clips(self.cutter.take(frame, begins, ends))

    def finish(self, info: VideoInfo) -> Iterator[Clip | VideoInfo | VideoError]:
        """What is left after the last frame."""
        yield from self._clips(self.cutter.finish())
        yield info if self.num_clips else VideoError(_too_short(info, self.job))

    def _clips(self, cuts: Iterator[Cut[np.ndarray]]) -> Iterator[Clip]:
        for cut in cuts:
            if len(cut.shown) == self.job.num_frames or self.job.tail != "drop":
                self.num_clips += 1
                yield _clip(cut, self.job)


def _too_short(info: VideoInfo, job: ClipJob) -> str:
    rate = "" if job.fps is None else f" at {job.fps:g} a second, the video {info.duration:g} s"
    return f"too short: {info.num_frames} frames, a clip has {job.num_frames}{rate} and the tail is dropped"


def _clip(cut: Cut[np.ndarray], job: ClipJob) -> Clip:
    order = fill_indices(len(cut.shown), clip_len=job.num_frames, tail=job.tail)
    pixels = np.ascontiguousarray(np.stack([cut.shown[i] for i in order], axis=1))  # (V, T, H, W, 3)
    return Clip(pixels, cut.start_frame, len(cut.shown), cut.start, cut.end)
