"""Where in the picture: heat maps of clips, brought back to the frames that they were made from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from gcf.extract.decoding.preprocess import Geometry, crop_corner, resized_size

OVERSAMPLING = 16  # pixels per cell when the largest value is looked for


@dataclass(frozen=True, eq=False)
class HeatMaps:
    """Heat of class `label` in the C clips of a video, on the grid of the network's last feature map.

    values (C, T', h, w) float32, 0 or more, 0 in clips that were not looked at; shown (C,) bool says which were.
    num_frames: frames that a clip has for the network; geometry: how a frame became the network's input.
    strides: (T, H, W) of the grid, whose points lie on the input's frames and pixels 0, s, 2 s, ... ; an axis that is
    None has them in the middles of equal parts (see `alignment.py`).
    """

    label: str
    values: np.ndarray
    shown: np.ndarray
    num_frames: int
    geometry: Geometry
    strides: tuple[int | None, int | None, int | None] = (None, None, None)

    def frame(self, clip: int, place: int, size: tuple[int, int]) -> np.ndarray:
        """Heat (H, W) float32 on frame `place` of a clip, 1 where it is largest in the whole video, 0 outside the crop.

        place: the frame's number within the clip, from 0. size: (H, W) of the upright frame. Between the points of the
        grid the heat is interpolated (the paper: "resized to the frames"): linearly in time; in the picture each point
        spreads over its neighbours by a cubic B-spline, so that the largest value may lie between points. Linear
        interpolation always has it on one, and of the few that a grid has it is often the wrong one. Beyond the grid
        there is no heat.
        """
        heat = np.zeros(size, np.float32)
        if self._peak <= 0:
            return heat
        top, left, bottom, right = crop_box(size, self.geometry)
        seen = self._enlarged(self._slice(clip, place), (bottom - top, right - left)) / self._peak
        heat[top:bottom, left:right] = seen.clip(max=1)
        return heat

    @cached_property
    def _peak(self) -> float:
        """The largest value between the points, of all clips."""
        size = tuple(OVERSAMPLING * cells for cells in self.values.shape[2:])
        return max((float(self._enlarged(s, size).max()) for clip in self.values for s in clip if s.any()), default=0.0)

    def _slice(self, clip: int, place: int) -> np.ndarray:
        """The grid (h, w) at the middle of a frame, between the steps in time that the network kept."""
        where = self._step(place)
        before = int(where)
        share = np.float32(where - before)
        after = min(before + 1, self.values.shape[1] - 1)
        return (1 - share) * self.values[clip, before] + share * self.values[clip, after]

    def _step(self, place: int) -> float:
        """Where a frame lies among the steps in time, of which the first is 0."""
        steps, stride = self.values.shape[1], self.strides[0]
        where = (place + 0.5) * steps / self.num_frames - 0.5 if stride is None else place / stride
        return float(np.clip(where, 0, steps - 1))

    def without_padding(self, num_frames: Sequence[int]) -> "HeatMaps":
        """The same, of clips with so many real frames (C,): 0 in the steps that only padding shows.

        The largest value of the video is else one that no frame has, and a video shorter than a clip all but cold.
        """
        values = self.values.copy()
        for clip, count in enumerate(num_frames):
            values[clip, math.ceil(self._step(count - 1)) + 1 :] = 0
        return replace(self, values=values)

    def _enlarged(self, grid: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """The grid (h, w) over the network's whole input, as a picture of `size` (H, W)."""
        rows, columns = (
            _spread(cells, size[n], pixels=self.geometry.crop[n], stride=self.strides[1 + n])
            for n, cells in enumerate(grid.shape)
        )
        return rows @ grid @ columns.T


def _spread(cells: int, size: int, *, pixels: int, stride: int | None) -> np.ndarray:
    """How much of each point of the grid each place gets along an axis, (size, cells) float32.

    `size` places stand for the network's `pixels`. The cubic B-spline is never negative and sums to 1 inside the grid:
    nothing swings below 0 or above the largest value.
    """
    middles = (np.arange(size) + 0.5) * pixels / size
    places = middles * cells / pixels - 0.5 if stride is None else (middles - 0.5) / stride  # in cells: point i is at i
    distance = np.abs(places[:, None] - np.arange(cells))
    near, far = 2 / 3 - distance**2 + distance**3 / 2, (2 - distance).clip(min=0) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)


def crop_box(size: tuple[int, int], geometry: Geometry) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) in pixels of a frame of `size` (H, W): the part of it that the network sees."""
    resized = resized_size(*size, geometry.resize)
    corner = crop_corner(resized, geometry.crop, geometry.crop_rule)
    low = [round(c * full / small) for c, full, small in zip(corner, size, resized, strict=True)]
    high = [
        min(full, round((c + crop) * full / small))
        for c, crop, full, small in zip(corner, geometry.crop, size, resized, strict=True)
    ]
    return *low, *high
