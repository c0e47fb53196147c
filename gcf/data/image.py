"""Where HDF5 would put the datasets of a file, without HDF5 ever touching the disk for writing."""

import io
from dataclasses import dataclass

import h5py
import numpy as np

ALIGNMENT = 4096  # bytes: a memory map starts on a page


@dataclass(frozen=True)
class FileLayout:
    """The datasets of a file to be written, name -> shape and type, in the order of their places, and its attributes.

    align: bytes from which on a dataset starts on a page.
    """

    datasets: dict[str, tuple[tuple[int, ...], np.dtype]]
    attributes: dict[str, object]
    align: int = ALIGNMENT


def lay_out(plan: FileLayout) -> tuple["_Image", dict[str, int]]:
    """The structure of a file, and the offset at which the bytes of each dataset belong.

    Datasets without a byte to store have no place.
    """
    image = _Image()
    with h5py.File(image, "w", alignment_threshold=plan.align, alignment_interval=ALIGNMENT) as h5:
        for name, value in plan.attributes.items():
            h5.attrs[name] = value
        places = {name: _reserve(h5, name, *kind) for name, kind in plan.datasets.items()}
    return image, {name: offset for name, offset in places.items() if offset is not None}


def _reserve(h5: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype) -> int | None:
    """A contiguous dataset whose place is fixed now and whose bytes come later."""
    folder, _, _ = name.rpartition("/")
    if folder:
        h5.require_group(folder)
    create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    create.set_layout(h5py.h5d.CONTIGUOUS)
    create.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    create.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    create.set_obj_track_times(False)
    kind, space = h5py.h5t.py_create(dtype, logical=True), h5py.h5s.create_simple(shape)
    return h5py.h5d.create(h5.id, name.encode(), kind, space, create).get_offset()


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
        """Lay the image down at the start of an empty file, in as few calls as its larger gaps allow."""
        file.truncate(self.size)
        for start, end in self._stretches():
            self.seek(start)
            file.seek(start)
            file.write(self.read(min(end, self.size) - start))

    def _stretches(self) -> list[tuple[int, int]]:
        """Where anything was written, first byte and the one after the last; small gaps are written as zeros."""
        found: list[tuple[int, int]] = []
        for offset, data in sorted(self.pieces, key=lambda piece: piece[0]):
            if found and offset <= found[-1][1] + ALIGNMENT:
                found[-1] = found[-1][0], max(found[-1][1], offset + len(data))
            else:
                found.append((offset, offset + len(data)))
        return [stretch for stretch in found if stretch[0] < self.size]
