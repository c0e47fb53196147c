"""What a decoder process says, taken at its word only where it can be meant: its memory may be a damaged file's."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from gcf.data.datasets import DATASETS
from gcf.data.schema import VIDEO_FIELDS, VideoInfo
from gcf.data.text import printable
from gcf.extract.decoding.jobs import Clip, ClipJob

LIMIT = 1 << 63  # of what is stored as int64
STATES = ("ok", "partial")


@dataclass(frozen=True)
class Failed:
    """A video gave nothing, and why; errno: how the file system failed it, 0 where it did not."""

    error: str
    errno: int = 0


class MessageCheck:
    """One video's messages, one after another: what each is about and what it says.

    jobs: all of a pool; at_work: the numbers of those that have not ended for this video.
    """

    def __init__(self, jobs: Sequence[ClipJob], at_work: Sequence[int]):
        self.jobs, self.at_work = jobs, list(at_work)
        self.with_clips: set[int] = set()

    def take(self, head: dict, payload: bytearray) -> tuple[list[int], Clip | VideoInfo | Failed]:
        """The jobs that a message is about, and its clip, or how they have ended. Raises ValueError for nonsense."""
        kind = head.get("kind")
        about = self._about(head)
        if kind == "clip":
            (number,) = about
            item = _clip(head, payload, self.jobs[number])
            self.with_clips.add(number)
            return about, item
        if kind == "done":
            if not self.with_clips.issuperset(about):
                raise ValueError("an end without a clip before it")
            item = _info(head.get("info"))
        elif kind == "failed":
            item = Failed(_of(str, head.get("error")), _of(int, head.get("errno", 0)))
        else:
            raise ValueError(f"a message of kind {kind!r}")
        self.at_work = [number for number in self.at_work if number not in about]
        return about, item

    def _about(self, head: dict) -> list[int]:
        """The job that a message names; a failure that names none is about all that are at work."""
        if head.get("kind") == "failed" and "job" not in head:
            return list(self.at_work)
        number = _of(int, head.get("job"))
        if number not in self.at_work:
            raise ValueError(f"a message about job {number}")
        return [number]


def _clip(head: dict, payload: bytearray, job: ClipJob) -> Clip:
    shape = (job.views, job.num_frames, *job.geometry.crop, 3)
    if head.get("shape") != list(shape):
        raise ValueError(f"pixels of shape {head.get('shape')}, not {shape}")
    start_frame, num_real = (_of(int, head.get(name)) for name in ("start_frame", "num_real"))
    if start_frame < 0 or not 1 <= num_real <= job.num_frames:
        raise ValueError(f"a clip of {num_real} frames from {start_frame} on")
    times = (_of(float, head.get(name)) for name in ("start_time", "end_time"))
    return Clip(np.frombuffer(payload, np.uint8).reshape(shape), start_frame, num_real, *times)


def _info(given: object) -> VideoInfo:
    wanted = {field.name: field.type for field in fields(VideoInfo)}
    if not isinstance(given, dict) or given.keys() != wanted.keys():
        raise ValueError("facts of a video that are others")
    info = VideoInfo(**{name: _of(wanted[name], value) for name, value in given.items()})
    if info.status not in STATES:
        raise ValueError(f"a video that is {info.status!r}")
    for name in VIDEO_FIELDS:
        if DATASETS[f"videos/{name}"].outside(np.array([getattr(info, name)])).any():
            raise ValueError(f"a video whose {name} is {getattr(info, name)}")
    return info


def _of(kind: type, value: object):
    """The value, if it is of that kind and can be stored: text that shows, numbers of 64 bits, no NaN."""
    if kind is str and isinstance(value, str):
        return printable(value)
    numbers = (int, float) if kind is float else int
    if kind is str or isinstance(value, bool) or not isinstance(value, numbers) or not -LIMIT <= value < LIMIT:
        raise ValueError(f"{value!r} is no {kind.__name__}")
    return value
