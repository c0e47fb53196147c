"""Writing a feature file: HDF5 lays it out in memory, plain file calls put it on the disk.

HDF5 never touches the disk for writing: a full disk or a kill is then an ordinary OSError or an unfinished temporary
file, and memory holds only the metadata, however large the descriptors are.
"""

import io
import math
import os
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from gcf.data.atomic import atomic_file
from gcf.data.features import FeatureFile
from gcf.data.recipe import canonical_json, recipe_sha256
from gcf.data.schema import (
    CLIP_FIELDS,
    FORMAT,
    SCHEMA,
    VIDEO_FIELDS,
    Clips,
    FeatureContent,
    VideoInfo,
    encode,
    id_key,
)
from gcf.errors import RefusedError

ALIGNMENT = 4096  # bytes: a memory map starts on a page


def write_features(path: str | os.PathLike, content: FeatureContent) -> None:
    """Write one complete feature file, or leave what was there untouched.

    Raises OSError (disk full, read-only folder) with nothing changed.
    """
    with atomic_file(path) as file:
        image = _Image()
        places = _lay_out(image, content)
        image.write_to(file)
        for name, (offset, dtype) in places.items():
            file.seek(offset)
            row = _row_shape(content, name)
            for video in content.videos:
                rows = getattr(video, name)
                if rows.shape != (len(video.clips.start_frame), *row):
                    raise ValueError(f"{video.id}: {name} of shape {rows.shape}, others have rows of {row}")
                file.write(np.ascontiguousarray(rows, dtype=dtype).data)
        file.flush()
        FeatureFile(file.name)  # what is renamed has been read


@dataclass(frozen=True)
class _VideoFacts:
    """What of a video goes into the metadata: all but its rows."""

    id: str
    clips: Clips
    info: VideoInfo


def _lay_out(image: "_Image", content: FeatureContent) -> dict[str, tuple[int, np.dtype]]:
    """Everything but the rows; where the rows of `descriptors` and `logits` go, and as what type."""
    videos = [_VideoFacts(v.id, v.clips, v.info) for v in content.videos]
    ids = [v.id for v in videos]
    if ids != sorted(set(ids), key=id_key):
        raise ValueError("videos must be sorted by id, each once")
    num_clips = sum(len(v.clips.start_frame) for v in videos)
    shapes = {name: shape for name in ("descriptors", "logits") if (shape := _row_shape(content, name)) is not None}
    dtypes = {"descriptors": np.dtype(content.recipe.get("dtype", "float16")), "logits": np.dtype("float16")}
    size = num_clips * math.prod(shapes["descriptors"]) * dtypes["descriptors"].itemsize
    threshold = max(1, min(ALIGNMENT, size))  # small ones would not be aligned otherwise
    with h5py.File(image, "w", alignment_threshold=threshold, alignment_interval=ALIGNMENT) as h5:
        h5.attrs["format"] = FORMAT
        h5.attrs["schema"] = SCHEMA
        h5.attrs["recipe"] = canonical_json(content.recipe)
        h5.attrs["recipe_sha256"] = recipe_sha256(content.recipe)
        _write_videos(h5, videos, content)
        places = {}
        for name, row in shapes.items():
            dataset = _reserve(h5, name, (num_clips, *row), dtypes[name])
            if dataset.id.get_offset() is not None:  # None where there is no byte to store
                places[name] = (dataset.id.get_offset(), dtypes[name])
    return places


def _row_shape(content: FeatureContent, name: str) -> tuple[int, ...] | None:
    if not content.videos:
        return (content.recipe.get("views", 1), 0) if name == "descriptors" else None
    rows = getattr(content.videos[0], name)
    return None if rows is None else rows.shape[1:]


def _reserve(h5: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype) -> h5py.Dataset:
    """A contiguous dataset whose place is fixed now and whose bytes come later."""
    create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    create.set_layout(h5py.h5d.CONTIGUOUS)
    create.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    create.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    create.set_obj_track_times(False)
    h5py.h5d.create(
        h5.id, name.encode(), h5py.h5t.py_create(dtype, logical=True), h5py.h5s.create_simple(shape), create
    )
    return h5[name]


def _write_videos(h5: h5py.File, videos: list[_VideoFacts], content: FeatureContent) -> None:
    count = len(videos)
    for name, dtype in CLIP_FIELDS.items():
        rows = [getattr(v.clips, name) for v in videos]
        h5.create_dataset(f"clips/{name}", data=np.concatenate(rows).astype(dtype) if rows else np.zeros(0, dtype))
    for name, dtype in VIDEO_FIELDS.items():
        h5.create_dataset(f"videos/{name}", data=np.array([getattr(v.info, name) for v in videos], dtype=dtype))
    lengths = [len(v.clips.start_frame) for v in videos]
    h5.create_dataset("videos/offset", data=np.concatenate([[0], np.cumsum(lengths, dtype="<i8")]).astype("<i8"))
    labels = [-1] * count if content.labels is None else content.labels
    h5.create_dataset("videos/label", data=np.array(labels, dtype="<i4"))
    texts = {
        "videos/id": [v.id for v in videos],
        "videos/status": [v.info.status for v in videos],
        "videos/note": [v.info.note for v in videos],
        "videos/subset": [""] * count if content.subsets is None else content.subsets,
        "videos/group": [""] * count if content.groups is None else content.groups,
        "classes": content.classes,
        "failures/id": [f[0] for f in content.failures],
        "failures/error": [f[1] for f in content.failures],
    }
    if content.backbone_classes is not None:
        texts["backbone_classes"] = content.backbone_classes
    for name, values in texts.items():
        array = encode(list(values))
        h5.create_dataset(name, data=array.astype(h5py.string_dtype("utf-8", array.dtype.itemsize)))


class _Image(io.RawIOBase):
    """A sparse file in memory: remembers what was written where, so that gaps of any size cost nothing."""

    def __init__(self):
        self.pieces: list[tuple[int, bytes]] = []
        self.position = self.size = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}[whence]
        self.position = base + offset
        return self.position

    def write(self, data) -> int:
        data = bytes(data)
        self.pieces.append((self.position, data))
        self.position += len(data)
        self.size = max(self.size, self.position)
        return len(data)

    def readinto(self, buffer) -> int:
        start, end = self.position, min(self.position + len(buffer), self.size)
        view = memoryview(buffer)
        view[: end - start] = bytes(end - start)
        for offset, data in self.pieces:  # in the order of writing, so that the last one holds
            low, high = max(start, offset), min(end, offset + len(data))
            if low < high:
                view[low - start : high - start] = data[low - offset : high - offset]
        self.position = end
        return end - start

    def truncate(self, size: int | None = None) -> int:
        self.size = self.position if size is None else size
        return self.size

    def write_to(self, file) -> None:
        """Lay the image down at the start of an empty file."""
        file.truncate(self.size)
        for offset, data in self.pieces:
            file.seek(offset)
            file.write(data[: max(0, self.size - offset)])


def require_output(path: Path) -> None:
    """Raise RefusedError early where an output cannot be put: no folder, a read-only one, or a folder of that name."""
    if not path.parent.is_dir():
        raise RefusedError(f"{path}: there is no folder {path.parent}; create it first")
    if path.is_dir():
        raise RefusedError(f"{path}: is a folder; name a file in it, such as {path / 'feats.h5'}")
    if not os.access(path.parent, os.W_OK):
        raise RefusedError(f"{path}: {path.parent} is read-only; choose another output")
