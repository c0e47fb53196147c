"""Where in the picture: heat maps of clips, brought back to the frames that they were made from."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from gcf.extract.preprocess import Geometry, crop_corner, resized_size


@dataclass(frozen=True, eq=False)
class HeatMaps:
    """Heat of class `label` in the C clips of a video, on the grid of the network's last feature map.

    values (C, T', h, w) float32, 0 or more, 0 in clips that were not looked at; shown (C,) bool says which were.
    num_frames: frames that a clip has for the network; geometry: how a frame became the network's input.
    """

    label: str
    values: np.ndarray
    shown: np.ndarray
    num_frames: int
    geometry: Geometry

    def frame(self, clip: int, place: int, size: tuple[int, int]) -> np.ndarray:
        """Heat (H, W) float32 on frame `place` of a clip, 1 where it is largest in the whole video, 0 outside the crop.

        place: the frame's number within the clip, from 0. size: (H, W) of the upright frame. Between the points of the
        grid the heat is interpolated linearly, in time as in the picture (the paper: "resized to the frames").
        """
        heat = np.zeros(size, np.float32)
        peak = self.values.max(initial=0)
        if peak <= 0:
            return heat
        top, left, bottom, right = crop_box(size, self.geometry)
        grid = Image.fromarray(self._slice(clip, place) / peak)
        heat[top:bottom, left:right] = grid.resize((right - left, bottom - top), Image.Resampling.BILINEAR)
        return heat

    def _slice(self, clip: int, place: int) -> np.ndarray:
        """The grid (h, w) at the middle of a frame, between the steps in time that the network kept."""
        steps = self.values.shape[1]
        where = np.clip((place + 0.5) * steps / self.num_frames - 0.5, 0, steps - 1)
        before = int(where)
        share = np.float32(where - before)
        after = min(before + 1, steps - 1)
        return (1 - share) * self.values[clip, before] + share * self.values[clip, after]


def crop_box(size: tuple[int, int], geometry: Geometry) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) in pixels of a frame of `size` (H, W): the part of it that the network sees."""
    resized = resized_size(*size, geometry.resize)
    corner = crop_corner(resized, geometry.crop)
    low = [round(c * full / small) for c, full, small in zip(corner, size, resized, strict=True)]
    high = [
        min(full, round((c + crop) * full / small))
        for c, crop, full, small in zip(corner, geometry.crop, size, resized, strict=True)
    ]
    return *low, *high
