"""The contact sheet: one PNG with a frame of every clip, its heat, evidence and gate."""

import os
from collections.abc import Sequence
from math import ceil
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from gcf.data.atomic import atomic_file
from gcf.data.disk import disk_faults
from gcf.data.schema import Clips
from gcf.data.segments import Segment
from gcf.explain.drawing.heat_colours import blended, resized
from gcf.explain.drawing.lettering import fitted, font
from gcf.explain.drawing.overlay import drawn_sizes
from gcf.explain.drawing.pictures import clip_frames, require_same
from gcf.explain.drawing.strip import ANNOTATED, BACK, DIM, EVIDENCE, FOUND, GATE, TEXT, TROUGH, Facts
from gcf.explain.reading.clip_reading import Localization
from gcf.extract.decoding.video import Video

MOST_CELLS = 48
CELL_WIDTH, CELL_HEIGHT = 240, 260  # pixels that a cell's picture takes at most
LEAST_CAPTION = 170  # pixels that a cell's numbers take
ASPECT = 1.5  # the width of a sheet over its height, about
PAD, FRAME, CAPTION, TITLE = 8, 4, 40, 62


def write_sheet(
    out: str | os.PathLike,
    video_path: str | os.PathLike,
    localization: Localization,
    *,
    segments: Sequence[Segment] = (),
) -> None:
    """Write a PNG: the middle frame of at most 48 clips, evenly chosen, those inside a found interval framed.

    segments: what is annotated; its clips bear a bar, filled where the class is the sheet's. The same input gives the
    same bytes. Raises VideoError where the video cannot be read again, or is another now, RefusedError or StoppedError
    where `out` cannot be written.
    """
    facts = Facts.of(localization, segments)
    video = Video(video_path)
    require_same(video, localization.reading.info)
    count = len(facts.starts)
    chosen = np.unique(np.linspace(0, count - 1, min(count, MOST_CELLS)).round().astype(int)).tolist()
    pictures = _pictures(video, localization, chosen)
    sheet = draw_sheet(pictures, chosen, facts, localization.id)
    out = Path(out)
    with disk_faults(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(out) as file:
            sheet.save(file, format="png")


def draw_sheet(pictures: Sequence[Image.Image], chosen: Sequence[int], facts: Facts, name: str) -> Image.Image:
    """The sheet of RGB pictures of one size, which show the `chosen` clips of the video `name`."""
    wide = max(pictures[0].width, LEAST_CAPTION) + 2 * (PAD + FRAME)
    tall = pictures[0].height + CAPTION + 2 * (PAD + FRAME)
    columns = _columns(len(pictures), wide / tall)
    rows = ceil(len(pictures) / columns)
    sheet = Image.new("RGB", (max(columns * wide, 480) + PAD, TITLE + rows * tall + PAD), BACK)
    _draw_title(sheet, facts, name, len(pictures))
    cell = _Cell(facts, (wide, tall))
    for place, (picture, clip) in enumerate(zip(pictures, chosen, strict=True)):
        cell.draw(sheet, (place % columns * wide + PAD // 2, TITLE + place // columns * tall), picture, clip)
    return sheet


def _columns(count: int, aspect: float) -> int:
    """How many cells of this width over height stand in a row, so that the sheet is neither long nor tall."""
    shapes = {columns: columns * aspect / ceil(count / columns) for columns in range(1, count + 1)}
    return min(shapes, key=lambda columns: abs(np.log(shapes[columns] / ASPECT)))


def _pictures(video: Video, localization: Localization, chosen: Sequence[int]) -> list[Image.Image]:
    """The middle frames of clips, with their heat, in square pixels and all of one size."""
    reading, heat = localization.reading, localization.heat
    clips = Clips(**{name: values[chosen] for name, values in vars(reading.clips).items()})
    middles = clips.num_frames // 2
    frames = clip_frames(video, clips, middles, fps=reading.sampling_fps)
    size = _cell_size(frames[0].shape[:2], video.pixel_aspect)
    pictures = []
    for frame, clip, middle in zip(frames, chosen, middles, strict=True):
        hot = None if heat is None or not heat.shown[clip] else heat.frame(clip, int(middle), frame.shape[:2])
        pictures.append(resized(blended(Image.fromarray(frame), hot), size))
    return pictures


def _cell_size(size: tuple[int, int], pixel_aspect: float) -> tuple[int, int]:
    """(H, W) of a cell's picture."""
    height, width = drawn_sizes(size, pixel_aspect)[1]
    scale = min(CELL_WIDTH / width, CELL_HEIGHT / height)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _draw_title(sheet: Image.Image, facts: Facts, name: str, shown: int) -> None:
    """Class and probability; the video's name, how many clips are shown, and what the marks mean."""
    draw, large, small = ImageDraw.Draw(sheet), font(20, bold=True), font(12)
    share = f"{100 * facts.probability:.0f} %"
    label = fitted(facts.label, sheet.width - 4 * PAD - large.getlength(f"  {share}"), large)
    draw.text((PAD, 20), label, fill=TEXT, font=large, anchor="lm")
    draw.text((PAD + large.getlength(f"{label}  "), 20), share, fill=FOUND, font=large, anchor="lm")
    marks = [("found", FOUND)] * bool(facts.found) + [("annotated", ANNOTATED)] * bool(facts.annotated)
    right = sheet.width - PAD
    for text, hue in reversed(marks):
        draw.text((right, 46), text, fill=DIM, font=small, anchor="rm")
        right -= small.getlength(text) + 18
        draw.rectangle([right, 41, right + 11, 51], fill=hue)
        right -= 2 * PAD
    which = clips_shown(len(facts.starts), shown)
    room = right - PAD - small.getlength(f", {which}")
    draw.text((PAD, 46), f"{fitted(name, room, small)}, {which}", fill=DIM, font=small, anchor="lm")


def clips_shown(count: int, shown: int) -> str:
    """How many of a video's clips are on the sheet, in words."""
    return f"{count} clip{'s' * (count > 1)}" if shown == count else f"{shown} of {count} clips, evenly chosen"


class _Cell:
    """Draws one clip into a sheet."""

    def __init__(self, facts: Facts, size: tuple[int, int]):
        self.facts, self.size = facts, size
        self.small = font(12)
        self.scale = float(np.abs(facts.evidence).max()) or 1.0

    def draw(self, sheet: Image.Image, corner: tuple[int, int], picture: Image.Image, clip: int) -> None:
        """Picture, frame and caption at (left, top)."""
        draw = ImageDraw.Draw(sheet)
        wide = self.size[0] - 2 * (PAD + FRAME)
        left, top = corner[0] + PAD + FRAME, corner[1] + PAD + FRAME
        at = left + (wide - picture.width) // 2
        below = top + picture.height
        if self.facts.held(clip, self.facts.found):
            draw.rectangle([at - FRAME, top - FRAME, at + picture.width + FRAME - 1, below + FRAME - 1], fill=FOUND)
        sheet.paste(picture, (at, top))
        if self.facts.held(clip, self.facts.annotated):
            same = self.facts.held(clip, [one for one in self.facts.annotated if one.label == self.facts.label])
            bar = [at, below - 8, at + picture.width - 1, below - 1]
            draw.rectangle(bar, fill=ANNOTATED if same else BACK, outline=ANNOTATED, width=2)
        self._caption(draw, (left, below + FRAME), wide, clip)

    def _caption(self, draw: ImageDraw.ImageDraw, corner: tuple[int, int], wide: int, clip: int) -> None:
        """When the clip begins, its evidence, its gate: as numbers, and below as bars."""
        left, top = corner
        right, facts = left + wide, self.facts
        draw.text((left, top + 11), f"{facts.starts[clip]:.1f} s", fill=DIM, font=self.small, anchor="lm")
        draw.text((right, top + 11), f"{facts.evidence[clip]:+.3f}", fill=EVIDENCE, font=self.small, anchor="rm")
        middle = left + wide // 2
        reach = facts.evidence[clip] / self.scale * (wide // 2)
        draw.rectangle([left, top + 22, right - 1, top + 26], fill=TROUGH)
        draw.rectangle([min(middle, middle + reach), top + 22, max(middle, middle + reach), top + 26], fill=EVIDENCE)
        if facts.gate is not None:
            gate = float(facts.gate[clip])
            draw.text((middle, top + 11), f"gate {gate:.2f}", fill=GATE, font=self.small, anchor="mm")
            draw.rectangle([left, top + 29, right - 1, top + 33], fill=TROUGH)
            draw.rectangle([left, top + 29, left + (wide - 1) * min(max(gate, 0.0), 1.0), top + 33], fill=GATE)
