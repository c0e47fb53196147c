"""The table of backbones of docs/backbones.md: its rows from the code, its speeds from benchmarks/backbones.py."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gcf.errors import UsageError
from gcf.extract.backbones.published import assumed_pixels, default_listed, default_weights
from gcf.extract.backbones.registry import SPECS, find_backbone
from gcf.extract.complexity import backbone_complexity

BEGIN = "<!-- the table: benchmarks/backbones.py writes what is between these lines -->"
END = "<!-- end of the table -->"
FACTS = ("backbone", "params M", "clip", "GMACs", "width", "unstrided")
HEADER = (*FACTS, "top-1 %", "data", "note", "download", "clips/s")
NUMBERS = ("params M", "GMACs", "width", "top-1 %", "clips/s")  # aligned to the right
NATIVE_FRAMES = 16  # of a clip with native sampling, or fewer where the weights were trained with fewer
NONE_PUBLIC = "no weights are public"
KIND = ("torch", "processors", "units", "videos", "frames", "seconds")  # of a measurement


@dataclass(frozen=True)
class Row:
    """One backbone with its default weights; by default gcf feeds it clips of `frames` pictures of `side` x `side`."""

    name: str
    parameters: int
    frames: int
    side: int
    macs: int
    width: int
    unstrided: bool
    dataset: str
    top1: float | None
    top1_source: str
    origin: str


def rows(names: Iterable[str] = tuple(spec.name for spec in SPECS)) -> list[Row]:
    """The rows of these backbones, costs counted."""
    defaults = default_listed()
    return [_row(name, defaults.get(name)) for name in names]


def _row(name: str, weights) -> Row:
    spec = find_backbone(name)
    pixels = default_weights(name).pixels if weights else assumed_pixels(name, spec.num_classes)
    crop = pixels.crop if isinstance(pixels.crop, int) else pixels.crop[0]
    frames = min(NATIVE_FRAMES, pixels.num_frames)
    macs = backbone_complexity(name, num_frames=frames, size=crop).macs
    known = (weights.dataset, weights.top1, weights.top1_source, weights.origin) if weights else ("", None, "", "")
    facts = (name, spec.parameters, frames, crop, macs, spec.descriptor_width, not spec.stride_stays)
    return Row(*facts, *known)


def markdown(table: Sequence[Row], measured: Mapping[str, Mapping]) -> str:
    """The table, what its notes say, and how its speeds were measured.

    measured: name -> {"clips_a_second", "precision", ...} as benchmarks/backbones.py keeps it, absent ones become '-'.
    """
    notes = list(dict.fromkeys(row.top1_source or NONE_PUBLIC for row in table))
    cells = [_cells(row, notes, measured.get(row.name, {})) for row in table]
    explained = "\n".join(f"{number}. {note}" for number, note in enumerate(notes, 1))
    parts = (_aligned([HEADER, *cells]), f"Notes on top-1:\n\n{explained}", _conditions(measured))
    return "\n\n".join(filter(None, parts))


def _cells(row: Row, notes: list[str], speed: Mapping) -> tuple[str, ...]:
    rate = speed.get("clips_a_second")
    other = "" if speed.get("precision") in (None, "bf16") else f" ({speed['precision']})"
    return (
        row.name,
        f"{row.parameters / 1e6:.2f}",
        f"{row.frames} x {row.side}",
        _three_digits(row.macs / 1e9),
        str(row.width),
        "yes" if row.unstrided else "no",
        "-" if row.top1 is None else f"{100 * row.top1:.1f}",
        row.dataset or "-",
        str(notes.index(row.top1_source or NONE_PUBLIC) + 1),
        row.origin or "none public",
        "-" if rate is None else _three_digits(rate) + other,
    )


def _three_digits(value: float) -> str:
    """Three significant digits, zeros too.

    >>> [_three_digits(value) for value in (0.05486, 18.0, 140.7)]
    ['0.0549', '18.0', '141']
    """
    return f"{value:#.3g}".rstrip(".")


def _aligned(cells: Sequence[Sequence[str]]) -> str:
    """A table that reads well as text too."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = [name in NUMBERS for name in cells[0]]
    rule = ["-" * (width - 1) + (":" if to_right else "-") for width, to_right in zip(widths, right, strict=True)]
    padded = [
        [c.rjust(w) if to_right else c.ljust(w) for c, w, to_right in zip(row, widths, right, strict=True)]
        for row in cells
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in (padded[0], rule, *padded[1:]))


def _conditions(measured: Mapping[str, Mapping]) -> str:
    """Where the speeds come from, one sentence for each kind of run."""
    kinds = Counter(tuple(speed[name] for name in KIND) for speed in measured.values() if "clips_a_second" in speed)
    said = [
        f"{count} networks for {seconds:g} s each with torch {torch} on {processors} processors with {units}, on "
        f"{videos} videos of {frames:g} frames in the median"
        for (torch, processors, units, videos, frames, seconds), count in kinds.items()
    ]
    return f"Clips a second were measured so: {'; '.join(said)}; bf16 where nothing else is said." if said else ""


def replaced(text: str, table: str, *, source: str) -> str:
    """`text` with `table` between the two marker lines, all else as it was.

    Raises UsageError where the markers of `source` are not there once each, in their order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise UsageError(
            f"{source}: the table goes between the lines {BEGIN!r} and {END!r}, once each; they are not there"
        )
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.split(END)[1]}"
