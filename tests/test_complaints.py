"""A complaint of the decoder that touches no pixel ends no video; one that may touch them does."""

import re

import numpy as np
import pytest
import videos

from gcf.errors import VideoError
from gcf.extract.decoding.video import Video

HEADERS = {
    "v.h264": rb"\x00\x00\x01\x06",
    "v.hevc": rb"\x00\x00\x01\x4e\x01",
    "v.mp4": rb"\x06(?=\x05.{1,4}\xdc\x45\xe9\xbd)",
}
# The type of a message, its size, its content: more than there is, or nonsense.
BROKEN = {
    "user data cut short": ("v.h264", b"\x05\xff\xff\xff\x20"),
    "user data cut short, in a container": ("v.mp4", b"\x05\xff\xff\xff\x20"),
    "registered user data": ("v.h264", b"\x04\xff\xff\xff\x20"),
    "timing cut short": ("v.h264", b"\x01\xff\xff\xff\x20"),
    "timing too large": ("v.h264", b"\x01\xff\x20\xff"),
    "no such type": ("v.h264", b"\x7f\xff\xff\xff\x20"),
    "parameter sets": ("v.hevc", b"\x81\x02\x00\x01\x80"),
}


def decode(path):
    video = Video(path)
    return video, [(pixels.copy(), start, end) for pixels, start, end in video]


def write(path):
    """A video with a message of its encoder before the first picture."""
    if path.suffix == ".hevc":
        return videos.write_video(path, 20, codec="libx265", **{"x265-params": "log-level=none"})
    return videos.write_video(path, 20, codec="libx264")


def break_message(path, message: bytes) -> None:
    """Put `message` over the beginning of the first SEI message."""
    data = path.read_bytes()
    begin = re.search(HEADERS[path.name], data, re.DOTALL).end()
    path.write_bytes(data[:begin] + message + data[begin + len(message) :])


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_message_beside_the_pictures_costs_no_frame(tmp_path, name):
    file, message = BROKEN[name]
    path = write(tmp_path / file)
    whole = decode(path)[1]
    break_message(path, message)
    video, frames = decode(path)
    assert (video.info.status, video.info.note, len(frames)) == ("ok", "", 20)
    assert video.logs == [], "what is harmless is not kept"
    for ours, theirs in zip(frames, whole, strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
        assert ours[1:] == theirs[1:]


@pytest.mark.parametrize("kind", [6, 19, 47, 147])
def test_a_broken_message_that_may_touch_pixels_is_damage(tmp_path, kind):
    path = write(tmp_path / "v.h264")
    break_message(path, bytes([kind]) + b"\xff\xff\xff\x20")
    with pytest.raises(VideoError, match=f"^no frames decoded: h264: SEI type {kind} size"):
        decode(path)
