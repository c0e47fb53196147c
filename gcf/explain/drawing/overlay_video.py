"""The overlay video: every frame with its heat and facts at its own time, and the sound kept."""

import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import av.logging
import numpy as np
from av.video.reformatter import VideoReformatter

from gcf.data.atomic import atomic_file
from gcf.data.disk import disk_faults
from gcf.data.schema import Clips
from gcf.data.segments import Segment
from gcf.errors import VideoError
from gcf.explain.drawing.overlay import Overlay
from gcf.explain.drawing.pictures import require_same
from gcf.explain.drawing.sound import Sound
from gcf.explain.drawing.strip import Facts
from gcf.explain.reading.clip_reading import Localization
from gcf.extract.decoding.video import Video

TICK = Fraction(1, 60_000)  # of 24, 25, 30 and 60 frames a second, and the finest that MPEG-4 part 2 allows
BT709 = 1  # ITU-T H.273, tables 2 to 4: what players assume, said aloud
KEY_EVERY = 25  # frames, so that a player finds any moment at once
# H.264 where PyAV was built with it; MPEG-4 part 2, which browsers do not play, where not
CODECS = (("libx264", {"crf": "23", "preset": "veryfast"}), ("mpeg4", {"qmin": "3", "qmax": "6"}))


def write_overlay(
    out: str | os.PathLike,
    video_path: str | os.PathLike,
    localization: Localization,
    *,
    segments: Sequence[Segment] = (),
) -> str:
    """Write an MP4 of the video as `localization` sees it; the note says what is missing of the sound, '' if nothing.

    The first frame is at second 0, the others where their time stamps say. Frames beyond the first damage are left
    out, as in the reading. segments: what is annotated, to be drawn below. Raises VideoError where the video cannot be
    read again, or is another now, RefusedError or StoppedError where `out` cannot be written; nothing is left then.
    """
    facts = Facts.of(localization, segments)
    video = Video(video_path)
    require_same(video, localization.reading.info)
    out = Path(out)
    with disk_faults(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(out) as file:
            return _encode(os.path.abspath(file.name), video, localization, facts)


def _encode(path: str, video: Video, localization: Localization, facts: Facts) -> str:
    """Pictures and sound into the file at `path`, in one pass over the video."""
    frames = _drawn(video, localization, facts)
    first = next(frames)
    sound = Sound(video, video.first_time)
    try:
        with av.open(path, "w", format="mp4", container_options={"movflags": "faststart"}) as container:
            pictures = _Pictures(container, first[0].shape[:2], video.fps)
            sound.join(container)
            for pixels, start, end in chain([first], frames):
                pictures.add(pixels, start, end)
                sound.mux(container, start)
            pictures.finish()
            sound.mux(container, end)
    except av.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise VideoError(f"cannot be drawn as a video: {error.strerror}") from error
    finally:
        sound.close()
    return sound.note


def _drawn(video: Video, localization: Localization, facts: Facts) -> Iterator[tuple[np.ndarray, float, float]]:
    """Each frame drawn, and the seconds at which it begins and ends, from the first frame on."""
    clips, heat, overlay = localization.reading.clips, localization.heat, None
    for number, (frame, start, end) in enumerate(video):
        if overlay is None:
            origin, geometry = start, heat and heat.geometry
            overlay = Overlay(facts, frame.shape[:2], pixel_aspect=video.pixel_aspect, geometry=geometry)
        clip, place = place_of(clips, number, start, fps=localization.reading.sampling_fps)
        hot = None
        if heat is not None and clip is not None and heat.shown[clip]:
            hot = heat.frame(clip, place, overlay.blend_size)
        yield overlay.draw(frame, hot, clip, start - origin), start - origin, end - origin


def place_of(clips: Clips, number: int, start: float, *, fps: float | None) -> tuple[int | None, int]:
    """The clip that holds frame `number`, which begins at `start`, and its place there; None between clips, and 0.

    fps: that of the frames of a clip, where they were chosen by their times: its places lie 1 / fps apart then, and a
    frame that the network did not see has the place nearest to it.
    """
    if fps is None:
        clip = clip_of(clips, number)
        return clip, 0 if clip is None else number - int(clips.start_frame[clip])
    clip = int(np.searchsorted(clips.start_time, start, side="right")) - 1
    if clip < 0 or start >= clips.end_time[clip]:
        return None, 0
    place = round(float(start - clips.start_time[clip]) * fps)
    return clip, min(place, int(clips.num_frames[clip]) - 1)


def clip_of(clips: Clips, number: int) -> int | None:
    """The clip that holds frame `number`; None between clips and after the last."""
    clip = int(np.searchsorted(clips.start_frame, number, side="right")) - 1
    return clip if clip >= 0 and number < clips.start_frame[clip] + clips.num_frames[clip] else None


class _Pictures:
    """The video stream of an MP4."""

    def __init__(self, container: av.container.OutputContainer, size: tuple[int, int], fps: float):
        codec, options = next((c, o) for c, o in CODECS if c in av.codecs_available)
        self.container = container
        rate = Fraction(fps).limit_denominator(1001) if 1 <= fps <= 1000 else Fraction(25)
        self.stream = container.add_stream(codec, rate=rate, options=dict(options))
        self.stream.height, self.stream.width = size
        self.stream.pix_fmt = "yuv420p"
        context = self.stream.codec_context
        context.time_base, context.gop_size = TICK, KEY_EVERY
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = 1  # 16..235, as players expect
        self.reformatter = VideoReformatter()
        self.last, self.lengths = -1, {}

    def add(self, pixels: np.ndarray, start: float, end: float) -> None:
        """Encode a frame that is shown from `start` to `end`, in seconds."""
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame = self.reformatter.reformat(frame, format="yuv420p", dst_colorspace="ITU709", threads=1)
        self.last = frame.pts = max(self.last + 1, round(start / TICK))
        frame.time_base = TICK
        self.lengths[frame.pts] = max(1, round(end / TICK) - frame.pts)
        self._mux(frame)

    def finish(self) -> None:
        """Encode what is still held back."""
        self._mux(None)

    def _mux(self, frame: av.VideoFrame | None) -> None:
        with av.logging.Capture():  # else the decoder, in the same thread, would take it for damage
            for packet in self.stream.encode(frame):
                packet.duration = self.lengths.pop(packet.pts, 0)  # of the last frame nothing else tells it
                self.container.mux(packet)
