"""What `gcf localize` leaves of its numbers: arrays for each video, and tables of intervals and clips for all."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from gcf.data.atomic import atomic_file
from gcf.data.disk import disk_faults
from gcf.data.schema import id_key
from gcf.data.text import csv_cell
from gcf.explain.reading.clip_reading import ClipReading, Localization
from gcf.explain.reading.intervals import Interval

INTERVALS_JSON, INTERVALS_CSV, CLIPS_CSV = "intervals.json", "intervals.csv", "clips.csv"
VERSION = "gcf-localization-1"
LONGEST_NAME = 200  # bytes; file systems end names at 255, and suffixes and a temporary name are to come
NUM_TOP = 5


def write_localization(folder: str | os.PathLike, localization: Localization) -> dict:
    """Write a video's arrays as ID.npz into the folder, and return the video's entry for localization.json.

    The arrays: start, end, num_frames, gate, attention (C,), evidence (C, K), logits and probabilities (K,); what the
    head does not have is absent. A video that gave nothing has no file, and an entry that says why. The pictures of the
    entry's "files" are left None, for those who draw them. Raises RefusedError where the folder cannot be written.
    """
    files = {"clips": None, "overlay": None, "sheet": None}
    if localization.reading is not None:
        files["clips"] = file_name(localization.id, ".npz")
        _write_arrays(Path(folder) / files["clips"], localization.reading)
    return video_entry(localization) | {"files": files}


def video_entry(localization: Localization) -> dict:
    """What is said of a video in JSON: its facts, most probable classes, intervals, and what went wrong."""
    entry = {"id": localization.id} | dict.fromkeys(("duration", "width", "height", "fps"))
    entry |= {"top": [], "intervals": [_interval(one) for one in localization.intervals]}
    if (reading := localization.reading) is not None:
        info, best = reading.info, np.argsort(-reading.probabilities, kind="stable")[:NUM_TOP]
        entry |= {"duration": float(info.duration), "width": int(info.width), "height": int(info.height)}
        entry |= {"fps": float(info.fps), "top": [[reading.classes[k], float(reading.probabilities[k])] for k in best]}
    return entry | {"error": localization.error, "note": localization.note}


def write_tables(folder: str | os.PathLike, localizations: Iterable[Localization]) -> None:
    """Write intervals.json (in ActivityNet's form of results), intervals.csv and clips.csv for all videos.

    Video ids stand as they are: in JSON escaped, in CSV by their own bytes, where ids and labels that a spreadsheet
    would run as a formula begin with an apostrophe. clips.csv has the evidence for the class that is shown. Raises
    RefusedError where the folder cannot be written.
    """
    folder, localizations = Path(folder), list(localizations)
    results = {one.id: list(map(_result, one.intervals)) for one in localizations}
    document = {"version": VERSION, "results": results, "external_data": {}}
    _write(folder / INTERVALS_JSON, json.dumps(document, indent=1, allow_nan=False).encode() + b"\n")
    rows = [
        (csv_cell(one.id), *map(csv_cell, _interval(interval).values()))
        for one in localizations
        for interval in one.intervals
    ]
    _write(folder / INTERVALS_CSV, _table(["video", "start", "end", "label", "score"], rows))
    columns = ["video", "clip", "start", "end", "frames", "gate", "attention", "label", "evidence"]
    _write(folder / CLIPS_CSV, _table(columns, [row for one in localizations for row in _clip_rows(one)]))


def file_name(video_id: str, suffix: str) -> str:
    """Where a video's file lies in the folder: its id with a suffix, sub-folders kept, never outside the folder.

    An id that is no plain path, or too long for a file's name, is changed as little as that takes and marked by a
    part of its sha256, so that no two videos share a file.

    >>> file_name("a/b.avi", ".npz")
    'a/b.avi.npz'
    """
    parts = [_short(part) if part not in ("", ".", "..") else "_" for part in video_id.replace("\0", "_").split("/")]
    name = "/".join(parts)
    if name != video_id:
        name += f"-{hashlib.sha256(id_key(video_id)).hexdigest()[:12]}"
    return name + suffix


def _short(part: str) -> str:
    """A name of not too many bytes, cut between characters."""
    while len(id_key(part)) > LONGEST_NAME:
        part = part[: min(LONGEST_NAME, len(part) - 1)]
    return part


def _write_arrays(path: Path, reading: ClipReading) -> None:
    arrays = {
        "start": reading.starts,
        "end": reading.ends,
        "num_frames": reading.clips.num_frames,
        "gate": reading.gate,
        "attention": reading.attention,
        "evidence": reading.evidence.astype(np.float32),
        "logits": reading.logits,
        "probabilities": reading.probabilities,
    }
    file = io.BytesIO()
    np.savez(file, **{name: values for name, values in arrays.items() if values is not None})
    _write(path, file.getvalue())


def _interval(interval: Interval) -> dict:
    return asdict(interval.rounded())


def _result(interval: Interval) -> dict:
    start, end, label, score = _interval(interval).values()
    return {"label": label, "score": score, "segment": [start, end]}


def _clip_rows(localization: Localization) -> list[tuple]:
    reading = localization.reading
    if reading is None:
        return []
    count = len(reading.evidence)
    gate, attention = _cells(reading.gate, count), _cells(reading.attention, count)
    return [
        (
            *(csv_cell(localization.id), clip, f"{reading.starts[clip]:.6f}", f"{reading.ends[clip]:.6f}"),
            *(int(reading.clips.num_frames[clip]), gate[clip], attention[clip]),
            *(csv_cell(reading.classes[localization.shown]), f"{reading.evidence[clip, localization.shown]:.6g}"),
        )
        for clip in range(count)
    ]


def _table(columns: Sequence[str], rows: Iterable[tuple]) -> bytes:
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _write(path: Path, data: bytes) -> None:
    with disk_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            file.write(data)


def _cells(values: np.ndarray | None, count: int) -> list[str]:
    """One text for each clip, empty where there are no values."""
    return [""] * count if values is None else [f"{value:.6g}" for value in values]
