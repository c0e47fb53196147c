"""One frame of a video with what the head made of it: heat on the picture, and a strip of facts below."""

from math import ceil

import numpy as np
from PIL import Image

from gcf.explain.drawing.heat_colours import blended, resized
from gcf.explain.drawing.strip import BACK, Facts, Strip
from gcf.explain.reading.heat import crop_box
from gcf.extract.decoding.preprocess import Geometry

LEAST_WIDTH = 480  # pixels; below, the strip could not be read
LONGEST_SIDE = 1280  # pixels of the picture; more is made smaller
OUTLINE = 0.45  # share of white in the outline of what the network sees


class Overlay:
    """Draws the frames of one video; all its frames come out at `size` (H, W), both even.

    facts: what the strip says. size: (H, W) of the first upright frame, in stored pixels. pixel_aspect: their width
    over their height; what is drawn has square pixels. geometry: what the network sees of a frame, which is outlined;
    None where there are no heat maps at all.
    """

    def __init__(
        self, facts: Facts, size: tuple[int, int], *, pixel_aspect: float = 1.0, geometry: Geometry | None = None
    ):
        self.blend_size, self.picture_size = drawn_sizes(size, pixel_aspect)
        height, width = self.picture_size
        wide = even(max(width, LEAST_WIDTH))
        self.left = (wide - width) // 2
        self.strip = Strip(facts, wide)
        self.size = even(height + self.strip.height), wide
        self.ground = np.full((*self.size, 3), BACK, np.uint8)
        self.has_heat = geometry is not None
        self.box = self._outline(geometry) if self.has_heat else None

    def draw(self, frame: np.ndarray, heat: np.ndarray | None, clip: int | None, now: float) -> np.ndarray:
        """A frame (h, w, 3) uint8 as drawn (H, W, 3) uint8.

        heat: (h, w) float32 in 0..1, of any size, stretched to the frame; None where the clip was not looked at.
        clip: which clip the frame belongs to, None after the last. now: seconds from the video's first frame.
        """
        image = blended(resized(Image.fromarray(frame), self.blend_size), heat)
        height, width = self.picture_size
        canvas = self.ground.copy()
        canvas[:height, self.left : self.left + width] = resized(image, self.picture_size)
        if self.box is not None:
            self._draw_outline(canvas)
        strip = self.strip.draw(clip, now, None if not self.has_heat else heat is not None)
        canvas[height : height + self.strip.height] = strip
        return canvas

    def _outline(self, geometry: Geometry) -> tuple[int, int, int, int] | None:
        """(top, left, bottom, right) on the canvas; None where the network sees the whole picture."""
        box = crop_box(self.blend_size, geometry)
        if box == (0, 0, *self.blend_size):
            return None
        scale = [drawn / blend for drawn, blend in zip(self.picture_size, self.blend_size, strict=True)]
        top, left, bottom, right = (round(edge * scale[i % 2]) for i, edge in enumerate(box))
        return top, self.left + left, bottom, self.left + right

    def _draw_outline(self, canvas: np.ndarray) -> None:
        top, left, bottom, right = self.box
        for edge in (
            canvas[top:bottom, left : left + 1],
            canvas[top:bottom, right - 1 : right],
            canvas[top : top + 1, left:right],
            canvas[bottom - 1 : bottom, left:right],
        ):
            edge[:] = edge * (1 - OUTLINE) + 255 * OUTLINE


def drawn_sizes(size: tuple[int, int], pixel_aspect: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """(H, W) at which heat meets the frame, and (H, W) of the picture, whose pixels are square.

    Small frames grow by a whole factor, large ones shrink; no frame loses pixels to its aspect. An aspect beyond 1:10
    is taken for damage.

    >>> drawn_sizes((120, 160), 1.0)
    ((120, 160), (360, 480))
    >>> drawn_sizes((576, 720), 16 / 15)
    ((576, 720), (576, 768))
    """
    aspect = pixel_aspect if 0.1 <= pixel_aspect <= 10 else 1.0
    tall, wide = size[0] / min(aspect, 1.0), size[1] * max(aspect, 1.0)
    factor = LONGEST_SIDE / max(tall, wide)
    if factor >= 1:
        factor = max(1, min(ceil(LEAST_WIDTH / wide), int(factor)))
    picture = max(1, round(tall * factor)), max(1, round(wide * factor))
    smaller = tuple(max(1, round(side * factor)) for side in size)
    return (size if factor >= 1 else smaller), picture


def even(number: int) -> int:
    """The next even number, as chroma at half the resolution needs it."""
    return number + number % 2
