"""The folder that `gcf localize` leaves, read once and believed in nothing: names, numbers and files are checked."""

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gcf.errors import RefusedError
from gcf.explain.files.localization_folder import FACTS, FORMAT, VERSION
from gcf.explain.reading.intervals import Interval

GALLERY = "index.html"
LONGEST_NAME = 220  # bytes; file systems end names at 255, and a suffix and a temporary name are to come
PARTS = {"clips": ".npz", "overlay": ".mp4", "sheet": ".png"}


@dataclass(frozen=True, eq=False)
class LocalizedVideo:
    """One video's entry: the answer in numbers, and where in the folder its parts lie (None: it never had one).

    page: the name of its page in the folder, with sub-folders. duration in seconds and fps are 0, width and height 0,
    where they are not known. top: (class, probability), the most probable first. annotated: what is known to happen.
    error: why there is nothing; note: what else to know.
    """

    id: str
    page: str
    duration: float
    width: int
    height: int
    fps: float
    top: Sequence[tuple[str, float]]
    intervals: Sequence[Interval]
    annotated: Sequence[Interval]
    clips: Path | None
    overlay: Path | None
    sheet: Path | None
    error: str
    note: str


@dataclass(frozen=True, eq=False)
class Localizations:
    """What a folder holds: settings as they were written, what was measured in words ('' if nothing); complete: all."""

    folder: Path
    head: str
    classes: Sequence[str]
    evidence_kind: str
    settings: Mapping
    measured: str
    videos: Sequence[LocalizedVideo]
    complete: bool


def is_localization(folder: str | os.PathLike) -> bool:
    """Whether `gcf localize` left this folder."""
    return (Path(folder) / FACTS).is_file()


def read_localizations(folder: str | os.PathLike) -> Localizations:
    """Read localization.json of a folder; RefusedError where there is none, or where it is damaged or foreign."""
    folder = Path(folder)
    path = folder / FACTS
    if not path.is_file():
        raise RefusedError(f"{folder}: no {FACTS}; name the folder that gcf localize wrote")
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise RefusedError(f"{path}: damaged or not readable ({error}); run gcf localize again") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise RefusedError(f"{path}: not written by gcf localize; name another folder")
    if found.get("version") != VERSION:
        raise RefusedError(
            f"{path}: version {found.get('version')!r}, this gcf reads {VERSION}; run gcf localize again"
        )
    try:
        return _localizations(folder, found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RefusedError(f"{path}: damaged ({error!r}); run gcf localize again") from error


def _localizations(folder: Path, found: Mapping) -> Localizations:
    videos = [_video(folder, entry) for entry in found["videos"]]
    if len({video.page for video in videos}) < len(videos):
        raise ValueError("a video is there twice")
    return Localizations(
        folder=folder,
        head=_text(found.get("head")),
        classes=[_text(name) for name in found["classes"]],
        evidence_kind=_text(found.get("evidence_kind")),
        settings=dict(found.get("settings") or {}),
        measured=_text(found.get("measured")),
        videos=videos,
        complete=bool(found.get("complete", True)),
    )


def _video(folder: Path, entry: Mapping) -> LocalizedVideo:
    files = {part: name for part, name in (entry.get("files") or {}).items() if name is not None}
    parts = {part: _inside(folder, files[part]) if part in files else None for part in PARTS}
    return LocalizedVideo(
        id=_text(entry["id"]),
        page=_page(entry["id"], files),
        duration=_number(entry.get("duration")),
        width=int(_number(entry.get("width"))),
        height=int(_number(entry.get("height"))),
        fps=_number(entry.get("fps")),
        top=[(_text(name), _number(share)) for name, share in entry.get("top") or ()],
        intervals=_intervals(entry.get("intervals")),
        annotated=_intervals(entry.get("annotated")),
        **parts,
        error=_text(entry.get("error")),
        note=_text(entry.get("note")),
    )


def _intervals(found: Sequence[Mapping] | None) -> list[Interval]:
    """Intervals in the order of time; the score of an annotated one is 1."""
    intervals = [
        Interval(
            _number(one["start"]), _number(one["end"]), _text(one["label"]), _number(one.get("score", 1), low=-math.inf)
        )
        for one in found or ()
    ]
    if any(one.end < one.start for one in intervals):
        raise ValueError("an interval ends before it starts")
    return sorted(intervals, key=lambda one: (one.start, one.end, one.label))


def _page(video_id: str, files: Mapping[str, str]) -> str:
    """Named as the video's other files are, whose names are known to be possible; else as its id, where that can be.

    >>> _page("a/b.avi", {}), _page("../b.avi", {"clips": "_/b.avi-1234.npz"}), _page("index", {})
    ('a/b.avi.html', '_/b.avi-1234.html', 'index.video.html')
    """
    named = [files[part].removesuffix(suffix) for part, suffix in PARTS.items() if files.get(part, "").endswith(suffix)]
    name = named[0] if named else video_id
    try:
        _inside(Path(), name)
        possible = max(len(os.fsencode(part)) for part in name.split("/")) <= LONGEST_NAME
    except ValueError:
        possible = False
    if not possible:
        name = f"video-{hashlib.sha256(name.encode('utf-8', 'backslashreplace')).hexdigest()[:12]}"
    return f"{name}.html" if f"{name}.html".casefold() != GALLERY else "index.video.html"


def _inside(folder: Path, name: str) -> Path:
    """A path inside the folder; ValueError for one that leads out of it, or that no file can have."""
    os.fsencode(name)
    if "\0" in name or not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise ValueError(f"{name!r} is no name of a file in this folder")
    return folder / name


def _number(value: float | None, *, low: float = 0.0) -> float:
    """A finite number, not below `low`; 0 for None."""
    number = float(0 if value is None else value)
    if not math.isfinite(number) or number < low:
        raise ValueError(f"{value!r} is no such number")
    return number


def _text(value: str | None) -> str:
    """A text; '' for None."""
    if not isinstance(value, str | None):
        raise TypeError(f"{value!r} is no text")
    return value or ""
