"""When a class happens: intervals of a video from the evidence of its clips."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """One interval in which a class is thought to happen: seconds from the video's first frame."""

    start: float
    end: float
    label: str
    score: float
