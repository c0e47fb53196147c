"""One local video file, decoded forward once: upright RGB frames with their times, bounded and suspicious.

Why each guard is there is measured in the project's robustness notes: playlists disguised as videos make FFmpeg open
other files unless the container formats are listed; threaded decoding can deadlock; most damage raises nothing.
"""

import logging
import os
from collections.abc import Iterator

import av
import av.logging
import numpy as np
from av.stream import Disposition

from gcf.data.schema import VideoInfo
from gcf.data.text import printable
from gcf.errors import VideoError
from gcf.extract.decoding.complaints import is_harmless
from gcf.extract.decoding.source import SourceFile, UnreadableError
from gcf.extract.decoding.upright import Upright

log = logging.getLogger("gcf")

# Real containers and raw streams only: no playlist, concat script, SDP, image sequence, device or network format.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,h264,hevc,m4v,mp3,mxf,rm,"
    "yuv4mpegpipe,dv,ivf,obu"
)
MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")
READS = 2  # a network disk that fails once may only have been busy
MAX_PIXELS = 1 << 26  # a frame of 8192 x 8192; 16000 x 16000 took 1.1 GiB
PIXELS_A_BYTE = 100_000  # of real videos 50, at most 1,800; of a still in 1920 x 1080 13,000 (H.264), 47,000 (VP9)


class Video:
    """An open video: iterate once for (frame (H, W, 3) uint8 upright RGB, start, end in seconds), then read `info`.

    Iteration ends before the first damaged frame and `note` then says why; nothing across an error is given.
    `pixel_aspect` is an upright pixel's width over its height, known with the first frame; 1 where the file is silent.
    Interlaced frames are given as they are stored, both fields in one. A failed read is tried once more, from the
    beginning of the file. Raises VideoError, with the reason as its message, where nothing can be had from the file,
    where it has more than `max_frames`, where it decodes to more than `max_gigapixels` and to more than its bytes can
    tell apart, and where the disk fails twice.
    """

    def __init__(self, path: str | os.PathLike, *, max_frames: int | None = None, max_gigapixels: float | None = None):
        self.path = os.path.abspath(os.fsencode(path))  # absolute: "concat:a" or "http:x.mp4" are file names here
        self.source = SourceFile(self.path)
        self.stat = self.source.stat
        self.max_frames, self.max_gigapixels = max_frames, max_gigapixels
        self.note = self.late_start = ""
        self.num_frames = self.width = self.height = 0
        self.fps = self.first_time = self.last_time = 0.0
        self.pixel_aspect, self.size_changes = 1.0, False
        self.logs: list = []

    def __iter__(self) -> Iterator[tuple[np.ndarray, float, float]]:
        av.logging.set_level(av.logging.ERROR)
        av.logging.set_skip_repeated(False)
        with av.logging.Capture() as self.logs:
            yield from self._with_ends(self._read())
        self._require_unchanged()
        if not self.num_frames:
            raise VideoError(self._why_nothing(self.late_start or self.note))
        if self.late_start and not self.note:
            self.note = f"starts at its first clean key frame: {self.late_start}"
        elif self.note:
            self.note = f"{self.num_frames} of {self.announced or 'an unknown number of'} frames: {self.note}"

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
        self.source = SourceFile(self.path)
        try:
            return av.open(self.source, options=options, metadata_errors="replace")
        except Exception as error:  # damaged files raise LookupError, EOFError, MemoryError, ... as well
            raise VideoError(_opening_failure(self.source, error, self._log_text())) from error

    def _read(self) -> Iterator[tuple[np.ndarray, float]]:
        """Frames with their start; where the disk faltered, once more from the beginning, what was given left out."""
        for _ in range(READS):
            self.logs.clear()
            self.note = self.late_start = ""
            try:
                with self.open() as container:
                    self.logs.clear()  # probing complains about what decoding then manages, or complains about again
                    stream = _video_stream(container)
                    self.fps = float(stream.average_rate or stream.guessed_rate or 0)
                    self.announced = stream.frames
                    yield from self._frames(container, stream)
            except VideoError:
                if not self.source.fault:
                    raise
            if not self.source.fault:
                return
        fault = self.source.fault
        raise UnreadableError(f"cannot be read, tried {READS} times: {os.strerror(fault.errno)}", fault.errno)

    def _frames(self, container, stream) -> Iterator[tuple[np.ndarray, float]]:
        """Frames before the first sign of damage, each with its start in seconds; without the first `num_frames`."""
        num_packets, num_pixels, num_seen, last, given = 0, 0, 0, -np.inf, self.num_frames
        upright = Upright(stream)
        try:
            for packet in container.demux(stream):
                num_packets += packet.size > 0
                for frame in packet.decode():
                    num_pixels += frame.width * frame.height
                    self._require_worth(num_pixels)
                    damage = self._damage(frame)
                    if self.source.fault or (damage and num_seen):
                        self.note = damage
                        return
                    if damage or (self.late_start and not num_seen and not frame.key_frame):
                        self.late_start = self.late_start or damage  # cut out of a longer stream: wait for a key frame
                        self.logs.clear()
                        continue
                    last = max(last, self._time(frame, num_seen))  # joined streams go back in time; a clip must not
                    num_seen += 1
                    if num_seen > given:
                        self._require_room()
                        pixels = upright(frame)
                        self._note_size(pixels, upright.pixel_aspect)
                        yield pixels, last
                        self.num_frames += 1
        except (MemoryError, VideoError):
            raise
        except Exception as error:
            self.note = self._log_text() or printable(getattr(error, "strerror", None) or str(error))
            return
        self.note = self._log_text() or self._missing(container.format.name, num_packets)

    def _note_size(self, pixels: np.ndarray, pixel_aspect: float) -> None:
        """A video's size is that of its first frame (H, W, 3); that a later one has another is worth a word."""
        height, width = pixels.shape[:2]
        if not self.num_frames:
            self.height, self.width, self.pixel_aspect = height, width, pixel_aspect
        elif (height, width) != (self.height, self.width) and not self.size_changes:
            self.size_changes = True
            log.warning(
                "%r: frames change from %d x %d to %d x %d at frame %d; each is resized on its own",
                *(os.fsdecode(self.path), self.width, self.height, width, height, self.num_frames),
            )

    def _why_nothing(self, complaint: str) -> str:
        if "max pixel count" in complaint:
            return f"frame too large: over {MAX_PIXELS} pixels"
        if self.source.mentions(b"encv"):  # ISO/IEC 14496-12, 8.12: what a protected video's sample entry is called
            return "encrypted"
        return f"no frames decoded{': ' + complaint if complaint else ''}"

    def _require_room(self) -> None:
        if self.max_frames and self.num_frames >= self.max_frames:
            raise VideoError(f"too long: over {self.max_frames:,} frames, the bound that --max-frames sets")

    def _require_worth(self, num_pixels: int) -> None:
        """A few bytes can be a large frame: what is decoded is bounded, however short the video."""
        if self.max_gigapixels is None or num_pixels <= self.max_gigapixels * 1e9:
            return
        if num_pixels > PIXELS_A_BYTE * self.stat.st_size:
            raise VideoError(
                f"too much work: over {self.max_gigapixels:g} gigapixels, the bound that --max-gigapixels sets, from "
                f"{self.stat.st_size:,} bytes"
            )

    def _require_unchanged(self) -> None:
        try:
            now = os.stat(self.path)
        except OSError:
            raise VideoError("removed while it was read") from None
        if (now.st_size, now.st_mtime_ns) != (self.stat.st_size, self.stat.st_mtime_ns):
            raise VideoError("changed while it was read")

    def _missing(self, container_format: str, num_packets: int) -> str:
        """What a file that decodes without complaint still lacks: its end."""
        if container_format == "avi":  # its frame count includes empty chunks for dropped frames
            wanted = int.from_bytes(self.source.head()[4:], "little") + 8  # RIFF: the size after the first 8 bytes
            return f"{self.stat.st_size} of {wanted} bytes" if self.stat.st_size < wanted else ""
        if num_packets < self.announced:  # edit lists drop frames, never packets
            return f"{num_packets} of {self.announced} packets found"
        return ""

    def _time(self, frame, index: int) -> float:
        if frame.pts is not None:
            return float(frame.pts * frame.time_base)
        return index / self.fps if self.fps else float(index)  # raw streams have no clock

    def _damage(self, frame) -> str:
        if frame.width * frame.height > MAX_PIXELS:
            return f"frame too large: {frame.width} x {frame.height}"
        return self._log_text() or ("a frame is marked as corrupt" if frame.is_corrupt else "")

    def _with_ends(self, frames) -> Iterator[tuple[np.ndarray, float, float]]:
        """Each frame ends where the next begins; the last lasts as long as the one before it."""
        held = gap = None
        for pixels, time in frames:
            if held is None:
                self.first_time = time
            else:
                gap = time - held[1]
                yield *held, time
            held = pixels, time
        if held is not None:
            if gap is None:  # the only one
                gap = 1 / self.fps if self.fps else 0.0
            self.last_time = held[1] + gap
            yield *held, self.last_time

    def _log_text(self) -> str:
        """The first thing that FFmpeg complained about, in one line; what is about no pixel is dropped."""
        self.logs[:] = [log for log in self.logs if not is_harmless(log)]
        return "" if not self.logs else f"{self.logs[0][1]}: {printable(' '.join(self.logs[0][2].split()))}"


def _opening_failure(source: SourceFile, error: Exception, log: str) -> str:
    if "whitelist" in log or "m3u8" in log:
        return "format not allowed: a playlist, script or image list, not a video container"
    if "moov atom not found" in log and source.head()[4:] in MP4_BOXES:  # anything named .mp4 is taken for one
        return "truncated: no index (moov atom not found)"
    if isinstance(error, av.error.InvalidDataError):
        return "not a video, or its header is damaged"
    return f"cannot be opened: {log or type(error).__name__ + ': ' + str(error)}"


def _video_stream(container):
    """The first video stream that is no cover picture, set to decode in one thread within the pixel bound."""
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise VideoError("no video stream")
    stream = streams[0]
    if len(streams) > 1:
        log.warning("%r: %d video streams, the first is taken", container.name, len(streams))
    if stream.codec_context is None:
        raise VideoError("no decoder for its codec")
    context = stream.codec_context
    if context.width * context.height > MAX_PIXELS:
        raise VideoError(f"frame too large: {context.width} x {context.height}, at most {MAX_PIXELS} pixels")
    stream.thread_type = "NONE"
    context.thread_count = 1
    context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream
