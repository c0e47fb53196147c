"""Batches of descriptors straight from the memory map: no loader processes, no HDF5 on the way."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gcf.data.features import FeatureFile
from gcf.errors import FeatureFileError, UsageError
from gcf.head.sampling import choose_clips

RESIDENT_BYTES = 1 << 30  # a cache whose float32 copy is smaller is kept in memory, on the training device
CHECK_BYTES = 1 << 26
EXPONENT = {2: (np.uint16, 0x7C00), 4: (np.uint32, 0x7F800000)}  # all ones: infinite or not a number


@dataclass(frozen=True, eq=False)
class Batch:
    """descriptors (B, C, D) float32, mask (B, C) bool, labels (B,) int64, on one device."""

    descriptors: Tensor
    mask: Tensor
    labels: Tensor


class ClipBatches:
    """The clips of labelled videos, `num_clips` of each chosen by `policy`.

    Small caches are copied to the device once; large ones are gathered from the map, one batch at a time.
    """

    def __init__(self, features: FeatureFile, labels: np.ndarray, *, num_clips: int, policy: str, device: str = "cpu"):
        self.features, self.device = features, torch.device(device)
        self.labels = torch.from_numpy(np.asarray(labels, dtype=np.int64)).to(self.device)
        self.num_clips, self.policy = num_clips, policy
        self.starts, self.counts = features.offsets[:-1], np.diff(features.offsets)
        rows, self.num_views, self.width = features.descriptors.shape
        self.flat = features.descriptors.reshape(rows * self.num_views, self.width)  # view v of row t: t * V + v
        self.resident = None
        if self.flat.size * 4 <= RESIDENT_BYTES:
            self.resident = torch.from_numpy(self.flat.astype(np.float32)).to(self.device)

    def select(
        self, videos: np.ndarray, *, rng: np.random.Generator | None = None, policy: str | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers (B, C) and mask (B, C) of the chosen clips."""
        indices, mask = choose_clips(self.counts[videos], self.num_clips, policy or self.policy, rng=rng)
        return self.starts[videos][:, None] + indices, mask

    def load(
        self,
        videos: np.ndarray,
        *,
        rng: np.random.Generator | None = None,
        policy: str | None = None,
        any_view: bool = False,
    ) -> Batch:
        """One batch of these videos; `any_view` draws a view for each video, otherwise it is the centre view, 0."""
        rows, mask = self.select(videos, rng=rng, policy=policy)
        views = rng.integers(self.num_views, size=(len(videos), 1)) if any_view and self.num_views > 1 else 0
        flat = rows * self.num_views + views
        if self.resident is not None:
            descriptors = self.resident[torch.from_numpy(flat).to(self.device)]
        else:
            descriptors = torch.from_numpy(self.flat[flat]).to(self.device).float()
        labels = self.labels[torch.from_numpy(videos).to(self.device)]
        return Batch(descriptors, torch.from_numpy(mask).to(self.device), labels)

    def shuffled(self, videos: np.ndarray, size: int, *, rng: np.random.Generator) -> Iterator[Batch]:
        """One pass over the videos in a random order, with random views: the training batches."""
        for part in _parts(rng.permutation(videos), size):
            yield self.load(part, rng=rng, any_view=True)

    def in_order(
        self, videos: np.ndarray, size: int, *, rng: np.random.Generator, policy: str | None = None
    ) -> Iterator[Batch]:
        """One pass in the given order, centre view."""
        for part in _parts(np.asarray(videos), size):
            yield self.load(part, rng=rng, policy=policy)


def _parts(videos: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(videos), size):
        yield videos[start : start + size]


def check_finite(features: FeatureFile, videos: np.ndarray) -> None:
    """Raise FeatureFileError naming the videos among these whose descriptors or logits are not all finite."""
    bad = np.zeros(features.num_clips, dtype=bool)
    for array in (features.descriptors, features.logits):
        if array is not None:
            bad |= _not_finite(array.reshape(len(array), -1))
    counts = np.concatenate([[0], np.cumsum(bad)])
    affected = [n for n in videos if counts[features.offsets[n + 1]] > counts[features.offsets[n]]]
    if affected:
        names = ", ".join(features.ids[n] for n in affected[:3])
        raise FeatureFileError(
            f"{features.path}: {len(affected)} videos have NaN or infinite values ({names}"
            f"{', ...' if len(affected) > 3 else ''}); extract them again"
        )


def _not_finite(rows: np.ndarray) -> np.ndarray:
    """Rows with a NaN or infinity, by the exponent bits: several times faster than isfinite on float16."""
    kind, exponent = EXPONENT[rows.dtype.itemsize]
    step = max(1, CHECK_BYTES // max(1, rows.shape[1] * rows.dtype.itemsize))
    found = [
        ((rows[start : start + step].view(kind) & exponent) == exponent).any(axis=1)
        for start in range(0, len(rows), step)
    ]
    return np.concatenate(found) if found else np.zeros(0, dtype=bool)


def usable_device(name: str) -> str:
    """`auto` is a GPU where there is one. Raises UsageError for a device that this machine has not."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return name
