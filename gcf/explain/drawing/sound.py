"""The sound of a video, brought into an MP4 beside new pictures: copied where players take it so, else encoded anew.

Whatever is wrong with the sound ends the sound, never the pictures; `Sound.note` says what.
"""

import io
from collections.abc import Iterator

import av
import av.logging
from av.filter import Graph

from gcf.errors import VideoError
from gcf.extract.decoding.video import Video

COPIED = ("aac", "mp3", "opus", "flac")  # what browsers play in an MP4
AAC_RATES = (48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)  # ISO/IEC 14496-3, table 1.18
LEAD_IN = 0.1  # seconds before the first frame that a decoder may need; Opus asks for 80 ms


class Sound:
    """The first audio stream of a video; seconds count from `origin`, the time stamp of its first frame."""

    def __init__(self, video: Video, origin: float):
        self.note, self.origin = "", origin
        self.source = self.stream = None
        self.packets: Iterator = iter(())
        self.waiting = None  # a packet that was read and is not due yet
        with av.logging.Capture():  # what FFmpeg says of the sound is no damage of the pictures
            try:
                self.source = video.open()
                self.stream = next(iter(self.source.streams.audio), None)
            except VideoError as error:
                self._end(error)

    def join(self, container: av.container.OutputContainer) -> None:
        """Add a stream for the sound, if there is any, to a container that has not begun."""
        if self.stream is None:
            return
        with av.logging.Capture():
            try:
                if self.stream.codec_context is None:
                    raise VideoError("no decoder for its codec")
                if self.stream.codec_context.codec.canonical_name in COPIED and _taken_by_mp4(self.stream):
                    self.packets = self._copied(container.add_stream_from_template(self.stream))
                else:
                    self.packets = self._encoded(_add_aac(container, self.stream))
            except (av.FFmpegError, ValueError, LookupError, VideoError) as error:
                self._end(error)

    def mux(self, container: av.container.OutputContainer, until: float) -> None:
        """Write the packets that begin before second `until`."""
        with av.logging.Capture():
            while self.stream is not None:
                packet = self._next()
                if packet is None:
                    return
                if packet.pts * packet.time_base >= until:
                    self.waiting = packet
                    return
                try:
                    container.mux(packet)
                except ValueError as error:  # the container refuses it; a full disk is an OSError, and not for here
                    self._end(error)

    def close(self) -> None:
        """Let go of the file."""
        self.packets = iter(())
        if self.source is not None:
            self.source.close()

    def _next(self) -> av.Packet | None:
        packet, self.waiting = self.waiting, None
        if packet is not None:
            return packet
        try:
            return next(self.packets, None)
        except MemoryError:
            raise
        except Exception as error:  # damaged sound raises as many kinds as damaged pictures do
            self._end(error)
            return None

    def _end(self, error: Exception) -> None:
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        self.note = f"its sound is missing or ends early: {text}"
        self.stream = None

    def _copied(self, target) -> Iterator[av.Packet]:
        """The packets as they are, their times from `origin`, each later than the one before."""
        last = None
        for packet in self.source.demux(self.stream):
            if packet.dts is None or packet.is_corrupt:
                continue
            shift = round(self.origin / packet.time_base)
            packet.pts = (packet.dts if packet.pts is None else packet.pts) - shift
            packet.dts -= shift
            if packet.pts * packet.time_base < -LEAD_IN or (last is not None and packet.dts <= last):
                continue
            last = packet.dts
            packet.stream = target
            yield packet

    def _encoded(self, target) -> Iterator[av.Packet]:
        """AAC packets of the decoded sound; where nothing was to be heard for a while, silence."""
        graph = kind = None
        for frame in self._decoded():
            if (found := (frame.format.name, frame.layout.name, frame.sample_rate)) != kind:
                yield from _passed(graph, None, target)
                graph, kind = _resampling(frame, target), found
            yield from _passed(graph, frame, target)
        yield from _passed(graph, None, target)
        yield from target.encode(None)

    def _decoded(self) -> Iterator[av.AudioFrame]:
        """Frames of sound that end after the first picture begins, their times from `origin`."""
        for packet in self.source.demux(self.stream):
            for frame in packet.decode():
                if frame.pts is not None:
                    frame.pts -= round(self.origin / frame.time_base)
                    if frame.pts * frame.time_base + frame.samples / frame.sample_rate <= 0:
                        continue
                yield frame


def _taken_by_mp4(stream) -> bool:
    """Whether a container begins with a copy of this stream."""
    try:
        with av.open(io.BytesIO(), "w", format="mp4") as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True


def _add_aac(container: av.container.OutputContainer, stream):
    rate = stream.codec_context.sample_rate
    layout = "mono" if stream.codec_context.layout.nb_channels == 1 else "stereo"
    return container.add_stream("aac", rate=rate if rate in AAC_RATES else AAC_RATES[0], layout=layout)


def _resampling(like: av.AudioFrame, target) -> Graph:
    """Frames such as `like` in, frames for the encoder of `target` out; gaps in time filled, overlaps cut."""
    graph = Graph()
    begin = graph.add_abuffer(
        sample_rate=like.sample_rate, format=like.format, layout=like.layout, time_base=like.time_base
    )
    wanted = f"sample_fmts={target.format.name}:channel_layouts={target.layout.name}:sample_rates={target.rate}"
    steps = graph.add("aresample", f"{target.rate}:async=1"), graph.add("aformat", wanted), graph.add("abuffersink")
    graph.link_nodes(begin, *steps).configure()
    return graph


def _passed(graph: Graph | None, frame: av.AudioFrame | None, target) -> Iterator[av.Packet]:
    """What comes out encoded once `frame` is in; None: no more frames come."""
    if graph is None:
        return
    graph.push(frame)
    while True:
        try:
            ready = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        yield from target.encode(ready)
