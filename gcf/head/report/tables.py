"""The tables of a report as columns and text cells: only columns that say something are kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from matplotlib.ticker import MaxNLocator

from gcf.head.report.run import ReportedRun
from gcf.head.report.words import MINUS, p_value, percent, points
from gcf.head.tables.arm_table import difference_keys
from gcf.head.tables.column import Column, judged

GATE_WORDS = {
    "mean_alpha": "mean alpha",
    "std_alpha": "spread of alpha",
    "share_above_half": "clips above 0.5, %",
    "share_saturated": "clips saturated, %",
    "videos_with_clip_above_half": "videos with a clip above 0.5, %",
    "share_dead": "clips shut, %",
    "share_open": "clips open, %",
}


@dataclass(frozen=True)
class Table:
    """Headers and rows of cells; the first cell of a row is its name."""

    headers: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class IntervalBar:
    """A difference and its interval as places between 0 and 100 on the common axis of the chart."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class Chart:
    """The dots and intervals beside the table: one per row, None where there is none; ticks as (place, text)."""

    intervals: list[IntervalBar | None]
    ticks: list[tuple[float, str]]
    zero: float


MAIN: tuple[Column, ...] = (
    Column("top-1, %", lambda r: percent(r["mean"])),
    Column("± seeds", lambda r: percent(r.get("std"))),
    Column("difference", lambda r: points(r.get("delta"))),
    Column("95 % interval", lambda r: _interval(r)),
    Column("p", lambda r: _uncorrected_p(r)),
    Column("p, Holm", lambda r: p_value(r.get("p_holm"))),
    Column("right / judged", lambda r: _share(r)),
)
# The same where a video may have several classes.
MAIN_MAP: tuple[Column, ...] = (
    Column("mAP, %", lambda r: percent(r["map"])),
    Column("± seeds", lambda r: percent(r.get("map_std"))),
    Column("difference", lambda r: points(r.get("map_delta"))),
    Column("95 % interval", lambda r: _interval(r, "map_")),
    Column("hit@1, %", lambda r: percent(r["mean"])),
    Column("hit@1 difference", lambda r: points(r.get("delta"))),
    Column("hit@1 p", lambda r: p_value(r.get("p"))),
    Column("hit@1 p, Holm", lambda r: p_value(r.get("p_holm"))),
    Column("hits / judged", lambda r: _share(r)),
)
HIT_WORDS = {"folds, %": "hit@1 of folds, %", "top-5, %": "hit@5, %"}
FURTHER: tuple[Column, ...] = (
    Column("folds, %", lambda r: _range(r)),
    Column("top-5, %", lambda r: percent(r.get("top5"))),
    Column("mean class, %", lambda r: percent(r.get("mean_class"))),
    Column("loss", lambda r: _number(r.get("loss"), digits=3)),
    Column("ECE, %", lambda r: percent(r.get("ece"))),
    Column("temperature", lambda r: _number(r.get("temperature"), digits=2)),
    Column("videos gained / lost", lambda r: _gained_and_lost(r)),
    Column("p of this arm alone", lambda r: p_value(r.get("p")) if r.get("p_holm") is not None else ""),
    Column("p, McNemar", lambda r: p_value(r.get("mcnemar_p"))),
)


def _interval(row: dict, prefix: str = "") -> str:
    low, high = row.get(f"{prefix}low"), row.get(f"{prefix}high")
    return "" if low is None else f"{points(low)} to {points(high)}"


def _uncorrected_p(row: Mapping) -> str:
    """Where there is a corrected one it stands in a column of its own."""
    return p_value(row.get("p")) if row.get("p_holm") is None else ""


def _share(row: Mapping) -> str:
    return "" if row.get("k") is None else f"{row['k']}/{row['n']}"


def _gained_and_lost(row: Mapping) -> str:
    return "" if row.get("gained") is None else f"{row['gained']} / {row['lost']}"


def _number(value: float | None, *, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _range(row: dict) -> str:
    if row.get("fold_std") is None:  # one fold
        return ""
    return f"{percent(row['fold_min'])} to {percent(row['fold_max'])}"


def result_table(run: ReportedRun) -> Table:
    """How good each arm is, and its difference to the reference; "failed" where there is no figure."""
    return _table(run.rows, MAIN_MAP if run.multi_label else MAIN)


def further_table(run: ReportedRun) -> Table | None:
    """The other figures of each arm; None where there are none."""
    columns: Sequence[Column] = FURTHER
    if run.multi_label:
        columns = [Column(HIT_WORDS.get(c.title, c.title), c.text) for c in FURTHER if c.title != "mean class, %"]
    table = _table(run.judged_rows, columns)
    return table if len(table.headers) > 1 else None


def _table(rows: Sequence[dict], columns: Sequence[Column]) -> Table:
    """One row per arm, with the columns that have a cell in any of them."""
    if all(row.get("top5") in (1, None) for row in rows):  # five classes or fewer: it says nothing
        columns = [column for column in columns if not column.title.startswith(("top-5", "hit@5"))]
    headers, lines = ["arm"], [[row["name"]] for row in rows]
    for column in columns:
        cells = list(map(judged(column.text), rows))
        if any(cells):
            headers.append(column.title)
            for line, cell in zip(lines, cells, strict=True):
                line.append(cell)
    for row, line in zip(rows, lines, strict=True):
        if row["mean"] is None:
            line[1:2] = ["failed"]
    return Table(headers, lines)


def interval_chart(rows: Sequence[dict]) -> Chart | None:
    """Differences on one axis that holds 0 and all intervals; None where nothing is compared."""
    delta, *both = difference_keys(rows)
    ends = [100 * row[end] for row in rows for end in both if row.get(end) is not None]
    if not ends:
        return None
    ticks = MaxNLocator(nbins=3, steps=[1, 2, 5, 10]).tick_values(min(*ends, 0), max(*ends, 0.1))
    low, high = ticks[0], ticks[-1]
    margin = (high - low) * 0.04

    def place(value: float) -> float:
        return round(100 * (value - low + margin) / (high - low + 2 * margin), 2)

    def bar(row: dict) -> IntervalBar | None:
        if row.get(both[0]) is None:
            return None
        return IntervalBar(
            low=place(100 * row[both[0]]),
            middle=place(100 * row[delta]),
            high=place(100 * row[both[1]]),
        )

    texts = [f"{tick:+g}".replace("-", MINUS).replace("+0", "0") for tick in ticks]
    marks = list(zip(map(place, ticks), texts, strict=True))
    return Chart(intervals=list(map(bar, rows)), ticks=marks, zero=place(0))


def gate_table(run: ReportedRun) -> Table | None:
    """How each gate behaves, seeds averaged; None where no arm has one."""
    found = {}
    for name, arm in run.arms.items():
        gates = [seed["gate"] for seed in arm["seeds"] if seed.get("gate")]
        if gates:
            found[name] = _mean_gate(gates)
    if not found:
        return None
    keys = list(dict.fromkeys(key for figures in found.values() for key in figures))
    rows = []
    for name, figures in found.items():
        rows.append([name, *[_gate_figure(key, figures.get(key)) for key in keys]])
    return Table(["arm", *[GATE_WORDS.get(key, key.replace("_", " ")) for key in keys]], rows)


def _mean_gate(gates: Sequence[dict]) -> dict[str, float]:
    """Each figure of the gates of several seeds, averaged over those that have it."""
    averages = {}
    for key, value in gates[0].items():
        if isinstance(value, float | int):
            averages[key] = mean(gate[key] for gate in gates if gate.get(key) is not None)
    return averages


def _gate_figure(key: str, value: float | None) -> str:
    if value is None:
        return ""
    return percent(value) if GATE_WORDS.get(key, "").endswith("%") else f"{value:.3f}"


def calibration_table(run: ReportedRun) -> Table | None:
    """Temperature and expected calibration error before and after it; None where nothing was calibrated."""
    rows = []
    for name, figures in (run.metrics.get("calibration") or {}).items():
        before, after = percent(figures["ece_before"]), percent(figures["ece_after"])
        rows.append([name, f"{figures['temperature']:.2f}", before, after])
    return Table(["arm", "temperature", "ECE before, %", "ECE after, %"], rows) if rows else None
