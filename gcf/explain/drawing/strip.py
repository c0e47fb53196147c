"""The strip below a picture: class, gate, and a time line of evidence, intervals and the moment that is shown."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from gcf.data.segments import Segment
from gcf.errors import VideoError
from gcf.explain.drawing.heat_colours import gradient
from gcf.explain.drawing.lettering import fitted, font
from gcf.explain.reading.clip_reading import Localization
from gcf.explain.reading.intervals import Interval

# Okabe and Ito's colours, which the colour-blind tell apart (jfly.uni-koeln.de/color), on near black
BACK, TROUGH, TEXT, DIM = (18, 20, 26), (44, 48, 58), (240, 240, 242), (158, 163, 174)
EVIDENCE, FOUND, ANNOTATED, GATE = (86, 180, 233), (230, 159, 0), (0, 158, 115), (204, 121, 167)
UNIT_WIDTH = 560  # pixels of width at which a text has its nominal size


@dataclass(frozen=True, eq=False)
class Facts:
    """What is told of one class in one video of C clips; seconds from the video's first frame.

    starts, ends, evidence (C,); gate (C,) or None. found: intervals of this class. annotated: segments of any class.
    """

    label: str
    probability: float
    starts: np.ndarray
    ends: np.ndarray
    evidence: np.ndarray
    gate: np.ndarray | None
    duration: float
    found: Sequence[Interval] = ()
    annotated: Sequence[Segment] = ()

    @classmethod
    def of(cls, localization: Localization, segments: Sequence[Segment] = ()) -> "Facts":
        """Of the class that is shown. Raises VideoError where nothing was read."""
        reading = localization.reading
        if reading is None:
            raise VideoError(localization.error or "nothing was read from it")
        index = localization.shown
        label = reading.classes[index]
        return cls(
            label=label,
            probability=float(reading.probabilities[index]),
            starts=reading.starts,
            ends=reading.ends,
            evidence=np.nan_to_num(np.asarray(reading.evidence[:, index], np.float64)),
            gate=None if reading.gate is None else np.nan_to_num(np.asarray(reading.gate, np.float64)),
            duration=max(float(reading.ends[-1]), float(reading.info.duration)) or 1.0,
            found=[one for one in localization.intervals if one.label == label],
            annotated=list(segments),
        )

    def held(self, clip: int, spans: Sequence[Interval | Segment]) -> bool:
        """Whether one of the intervals or segments holds the middle of a clip."""
        middle = (self.starts[clip] + self.ends[clip]) / 2
        return any(span.start <= middle <= span.end for span in spans)


class Strip:
    """Draws the strip of one video at a width in pixels; `height` is what it then takes.

    What stays the same is drawn once, what changes with the clip once a clip; a frame adds the cursor and its time.
    """

    def __init__(self, facts: Facts, width: int):
        self.facts, self.width = facts, width
        self.unit = float(np.clip(width / UNIT_WIDTH, 0.85, 1.8))
        self.small, self.large = font(self._px(12)), font(self._px(17), bold=True)
        self.pad = self._px(8)
        labels = ("evidence", "gate", "found", "annotated")
        self.left = self.pad * 2 + int(max(self.small.getlength(text) for text in labels))
        self.right = width - self.pad
        self._place_rows()
        self.zero, self.scale = self._scaling()
        self.base = self._draw_base()
        self.held: tuple = ()

    def draw(self, clip: int | None, now: float, heat: bool | None = None) -> np.ndarray:
        """(height, width, 3) uint8 at second `now`; clip None: in no clip.

        heat: whether this clip's picture has heat; None where there are no heat maps at all.
        """
        if not self.held or self.held[0] != (clip, heat):
            self.held = (clip, heat), self._draw_clip(clip, heat)
        image = self.held[1].copy()
        draw = ImageDraw.Draw(image)
        x = self._x(now)
        draw.line([(x, self.top_plot - self._px(3)), (x, self.bottom)], fill=TEXT, width=max(1, self._px(1.5)))
        draw.text((self.right, self.middle_title), self._clock(now), fill=TEXT, font=self.small, anchor="rm")
        return np.asarray(image)

    def _px(self, nominal: float) -> int:
        return round(nominal * self.unit)

    def _x(self, second: float) -> float:
        share = min(max(second / self.facts.duration, 0.0), 1.0)
        return self.left + share * (self.right - self.left - 1)

    def _clock(self, now: float) -> str:
        return f"{now:.1f} / {self.facts.duration:.1f} s"

    def _place_rows(self) -> None:
        """The rows from top to bottom: title, gate and numbers, bars of evidence, bands of intervals, seconds."""
        self.middle_title = self._px(17)
        self.middle_now = self._px(41)
        self.top_plot = self._px(56)
        self.bottom_plot = self.top_plot + self._px(46)
        rows = [("found", FOUND)] + ([("annotated", ANNOTATED)] if self.facts.annotated else [])
        self.bands = [(text, hue, self.bottom_plot + self._px(6 + 15 * i)) for i, (text, hue) in enumerate(rows)]
        self.band = self._px(9)
        self.bottom = self.bands[-1][2] + self.band
        self.height = self.bottom + self._px(18)

    def _scaling(self) -> tuple[float, float]:
        """Where in the plot evidence of 0 is, and pixels for each unit of it."""
        low, high = min(0.0, self.facts.evidence.min()), max(0.0, self.facts.evidence.max())
        scale = (self.bottom_plot - self.top_plot - self._px(4)) / ((high - low) or 1.0)
        return self.top_plot + self._px(2) + high * scale if high > low else self.bottom_plot - self._px(2), scale

    def _draw_base(self) -> Image.Image:
        image = Image.new("RGB", (self.width, self.height), BACK)
        draw = ImageDraw.Draw(image)
        share = f"{100 * self.facts.probability:.0f} %"
        room = self.right - self.pad - self.small.getlength(self._clock(self.facts.duration)) - self.pad * 2
        name = fitted(self.facts.label, room - self.large.getlength(f"  {share}"), self.large)
        draw.text((self.pad, self.middle_title), name, fill=TEXT, font=self.large, anchor="lm")
        after = self.pad + self.large.getlength(f"{name}  ")
        draw.text((after, self.middle_title), share, fill=FOUND, font=self.large, anchor="lm")
        self._label(draw, "evidence", (self.top_plot + self.bottom_plot) // 2)
        draw.rectangle([self.left, self.top_plot, self.right - 1, self.bottom_plot], fill=TROUGH)
        for clip in range(len(self.facts.evidence)):
            self._bar(draw, clip, tuple(c * 2 // 3 for c in EVIDENCE))
        self._draw_bands(draw)
        middle = (self.bottom + self.height) // 2
        draw.text((self.left, middle), "0 s", fill=DIM, font=self.small, anchor="lm")
        draw.text((self.right, middle), f"{self.facts.duration:.1f} s", fill=DIM, font=self.small, anchor="rm")
        return image

    def _label(self, draw: ImageDraw.ImageDraw, text: str, middle: float) -> None:
        draw.text((self.pad, middle), text, fill=DIM, font=self.small, anchor="lm")

    def _bar(self, draw: ImageDraw.ImageDraw, clip: int, hue: tuple[int, ...]) -> None:
        """One clip's evidence, up or down from the line of zero."""
        ends = sorted((self.zero, self.zero - self.facts.evidence[clip] * self.scale))
        left, right = round(self._x(self.facts.starts[clip])), round(self._x(self.facts.ends[clip]))
        gap = 2 if right - left >= 6 else 1  # PIL draws the last column, too
        draw.rectangle([left, ends[0], max(left, right - gap), max(ends[1], ends[0] + 1)], fill=hue)

    def _draw_bands(self, draw: ImageDraw.ImageDraw) -> None:
        """Intervals, filled; annotated ones of other classes as outlines."""
        for (text, hue, top), spans in zip(self.bands, (self.facts.found, self.facts.annotated), strict=False):
            self._label(draw, text, top + self.band / 2)
            draw.rectangle([self.left, top, self.right - 1, top + self.band - 1], fill=TROUGH)
            for span in spans:
                left, right = self._x(span.start), self._x(span.end)
                same = span.label == self.facts.label
                box = [left, top, max(left + 1, right), top + self.band - 1]
                draw.rectangle(box, fill=hue if same else None, outline=hue)

    def _draw_clip(self, clip: int | None, heat: bool | None) -> Image.Image:
        """The base, with the numbers of one clip and its bar in full colour."""
        image = self.base.copy()
        draw = ImageDraw.Draw(image)
        wide = self.right - self.left
        if self.facts.gate is not None:
            self._draw_gate(draw, None if clip is None else float(self.facts.gate[clip]), 0.3 * wide)
        if clip is not None:
            self._bar(draw, clip, EVIDENCE)
            value = f"evidence {self.facts.evidence[clip]:+.3f}"
            draw.text((self.left + 0.46 * wide, self.middle_now), value, fill=TEXT, font=self.small, anchor="lm")
        if heat:
            legend = gradient(int(0.15 * wide), self.band)
            place = self.right - legend.width
            image.paste(legend, (place, self.middle_now - self.band // 2))
            draw.text((place - self.pad, self.middle_now), "heat", fill=DIM, font=self.small, anchor="rm")
        elif heat is not None:
            draw.text((self.right, self.middle_now), "no heat map here", fill=DIM, font=self.small, anchor="rm")
        return image

    def _draw_gate(self, draw: ImageDraw.ImageDraw, gate: float | None, wide: float) -> None:
        """A bar from 0 to 1, and the number."""
        half = self.band / 2
        top, bottom = self.middle_now - half, self.middle_now + half
        self._label(draw, "gate", self.middle_now)
        draw.rectangle([self.left, top, self.left + wide, bottom], fill=TROUGH)
        if gate is not None:
            draw.rectangle([self.left, top, self.left + wide * min(max(gate, 0.0), 1.0), bottom], fill=GATE)
            place = (self.left + wide + self.pad, self.middle_now)
            draw.text(place, f"{gate:.2f}", fill=TEXT, font=self.small, anchor="lm")
