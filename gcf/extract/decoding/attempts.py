"""A video that is decoded a second time goes on where the first attempt ended."""

import zlib
from collections.abc import Sequence

from gcf.data.schema import VideoInfo
from gcf.errors import VideoError
from gcf.extract.decoding.decoder_messages import Failed
from gcf.extract.decoding.find import VideoPath
from gcf.extract.decoding.jobs import Clip


class Attempts:
    """The attempts at one video: `jobs` are those that have not ended, `reason` is why the last attempt did."""

    def __init__(self, video: VideoPath, jobs: Sequence[int]):
        self.video, self.jobs, self.reason = video, list(jobs), ""
        self.given: dict[int, list[int]] = {number: [] for number in jobs}

    def begin(self) -> None:
        """The next attempt: it shows the same clips from the first one on."""
        self.place = dict.fromkeys(self.jobs, 0)

    def is_new(self, number: int, item: Clip | VideoInfo | Failed) -> bool:
        """Whether an earlier attempt did not give it. Raises VideoError where the video has become another."""
        given = self.given[number]
        if isinstance(item, Failed):
            return True
        if isinstance(item, VideoInfo):
            _require_same(self.place[number] == len(given))
            return True
        place, mark = self.place[number], _mark(item)
        self.place[number] += 1
        if place == len(given):
            given.append(mark)
            return True
        _require_same(given[place] == mark)
        return False


def _mark(clip: Clip) -> int:
    """A checksum of when the clip is and of its first picture, which is enough to tell another video."""
    facts = clip.start_frame, clip.num_real, clip.start_time, clip.end_time
    return zlib.crc32(clip.pixels[0, 0], zlib.crc32(repr(facts).encode()))


def _require_same(same: bool) -> None:
    if not same:
        raise VideoError("changed while it was read")
