"""Writing a feature file: HDF5 lays it out in memory, plain file calls put it on the disk.

HDF5 never touches the disk for writing: a full disk or a kill is then an ordinary OSError or an unfinished temporary
file. Rows go through memory a piece at a time, also those of the clips' times, so that it holds the facts of the
videos and nothing that grows with their clips.
"""

import io
import math
import os
import zlib
from array import array
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np

from gcf.data.atomic import atomic_file
from gcf.data.checksums import head_checksums
from gcf.data.features import FeatureFile
from gcf.data.gathered import GatheredVideos
from gcf.data.image import ALIGNMENT, FileLayout, lay_out
from gcf.data.recipe import canonical_json, recipe_sha256
from gcf.data.schema import FORMAT, ROWS, SCHEMA, VIDEO_FIELDS, FeatureContent, encode, id_key
from gcf.data.table import GivenVideos
from gcf.errors import RefusedError

SMALL = 1 << 20  # bytes: such columns are laid into the image, and written with it in one call

Table = GivenVideos | GatheredVideos


def write_features(path: str | os.PathLike, content: FeatureContent) -> None:
    """Write one complete feature file, or leave what was there untouched.

    Raises OSError (disk full, read-only folder) with nothing changed, FeatureFileError where videos that are copied
    from other files do not fit their checksums.
    """
    given = content.videos
    table = given if isinstance(given, GatheredVideos) else GivenVideos(given, content.recipe)
    if any(id_key(a) >= id_key(b) for a, b in zip(table.ids, table.ids[1:], strict=False)):
        raise ValueError("videos must be sorted by id, each once")
    columns, rows = _columns(table, content), table.row_types() or _no_rows(content)
    image, places = lay_out(_plan(columns, rows, content, num_clips=int(table.counts.sum())))
    small = {name: values for name, values in columns.items() if values.nbytes < SMALL}
    for name, values in small.items():
        _put(image, places.get(name), values)
    with atomic_file(path) as file:
        image.write_to(file)
        for name, values in columns.items():
            if name not in small:
                _put(file, places.get(name), values)
        sums = head_checksums(table.ids, table.status, table.note, table.facts)
        for name in ROWS:
            if name in places:
                _copy(file, places[name], table, name, sums)
        table.check(sums)
        _put(file, places.get("videos/crc32"), np.array(sums, "<u4"))
        file.flush()
        FeatureFile(file.name)  # what is renamed has been read


def _no_rows(content: FeatureContent) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """The types of rows of no video at all."""
    return GivenVideos((), content.recipe).row_types()


def _plan(columns: dict[str, np.ndarray], rows: dict, content: FeatureContent, *, num_clips: int) -> FileLayout:
    """Clips' facts first, then the columns, the rows last, so that maps of them reach to the end of the file."""
    last = ("descriptors", "logits")
    kinds = {name: ((num_clips, *shape), dtype) for name, (shape, dtype) in rows.items()}
    stored = {
        name: h5py.string_dtype("utf-8", v.dtype.itemsize) if v.dtype.kind == "S" else v.dtype
        for name, v in columns.items()
    }
    datasets = {name: kind for name, kind in kinds.items() if name not in last}
    datasets |= {name: (values.shape, stored[name]) for name, values in columns.items()}
    datasets["videos/crc32"] = (columns["videos/label"].shape, np.dtype("<u4"))
    datasets |= {name: kinds[name] for name in last if name in kinds}
    shape, dtype = kinds["descriptors"]
    attributes = {"format": FORMAT, "schema": SCHEMA, "recipe": canonical_json(content.recipe)}
    attributes["recipe_sha256"] = recipe_sha256(content.recipe)
    return FileLayout(datasets, attributes, align=max(1, min(ALIGNMENT, math.prod(shape) * dtype.itemsize)))


def _columns(table: Table, content: FeatureContent) -> dict[str, np.ndarray]:
    """All that does not grow with the clips, by the names of the datasets."""
    count, facts = len(table.ids), table.facts
    found = {f"videos/{name}": facts[name].astype(dtype, copy=False) for name, dtype in VIDEO_FIELDS.items()}
    found["videos/offset"] = np.concatenate([[0], np.cumsum(table.counts, dtype="<i8")]).astype("<i8")
    labels = [-1] * count if content.labels is None else content.labels
    found["videos/label"] = np.array(labels, dtype="<i4")
    none = [""] * count
    texts = {
        "videos/id": table.ids,
        "videos/status": table.status,
        "videos/note": table.note,
        "videos/subset": content.subsets or none,
        "videos/group": content.groups or none,
        "classes": content.classes,
        "failures/id": [f[0] for f in content.failures],
        "failures/error": [f[1] for f in content.failures],
    }
    if content.backbone_classes is not None:
        texts["backbone_classes"] = content.backbone_classes
    return found | {name: encode(values) for name, values in texts.items()}


def _put(file: BinaryIO | io.RawIOBase, offset: int | None, values: np.ndarray) -> None:
    if offset is not None:
        file.seek(offset)
        file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)


def _copy(file: BinaryIO, offset: int, table: Table, name: str, sums: array) -> None:
    """Put the rows of one dataset on the disk, and into the checksums of their videos."""
    file.seek(offset)
    for n, data in table.rows(name):
        stored = data if isinstance(data, bytes) else data.data
        file.write(stored)
        sums[n] = zlib.crc32(stored, sums[n])


def require_output(path: Path) -> None:
    """Raise RefusedError early where an output cannot be put: no folder, a read-only one, or a folder of that name."""
    if not path.parent.is_dir():
        raise RefusedError(f"{path}: there is no folder {path.parent}; create it first")
    if path.is_dir():
        raise RefusedError(f"{path}: is a folder; name a file in it, such as {path / 'feats.h5'}")
    if not os.access(path.parent, os.W_OK):
        raise RefusedError(f"{path}: {path.parent} is read-only; choose another output")
