"""A checksum for every video of a feature file, over what the video is itself: not its place, label or neighbours.

It is the CRC-32 of zlib over these bytes, one after another:

1. its id, its status and its note, in UTF-8 (names that are not UTF-8: their own bytes), each ended by a zero byte;
2. its facts, in the order of VIDEO_FIELDS, each value in the type given there;
3. the fields of its clips, in the order of CLIP_FIELDS, each for all of its clips, in the type given there;
4. its rows of `descriptors`, then its rows of `logits` if there are any, as they lie in the file.

So it moves with the video from a part into the finished file, and from shards into the merged one.
"""

import zlib
from array import array
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gcf.data.schema import CLIP_FIELDS, VIDEO_FIELDS, VideoFeatures, id_key

if TYPE_CHECKING:
    from gcf.data.features import FeatureFile

REMEDY = "run the gcf extract that made it again with --repair, which does only the damaged videos again"


def head_checksums(
    ids: Sequence[str], status: Sequence[str], note: Sequence[str], facts: Mapping[str, np.ndarray]
) -> array:
    """The checksums of N videos as far as their facts go, items 1 and 2; facts: name -> (N,)."""
    records = np.empty(len(ids), list(VIDEO_FIELDS.items()))
    for name in VIDEO_FIELDS:
        records[name] = facts[name]
    width, raw = records.dtype.itemsize, memoryview(records.tobytes())
    sums = array("I", bytes(4 * len(ids)))
    for n, texts in enumerate(zip(ids, status, note, strict=True)):
        said = b"".join(id_key(text) + b"\0" for text in texts)
        sums[n] = zlib.crc32(raw[n * width : (n + 1) * width], zlib.crc32(said))
    return sums


def video_checksum(video: VideoFeatures) -> int:
    """The checksum of one video whose descriptors and logits have the types in which they are stored."""
    facts = {name: np.array([getattr(video.info, name)]) for name in VIDEO_FIELDS}
    found = head_checksums([video.id], [video.info.status], [video.info.note], facts)[0]
    for name, dtype in CLIP_FIELDS.items():
        found = zlib.crc32(np.ascontiguousarray(getattr(video.clips, name), dtype).data, found)
    for rows in (video.descriptors, video.logits):
        if rows is not None and rows.size:
            found = zlib.crc32(np.ascontiguousarray(rows).data, found)
    return found


def is_intact(features: "FeatureFile", n: int, video: VideoFeatures | None = None) -> bool:
    """Whether video n, or what was read of it, is as it was written; files without checksums are believed."""
    if features.checksums is None:
        return True
    return video_checksum(features.video(n) if video is None else video) == features.checksums[n]
