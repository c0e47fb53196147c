"""What the gallery shows of each video, and by what it can be filtered."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from gcf.explain.pages.content import VideoPage, address
from gcf.explain.pages.timeline import Bar
from gcf.explain.reading.intervals import Interval

MOST_TIMES = 3


@dataclass(frozen=True, eq=False)
class Card:
    """A video in the gallery: its most probable class, that class's evidence as a path, intervals of any class.

    said: its intervals in words. labels: the classes by which it is found.
    """

    id: str
    address: str
    thumbnail: Markup | None
    name: str
    probability: float | None
    path: Markup | None
    bars: Sequence[Bar]
    said: str
    labels: Sequence[str]
    error: str
    note: str


@dataclass(frozen=True, eq=False)
class Filtered:
    """The classes to choose from, as (name, number of videos); for every card the numbers of its own classes."""

    classes: Sequence[tuple[str, int]]
    of_cards: Sequence[Sequence[int]]


def card(page: VideoPage) -> Card:
    """What of a video's page stands in the gallery."""
    video = page.video
    name, probability, path = "", None, None
    if page.classes:
        first = page.classes[0]
        name, probability, path = first.name, first.probability, first.path
    labels: dict[str, None] = {}
    if not video.error:
        names = [name, *[interval.label for interval in video.intervals]]
        labels = dict.fromkeys(filter(None, names))
    return Card(
        id=video.id,
        address=address(video.page),
        thumbnail=page.media.thumbnail,
        name=name,
        probability=probability,
        path=path,
        bars=page.line.predicted if page.line else [],
        said=_said(video.intervals, name),
        labels=list(labels),
        error=video.error,
        note=" ".join(filter(None, [video.note, *page.faults])),
    )


def _said(intervals: Sequence[Interval], name: str) -> str:
    """When the class `name` happens, the surest first; of other classes only how many intervals they have.

    >>> _said([Interval(1, 2, "jump", 0.2), Interval(4, 5, "jump", 0.9), Interval(0, 9, "run", 0.1)], "jump")
    '4.0 to 5.0 s, 1.0 to 2.0 s; 1 of other classes'
    """
    own = sorted((one for one in intervals if one.label == name), key=lambda one: -one.score)
    times = ", ".join(f"{one.start:.1f} to {one.end:.1f} s" for one in own[:MOST_TIMES]) or "no interval"
    more = f" and {len(own) - MOST_TIMES} more" if len(own) > MOST_TIMES else ""
    others = len(intervals) - len(own)
    return f"{times}{more}" + (f"; {others} of other classes" if others else "")


def filtered(cards: Sequence[Card]) -> Filtered:
    """By which classes cards can be filtered, in the order of the alphabet."""
    counts = Counter(label for one in cards for label in one.labels)
    classes = sorted(counts.items())
    numbers = {name: number for number, (name, _) in enumerate(classes)}
    of_cards = [list(map(numbers.__getitem__, one.labels)) for one in cards]
    return Filtered(classes, of_cards)
