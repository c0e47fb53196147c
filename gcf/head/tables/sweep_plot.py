"""Accuracy against the field that a sweep varies, as in the paper's Fig. 3."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import binomtest

from gcf.head.tables.arm_table import has_map
from gcf.head.trials.arms import REFERENCE, as_text

WIDE = 20  # values that span more than this factor go on a logarithmic axis


def plot_sweep(
    path: Path,
    rows: Sequence[dict],
    axis: str,
    values: Mapping[str, float],
    *,
    lines: Mapping[str, str] | None = None,
    reference: str = REFERENCE,
) -> None:
    """Top-1 of the arms along an axis, one curve for each line, and the arms without a value as levels; a PNG.

    rows: of the table; where they have a mAP, top-1 is hit@1. values: {arm: its place on the axis}; lines: {arm: its
    curve}, None for a single one. Bars are the standard deviation over seeds, or the 95 % interval of k right of n
    where there is one seed.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    draw_sweep(figure.subplots(), rows, axis, values, lines=lines, reference=reference)
    figure.savefig(path, dpi=120)


def draw_sweep(
    axes: Axes,
    rows: Sequence[dict],
    axis: str,
    values: Mapping[str, float],
    *,
    lines: Mapping[str, str] | None = None,
    reference: str = REFERENCE,
) -> None:
    """The same into axes that are there. Arms that failed have no mean, and no point."""
    rows = [row for row in rows if row["mean"] is not None]
    points = [row for row in rows if row["name"] in values]
    places, logarithmic = axis_places([values[row["name"]] for row in points])
    curves: dict[str, list[dict]] = {}
    for row in sorted(points, key=lambda row: values[row["name"]]):
        curves.setdefault((lines or {}).get(row["name"], axis), []).append(row)
    for number, (label, of_curve) in enumerate(curves.items()):
        joined = [row for row in of_curve if not logarithmic or values[row["name"]] > 0]
        apart = [row for row in of_curve if row not in joined]  # 0 has no place on a logarithmic axis
        for part, name in ((joined, label), (apart, None if joined else label)):
            if part:
                where = [places[values[row["name"]]] for row in part]
                means = [100 * row["mean"] for row in part]
                bars = list(zip(*map(spread_of, part), strict=True))
                axes.errorbar(where, means, bars, marker="o", capsize=3, color=f"C{number}", label=name)
    _levels(axes, [row for row in rows if row["name"] not in values], reference)
    shown = sorted(places)
    axes.set_xticks([places[value] for value in shown], [as_text(value) for value in shown])
    seeds = max((row["seeds"] for row in points), default=1)
    bars = "± standard deviation over seeds" if seeds > 1 else "95 % interval"
    axes.set(xlabel=axis.replace("_", " "), ylabel=f"{'hit@1' if has_map(rows) else 'top-1'}, percent ({bars})")
    axes.figure.legend(loc="outside right upper", fontsize="small")


def axis_places(values: Sequence[float]) -> tuple[dict[float, float], bool]:
    """Where each value lies, and whether the axis is logarithmic: where positive values span a factor of over 20.

    There, 0 lies one mean step before the smallest.

    >>> axis_places([1, 2, 4])
    ({1: 1, 2: 2, 4: 4}, False)
    >>> axis_places([0, 0.001, 0.1])
    ({0: -5.0, 0.001: -3.0, 0.1: -1.0}, True)
    """
    distinct = sorted(set(values))
    positive = [value for value in distinct if value > 0]
    if not positive or distinct[0] < 0 or positive[-1] <= WIDE * positive[0]:
        return {value: value for value in distinct}, False
    logs = [math.log10(value) for value in positive]
    step = (logs[-1] - logs[0]) / (len(logs) - 1)
    zero = {distinct[0]: logs[0] - step} if distinct[0] == 0 else {}
    return zero | dict(zip(positive, logs, strict=True)), True


def spread_of(row: dict) -> tuple[float, float]:
    """How far the bar of a row reaches below and above its mean, in percent."""
    if row["std"] is not None:
        return 100 * row["std"], 100 * row["std"]
    interval = binomtest(row["k"], row["n"]).proportion_ci(method="wilson")
    mean = row["k"] / row["n"]
    return max(0.0, 100 * (mean - interval.low)), max(0.0, 100 * (interval.high - mean))


def _levels(axes: Axes, rows: Sequence[dict], reference: str) -> None:
    """Arms that do not lie on the axis: the reference as a full line, others dashed."""
    shades = ("0.3", "0.5", "0.65", "0.75", "0.8")
    for number, row in enumerate(rows):
        style = "-" if row["name"] == reference else ("--", ":", "-.")[number % 3]
        axes.axhline(100 * row["mean"], linestyle=style, color=shades[number % 5], label=row["name"], zorder=0)
