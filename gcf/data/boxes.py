"""Where in the picture something is: boxes frame by frame, from the truth of `gcf demo-videos` and files like it."""

import os
from collections.abc import Sequence
from pathlib import Path

from gcf.data.formats.common import read_text
from gcf.data.formats.database import read_root
from gcf.data.matching import match_names
from gcf.errors import AnnotationError

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels, right and bottom exclusive


def read_boxes(path: str | os.PathLike, ids: Sequence[str]) -> dict[str, list[Box | None]]:
    """One box per frame, None where there is none, by id: of those of these videos that the file has boxes for.

    The file is ActivityNet-style JSON whose entries have "boxes" beside "annotations". Raises AnnotationError for a
    file of another form, or boxes that are none.
    """
    path = Path(path)
    database = read_root(path, read_text(path))["database"]
    return {
        ids[row]: _boxes(database[name]["boxes"], f"{path}: database[{name!r}]")
        for name, row in match_names(ids, database, source=str(path)).items()
        if isinstance(database[name], dict) and "boxes" in database[name]
    }


def read_groups(path: str | os.PathLike, ids: Sequence[str]) -> dict[str, str]:
    """The "group" that entries of such a file name, by id; videos of a group stay together in statistics."""
    path = Path(path)
    database = read_root(path, read_text(path))["database"]
    named = {ids[row]: database[name] for name, row in match_names(ids, database, source=str(path)).items()}
    return {
        video: group
        for video, entry in named.items()
        if isinstance(entry, dict) and isinstance(group := entry.get("group"), str)
    }


def _boxes(rows: object, place: str) -> list[Box | None]:
    if not isinstance(rows, list):
        raise AnnotationError(f"{place}: expected a list 'boxes', one for each frame")
    return [None if row is None else _box(row, f"{place}: boxes[{n}]") for n, row in enumerate(rows)]


def _box(row: object, place: str) -> Box:
    match row:
        case [
            int() | float() as left,
            int() | float() as top,
            int() | float() as right,
            int() | float() as bottom,
        ] if left < right and top < bottom:
            return left, top, right, bottom
    raise AnnotationError(f"{place}: {row!r:.80}; expected [left, top, right, bottom] in pixels, or null")
