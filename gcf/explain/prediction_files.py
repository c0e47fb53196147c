"""Predictions for other programs: one line of JSON a video, or a table."""

import csv
import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from gcf.data.atomic import atomic_file
from gcf.data.schema import id_key
from gcf.data.text import csv_cell
from gcf.data.writer import require_output
from gcf.errors import RefusedError
from gcf.explain.predict import VideoPrediction


def json_line(prediction: VideoPrediction) -> str:
    """The fields of a prediction as one line of ASCII, whatever the names hold.

    >>> json_line(VideoPrediction("a\\nb.mp4", [("run", 0.75)], 3))
    '{"id": "a\\\\nb.mp4", "classes": [["run", 0.75]], "num_clips": 3, "error": "", "note": ""}'
    """
    return json.dumps(asdict(prediction), ensure_ascii=True, allow_nan=False)


def require_table(path: str | os.PathLike) -> None:
    """Raise RefusedError where a table could not be put, or would replace a file."""
    path = Path(path)
    require_output(path)
    if path.exists():
        raise RefusedError(f"{path}: exists already; name one that is not there yet")


def write_table(path: str | os.PathLike, predictions: Iterable[VideoPrediction]) -> None:
    """Write a CSV file, complete or not at all: one row a video, sorted by id.

    Columns: video, class_1, probability_1, class_2, ..., clips, error, note. Names that are no UTF-8 keep their bytes;
    texts that a spreadsheet would run as a formula begin with an apostrophe. Raises RefusedError as `require_table`.
    """
    require_table(path)
    rows = sorted(predictions, key=lambda p: id_key(p.id))
    places = max((len(p.classes) for p in rows), default=0)
    named = [f"{what}_{n}" for n in range(1, places + 1) for what in ("class", "probability")]
    with atomic_file(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="", write_through=True)
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["video", *named, "clips", "error", "note"])
        table.writerows(_row(p, places) for p in rows)
        text.detach()


def _row(p: VideoPrediction, places: int) -> Sequence:
    classes = [cell for name, share in p.classes for cell in (csv_cell(name), share)]
    empty = [""] * (2 * (places - len(p.classes)))
    return [csv_cell(p.id), *classes, *empty, p.num_clips, csv_cell(p.error), csv_cell(p.note)]
