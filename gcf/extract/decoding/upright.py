"""Frames as they are to be seen: RGB, turned and mirrored as the display matrix asks."""

from fractions import Fraction

import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import VideoReformatter


class Upright:
    """Call with the frames of one stream for (H, W, 3) uint8 arrays; how the first one lies is how all do.

    `pixel_aspect` is an upright pixel's width over its height, once there was a frame; 1 where the file is silent.
    """

    def __init__(self, stream):
        self.stream, self.reformatter, self.turn = stream, VideoReformatter(), None

    def __call__(self, frame) -> np.ndarray:
        """One decoded frame as pixels."""
        if self.turn is None:
            self.turn, self.pixel_aspect = _upright(frame), _pixel_aspect(frame, self.stream)
        rgb = self.reformatter.reformat(frame, format="rgb24", threads=1)
        return np.ascontiguousarray(self.turn(rgb.to_ndarray()))


def _upright(frame):
    """The turn or mirroring that the display matrix asks for, as a function on (H, W, 3) arrays.

    Only quarter turns and mirrors are applied; any other angle is left as stored.
    """
    a, b, c, d = _turn(frame)
    if a and d and not b and not c:
        return lambda pixels: pixels[::d, ::a]
    if b and c and not a and not d:
        return lambda pixels: pixels.transpose(1, 0, 2)[::b, ::c]
    return lambda pixels: pixels


def _turn(frame) -> tuple[int, ...]:
    """(a, b, c, d) of the display matrix, each -1, 0 or 1.

    The matrix maps stored to shown coordinates in 16.16 fixed point (ISO/IEC 14496-12, 8.3.2): x' = a x + c y,
    y' = b x + d y.
    """
    data = frame.side_data.get(SideDataType.DISPLAYMATRIX)
    if data is None:
        return 1, 0, 0, 1
    numbers = np.frombuffer(bytes(data), np.int32)
    return tuple(int(np.sign(n)) if abs(n) > Fraction(1, 2) * 65536 else 0 for n in numbers[[0, 1, 3, 4]])


def _pixel_aspect(frame, stream) -> float:
    """Width over height of a pixel once the frame stands upright: a quarter turn swaps the two."""
    stored = float(stream.sample_aspect_ratio or 1)
    a, b, c, d = _turn(frame)
    return 1 / stored if b and c and not a and not d else stored
