"""The bad inputs of the project's robustness notes, made on the spot; by number, where each of the forty is tested:

1 to 4, 6, 7, 10, 11, 21, 27 to 31   test_bad_files (2, 3 and 26 in test_video as well)
5, 8, 9                              test_bad_files (real damaged files in test_video)
12 to 16, 18, 25                     test_odd_streams (16, 18 and 14 also in test_video; real ones there too)
17, 22, 23, 24                       test_odd_streams; sizes and pixel formats in test_video
19, 20                               test_disk_faults: what they may cost
26                                   test_video
32                                   test_odd_names (searching: test_find)
33, 34, 37, the lost disk            test_disk_faults
35, 36                               test_pool, and whole in test_many_videos
38 to 40                             test_resume, test_feature_file, test_checkpoints, test_download, test_cli
all files in one tree, by strace     test_bad_tree
"""

import io
import os
import random
import socket
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import videos
from PIL import Image

CENC = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
    "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
}
NOT_ALLOWED = "format not allowed: a playlist, script or image list, not a video container"
# name: (row, what is recorded as a regular expression); those that begin with "N of" are partial, the others failed
EXPECTED = {
    "empty.mp4": (1, "empty"),
    "page.mp4": (2, "not a video, or its header is damaged"),
    "noise.mp4": (3, "not a video, or its header is damaged"),
    "no_index.mp4": (4, r"truncated: no index \(moov atom not found\)"),
    "half.mp4": (5, r"\d+ of 48 frames: h264: .+"),
    "cut.mp4": (6, "no frames decoded: .+"),
    "head.mp4": (7, "no frames decoded: .+"),
    "bytes60.mp4": (8, r"\d+ of 48 frames: h264: .+"),
    "zeros.mp4": (9, r"\d+ of 48 frames: h264: .+"),
    "sound.mp4": (10, "no video stream"),
    "cover.mp3": (11, "no video stream"),
    "bomb.mov": (19, "frame too large: .+ pixels"),
    "bomb_that_lies.avi": (19, "frame too large: .+ pixels"),
    "stts.mp4": (21, "cannot be opened: mov,mp4.+: error reading header"),
    "stsz.mp4": (21, "not a video, or its header is damaged"),
    "samples.mp4": (21, "48 of 2147483647 frames: 48 of 2147483647 packets found"),
    "encrypted.mp4": (27, "encrypted"),
    "codec.mp4": (28, "no decoder for its codec"),
    "concat.mp4": (29, NOT_ALLOWED),
    "list.m3u8": (29, NOT_ALLOWED),
    "list.mp4": (29, NOT_ALLOWED),
    "session.sdp": (29, NOT_ALLOWED),
    "session.mp4": (29, NOT_ALLOWED),
    "folder.mp4": (30, "not a regular file"),
    "pipe.mp4": (30, "not a regular file"),
    "device.mp4": (30, "not a regular file"),
    "socket.mp4": (30, "not a regular file"),
    "dangling.mp4": (31, "cannot be opened: No such file or directory"),
    "loop.mp4": (31, "cannot be opened: Too many levels of symbolic links"),
}
DISGUISED = [name for name, (row, _) in EXPECTED.items() if row == 29]


def is_partial(name: str) -> bool:
    """Whether a file of EXPECTED gives some clips all the same."""
    return " frames: " in EXPECTED[name][1]


def write_all(root: Path, lure: Path) -> Path:
    """Every file of EXPECTED below `root`; scripts and play lists name the video `lure` and an address."""
    root.mkdir(parents=True, exist_ok=True)
    _write_damaged(root)
    write_bombs(root)
    _write_disguised(root, lure)
    write_sound(root / "sound.mp4")
    (root / "cover.mp3").write_bytes(mp3_with_a_cover())
    videos.write_video(root / "encrypted.mp4", 24, codec="libx264", container_options=CENC)
    write_special(root)
    assert sorted(os.listdir(root)) == sorted(EXPECTED)
    return root


def streaming_mp4(path: Path) -> bytes:
    """An mp4 of 48 frames with its index first, which stays decodable up to wherever it is damaged."""
    options = {"codec": "libx264", "container_options": {"movflags": "faststart"}, "g": 12}
    return videos.write_video(path, 48, size=(96, 128), **options).read_bytes()


def _write_damaged(root: Path) -> None:
    good, rng = streaming_mp4(root / "half.mp4"), random.Random(0)
    pictures, middle = good.index(b"mdat") + 4, len(good) // 2
    late = videos.write_video(root / "no_index.mp4", 48, codec="libx264").read_bytes()
    scattered = bytearray(good)
    for _ in range(60):
        scattered[rng.randrange(middle, len(good))] = rng.randrange(256)
    contents = {
        "empty.mp4": b"",
        "page.mp4": b"<html><body>404 Not Found</body></html>",
        "noise.mp4": rng.randbytes(1 << 20),
        "no_index.mp4": late[: len(late) // 2],
        "half.mp4": good[:middle],
        "cut.mp4": good[: pictures + 200],
        "head.mp4": good[:pictures],
        "bytes60.mp4": bytes(scattered),
        "zeros.mp4": good[:middle] + bytes(3000) + good[middle + 3000 :],
        "stts.mp4": with_number(good, b"stts", 8, 0x7FFFFFFF),
        "stsz.mp4": with_number(good, b"stsz", 12, 0x7FFFFFFF),
        "samples.mp4": with_number(good, b"stts", 12, 0x7FFFFFFF),
        "codec.mp4": good.replace(b"avc1", b"zzzz"),
    }
    for name, content in contents.items():
        (root / name).write_bytes(content)


def with_number(data: bytes, box: bytes, place: int, number: int) -> bytes:
    """An mp4 in which a number, `place` bytes after the beginning of the name of a box, is another."""
    at = data.index(box) + place
    return data[:at] + struct.pack(">I", number) + data[at + 4 :]


def write_bombs(root: Path, side: int = 16_000) -> None:
    """Twelve black PNG pictures of side x side, 1.1 MB each; one of the two containers says that they are small."""
    packed, row = zlib.compressobj(1), bytes(side + 1)
    rows = b"".join([packed.compress(row * 100) for _ in range(side // 100)] + [packed.flush()])
    picture = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in (
            (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)),
            (b"IDAT", rows),
            (b"IEND", b""),
        )
    )
    for name, announced in (("bomb.mov", side), ("bomb_that_lies.avi", 64)):
        with av.open(str(root / name), "w") as container:
            stream = container.add_stream("png", rate=25)
            stream.width = stream.height = announced
            stream.pix_fmt = "gray"
            for index in range(12):
                packet = av.Packet(picture)
                packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 25), True
                packet.pts = packet.dts = index
                container.mux(packet)


def _write_disguised(root: Path, lure: Path) -> None:
    script = f"ffconcat version 1.0\nfile {lure.name}\nfile '{lure}'\nfile http://127.0.0.1:9/v.mp4\n"
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{lure}\n#EXTINF:2,\nhttp://127.0.0.1:9/v.ts\n"
    session = (
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    )
    (root / "concat.mp4").write_text(script)
    for name in ("list.m3u8", "list.mp4"):
        (root / name).write_text(playlist + "#EXT-X-ENDLIST\n")
    for name in ("session.sdp", "session.mp4"):
        (root / name).write_text(session)


def write_sound(path: Path) -> Path:
    """A second of silence as AAC, nothing to see."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44_100, layout="mono")
        for index in range(43):
            frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
            frame.planes[0].update(bytes(4096))
            frame.sample_rate, frame.pts, frame.time_base = 44_100, index * 1024, Fraction(1, 44_100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def mp3_with_a_cover() -> bytes:
    """Silent frames of MPEG-1 layer III after an ID3v2.3 tag that holds a picture (APIC)."""
    cover = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(cover, "PNG")
    content = b"\0image/png\0\x03\0" + cover.getvalue()
    tag = b"APIC" + struct.pack(">IH", len(content), 0) + content
    size = bytes(len(tag) >> shift & 0x7F for shift in (21, 14, 7, 0))
    frame = b"\xff\xfb\x90\x00" + bytes(413)  # 128 kbit/s at 44.1 kHz: 417 bytes
    return b"ID3\x03\x00\x00" + size + tag + frame * 80


def write_special(root: Path) -> None:
    """What bears a video's name and is no file that could be read."""
    (root / "folder.mp4").mkdir()
    os.mkfifo(root / "pipe.mp4")
    (root / "device.mp4").symlink_to("/dev/zero")
    endpoint = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(root)  # the address of a socket has room for 107 bytes
    try:
        endpoint.bind("socket.mp4")
    finally:
        os.chdir(here)
        endpoint.close()
    (root / "dangling.mp4").symlink_to(root / "nowhere.mp4")
    (root / "loop.mp4").symlink_to(root / "loop.mp4")
