"""Annotated intervals of videos, from ActivityNet-style JSON."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gcf.data.formats.common import check_name, read_text
from gcf.data.formats.database import read_root
from gcf.data.matching import match_names
from gcf.errors import AnnotationError

LONGEST = 1e9  # seconds; more is a mistake


@dataclass(frozen=True)
class Segment:
    """One interval of a video in which its label happens; seconds from the video's begin."""

    start: float
    end: float
    label: str


def read_segments(path: str | os.PathLike, ids: Sequence[str]) -> dict[str, list[Segment]]:
    """The segments of those of these videos that the file names, by id, in the order of the file.

    Raises AnnotationError for a file of another form, one that names none of the videos, or a segment that is none.
    """
    path = Path(path)
    database = read_root(path, read_text(path))["database"]
    rows = match_names(ids, database, source=str(path))
    if not rows:
        such = f", such as {ids[0]!r}" if ids else ""
        raise AnnotationError(f"{path}: names none of the {len(ids)} videos{such}")
    found: dict[str, list[Segment]] = {}
    for name, row in rows.items():
        found.setdefault(ids[row], []).extend(_segments(database[name], f"{path}: database[{name!r}]"))
    return found


def _segments(entry: object, place: str) -> list[Segment]:
    annotations = entry.get("annotations", []) if isinstance(entry, dict) else None
    if not isinstance(annotations, list):
        raise AnnotationError(f"{place}: expected a list 'annotations' of segments")
    return [_segment(one, place) for one in annotations]


def _segment(one: object, place: str) -> Segment:
    match one:
        case {"label": str(label), "segment": [int() | float() as start, int() | float() as end]}:
            if -LONGEST < start <= end < LONGEST:
                check_name(label, place)
                return Segment(float(start), float(end), label)
    raise AnnotationError(f"{place}: {one!r:.80}; expected a label and a segment [start, end] in seconds")
