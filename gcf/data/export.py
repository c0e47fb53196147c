"""A feature file as plain arrays or text, for programs that read no HDF5."""

import csv
import io
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from gcf.data.atomic import TEMPORARY, atomic_file, sync_folder
from gcf.data.features import FeatureFile
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

    The folder gets one array (C, V, D) for each video, and index.csv with the columns id, label, file. The text file
    has a line for each clip: id, clip, start_time, end_time, label, and the descriptor of view 0 in d0, d1, ...
    Values are written as stored, so float16 comes back bit for bit. A video without a label has an empty one. Ids and
    labels that a spreadsheet would run as a formula begin with an apostrophe.

    Raises UsageError unless one of the two is given, RefusedError where it exists already or cannot be written.
    """
    if (npy is None) == (csv is None):
        raise UsageError("give either a folder for arrays (npy) or a file for text (csv)")
    features = features if isinstance(features, FeatureFile) else FeatureFile(features)
    out = Path(csv if npy is None else npy)
    if out.exists():
        raise RefusedError(f"{out}: exists already; name one that is not there yet")
    require_output(out)
    write = _write_csv if npy is None else _write_arrays
    write(features, out)
    return Exported(out, features.num_videos, features.num_clips)


def _write_arrays(features: FeatureFile, out: Path) -> None:
    with _folder(out) as folder, _text(folder / INDEX) as file:
        index = csv.writer(file, lineterminator="\n")
        index.writerow(["id", "label", "file"])
        for n, video_id in enumerate(features.ids):
            name = array_name(n, video_id)
            np.save(folder / name, np.asarray(features.video(n).descriptors))
            index.writerow([csv_cell(video_id), csv_cell(_label(features, n)), name])


def array_name(number: int, video_id: str) -> str:
    """A file name for the array of a video: its number, then what of its own name is safe everywhere.

    >>> array_name(7, "jump/my video (1).mp4")
    '000007-my_video_1.npy'
    """
    stem = re.sub(r"[^A-Za-z0-9-]+", "_", PurePosixPath(video_id).stem).strip("_")[:LONGEST_STEM]
    return f"{number:06d}-{stem}.npy" if stem else f"{number:06d}.npy"


def _write_csv(features: FeatureFile, out: Path) -> None:
    with _text(out) as file:
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


@contextmanager
def _folder(out: Path) -> Iterator[Path]:
    """A folder that bears its name once all of it is written, and vanishes where that fails."""
    staging = out.with_name(f".{out.name}.{os.getpid()}{TEMPORARY}")
    staging.mkdir()
    try:
        yield staging
        for file in staging.iterdir():
            sync_folder(file)  # a file is synced the same way
        staging.rename(out)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    sync_folder(out.parent)
