"""One local video file, decoded forward once: upright RGB frames with their times, bounded and suspicious.

Why each guard is there is measured in the project's robustness notes: playlists disguised as videos make FFmpeg open
other files unless the container formats are listed; threaded decoding can deadlock; most damage raises nothing.
"""

import os
import stat
from collections.abc import Iterator
from fractions import Fraction

import av
import av.logging
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from gcf.data.schema import VideoInfo
from gcf.errors import VideoError

# Real containers and raw streams only: no playlist, concat script, SDP, image sequence, device or network format.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,h264,hevc,m4v,mp3,mxf,rm,"
    "yuv4mpegpipe,dv,ivf,obu"
)
MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")
MAX_PIXELS = 1 << 26  # a frame of 8192 x 8192; 16000 x 16000 took 1.1 GiB


class Video:
    """An open video: iterate once for (frame (H, W, 3) uint8 upright RGB, start, end in seconds), then read `info`.

    Iteration ends before the first damaged frame and `note` then says why; nothing across an error is given.
    `pixel_aspect` is an upright pixel's width over its height, known with the first frame; 1 where the file is silent.
    Raises VideoError, with the reason as its message, where nothing can be had from the file.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = os.path.abspath(os.fsencode(path))  # absolute: "concat:a" or "http:x.mp4" are file names here
        self.stat = _require_regular_file(self.path)
        self.note = self.late_start = ""
        self.num_frames = self.width = self.height = 0
        self.first_time = self.last_time = 0.0
        self.pixel_aspect = 1.0
        self.logs: list = []

    def __iter__(self) -> Iterator[tuple[np.ndarray, float, float]]:
        av.logging.set_level(av.logging.ERROR)
        av.logging.set_skip_repeated(False)
        with av.logging.Capture() as self.logs, self.open() as container:
            self.logs.clear()  # probing complains about what decoding then manages, or complains about again
            stream = _video_stream(container)
            self.fps = float(stream.average_rate or stream.guessed_rate or 0)
            self.announced = stream.frames
            yield from self._with_ends(self._frames(container, stream))
        if not self.num_frames:
            reason = self.late_start or self.note
            if "max pixel count" in reason:
                raise VideoError(f"frame too large: over {MAX_PIXELS} pixels")
            raise VideoError(f"no frames decoded{': ' + reason if reason else ''}")
        if self.late_start and not self.note:
            self.note = f"starts at its first clean key frame: {self.late_start}"
        elif self.note:
            self.note = f"{self.num_frames} of {self.announced or 'an unknown number of'} frames: {self.note}"
        now = os.stat(self.path) if os.path.exists(self.path) else None
        if now is None or (now.st_size, now.st_mtime_ns) != (self.stat.st_size, self.stat.st_mtime_ns):
            raise VideoError("changed while it was read")

    @property
    def info(self) -> VideoInfo:
        """The facts of the video, once it has been iterated."""
        return VideoInfo(
            fps=self.fps,
            num_frames=self.num_frames,
            width=self.width,
            height=self.height,
            duration=self.last_time - self.first_time,
            size=self.stat.st_size,
            mtime_ns=self.stat.st_mtime_ns,
            status="partial" if self.note else "ok",
            note=self.note,
        )

    def open(self) -> av.container.InputContainer:
        """The file's container, opened with every guard; for its other streams, whoever opens it closes it."""
        options = {"format_whitelist": FORMATS, "max_pixels": str(MAX_PIXELS)}
        try:
            return av.open(os.fsdecode(self.path), options=options, metadata_errors="replace")
        except Exception as error:  # damaged files raise LookupError, EOFError, MemoryError, ... as well
            raise VideoError(_opening_failure(self.path, error, self._log_text())) from error

    def _frames(self, container, stream) -> Iterator[tuple[np.ndarray, float]]:
        """Frames before the first sign of damage, each with its start in seconds."""
        reformatter, turn, num_packets, last = VideoReformatter(), None, 0, -np.inf
        try:
            for packet in container.demux(stream):
                num_packets += packet.size > 0
                for frame in packet.decode():
                    damage = self._damage(frame)
                    if damage and self.num_frames:
                        self.note = damage
                        return
                    if damage or (self.late_start and not self.num_frames and not frame.key_frame):
                        self.late_start = self.late_start or damage  # cut out of a longer stream: wait for a key frame
                        self.logs.clear()
                        continue
                    if turn is None:
                        turn, self.pixel_aspect = _upright(frame), _pixel_aspect(frame, stream)
                    rgb = reformatter.reformat(frame, format="rgb24", threads=1)
                    pixels = np.ascontiguousarray(turn(rgb.to_ndarray()))
                    last = max(last, self._time(frame))  # joined streams go back in time; a clip must not
                    yield pixels, last
                    self.num_frames += 1
                    self.height, self.width = self.height or pixels.shape[0], self.width or pixels.shape[1]
        except MemoryError:
            raise
        except Exception as error:
            self.note = str(self._log_text() or error)
            return
        self.note = self._log_text() or self._missing(container.format.name, num_packets)

    def _missing(self, container_format: str, num_packets: int) -> str:
        """What a file that decodes without complaint still lacks: its end."""
        if container_format == "avi":  # its frame count includes empty chunks for dropped frames
            with open(self.path, "rb") as file:
                wanted = int.from_bytes(file.read(8)[4:], "little") + 8  # RIFF: the size after the first 8 bytes
            return f"{self.stat.st_size} of {wanted} bytes" if self.stat.st_size < wanted else ""
        if num_packets < self.announced:  # edit lists drop frames, never packets
            return f"{num_packets} of {self.announced} packets found"
        return ""

    def _time(self, frame) -> float:
        if frame.pts is not None:
            return float(frame.pts * frame.time_base)
        return self.num_frames / self.fps if self.fps else float(self.num_frames)  # raw streams have no clock

    def _damage(self, frame) -> str:
        if frame.width * frame.height > MAX_PIXELS:
            return f"frame too large: {frame.width} x {frame.height}"
        return self._log_text() or ("a frame is marked as corrupt" if frame.is_corrupt else "")

    def _with_ends(self, frames) -> Iterator[tuple[np.ndarray, float, float]]:
        """Each frame ends where the next begins; the last lasts as long as the one before it."""
        held, gap = None, 1 / self.fps if self.fps else 0.0
        for pixels, time in frames:
            if held is None:
                self.first_time = time
            else:
                gap = time - held[1]
                yield *held, time
            held = pixels, time
        if held is not None:
            self.last_time = held[1] + gap
            yield *held, self.last_time

    def _log_text(self) -> str:
        """The first thing that FFmpeg complained about, in one line."""
        return "" if not self.logs else f"{self.logs[0][1]}: {' '.join(self.logs[0][2].split())}"


def _require_regular_file(path: bytes) -> os.stat_result:
    """Stat of a regular, non-empty, readable file; a FIFO or device is never waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise VideoError(f"cannot be opened: {os.strerror(error.errno)}") from None
    try:
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise VideoError("not a regular file")
    if found.st_size == 0:
        raise VideoError("empty")
    return found


def _opening_failure(path: bytes, error: Exception, log: str) -> str:
    if "whitelist" in log or "m3u8" in log:
        return "format not allowed: a playlist, script or image list, not a video container"
    if "moov atom not found" in log and _head(path)[4:8] in MP4_BOXES:  # anything named .mp4 is taken for one
        return "truncated: no index (moov atom not found)"
    if isinstance(error, av.error.InvalidDataError):
        return "not a video, or its header is damaged"
    return f"cannot be opened: {log or type(error).__name__ + ': ' + str(error)}"


def _head(path: bytes) -> bytes:
    with open(path, "rb") as file:
        return file.read(8)


def _video_stream(container):
    """The first video stream that is no cover picture, set to decode in one thread within the pixel bound."""
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise VideoError("no video stream")
    stream = streams[0]
    if stream.codec_context is None:
        raise VideoError("no decoder for its codec")
    context = stream.codec_context
    if context.width * context.height > MAX_PIXELS:
        raise VideoError(f"frame too large: {context.width} x {context.height}, at most {MAX_PIXELS} pixels")
    stream.thread_type = "NONE"
    context.thread_count = 1
    context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream


def _upright(frame):
    """The turn or mirroring that the display matrix asks for, as a function on (H, W, 3) arrays.

    Only quarter turns and mirrors are applied; any other angle is left as stored.
    """
    a, b, c, d = _turn(frame)
    if a and d and not b and not c:
        return lambda pixels: pixels[:: 1 if d > 0 else -1, :: 1 if a > 0 else -1]
    if b and c and not a and not d:
        return lambda pixels: pixels.transpose(1, 0, 2)[:: 1 if b > 0 else -1, :: 1 if c > 0 else -1]
    return lambda pixels: pixels


def _turn(frame) -> tuple[int, ...]:
    """(a, b, c, d) of the display matrix, each -1, 0 or 1.

    The matrix maps stored to shown coordinates in 16.16 fixed point (ISO/IEC 14496-12, 8.3.2): x' = a x + c y,
    y' = b x + d y.
    """
    data = frame.side_data.get(SideDataType.DISPLAYMATRIX)
    if data is None:
        return 1, 0, 0, 1
    numbers = np.frombuffer(bytes(data), np.int32)
    return tuple(int(np.sign(n)) if abs(n) > Fraction(1, 2) * 65536 else 0 for n in numbers[[0, 1, 3, 4]])


def _pixel_aspect(frame, stream) -> float:
    """Width over height of a pixel once the frame stands upright: a quarter turn swaps the two."""
    stored = float(stream.sample_aspect_ratio or 1)
    a, b, c, d = _turn(frame)
    return 1 / stored if b and c and not a and not d else stored
