"""What a head made of the clips of one video, as `gcf localize` keeps it in the video's npz."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gcf.errors import VideoError

DAMAGE = (OSError, ValueError, KeyError, IndexError, EOFError, MemoryError, zipfile.BadZipFile)


@dataclass(frozen=True, eq=False)
class ClipValues:
    """What there is of C clips in order: start, end in seconds and num_frames (C,), evidence (C, K).

    probabilities (K,) are the whole video's. gate (C,) and attention (C,) are None where the head has no such part.
    """

    start: np.ndarray
    end: np.ndarray
    num_frames: np.ndarray
    evidence: np.ndarray
    probabilities: np.ndarray
    gate: np.ndarray | None
    attention: np.ndarray | None

    @property
    def span(self) -> float:
        """Seconds from the video's first frame to the end of the last clip."""
        return float(self.end.max())


def read_clips(path: Path, num_classes: int) -> ClipValues:
    """The clips of an npz; VideoError, with the reason, where the file is absent, damaged or of other classes."""
    if not path.is_file():
        raise VideoError(f"{path.name} is missing")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            return _checked({name: saved[name] for name in saved.files}, num_classes)
    except DAMAGE as error:
        raise VideoError(f"{path.name} is damaged ({' '.join(str(error).split())})") from error


def _checked(saved: dict[str, np.ndarray], num_classes: int) -> ClipValues:
    count = len(saved["start"])
    shapes = {"start": (count,), "end": (count,), "num_frames": (count,), "gate": (count,), "attention": (count,)}
    shapes |= {"evidence": (count, num_classes), "probabilities": (num_classes,)}
    values = {}
    for name, shape in shapes.items():
        if name in ("gate", "attention") and name not in saved:
            values[name] = None
            continue
        array = saved[name]
        if array.shape != shape or array.dtype.kind not in "fiu":
            raise ValueError(f"{name} is {array.dtype}{list(array.shape)}, not numbers{list(shape)}")
        values[name] = array.astype(np.float64)
        if not np.isfinite(values[name]).all():
            raise ValueError(f"{name} is not finite")
    start, end = values["start"], values["end"]
    # time may stand still, where streams were joined; it may not go back
    if not count or start[0] < 0 or (np.diff(start) < 0).any() or (end < start).any():
        raise ValueError("its clips are not in the order of time")
    return ClipValues(**values)
