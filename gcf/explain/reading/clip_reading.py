"""What a head made of one video: the types that intervals, heat maps, overlays and pages share."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gcf.data.schema import Clips, VideoInfo
from gcf.explain.reading.heat import HeatMaps
from gcf.explain.reading.intervals import Interval


@dataclass(frozen=True, eq=False)
class ClipReading:
    """A head's answer for one video of C clips and K classes, and what it took from each clip.

    clips: places and times (C,), in order. logits, probabilities (K,): the answer, as `predict_videos` gives it.
    evidence (C, K): what each clip adds to the logits; `evidence_kind` says how it was found. gate (C,). attention
    (C,): how much the fusion takes from each clip, which sums to 1. None where the head has no such part. sampling_fps:
    of the frames of a clip, where they were chosen by their times; None where it has every frame.
    """

    id: str
    clips: Clips
    info: VideoInfo
    classes: Sequence[str]
    logits: np.ndarray
    probabilities: np.ndarray
    evidence: np.ndarray
    evidence_kind: str
    gate: np.ndarray | None = None
    attention: np.ndarray | None = None
    sampling_fps: float | None = None

    @property
    def starts(self) -> np.ndarray:
        """(C,) seconds from the video's first frame, as annotations count them."""
        return self.clips.start_time - self.clips.start_time[0]

    @property
    def ends(self) -> np.ndarray:
        """(C,) seconds from the video's first frame."""
        return self.clips.end_time - self.clips.start_time[0]

    @property
    def top(self) -> int:
        """The index of the most probable class."""
        return int(self.probabilities.argmax())


@dataclass(frozen=True, eq=False)
class Localization:
    """When and where the classes of one video happen; or why that cannot be said.

    reading None and `error` not '': nothing could be had from the video. note: what else must be known, such as that
    only a part of it decoded, or that no clip passed the gate. heat None: no maps were asked for, or there is no video.
    missing: a part of the video could not be read, or something that was asked for could not be drawn. label: the class
    to be shown; '' for the most probable.
    """

    id: str
    reading: ClipReading | None
    intervals: Sequence[Interval] = ()
    heat: HeatMaps | None = None
    error: str = ""
    note: str = ""
    missing: bool = False
    label: str = ""

    @property
    def shown(self) -> int:
        """The index of the class that is shown, asked for or with maps, else the top; there must be a reading."""
        label = self.label or (self.heat.label if self.heat is not None else "")
        return list(self.reading.classes).index(label) if label in self.reading.classes else self.reading.top
