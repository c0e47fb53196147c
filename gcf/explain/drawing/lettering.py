"""Short texts on pictures: a font that is always there, and names made to fit."""

import os
from functools import cache

import matplotlib
from PIL import ImageFont

from gcf.data.text import printable

LONGEST = 200  # characters; more never fits


@cache
def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib: Latin, Greek, Cyrillic, Hebrew, Arabic; boxes for other letters."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(os.path.join(matplotlib.get_data_path(), "fonts", "ttf", name), size)


def fitted(text: str, width: float, letters: ImageFont.FreeTypeFont) -> str:
    """The text made printable and, where it is wider than `width` pixels, cut short with an ellipsis."""
    text = printable(text[:LONGEST])
    if letters.getlength(text) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if letters.getlength(f"{text[:middle]}…") <= width else (low, middle - 1)
    return f"{text[:low].rstrip()}…"
