"""Heat as colours on a picture."""

from functools import cache

import matplotlib
import numpy as np
from PIL import Image

COLOURS = "inferno"  # even in lightness, and told apart by the colour-blind
OPAQUE = 0.78  # share of the colour where heat is 1
LIFT = 0.6  # power of the heat that is shown: heat is compared over a whole video, and half of its peak must be seen


def blended(image: Image.Image, heat: np.ndarray | None) -> Image.Image:
    """An RGB image under its heat (h, w) in 0..1: the hotter, the less of the image is left."""
    if heat is None or not heat.any():
        return image
    grid = resized(Image.fromarray((heat**LIFT * 255 + 0.5).astype(np.uint8)), (image.height, image.width))
    colours = grid.copy()
    colours.putpalette(_palette())
    return Image.composite(colours.convert("RGB"), image, grid.point(_alpha()))


def resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image at (H, W)."""
    if (image.height, image.width) == tuple(size):
        return image
    return image.resize(size[::-1], Image.Resampling.BILINEAR)


def gradient(width: int, height: int) -> Image.Image:
    """The colours from cold to hot, from left to right."""
    levels = np.linspace(0, 255, width).round().astype(np.uint8)
    image = Image.fromarray(np.tile(levels, (height, 1)))
    image.putpalette(_palette())
    return image.convert("RGB")


@cache
def _palette() -> bytes:
    """256 colours from cold to hot, 3 bytes each."""
    colours = matplotlib.colormaps[COLOURS](np.arange(256))[:, :3]
    return (colours * 255).round().astype(np.uint8).tobytes()


@cache
def _alpha() -> tuple[int, ...]:
    """How much of the colour covers the picture, 0..255, for heat 0..255."""
    return tuple(round(255 * OPAQUE * (level / 255)) for level in range(256))
