"""Clips of many videos into full batches, rows of many batches back into videos."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import numpy as np

from gcf.data.digits import lost_digits
from gcf.data.schema import Clips, VideoFeatures, VideoInfo
from gcf.errors import StoppedError
from gcf.extract.decoding.find import VideoPath
from gcf.extract.decoding.jobs import Clip
from gcf.extract.decoding.pool import Failed

MOST_LOGIT = 65504.0  # float16's largest; beyond it a class is certain anyway

Submit = Callable[[np.ndarray], Future]  # pixels (n, T, H, W, 3) -> descriptors (n, D), logits (n, K) or None
Decoded = tuple[VideoPath, int, Clip | VideoInfo | Failed]  # what a job made of a video
Outcome = tuple[str, VideoFeatures | Failed]


@dataclass
class _Rows:
    """A video on its way through the network; `descriptors` and `logits` are filled clip by clip, view by view."""

    id: str
    clips: list[Clip] = field(default_factory=list)
    descriptors: list[list[np.ndarray]] = field(default_factory=list)  # per clip, per view: (D,)
    logits: list[np.ndarray] = field(default_factory=list)  # per clip, of view 0: (K,)
    info: VideoInfo | None = None
    waiting: int = 0

    def add(self, clip: Clip) -> "Iterator[Slot]":
        """Take a clip without its pixels; gives one slot of a batch for each of its views."""
        index = len(self.clips)
        self.clips.append(Clip(np.empty(0), clip.start_frame, clip.num_real, clip.start_time, clip.end_time))
        self.descriptors.append([])
        for pixels in clip.pixels:
            self.waiting += 1
            yield self, index, pixels

    def fill(self, index: int, descriptor: np.ndarray, logits: np.ndarray | None) -> None:
        if not self.descriptors[index] and logits is not None:
            self.logits.append(logits)
        self.descriptors[index].append(descriptor)
        self.waiting -= 1

    @property
    def complete(self) -> bool:
        return self.info is not None and not self.waiting

    def features(self, dtype: str) -> VideoFeatures | Failed:
        computed, info = np.array(self.descriptors), self.info  # (C, V, D)
        with np.errstate(over="ignore"):  # an overflow is found and named below
            descriptors = computed.astype(dtype)
            logits = np.clip(self.logits, -MOST_LOGIT, MOST_LOGIT).astype("float16") if self.logits else None
        if not np.isfinite(descriptors).all() or np.isnan(logits if self.logits else 0).any():
            return Failed("its descriptors are not finite; try --precision fp32 or --dtype float32")
        if lost := lost_digits(computed, descriptors):
            info = replace(info, note="; ".join(filter(None, [info.note, lost])))
        clips = Clips(
            start_frame=np.array([c.start_frame for c in self.clips]),
            num_frames=np.array([c.num_real for c in self.clips]),
            start_time=np.array([c.start_time for c in self.clips]),
            end_time=np.array([c.end_time for c in self.clips]),
        )
        return VideoFeatures(self.id, descriptors, logits, clips, info)


Slot = tuple[_Rows, int, np.ndarray | None]  # whose clip a place of a batch holds, which one, its pixels


def assemble(
    decoded: Iterable[Decoded | None],
    batchers: "Sequence[Batcher]",
    *,
    waiting: int = 1,
    after_batch: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, Outcome]]:
    """Run every clip through networks in batches that span videos; yields a batcher's index, a video's id and outcome.

    decoded: what a DecoderPool gives, videos interleaved, and None where nothing came for a while. The
    order depends on chance, the numbers do not. While more than `waiting` batches of a batcher are
    under way its oldest is waited for.
    after_batch is called after each and at every None, also while no video is done.
    """

    def settled(waiting: int) -> Iterator[tuple[int, Outcome]]:
        for index, batcher in enumerate(batchers):
            while batcher.is_due(waiting):
                yield from ((index, outcome) for outcome in batcher.settle_oldest())
                after_batch()

    try:
        for item in decoded:
            if item is None:
                yield from settled(waiting)
                after_batch()
                continue
            for index, batcher in enumerate(batchers):
                yield from ((index, outcome) for outcome in batcher.take(*item))
                while len(batcher.slots) >= batcher.batch_size:  # several where a clip has many views
                    batcher.send()
                    yield from settled(waiting)
            yield from settled(waiting)
    except StoppedError:  # no more videos can be read; what is in the networks is good
        yield from settled(0)
        raise
    for batcher in batchers:
        while batcher.slots:
            batcher.send()
    yield from settled(0)


@dataclass(frozen=True)
class _Batch:
    """A batch under way: whose clips it holds, and what comes of them."""

    slots: list[Slot]
    rows: Future


class Batcher:
    """One network's: what waits for a full batch, what is in the network, what waits for its last clip.

    submit begins a batch and gives its Future. job: the one whose clips the network sees; ids: the videos that it is
    to see, None for all.
    """

    def __init__(
        self, submit: Submit, *, batch_size: int, dtype: str, job: int = 0, ids: Collection[str] | None = None
    ):
        self.submit, self.batch_size, self.dtype, self.job, self.ids = submit, batch_size, dtype, job, ids
        self.videos: dict[str, _Rows] = {}
        self.slots: list[Slot] = []
        self.under_way: deque[_Batch] = deque()

    def take(self, video: VideoPath, job: int, item: Clip | VideoInfo | Failed) -> Iterator[Outcome]:
        """One thing that was decoded, if it is for this network."""
        if job != self.job or (self.ids is not None and video.id not in self.ids):
            return
        rows = self.videos.setdefault(video.id, _Rows(video.id))
        if isinstance(item, Failed):
            del self.videos[video.id]
            self.slots = [slot for slot in self.slots if slot[0] is not rows]
            yield video.id, item
        elif isinstance(item, VideoInfo):
            rows.info = item
            yield from self._settle([rows])
        else:
            self.slots.extend(rows.add(item))

    def send(self) -> None:
        """Begin the next batch, full or the last."""
        batch, self.slots = self.slots[: self.batch_size], self.slots[self.batch_size :]
        pixels = np.stack([pixels for _, _, pixels in batch])
        slots = [(rows, index, None) for rows, index, _ in batch]  # the pixels are not held twice
        self.under_way.append(_Batch(slots, self.submit(pixels)))

    def is_due(self, waiting: int) -> bool:
        """Whether the oldest batch is to be settled: it is done, or more than `waiting` are under way."""
        return bool(self.under_way) and (len(self.under_way) > waiting or self.under_way[0].rows.done())

    def settle_oldest(self) -> Iterator[Outcome]:
        """Wait for the oldest batch and fill the rows of the videos it touched, in order."""
        batch = self.under_way.popleft()
        descriptors, logits = batch.rows.result()
        for place, (rows, index, _) in enumerate(batch.slots):
            rows.fill(index, descriptors[place], None if logits is None else logits[place])
        yield from self._settle({id(rows): rows for rows, _, _ in batch.slots}.values())

    def _settle(self, finished: Iterable[_Rows]) -> Iterator[Outcome]:
        for rows in finished:
            if rows.complete and self.videos.pop(rows.id, None):
                yield rows.id, rows.features(self.dtype)
