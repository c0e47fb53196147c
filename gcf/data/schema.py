"""Schema 1 of the feature file: the names, types and row dataclasses that reader and writer share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from gcf.data.gathered import GatheredVideos

FORMAT = "gcf-features"
SCHEMA = 1
CLIP_FIELDS = {"start_frame": "<i8", "num_frames": "<i2", "start_time": "<f8", "end_time": "<f8"}
VIDEO_FIELDS = {
    "fps": "<f8",
    "num_frames": "<i8",
    "width": "<i4",
    "height": "<i4",
    "duration": "<f8",
    "size": "<i8",
    "mtime_ns": "<i8",
}
ROWS = (*(f"clips/{name}" for name in CLIP_FIELDS), "descriptors", "logits")  # datasets with one row a clip
OPTIONAL = {  # what extraction writes as well, and what follows where it is absent
    "videos/note": "why a video is partial is not known",
    "videos/crc32": "damage to a video cannot be seen",
}
NAME_BYTES = 4096  # PATH_MAX of Linux: nothing longer names a file
SUBSETS = ("train", "val", "test", "")
STATUSES = ("ok", "partial")


@dataclass(frozen=True)
class Clips:
    """Where the clips of one or many videos lie, each field of shape (clips,).

    Frames count from the first decoded one; times are seconds from the stream's own timestamps.
    `num_frames` counts real frames: fewer than the clip length in a padded tail.
    """

    start_frame: np.ndarray
    num_frames: np.ndarray
    start_time: np.ndarray
    end_time: np.ndarray


@dataclass(frozen=True)
class VideoInfo:
    """What is known of one video: frames as decoded, upright size in pixels, seconds, bytes, nanoseconds."""

    fps: float
    num_frames: int
    width: int
    height: int
    duration: float
    size: int
    mtime_ns: int
    status: str = "ok"
    note: str = ""  # why it is partial, or that digits were lost


@dataclass(frozen=True)
class VideoFeatures:
    """One video's rows: descriptors (C, V, D), logits (C, K) or None, its clips and its facts."""

    id: str
    descriptors: np.ndarray
    logits: np.ndarray | None
    clips: Clips
    info: VideoInfo


@dataclass(frozen=True)
class FeatureContent:
    """All that one feature file holds; `videos` may be lazy, it is walked three times, or a GatheredVideos.

    labels (N,), subsets and groups go with `videos`, which must be sorted by id; None means unknown.
    """

    recipe: dict
    videos: "Sequence[VideoFeatures] | GatheredVideos"
    failures: Sequence[tuple[str, str]] = ()
    backbone_classes: Sequence[str] | None = None
    classes: Sequence[str] = ()
    labels: Sequence[int] | None = None
    subsets: Sequence[str] | None = None
    groups: Sequence[str] | None = None


def encode(texts: Sequence[str]) -> np.ndarray:
    """Texts as fixed-width UTF-8 bytes; names that are not UTF-8 keep their own bytes."""
    return np.array([t.encode("utf-8", "surrogateescape") for t in texts], dtype=np.bytes_).astype("S", copy=False)


def decode(array: np.ndarray, known: dict[bytes, str] | None = None) -> list[str]:
    """The texts that `encode` wrote; equal ones are one object, so that a column of few words costs little.

    known: the texts of earlier pieces of the column, to which those of this one are added.
    """
    known = {} if known is None else known
    texts = array.tolist()
    for b in set(texts).difference(known):
        known[b] = b.decode("utf-8", "surrogateescape")
    return [known[b] for b in texts]


def id_key(video_id: str) -> bytes:
    """The order of videos in a file: by the bytes of their names."""
    return video_id.encode("utf-8", "surrogateescape")
