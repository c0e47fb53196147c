"""Clips of many videos into full batches, rows of many batches back into videos."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from gcf.data.schema import Clips, VideoFeatures, VideoInfo
from gcf.extract.decoding import Clip
from gcf.extract.find import VideoPath
from gcf.extract.pool import Failed

Network = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]
Item = tuple[VideoPath, Clip | VideoInfo | Failed]


@dataclass
class _Rows:
    """A video on its way through the network; `descriptors` and `logits` are filled clip by clip, view by view."""

    id: str
    clips: list[Clip] = field(default_factory=list)
    descriptors: list[list[np.ndarray]] = field(default_factory=list)  # per clip, per view: (D,)
    logits: list[np.ndarray] = field(default_factory=list)  # per clip, of view 0: (K,)
    info: VideoInfo | None = None
    waiting: int = 0

    def add(self, clip: Clip) -> Iterator[tuple["_Rows", int, np.ndarray]]:
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
        with np.errstate(over="ignore"):  # an overflow is found and named below
            descriptors = np.array(self.descriptors).astype(dtype)  # (C, V, D)
            logits = np.array(self.logits).astype("float16") if self.logits else None
        if not np.isfinite(descriptors).all():
            return Failed("its descriptors are not finite; try --precision fp32 or --dtype float32")
        clips = Clips(
            start_frame=np.array([c.start_frame for c in self.clips]),
            num_frames=np.array([c.num_real for c in self.clips]),
            start_time=np.array([c.start_time for c in self.clips]),
            end_time=np.array([c.end_time for c in self.clips]),
        )
        return VideoFeatures(self.id, descriptors, logits, clips, self.info)


def assemble(
    decoded: Iterable[Item], network: Network, *, batch_size: int, dtype: str
) -> Iterator[tuple[str, VideoFeatures | Failed]]:
    """Run every clip through the network in batches that span videos; yields each video's id and outcome when known.

    decoded: what a DecoderPool gives, videos interleaved. Their order depends on chance, their numbers do not.
    """
    videos: dict[str, _Rows] = {}
    slots: list[tuple[_Rows, int, np.ndarray]] = []

    def settle(finished: Iterable[_Rows]) -> Iterator[tuple[str, VideoFeatures | Failed]]:
        for rows in finished:
            if rows.complete and videos.pop(rows.id, None):
                yield rows.id, rows.features(dtype)

    for video, item in decoded:
        rows = videos.setdefault(video.id, _Rows(video.id))
        if isinstance(item, Failed):
            del videos[video.id]
            slots = [slot for slot in slots if slot[0] is not rows]
            yield video.id, item
        elif isinstance(item, VideoInfo):
            rows.info = item
            yield from settle([rows])
        else:
            slots.extend(rows.add(item))
        while len(slots) >= batch_size:
            batch, slots = slots[:batch_size], slots[batch_size:]
            yield from settle(_run(network, batch))
    while slots:
        batch, slots = slots[:batch_size], slots[batch_size:]
        yield from settle(_run(network, batch))


def _run(network: Network, batch: list[tuple[_Rows, int, np.ndarray]]) -> list[_Rows]:
    """Fill the rows of one batch; the videos it touched, in order."""
    descriptors, logits = network(np.stack([pixels for _, _, pixels in batch]))
    for place, (rows, index, _) in enumerate(batch):
        rows.fill(index, descriptors[place], None if logits is None else logits[place])
    return list({id(rows): rows for rows, _, _ in batch}.values())
