"""Pictures and videos as addresses that hold them: the page asks for nothing."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from PIL import Image

from gcf.errors import VideoError
from gcf.explain.pages.folder import LocalizedVideo
from gcf.extract.decoding.video import Video

MOST_BYTES = 12_000_000  # of a video or sheet inside a page; base64 makes 16 million of it, which browsers open at once
BESIDE_PLAYER, ALONE = 24, 60  # frames at most
FRAME_PIXELS, THUMBNAIL_PIXELS = 400, 240  # of the longer side
QUALITY = 78  # JPEG's


@dataclass(frozen=True)
class Frame:
    """A picture of the overlay: seconds from the video's first frame, and the JPEG as an address."""

    time: float
    uri: Markup


@dataclass(frozen=True)
class Media:
    """What of a video can be looked at; `faults` are sentences on what is missing, each naming its file.

    player: the overlay inside the page; link: its file, where it is too large for that. sheet: the contact sheet, where
    there is no overlay. thumbnail: a small picture for the gallery. Each is None where there is none.
    """

    player: Markup | None
    link: Path | None
    frames: Sequence[Frame]
    sheet: Markup | None
    thumbnail: Markup | None
    faults: Sequence[str]


def read_media(video: LocalizedVideo, moments: np.ndarray, best: float) -> Media:
    """Overlay, its frames at some of the `moments` (n,) in s, ascending, and a thumbnail of the moment `best` (s)."""
    faults: list[str] = []
    pictures: list[tuple[float, Image.Image]] = []
    player = link = sheet = thumbnail = None
    if video.overlay is not None and not video.overlay.is_file():
        faults.append(f"The overlay video {video.overlay.name} is missing.")
    elif video.overlay is not None:
        small = video.overlay.stat().st_size <= MOST_BYTES
        pictures = _overlay_frames(video.overlay, _spread(moments, BESIDE_PLAYER if small else ALONE), faults)
        if pictures and small:
            player = _uri("video/mp4", video.overlay.read_bytes())
        elif pictures:
            link = video.overlay
    if pictures:
        thumbnail = _small(min(pictures, key=lambda picture: abs(picture[0] - best))[1])
    elif video.sheet is not None:
        sheet, thumbnail = _sheet(video.sheet, faults)
    frames = [Frame(round(time, 3), _jpeg(picture, FRAME_PIXELS)) for time, picture in pictures]
    return Media(player, link, frames, sheet, thumbnail, faults)


def _spread(moments: np.ndarray, most: int) -> list[float]:
    """At most so many of the moments, evenly spread."""
    places = np.linspace(0, len(moments) - 1, min(len(moments), most)).round().astype(int)
    return moments[places].tolist()


def _overlay_frames(path: Path, wanted: list[float], faults: list[str]) -> list[tuple[float, Image.Image]]:
    """The frame that is shown at each of the times (s), with that time; a fault where the video is damaged."""
    found, origin = [], None
    video = Video(path)
    try:
        for pixels, start, end in video:
            origin = start if origin is None else origin
            while wanted and wanted[0] < end - origin:
                found.append((wanted.pop(0), _picture(pixels)))
            if not wanted:
                return found
    except (VideoError, OSError) as error:
        faults.append(f"The overlay video {path.name} cannot be read ({error}).")
        return []
    if video.note:
        faults.append(f"The overlay video {path.name} is damaged ({video.note}).")
    return found or [(0.0, _picture(pixels))]


def _picture(pixels: np.ndarray) -> Image.Image:
    picture = Image.fromarray(pixels)
    picture.thumbnail((FRAME_PIXELS, FRAME_PIXELS))
    return picture


def _sheet(path: Path, faults: list[str]) -> tuple[Markup | None, Markup | None]:
    """The contact sheet as it is, and small."""
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            thumbnail = _small(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        faults.append(f"The contact sheet {path.name} {reason}.")
        return None, None
    return (_uri("image/png", content) if len(content) <= MOST_BYTES else None), thumbnail


def _small(picture: Image.Image) -> Markup:
    return _jpeg(picture, THUMBNAIL_PIXELS)


def _jpeg(picture: Image.Image, pixels: int) -> Markup:
    picture = picture.copy()
    picture.thumbnail((pixels, pixels))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return _uri("image/jpeg", file.getvalue())


def _uri(kind: str, content: bytes) -> Markup:
    return Markup("data:{};base64,{}").format(kind, base64.b64encode(content).decode())
