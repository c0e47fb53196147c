"""The sound of overlay videos: kept as it is where players take it, in time, and never at the cost of a picture."""

from fractions import Fraction

import av
import numpy as np
import pytest
import videos
from readings import decode, localize_by_hand

from gcf.explain.drawing import overlay_video
from gcf.explain.drawing.overlay_video import write_overlay

pytestmark = pytest.mark.slow


def packets(path):
    """(bytes, seconds) of the packets of the first audio stream, and its codec; as stored, edit lists apart."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        found = [(bytes(p), float(p.pts * p.time_base)) for p in container.demux(stream) if p.size]
        return found, stream.codec_context.codec.canonical_name


def write_with_sound(path, codec, *, start=0.0, seconds=3.0, rate=16000, lead=0.0):
    """A video of 25 frames a second that begins at `start` s; its tone `lead` s earlier, and 0.5 s longer."""
    tone = (np.sin(np.arange(int(rate * (seconds + lead + 0.5))) / 8) * 8000).astype(np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        sound = container.add_stream(codec, rate=rate, layout="mono")
        for index in range(int(25 * seconds)):
            frame = av.VideoFrame.from_ndarray(videos.picture(index, height=48, width=64), format="rgb24")
            frame.pts, frame.time_base = round(start * 25) + index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        for first in range(0, len(tone), 1000):
            samples = av.AudioFrame.from_ndarray(tone[None, first : first + 1000], format="s16", layout="mono")
            samples.sample_rate, samples.time_base = rate, Fraction(1, rate)
            samples.pts = first + round((start - lead) * rate)
            container.mux(sound.encode(samples))
        container.mux(stream.encode())
        container.mux(sound.encode())
    return path


@pytest.fixture(scope="module")
def sounding(tmp_path_factory):
    return write_with_sound(tmp_path_factory.mktemp("sound") / "s.mp4", "aac")


@pytest.mark.parametrize("name", ["videos/k400_archery.mp4", "odd/moviepy_no_duration.webm"])  # AAC, Opus
def test_sound_that_players_take_is_copied_packet_by_packet(real, tmp_path, name):
    path = real / name
    assert write_overlay(tmp_path / "o.mp4", path, localize_by_hand(path)) == ""
    (given, codec), (kept, kept_codec) = packets(path), packets(tmp_path / "o.mp4")
    end = decode(path)[1].info.duration
    given = [packet for packet in given if packet[1] < end]
    assert (kept_codec, len(kept)) == (codec, len(given))
    for (data, time), (kept_data, kept_time) in zip(given, kept, strict=True):
        assert kept_data == data
        assert kept_time == pytest.approx(time, abs=0.002)


def test_other_sound_becomes_aac_of_the_same_length(real, tmp_path):
    path = real / "odd" / "moviepy_transparent_alpha.webm"  # Vorbis
    assert write_overlay(tmp_path / "o.mp4", path, localize_by_hand(path)) == ""
    found, codec = packets(tmp_path / "o.mp4")
    given = packets(path)[0]
    assert codec == "aac"
    assert found[-1][1] == pytest.approx(given[-1][1], abs=0.1)


@pytest.mark.parametrize(("name", "codec"), [("s.mkv", "aac"), ("s.mkv", "pcm_s16le"), ("s.ts", "mp2")])
@pytest.mark.parametrize("lead", [0.0, 0.04, 0.6])
def test_sound_stays_in_time_with_the_pictures_wherever_the_clock_starts(tmp_path, name, codec, lead):
    path = write_with_sound(tmp_path / name, codec, start=10.0, lead=lead)
    assert write_overlay(tmp_path / "o.mp4", path, localize_by_hand(path)) == ""
    ((_, first, _), *_), _ = decode(path)
    assert first > 9
    with av.open(str(path)) as given, av.open(str(tmp_path / "o.mp4")) as kept:
        expected = next(given.decode(audio=0)).time - first
        assert next(kept.decode(video=0)).time == 0
        actual = next(kept.decode(audio=0)).time
    assert actual == pytest.approx(max(expected, 0.0), abs=0.13)  # up to a packet and the lead-in
    times = [time for _, time in packets(tmp_path / "o.mp4")[0]]
    assert times[0] > -0.2  # the lead-in, and what the AAC encoder puts before
    assert times[-1] == pytest.approx(3.0, abs=0.15)


def test_silence_takes_the_place_of_missing_sound(tmp_path):
    path = write_with_sound(tmp_path / "s.mkv", "pcm_s16le", seconds=4.0)
    with av.open(str(path)) as source, av.open(str(tmp_path / "gap.mkv"), "w") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams if s.type == "audio"}
        video_stream = source.streams.video[0]
        streams[video_stream.index] = target.add_stream_from_template(video_stream, opaque=True)
        for packet in source.demux():
            inside = packet.pts is not None and 1 <= packet.pts * packet.time_base < 2
            if packet.dts is not None and not (packet.stream.type == "audio" and inside):
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    write_overlay(tmp_path / "o.mp4", tmp_path / "gap.mkv", localize_by_hand(tmp_path / "gap.mkv"))
    with av.open(str(tmp_path / "o.mp4")) as kept:
        loud = {}
        for frame in kept.decode(audio=0):
            loud.setdefault(int(frame.time * 4), []).append(np.abs(frame.to_ndarray()).max())
    quiet = sorted(quarter for quarter, peaks in loud.items() if max(peaks) < 0.01)
    assert set(quiet) <= {4, 5, 6, 7}
    assert {5, 6} <= set(quiet)


def test_sound_whose_rate_changes_goes_on(sounding, tmp_path, monkeypatch):
    def changing(self):
        for number in range(6):
            rate = 16000 if number < 3 else 8000
            frame = av.AudioFrame.from_ndarray(np.ones((1, rate // 2), np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, number, Fraction(1, 2)
            yield frame

    monkeypatch.setattr("gcf.explain.drawing.sound.COPIED", ())
    monkeypatch.setattr(overlay_video.Sound, "_decoded", changing)
    assert write_overlay(tmp_path / "o.mp4", sounding, localize_by_hand(sounding)) == ""
    assert packets(tmp_path / "o.mp4")[0][-1][1] == pytest.approx(3.0, abs=0.1)


def test_broken_sound_ends_the_sound_and_no_picture(sounding, tmp_path, monkeypatch):
    localization = localize_by_hand(sounding)

    def breaks(*_):
        raise av.error.InvalidDataError(1, "Invalid data")
        yield

    for name, place in (("_copied", "_taken_by_mp4"), ("_encoded", None)):
        with monkeypatch.context() as patch:
            patch.setattr(overlay_video.Sound, name, breaks)
            if not place:
                patch.setattr("gcf.explain.drawing.sound.COPIED", ())
            note = write_overlay(tmp_path / "o.mp4", sounding, localization)
        assert note == "its sound is missing or ends early: Invalid data"
        assert len(decode(tmp_path / "o.mp4")[0]) == 75


def test_damage_in_the_sound_alone_leaves_all_pictures(tmp_path):
    path = write_with_sound(tmp_path / "s.mkv", "mp2")
    data = bytearray(path.read_bytes())
    sound = packets(path)[0]
    for chunk, _ in sound[len(sound) // 2 :]:
        at = data.find(chunk)
        data[at : at + len(chunk)] = bytes(255 - byte for byte in chunk)
    path.write_bytes(data)
    write_overlay(tmp_path / "o.mp4", path, localize_by_hand(path))
    drawn, result = decode(tmp_path / "o.mp4")
    assert (len(drawn), result.info.status) == (75, "ok")
