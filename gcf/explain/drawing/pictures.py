"""One picture per video: a frame of every clip, and below it what the head made of that clip."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from gcf.data.atomic import atomic_file
from gcf.data.schema import Clips, VideoInfo
from gcf.data.segments import Segment
from gcf.data.text import printable
from gcf.errors import VideoError
from gcf.extract.decoding.sampling import ROUNDING
from gcf.extract.decoding.video import Video

INCHES, DPI = 12.0, 110
TALLEST = 4.0  # inches of the strip of frames
MOST_CLIPS = 40  # more would be too narrow to see
FRAME_PIXELS = 320  # a frame in the strip is no larger
TIMES_SHOWN = 16  # labels that fit on the axis


@dataclass(frozen=True, eq=False)
class Reading:
    """What a head made of a video's C clips; None where it has no such thing.

    evidence (C,): share of the logit of the class in the title. gate (C,). attention (C,): how much the fusion took
    from each clip, the mean over all clips that took; it sums to 1. sampling_fps: of the frames of a clip, where they
    were chosen by their times.
    """

    title: str
    evidence: np.ndarray | None
    gate: np.ndarray | None
    attention: np.ndarray | None = None
    segments: Sequence[Segment] = ()
    sampling_fps: float | None = None


def draw_video(path: Path, video: str | os.PathLike, clips: Clips, reading: Reading, *, origin: float) -> None:
    """Write a PNG: frames of at most 40 clips over evidence as bars, gate and attention as points; segments shaded.

    Clips stand side by side, whatever lies between them; a segment reaches from the clip where it begins to the one
    where it ends. origin: the time stamp of the video's first frame, from which segments count. Raises VideoError or
    OSError where the video cannot be read again or the picture not written.
    """
    count = len(clips.start_frame)
    places = np.unique(np.linspace(0, count - 1, min(count, MOST_CLIPS)).round().astype(int))
    shown = Clips(**{name: values[places] for name, values in vars(clips).items()})
    frames = middle_frames(video, shown, fps=reading.sampling_fps)
    figure = Figure(figsize=(1, 1), layout="constrained")
    strip = min(TALLEST, INCHES * 0.92 / len(frames) * max(f.shape[0] / f.shape[1] for f in frames))
    figure.set_size_inches(INCHES, strip + 2.6)
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(strip, 2.0))
    _draw_frames(top, frames, printable(reading.title))
    _draw_segments(below, shown, reading.segments, origin)
    _draw_bars(below, reading.evidence, places)
    _draw_shares(below.twinx(), reading, places)
    ticks = np.arange(0, len(frames), -(-len(frames) // TIMES_SHOWN))
    which = f"clip, by its start in s{f'; {len(frames)} of {count}' if len(frames) < count else ''}"
    below.set(xticks=ticks, xticklabels=[f"{shown.start_time[t] - origin:.1f}" for t in ticks], xlabel=which)
    if any(axes.get_legend_handles_labels()[0] for axes in figure.axes):
        figure.legend(loc="outside lower center", ncols=4, fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in letters that the font has not
        figure.savefig(file, dpi=DPI, format="png")


def middle_frames(video: str | os.PathLike, clips: Clips, *, fps: float | None = None) -> list[np.ndarray]:
    """The middle frame (h, w, 3) uint8 of every clip, made small; the rest as `clip_frames`."""
    return clip_frames(Video(video), clips, clips.num_frames // 2, fps=fps)


def clip_frames(video: Video, clips: Clips, places: np.ndarray, *, fps: float | None) -> list[np.ndarray]:
    """The frame (h, w, 3) uint8 at a place (C,) of every clip, made small; clips in the order of time.

    fps: that of the frames of a clip, where they were chosen by their times; None where it has every frame.
    """
    if fps is None:
        return small_frames(video, (clips.start_frame + places).tolist())
    return frames_near(video, (clips.start_time + places / fps).tolist())


def small_frames(video: Video, wanted: Sequence[int]) -> list[np.ndarray]:
    """Frames (h, w, 3) uint8 by their numbers, which rise, made small; no frame after the last of them is decoded."""
    found = {}
    for number, (frame, _, _) in enumerate(video):
        if number in wanted:
            found[number] = _small(frame)
        if number >= wanted[-1]:
            break
    if len(found) < len(set(wanted)):
        raise VideoError("not the video that was classified: it has fewer frames now")
    return [found[number] for number in wanted]


def frames_near(video: Video, moments: Sequence[float]) -> list[np.ndarray]:
    """The frames (h, w, 3) uint8 nearest to `moments`, in seconds, which rise, made small; as `small_frames`."""
    found, frame = [], None
    for frame, start, end in video:
        while len(found) < len(moments) and moments[len(found)] <= (start + end) / 2 + ROUNDING:
            found.append(_small(frame))
        if len(found) == len(moments):
            return found
    return found + [_small(frame)] * (len(moments) - len(found))  # shown until the video ends


def _small(frame: np.ndarray) -> np.ndarray:
    small = Image.fromarray(frame)
    small.thumbnail((FRAME_PIXELS, FRAME_PIXELS))
    return np.asarray(small)


def require_same(video: Video, info: VideoInfo) -> None:
    """Raise VideoError unless the file is, by size and time, the one that was read."""
    if (video.stat.st_size, video.stat.st_mtime_ns) != (info.size, info.mtime_ns):
        raise VideoError("not the video that was read: its size or its time is another now")


def _draw_frames(axes, frames: Sequence[np.ndarray], title: str) -> None:
    for place, frame in enumerate(frames):
        axes.imshow(frame, extent=(place + 0.02, place + 0.98, 0, 1), aspect="auto")
    axes.set(xlim=(0, len(frames)), ylim=(0, 1), yticks=[])
    axes.set_title(title, parse_math=False)
    axes.tick_params(bottom=False, labelbottom=False)


def _draw_bars(axes, evidence: np.ndarray | None, places: np.ndarray) -> None:
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set(ylabel="evidence")
    if evidence is not None:
        middles = np.arange(len(places)) + 0.5
        axes.bar(
            middles, evidence[places], width=0.8, color="tab:blue", alpha=0.5, label="evidence, share of the logit"
        )


def _draw_shares(axes, reading: Reading, places: np.ndarray) -> None:
    """What lies between 0 and 1, on an axis of its own."""
    middles = np.arange(len(places)) + 0.5
    if reading.attention is not None:
        axes.plot(middles, reading.attention[places], "s-", color="tab:red", label="attention that the clip receives")
    if reading.gate is not None:
        axes.plot(middles, reading.gate[places], "o", color="tab:orange", label="gate")
    axes.set(ylim=(0, 1), ylabel="gate, attention")


def _draw_segments(axes, clips: Clips, segments: Sequence[Segment], origin: float) -> None:
    """Shade what is annotated; seconds become places on an axis where clips stand side by side."""
    seconds = np.append(clips.start_time, clips.end_time[-1]) - origin
    for number, segment in enumerate(segments):
        start, end = np.interp([segment.start, segment.end], seconds, np.arange(len(seconds)))
        axes.axvspan(start, end, color="tab:green", alpha=0.18, label="" if number else "annotated")
