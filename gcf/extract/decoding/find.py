"""Which videos a command means: folders searched, files taken, lists read."""

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gcf.data.schema import NAME_BYTES, id_key
from gcf.errors import GcfError, RefusedError, UsageError
from gcf.extract.decoding.source import is_inside

# Video containers and raw streams, and what pretends to be a video (sound with a cover, play lists): the latter are
# opened, refused and named, where skipping them would lose them in silence.
SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        "mp4 m4v mov qt avi divx mkv webm flv f4v wmv asf mpg mpeg mpe m1v m2v vob ts mts m2ts 3gp 3g2 ogv ogg ogm gif "
        "h264 264 avc h265 265 hevc mjpg mjpeg mxf rm rmvb y4m dv ivf obu mj2 mp3 m3u8 sdp ffconcat"
    ).split(" ")
)
LISTS = (".txt", ".csv", ".lst")
SHOWN = 40  # characters of a name that is too long


@dataclass(frozen=True)
class VideoPath:
    """A video by its path and its id: the path relative to the video root, '/'-separated.

    root: the folder out of which no link to it may lead; '' where it may lead anywhere.
    """

    path: str
    id: str
    root: str = ""


def size_on_disk(path: str) -> int:
    """Bytes of a file; 0 for one that is not there."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def find_videos(sources: Sequence[str | os.PathLike], *, stay_inside: bool = False) -> list[VideoPath]:
    """The videos of a folder, of files, or of one text or CSV list, sorted by id.

    Several files take their deepest common folder as the root. Links are followed, since collections are often made of
    them; with `stay_inside` one that leads out of the root is found, but neither searched nor to be opened. Raises
    GcfError when there are no videos, RefusedError for a list of which no path exists.
    """
    sources = [os.fspath(s) for s in sources]
    if not sources:
        raise UsageError("no videos given: name a folder, video files, or a list")
    for source in sources:
        if not os.path.lexists(source):
            raise UsageError(f"{source}: no such file or folder")
    folders = [s for s in sources if os.path.isdir(s)]
    if len(sources) > 1 and folders:
        raise UsageError(f"{folders[0]}: give one folder, or files, not both; their ids would not be unique")
    if folders:
        root = os.path.abspath(sources[0])
        found = list(search_folder(root, stay_inside=stay_inside))
    elif len(sources) == 1 and Path(sources[0]).suffix.lower() in LISTS:
        root, found = _listed(sources[0])
        _check_names(found, sources[0])
        _require_one(found, sources[0])
    else:
        paths = [os.path.abspath(s) for s in sources]
        root = os.path.commonpath([os.path.dirname(p) for p in paths])
        found = [VideoPath(p, os.path.relpath(p, root)) for p in paths]
    if not found:
        raise GcfError(f"{sources[0]}: no videos found (searched for {', '.join(sorted(SUFFIXES)[:6])}, ...)")
    if stay_inside:
        found = [replace(v, root=root) for v in found]
    unique = {v.id: v for v in found}
    return sorted(unique.values(), key=lambda v: id_key(v.id))


def search_folder(root: str, *, stay_inside: bool = False) -> Iterator[VideoPath]:
    """Files with a video's suffix below a folder, links followed, loops entered once.

    With `stay_inside`, a folder outside is not entered: the link to it stands for all that it may hold.
    """

    def refuse(error: OSError):
        raise GcfError(f"{error.filename}: this folder cannot be read ({error.strerror})") from error

    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=refuse):
        if _leads_back(folder, root):
            subfolders.clear()
            continue
        subfolders.sort()
        named_like_videos = [s for s in subfolders if _is_video(s)]
        if stay_inside:
            named_like_videos += [s for s in subfolders if s not in named_like_videos and _leads_out(folder, s, root)]
        subfolders[:] = [s for s in subfolders if not s.startswith(".") and s not in named_like_videos]
        for name in [n for n in names if _is_video(n)] + named_like_videos:
            path = os.path.join(folder, name)
            yield VideoPath(os.path.abspath(path), os.path.relpath(path, root).replace(os.sep, "/"))


def _leads_out(folder: str, name: str, root: str) -> bool:
    """Whether a visible sub-folder is a link to somewhere outside the root."""
    path = os.path.join(folder, name)
    return not name.startswith(".") and os.path.islink(path) and not is_inside(path, root)


def _leads_back(folder: str, root: str) -> bool:
    """Whether a folder is one of those above it on the way from the root, through a link."""
    above = folder
    while above != root:
        above = os.path.dirname(above)
        if os.path.samefile(above, folder):
            return True
    return False


def _is_video(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def _check_names(listed: Sequence[VideoPath], path: str) -> None:
    """Raise RefusedError for a listed name that is longer than any file's."""
    for video in listed:
        size = len(id_key(video.id))
        if size > NAME_BYTES:
            raise RefusedError(
                f"{path}: a name of {size:,} bytes, {video.id[:SHOWN]!r}...; {NAME_BYTES:,} are the most"
            )


def _require_one(listed: Sequence[VideoPath], path: str) -> None:
    """Raise RefusedError where a list names videos and not one of them is there."""
    if listed and not any(os.path.lexists(video.path) for video in listed):
        raise RefusedError(
            f"{path}: none of its {len(listed):,} videos exists, such as {listed[0].path!r}; its paths are taken from "
            "its own folder: put the list there, or write whole paths"
        )


def _listed(path: str) -> tuple[str, list[VideoPath]]:
    """The root and the videos of a list: one path a line, or a CSV whose column `path` (else its first) is the path.

    Ids are relative to the list's folder, or to the deepest common folder when a path leads out of it.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            rows = list(csv.reader(file)) if path.lower().endswith(".csv") else [[line.rstrip("\r\n")] for line in file]
    except (OSError, csv.Error) as error:
        raise GcfError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    names = [name.strip().lower() for name in rows[0]] if rows else []
    column = names.index("path") if "path" in names else 0
    for line, row in enumerate(rows, start=1):
        if any(cell.strip() for cell in row) and not (len(row) > column and row[column].strip()):
            raise GcfError(f"{path}, line {line}: names no video; expected its path in column {column + 1}")
        if any("\0" in cell for cell in row):
            raise GcfError(f"{path}, line {line}: has a null character; is it a list of videos?")
    if "path" in names:
        rows = rows[1:]
    rows = [row for row in rows if "".join(row).strip()]
    root = os.path.dirname(os.path.abspath(path))
    paths = [os.path.abspath(os.path.join(root, row[column])) for row in rows]
    if any(os.path.relpath(p, root).startswith("..") for p in paths):
        root = os.path.commonpath([os.path.dirname(p) for p in paths])
    return root, [VideoPath(p, os.path.relpath(p, root).replace(os.sep, "/")) for p in paths]
