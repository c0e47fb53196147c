"""All that a video's page and its card in the gallery show, as plain values."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
from markupsafe import Markup

from gcf.errors import VideoError
from gcf.explain.pages import timeline
from gcf.explain.pages.clip_values import ClipValues, read_clips
from gcf.explain.pages.folder import GALLERY, Localizations, LocalizedVideo
from gcf.explain.pages.media import Media, read_media
from gcf.explain.pages.timeline import Bar
from gcf.head.report.tables import Table
from gcf.head.report.words import MINUS

MOST_PROBABLE, MOST_CLASSES = 5, 9  # on a time line; there are nine keys
LONG = 60  # clips; a longer table is not printed
KINDS = {
    "traced": "a clip's exact share of the class's logit, traced through the fusion back to the clip it came from",
    "share": "a clip's exact share of the class's logit, less the classifier's bias",
    "occlusion": "how far the class's logit falls when the clip alone is left out; it is no share and need not add up",
}
TITLES = {"gate": "Gate", "attention": "Attention"}


@dataclass(frozen=True, eq=False)
class ClassLine:
    """A class that can be chosen: its evidence as a path, and how many intervals it has; None: not known."""

    name: str
    probability: float | None
    num_intervals: int
    path: Markup | None


@dataclass(frozen=True, eq=False)
class Line:
    """The time line. lanes: (title, path, highest value) of gate and attention; span in s; low, high of evidence."""

    span: float
    ticks: Sequence[tuple[float, str]]
    low: float
    high: float
    lanes: Sequence[tuple[str, Markup, float]]
    predicted: Sequence[Bar]
    annotated: Sequence[Bar]


@dataclass(frozen=True, eq=False)
class VideoPage:
    """A page. table: a row per clip, its number, times, gate and attention where known, evidence of each class.

    line, table: None where there is nothing to show. home: the address of the gallery.
    """

    video: LocalizedVideo
    facts: str
    classes: Sequence[ClassLine]
    others: int  # further classes that have intervals
    line: Line | None
    table: Table | None
    media: Media
    faults: Sequence[str]
    evidence_kind: str
    home: str

    @property
    def numbers(self) -> dict[str, int]:
        """Class names to their place among those that can be chosen."""
        return {one.name: place for place, one in enumerate(self.classes)}

    @property
    def is_long(self) -> bool:
        """Whether there are too many clips to print them all."""
        return self.table is not None and len(self.table.rows) > LONG


def address(name: str, start: str = "") -> str:
    """A relative address of a file `name` of the folder, from a page in its sub-folder `start`."""
    return quote(os.fsencode(os.path.relpath(name, start or ".") if start else name), safe="/")


def build_page(found: Localizations, video: LocalizedVideo) -> VideoPage:
    """Put together what there is to show of one video; what is missing or damaged is said in `faults`."""
    faults: list[str] = []
    clips = _clips(found, video, faults)
    chosen = _chosen(found, video, clips)
    span = _span(video, clips)
    line = _line(video, clips, [found.classes.index(name) for name in chosen if clips], span)
    moments = (clips.start + clips.end) / 2 if clips else np.linspace(0, span, 24, endpoint=False)
    media = read_media(video, moments, _best(video, clips))
    labels = {one.label for one in video.intervals}
    return VideoPage(
        video=video,
        facts=_facts(video, clips),
        classes=[_class_line(name, found, video, clips, line) for name in chosen],
        others=len(labels - set(chosen)),
        line=line,
        table=_table(chosen, clips, found.classes),
        media=media,
        faults=[*faults, *media.faults],
        evidence_kind=KINDS.get(found.evidence_kind, found.evidence_kind),
        home=address(GALLERY, os.path.dirname(video.page)),
    )


def _clips(found: Localizations, video: LocalizedVideo, faults: list[str]) -> ClipValues | None:
    if video.clips is None:
        return None
    try:
        return read_clips(video.clips, len(found.classes))
    except VideoError as error:
        faults.append(f"What the head made of the clips cannot be shown: {error}. Run gcf localize again.")
        return None


def _chosen(found: Localizations, video: LocalizedVideo, clips: ClipValues | None) -> list[str]:
    """Names of the classes on the time line: the most probable five, then those with intervals, the surest first."""
    if clips is None:
        probable = [name for name, _ in video.top]
    else:
        probable = [found.classes[k] for k in np.argsort(-clips.probabilities, kind="stable")]
    best = sorted(video.intervals, key=lambda one: -one.score)
    known = set(found.classes)
    named = [one.label for one in [*best, *video.annotated] if one.label in known]
    return list(dict.fromkeys([*probable[:MOST_PROBABLE], *named]))[:MOST_CLASSES]


def _span(video: LocalizedVideo, clips: ClipValues | None) -> float:
    """Seconds on the time line: the video's, where they are known; an annotation may be of a longer copy of it."""
    ends = [one.end for one in (*video.intervals, *video.annotated)]
    return max(video.duration, clips.span if clips else 0.0) or max(ends, default=0.0) or 1.0


def _line(video: LocalizedVideo, clips: ClipValues | None, chosen: list[int], span: float) -> Line | None:
    """None where there is nothing that has a time."""
    if clips is None and not video.intervals and not video.annotated:
        return None
    low, high = timeline.bounds(clips.evidence[:, chosen]) if clips else (0.0, 1.0)
    lanes = []
    for name, title in TITLES.items():
        values = getattr(clips, name, None)
        if values is not None:
            top = 1.0 if name == "gate" else max(float(values.max()), 1e-6)
            path = timeline.steps(clips.start, clips.end, values, span=span, low=0.0, high=top)
            lanes.append((title, path, top))
    labels = dict.fromkeys(interval.label for interval in video.intervals)
    predicted = [bar for label in labels for bar in _bars(video, label, span)]
    return Line(span, timeline.ticks(span), low, high, lanes, predicted, timeline.bars(video.annotated, span))


def _bars(video: LocalizedVideo, label: str, span: float) -> list[Bar]:
    """The intervals of one class: only these are shown together."""
    return timeline.bars([one for one in video.intervals if one.label == label], span)


def _class_line(
    name: str, found: Localizations, video: LocalizedVideo, clips: ClipValues | None, line: Line | None
) -> ClassLine:
    count = sum(one.label == name for one in video.intervals)
    if clips is None:
        return ClassLine(name, dict(video.top).get(name), count, None)
    k = found.classes.index(name)
    evidence = clips.evidence[:, k]
    path = timeline.steps(clips.start, clips.end, evidence, span=line.span, low=line.low, high=line.high)
    return ClassLine(name, float(clips.probabilities[k]), count, path)


def _table(chosen: list[str], clips: ClipValues | None, classes: Sequence[str]) -> Table | None:
    """The clips in numbers: times to the millisecond, all else to four digits of the largest."""
    if clips is None:
        return None
    columns = {"clip": [str(number) for number in range(1, len(clips.start) + 1)]}
    columns |= {"from, s": [f"{t:.3f}" for t in clips.start], "to, s": [f"{t:.3f}" for t in clips.end]}
    for name in TITLES:
        if getattr(clips, name) is not None:
            columns[name] = _figures(getattr(clips, name))
    cells = _figures(clips.evidence[:, [classes.index(name) for name in chosen]].ravel())
    lines = [cells[at : at + len(chosen)] for at in range(0, len(cells), len(chosen))]
    known = zip(*columns.values(), strict=True)
    return Table([*columns, *chosen], [[*row, *line] for row, line in zip(known, lines, strict=True)])


def _figures(values: np.ndarray) -> list[str]:
    """Values (n,) with as many places as show four digits of the largest, and at least four: shares may be small.

    >>> _figures(np.array([0.25, 0.0])), _figures(np.array([0.0012345]))
    (['0.2500', '0.0000'], ['0.001234'])
    """
    largest = float(np.abs(values).max(initial=0))
    places = min(12, max(4, 3 - math.floor(math.log10(largest)))) if largest else 4
    return [f"{value:.{places}f}".replace("-", MINUS) for value in np.round(values, places) + 0.0]  # no minus zero


def _best(video: LocalizedVideo, clips: ClipValues | None) -> float:
    """The moment (s) that says most: the middle of the clip with the most evidence of the most probable class."""
    if clips is None:
        return video.duration / 2
    place = int(clips.evidence[:, clips.probabilities.argmax()].argmax())
    return float(clips.start[place] + clips.end[place]) / 2


def _facts(video: LocalizedVideo, clips: ClipValues | None) -> str:
    """Length, size, rate and clips in a line; what is not known is left out."""
    facts = [f"{video.duration:.1f} s" if video.duration else ""]
    facts += [f"{video.width} \u00d7 {video.height}" if video.width and video.height else ""]
    facts += [f"{video.fps:.4g} frames per second" if video.fps else ""]
    if clips:
        plural = "" if len(clips.start) == 1 else "s"
        facts.append(f"{len(clips.start)} clip{plural}")
    return " · ".join(filter(None, facts))
