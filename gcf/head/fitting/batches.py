"""Batches of descriptors: no loader processes, and no HDF5 on the way."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gcf.data.protocol import Features
from gcf.data.stratify import rarest_classes
from gcf.head.fitting.order import blocks, draw
from gcf.head.fitting.residency import MAP, choose_residency
from gcf.head.models.sampling import choose_clips
from gcf.head.models.standard import Moments, principal_basis

COPY_BYTES = 1 << 26
MOST_CLIPS = 1 << 16  # that principal components are taken of: 32 for each of 2,048 channels
BLOCK_BYTES = 4 << 20  # read at one go where descriptors stay in the file: long enough for any disk to be quick
# What a batch is drawn from there, while the next is being read. Both must stay in the system's cache: where 1 GB was
# left for it, windows of 256 MiB made the disk read every byte twice (benchmarks/heads.py --larger).
WINDOW_BYTES = 128 << 20


@dataclass(frozen=True, eq=False)
class Batch:
    """descriptors (B, C, D) float32, mask (B, C) bool, labels (B,) int64 or (B, K) float32, on one device.

    Where heads of several seeds each have an order of batches of their own, all three begin with an axis S, one place
    for each order.
    """

    descriptors: Tensor
    mask: Tensor
    labels: Tensor

    @property
    def num_orders(self) -> int:
        """How many orders of batches it has videos of; 1 where it has no axis for them."""
        return len(self.mask) if self.mask.ndim == 3 else 1

    def of_orders(self, places: Sequence[int]) -> "Batch":
        """The videos of the orders at these places, without the axis where it is one; itself where that is all."""
        if list(places) == list(range(self.num_orders)):
            return self
        chosen = places[0] if len(places) == 1 else list(places)
        return Batch(self.descriptors[chosen], self.mask[chosen], self.labels[chosen])


class Descriptors:
    """The descriptors of a feature file where heads can read them: on the device, in memory, or in the file.

    Rows are numbered flat: view v of clip t is t * V + v. `once`: they are read a single time, so nothing is copied.
    """

    def __init__(self, features: Features, *, device: str = "cpu", once: bool = False):
        self.features, self.device = features, torch.device(device)
        self.starts, self.counts = features.offsets[:-1], np.diff(features.offsets)
        rows, self.num_views, self.width = features.descriptors.shape
        self.row_bytes = self.num_views * self.width * features.descriptors.dtype.itemsize
        self.residency = choose_residency(rows * self.row_bytes, self.device)
        self._moments: dict[bytes, Moments] = {}
        self._bases: dict[tuple[bytes, int], Tensor] = {}
        self._one_at_a_time = threading.Lock()  # several trainings ask at once
        self.copy = None
        if self.residency.kind != MAP and not once:
            self.copy = self._copy().to(self.device if self.residency.kind == "device" else "cpu")

    def _copy(self) -> Tensor:
        """All rows (T * V, D) in memory, in the type of the file."""
        rows = self.features.num_clips
        found = np.empty((rows, self.num_views, self.width), self.features.descriptors.dtype)
        step = max(1, COPY_BYTES // max(1, self.row_bytes))
        for start in range(0, rows, step):
            found[start : start + step] = self.features.gather(slice(start, start + step))
        return torch.from_numpy(found).flatten(0, 1)

    def gather(self, flat: np.ndarray) -> Tensor:
        """Descriptors (..., D) float32 of flat row numbers (...)."""
        if self.copy is not None:
            found = self.copy[torch.from_numpy(flat).to(self.copy.device)]
        else:
            clips, views = np.divmod(flat, self.num_views)
            rows = self.features.gather(clips)  # (..., V, D)
            chosen = rows[..., 0, :] if self.num_views == 1 else np.take_along_axis(rows, views[..., None, None], -2)
            found = torch.from_numpy(chosen.reshape(*flat.shape, self.width))
        return found.to(self.device).float()

    def moments(self, videos: np.ndarray) -> Moments:
        """Those of all clips of these videos, centre view; computed once, whoever asks."""
        with self._one_at_a_time:
            key = videos.tobytes()
            if key not in self._moments:
                self._moments[key] = Moments.of(self.clips_of(videos))
            return self._moments[key]

    def basis(self, videos: np.ndarray, count: int) -> Tensor:
        """Principal components (D, count) of the standardised clips of these videos, of some of them where they are
        many; computed once.
        """
        moments = self.moments(videos)
        with self._one_at_a_time:
            key = videos.tobytes(), count
            if key not in self._bases:
                clips = self.counts[videos].sum()
                step = -(-clips // MOST_CLIPS)
                self._bases[key] = principal_basis(self.clips_of(videos[::step]), moments, count)
            return self._bases[key]

    def clips_of(self, videos: np.ndarray) -> Iterator[Tensor]:
        """All clips of these videos, centre view, in chunks (R, D) float32 that need little memory."""
        step = max(1, COPY_BYTES // max(1, 4 * self.width))
        rows = np.concatenate([np.arange(self.counts[n]) + self.starts[n] for n in videos])
        for start in range(0, len(rows), step):
            yield self.gather(rows[start : start + step] * self.num_views)

    def expect(self, runs: Sequence[np.ndarray]) -> None:
        """Have the file read the rows of these runs of videos soon, from the first of a run to its last."""
        for run in runs:
            self.features.read_ahead(int(self.starts[run[0]]), int(self.starts[run[-1]] + self.counts[run[-1]]))


class ClipBatches:
    """The clips of labelled videos, `num_clips` of each chosen by `policy`.

    labels (N,) class numbers, or (N, K) with 1 for every class that a video shows. padding: as in
    `choose_clips`. Several of these may read the same `descriptors`.
    """

    def __init__(
        self,
        descriptors: Descriptors,
        labels: np.ndarray,
        *,
        num_clips: int,
        policy: str,
        padding: str = "mask",
    ):
        self.descriptors, self.device = descriptors, descriptors.device
        labels = np.asarray(labels)
        kind = np.int64 if labels.ndim == 1 else np.float32
        self.labels = torch.from_numpy(labels.astype(kind)).to(self.device)
        self.classes = labels if labels.ndim == 1 else rarest_classes(labels > 0)  # to draw by, where that is asked for
        self.num_clips, self.policy, self.padding = num_clips, policy, padding

    def select(
        self, videos: np.ndarray, *, rng: np.random.Generator | None = None, policy: str | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Clip numbers (B, C) within each video, and mask (B, C), of the chosen clips."""
        counts, policy = self.descriptors.counts[videos], policy or self.policy
        return choose_clips(counts, self.num_clips, policy, padding=self.padding, rng=rng)

    def load(self, videos: np.ndarray, *, rng: np.random.Generator, policy: str | None = None) -> Batch:
        """One batch of these videos, centre view."""
        clips, mask = self.select(videos, rng=rng, policy=policy)
        rows = self.descriptors.starts[videos][:, None] + clips
        return self._batch(videos, self.descriptors.gather(rows * self.descriptors.num_views), mask)

    def in_order(
        self, videos: np.ndarray, size: int, *, rng: np.random.Generator, policy: str | None = None
    ) -> Iterator[Batch]:
        """One pass in the given order, centre view."""
        for part in _parts(np.asarray(videos), size):
            yield self.load(part, rng=rng, policy=policy)

    def shuffled(
        self,
        videos: np.ndarray,
        size: int,
        *,
        rngs: Sequence[np.random.Generator],
        reading: np.random.Generator | None = None,
        sampling: str = "shuffle",
    ) -> Iterator[Batch]:
        """One pass over the videos, a random view of each, in as many random orders as `rngs`: the training batches.

        reading: draws the order in which a file is read that is larger than memory, the same for all orders (None: the
        first of `rngs` does).
        """
        for parts in self._training_parts(videos, size, rngs, reading or rngs[0], sampling):
            chosen = [self._training_rows(part, rng) for part, rng in zip(parts, rngs, strict=True)]
            widest = max(mask.shape[1] for _, mask in chosen)
            rows = np.stack([_widened(flat, widest, mode="edge") for flat, _ in chosen])
            mask = np.stack([_widened(real, widest) for _, real in chosen])
            places = slice(None) if len(rngs) > 1 else 0
            yield self._batch(np.stack(parts)[places], self.descriptors.gather(rows[places]), mask[places])

    def _training_rows(self, videos: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Flat rows (B, C) of a random view of each video, and mask (B, C)."""
        clips, mask = self.select(videos, rng=rng)
        rows = self.descriptors.starts[videos][:, None] + clips
        return rows * self.descriptors.num_views + self._views(len(videos), rng), mask

    def _training_parts(
        self,
        videos: np.ndarray,
        size: int,
        rngs: Sequence[np.random.Generator],
        reading: np.random.Generator,
        sampling: str,
    ) -> Iterator[Sequence[np.ndarray]]:
        """The videos of each batch of one pass, for each order; what lies in the file is asked for one window ahead."""
        source = self.descriptors
        if source.copy is not None or sampling != "shuffle":
            drawn = [draw(videos, self.classes[videos], sampling, rng=rng) for rng in rngs]
            yield from _batches_of(drawn, size)
            return
        sizes = source.counts[videos] * source.row_bytes
        windows = list(blocks(videos, sizes, block=BLOCK_BYTES, window=WINDOW_BYTES, rng=reading))
        waiting = [videos[:0]] * len(rngs)
        for number, window in enumerate(windows):
            if number + 1 < len(windows):
                source.expect(windows[number + 1])
            pools = [rng.permutation(np.concatenate([own, *window])) for own, rng in zip(waiting, rngs, strict=True)]
            count, last = len(pools[0]), number + 1 == len(windows)
            end = count if last else count - count % size
            yield from _batches_of([pool[:end] for pool in pools], size)
            waiting = [pool[end:] for pool in pools]

    def _views(self, count: int, rng: np.random.Generator) -> np.ndarray | int:
        views = self.descriptors.num_views
        return rng.integers(views, size=(count, 1)) if views > 1 else 0

    def _batch(self, videos: np.ndarray, descriptors: Tensor, mask: np.ndarray) -> Batch:
        labels = self.labels[torch.from_numpy(videos).to(self.device)]
        return Batch(descriptors, torch.from_numpy(mask).to(self.device), labels)


def _batches_of(orders: Sequence[np.ndarray], size: int) -> Iterator[Sequence[np.ndarray]]:
    """The videos of each batch, for every order of the same videos."""
    return zip(*(_parts(videos, size) for videos in orders), strict=True)


def _widened(values: np.ndarray, width: int, **how) -> np.ndarray:
    """(B, C) with further columns up to a width: zeros, or as `how` tells np.pad."""
    return np.pad(values, ((0, 0), (0, width - values.shape[1])), **how)


def _parts(videos: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(videos), size):
        yield videos[start : start + size]
