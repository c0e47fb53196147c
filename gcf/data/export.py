"""A feature file as plain arrays or text, for programs that read no HDF5."""

import csv
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from gcf.data.atomic import atomic_file
from gcf.data.disk import disk_faults
from gcf.data.features import FeatureFile
from gcf.data.folder import clear_staging, entries, locked_folder, named, staged
from gcf.data.text import csv_cell
from gcf.data.writer import require_output
from gcf.errors import RefusedError, UsageError

INDEX = "index.csv"
LONGEST_STEM = 80  # file systems end names at 255 bytes


@dataclass(frozen=True)
class Exported:
    """What was written, and where."""

    path: Path
    videos: int
    clips: int

    def describe(self) -> str:
        """In words."""
        return f"{self.path}: {self.videos} videos, {self.clips} clips"


def export_features(
    features: FeatureFile | str | os.PathLike,
    *,
    npy: str | os.PathLike | None = None,
    csv: str | os.PathLike | None = None,
) -> Exported:
    """Write the descriptors of a feature file as `npy`, a folder of arrays, or as `csv`, one text file.

    The folder, new or empty, gets one array (C, V, D) for each video, and last index.csv with the
    columns id, label, file. The text file has a line for each clip: id, clip, start_time, end_time,
    label, and the descriptor of view 0 in d0, d1, ...
    Values are written as stored, so float16 comes back bit for bit. A video without a label has an empty one. Ids and
    labels that a spreadsheet would run as a formula begin with an apostrophe.

    Raises UsageError unless one of the two is given, RefusedError where it exists already or cannot be written.
    """
    if (npy is None) == (csv is None):
        raise UsageError("give either a folder for arrays (npy) or a file for text (csv)")
    features = features if isinstance(features, FeatureFile) else FeatureFile(features)
    out = Path(npy or csv or "")
    if npy is None:
        _write_csv(features, out)
    else:
        if out.is_file() or not out.parent.is_dir():
            what = "exists already" if out.is_file() else f"there is no folder {out.parent}"
            raise RefusedError(f"{out}: {what}; name a folder in one that is there")
        with disk_faults(out), locked_folder(out) as folder:
            _write_arrays(features, out, folder)
    return Exported(out, features.num_videos, features.num_clips)


def _write_arrays(features: FeatureFile, out: Path, folder: Path) -> None:
    clear_staging(folder, last=INDEX)
    if there := entries(folder):
        raise RefusedError(f"{out}: exists already, and holds {named(there)}; name one that is not there yet")
    with staged(folder, last=INDEX) as staging, _text(staging / INDEX) as file:
        index = csv.writer(file, lineterminator="\n")
        index.writerow(["id", "label", "file"])
        for n, video_id in enumerate(features.ids):
            name = array_name(n, video_id)
            np.save(staging / name, np.asarray(features.video(n).descriptors))
            index.writerow([csv_cell(video_id), csv_cell(_label(features, n)), name])


def array_name(number: int, video_id: str) -> str:
    """A file name for the array of a video: its number, then what of its own name is safe everywhere.

    >>> array_name(7, "jump/my video (1).mp4")
    '000007-my_video_1.npy'
    """
    stem = re.sub(r"[^A-Za-z0-9-]+", "_", PurePosixPath(video_id).stem).strip("_")[:LONGEST_STEM]
    return f"{number:06d}-{stem}.npy" if stem else f"{number:06d}.npy"


def _write_csv(features: FeatureFile, out: Path) -> None:
    if out.exists():
        raise RefusedError(f"{out}: exists already; name one that is not there yet")
    require_output(out)
    with disk_faults(out), _text(out) as file:
        lines = csv.writer(file, lineterminator="\n")
        width = features.descriptors.shape[2]
        lines.writerow(["id", "clip", "start_time", "end_time", "label", *(f"d{i}" for i in range(width))])
        for n, video_id in enumerate(features.ids):
            video, label = features.video(n), csv_cell(_label(features, n))
            for clip, descriptor in enumerate(video.descriptors[:, 0]):
                times = [float(video.clips.start_time[clip]), float(video.clips.end_time[clip])]
                lines.writerow([csv_cell(video_id), clip, *times, label, *map(str, descriptor)])


def _label(features: FeatureFile, n: int) -> str:
    return "" if features.labels[n] < 0 else features.classes[features.labels[n]]


@contextmanager
def _text(path: Path) -> Iterator[io.TextIOWrapper]:
    """A text file that is complete or absent; names that are no UTF-8 keep their own bytes."""
    with atomic_file(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="", write_through=True)
        yield text
        text.detach()
