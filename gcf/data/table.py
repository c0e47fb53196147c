"""Videos in memory, or made when they are asked for, as the table that the writer takes."""

from collections.abc import Iterator, Sequence

import numpy as np

from gcf.data.schema import CLIP_FIELDS, VIDEO_FIELDS, VideoFeatures


class GivenVideos:
    """N videos as columns, as GatheredVideos has them: their facts are taken at once, their rows when they are written.

    Raises ValueError where rows of a video do not fit its clips or the other videos.
    """

    def __init__(self, videos: Sequence[VideoFeatures], recipe: dict):
        self.videos, self.recipe = videos, recipe
        self.ids, self.status, self.note, infos, clips = [], [], [], [], []
        for video in videos:
            self.ids.append(video.id)
            self.status.append(video.info.status)
            self.note.append(video.info.note)
            infos.append(video.info)
            clips.append(video.clips)
        self.counts = np.array([len(c.start_frame) for c in clips], np.int64)
        self.facts = {}
        for name, dtype in VIDEO_FIELDS.items():
            self.facts[name] = np.array([getattr(info, name) for info in infos], dtype)
        self.clips = {}
        for name, dtype in CLIP_FIELDS.items():
            parts = [getattr(of_video, name) for of_video in clips]
            self.clips[f"clips/{name}"] = np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype)

    def row_types(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """Shape and type of one row of each of ROWS that there are."""
        types: dict[str, tuple[tuple[int, ...], np.dtype]]
        types = {name: ((), values.dtype) for name, values in self.clips.items()}
        wanted, first = np.dtype(self.recipe.get("dtype", "float16")), self.videos[0] if self.ids else None
        types["descriptors"] = (
            (self.recipe.get("views", 1), 0) if first is None else first.descriptors.shape[1:],
            wanted,
        )
        if first is not None and first.logits is not None:
            types["logits"] = first.logits.shape[1:], np.dtype("float16")
        return types

    def rows(self, name: str) -> Iterator[tuple[int, np.ndarray]]:
        """The rows of one of ROWS, video after video, as (n, rows)."""
        if name in self.clips:
            ends = np.cumsum(self.counts)
            yield from enumerate(np.split(self.clips[name], ends[:-1]) if len(ends) else [])
            return
        row, dtype = self.row_types()[name]
        for n, video in enumerate(self.videos):
            rows = getattr(video, name)
            if rows.shape != (self.counts[n], *row):
                raise ValueError(f"{video.id}: {name} of shape {rows.shape}, others have rows of {row}")
            yield n, np.ascontiguousarray(rows, dtype=dtype).reshape(-1).view(np.uint8)

    def check(self, sums: Sequence[int]) -> None:
        """Nothing: there is nothing older to compare with."""
