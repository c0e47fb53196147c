"""The plots of a report: differences, training, calibration, confusion, and the figure over what was varied."""

import re
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.ticker import NullFormatter, NullLocator

from gcf.data.text import printable
from gcf.head.report.picture import ACCENT, INK, LINE, MUTED, OTHER, PAPER, Picture, tip
from gcf.head.report.run import ReportedRun
from gcf.head.tables.arm_table import difference_keys, has_map

SMALL = (3.3, 2.5)  # inches; several stand side by side
MOST_POINTS = 120  # of a curve: more cannot be seen
MOST_CELLS = 300  # along a side of the confusion matrix's picture
BLUES = LinearSegmentedColormap.from_list("blues", [PAPER, ACCENT])


def file_name(what: str, number: int, arm: str) -> str:
    """A file's name that is safe whatever the arm is called, and unique by its number.

    >>> file_name("training", 1, "width 64/../")
    'training-01-width-64-..-'
    """
    return f"{what}-{number:02d}-{re.sub(r'[^A-Za-z0-9.-]+', '-', arm)[:40]}"


def differences(rows: Sequence[dict], reference: str) -> Picture:
    """Every arm's difference to the reference with its interval, in the order of the table."""
    delta, low, high = difference_keys(rows)
    compared = [row for row in rows if row.get(low) is not None]
    what = "difference in mAP" if has_map(rows) else "difference"

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=MUTED, linewidth=0.8)
        for place, row in enumerate(compared):
            axes.plot([100 * row[low], 100 * row[high]], [place, place], color=ACCENT, linewidth=2)
            axes.plot([100 * row[delta]], [place], "o", color=ACCENT)
        axes.set(yticks=range(len(compared)), yticklabels=[printable(row["name"]) for row in compared])
        axes.set(xlabel=f"{what} to {printable(reference)}, points, with its 95 % interval", ylim=(-0.6, None))
        axes.set_ylim(len(compared) - 0.4, -0.6)

    return Picture("differences", f"Differences to {reference} with intervals", draw, 6.5, 0.9 + 0.3 * len(compared))


def training_curves(history: Sequence[dict]) -> list[Picture]:
    """For each arm the loss over the steps: mean over its runs, and between the lowest and the highest of them."""
    rows_of: dict[str, list[dict]] = {}
    for row in history:
        rows_of.setdefault(row["arm"], []).append(row)
    curves = {arm: _curves(rows) for arm, rows in rows_of.items()}
    last = max(steps[-1] for steps, _, _ in curves.values())
    losses = [curve.mean(axis=0).max() for _, *both in curves.values() for curve in both]
    top = 1.4 * max(losses)  # one axis for all arms
    pictures = []
    for number, (arm, (steps, train, val)) in enumerate(curves.items()):
        draw = partial(_draw_training, arm=arm, steps=steps, train=train, val=val, limits=(last, top))
        alt = (
            f"Loss of {arm} over {steps[-1]:.0f} steps: validation from {val[:, 0].mean():.3f} to "
            f"{val[:, -1].mean():.3f}, training to {train[:, -1].mean():.3f}"
        )
        pictures.append(Picture(file_name("training", number, arm), alt, draw, *SMALL))
    return pictures


def _curves(rows: Sequence[dict]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps (P,), training and validation losses (R, P) of R runs; a run that has ended keeps its last loss."""
    steps = np.unique([row["step"] for row in rows])
    if len(steps) > MOST_POINTS:
        steps = steps[np.linspace(0, len(steps) - 1, MOST_POINTS).round().astype(int)]
    runs: dict[tuple, list[dict]] = {}
    for row in rows:
        runs.setdefault((row["seed"], row["fold"]), []).append(row)
    train, val = [], []
    for of_run in runs.values():
        at = [row["step"] for row in of_run]
        train.append(np.interp(steps, at, [row["train_loss"] for row in of_run]))
        val.append(np.interp(steps, at, [row["val_loss"] for row in of_run]))
    return steps, np.array(train), np.array(val)


def _draw_training(axes: Axes, *, arm: str, steps, train, val, limits: tuple[float, float]) -> None:
    for losses, color, style, label in ((train, MUTED, "--", "training"), (val, ACCENT, "-", "validation")):
        if len(losses) > 1:
            axes.fill_between(steps, losses.min(axis=0), losses.max(axis=0), color=color, alpha=0.15, linewidth=0)
        marker = "." if len(steps) == 1 else None
        axes.plot(steps, losses.mean(axis=0), style, color=color, label=label, linewidth=1.6, marker=marker)
    axes.set(xlim=(0, limits[0]), ylim=(0, limits[1]), xlabel="step", ylabel="loss")
    axes.set_title(printable(arm))
    axes.figure.legend(loc="outside lower center", ncols=2, fontsize=8)


def reliability(calibration: Mapping[str, dict]) -> list[Picture]:
    """For each arm how often it is right at each confidence, before and after calibration."""
    pictures = []
    for number, (arm, found) in enumerate(calibration.items()):
        before, after = 100 * found["ece_before"], 100 * found["ece_after"]
        alt = f"Reliability of {arm}: calibration error {before:.1f} % before, {after:.1f} % after"
        draw = partial(_draw_reliability, arm=arm, found=found)
        pictures.append(Picture(file_name("calibration", number, arm), alt, draw, 3.3, 3.4))
    return pictures


def _draw_reliability(axes: Axes, *, arm: str, found: Mapping) -> None:
    axes.plot([0, 1], [0, 1], color=LINE, linewidth=1)
    for when, color, style in (("before", OTHER, "o--"), ("after", ACCENT, "o-")):
        bins = [row for row in found.get(when) or () if row["count"]]
        if bins:
            face = PAPER if when == "before" else color
            places = [row["confidence"] for row in bins], [row["accuracy"] for row in bins]
            axes.plot(*places, style, color=color, markerfacecolor=face, markersize=4.5, linewidth=1.2, label=when)
        for row in bins:
            (spot,) = axes.plot(row["confidence"], row["accuracy"], "o", color=color, alpha=0, markersize=12)
            said = f"{when}: says {100 * row['confidence']:.0f} %, right {100 * row['accuracy']:.0f} %"
            tip(spot, f"{said} of {row['count']}")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence", ylabel="share right", aspect="equal")
    axes.set_title(printable(arm))
    axes.figure.legend(loc="outside lower center", ncols=2, fontsize=8)


def sweep_curve(run: ReportedRun) -> Picture | None:
    """Top-1 over what was varied, with the spread over seeds, like the paper's Fig. 3; None where nothing was."""
    sweep = run.metrics.get("sweep")
    rows = [row for row in run.judged_rows if sweep and row["name"] in sweep["values"]]
    if not rows:
        return None
    values = [sweep["values"][row["name"]] for row in rows]
    if all(isinstance(value, float | int) for value in values):
        order = np.argsort(values, kind="stable")
        rows, values = [rows[i] for i in order], [values[i] for i in order]
    said = ", ".join(f"{value}: {100 * row['mean']:.1f} %" for value, row in zip(values, rows, strict=True))
    alt = f"{'Hit@1' if run.multi_label else 'Top-1'} over {sweep['axis']}: {said}"
    return Picture("sweep", alt, partial(_draw_sweep, run=run, rows=rows, values=values, axis=sweep["axis"]), 4.8, 3.0)


def _draw_sweep(axes: Axes, *, run: ReportedRun, rows: Sequence[dict], values: Sequence, axis: str) -> None:
    numbers = all(isinstance(value, float | int) for value in values)
    places = values if numbers else list(range(len(values)))
    means = [100 * (row.get("mean") or 0) for row in rows]
    spreads = [100 * (row.get("std") or 0) for row in rows]
    axes.errorbar(places, means, yerr=spreads, color=ACCENT, marker="o", capsize=3, linewidth=1.6)
    for place, row, value in zip(places, rows, values, strict=True):
        (spot,) = axes.plot(place, 100 * row["mean"], "o", color=ACCENT, markersize=12, alpha=0)
        tip(spot, f"{axis} {value}: {100 * row['mean']:.1f} %")
    reference = run.reference
    if reference is not None and reference["name"] not in [row["name"] for row in rows]:
        axes.axhline(100 * reference["mean"], color=MUTED, linewidth=1, linestyle="--")
        axes.annotate(
            printable(reference["name"]), (1, 100 * reference["mean"]), xycoords=("axes fraction", "data"),
            xytext=(0, 3), textcoords="offset points", ha="right", color=MUTED,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1},
        )  # fmt: skip
    if numbers and min(values) > 0 and max(values) / min(values) >= 8:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(places, [printable(f"{value:g}" if numbers else value) for value in values])
    axes.set(xlabel=printable(axis), ylabel="hit@1, %" if run.multi_label else "top-1, %")
    axes.grid(axis="y", color=LINE, linewidth=0.6)


def confusion_picture(number: int, arm: str, counts: np.ndarray) -> Picture:
    """The confusion matrix (K, K) as a picture, each row as shares; thousands of classes are put together in blocks."""
    num_classes = len(counts)
    block = -(-num_classes // MOST_CELLS)
    edges = np.arange(0, num_classes, block)
    blocks = np.add.reduceat(np.add.reduceat(counts, edges, axis=0), edges, axis=1)
    shares = blocks / np.maximum(blocks.sum(axis=1, keepdims=True), 1)

    def draw(axes: Axes) -> None:
        axes.imshow(
            shares, cmap=BLUES, norm=PowerNorm(0.5, 0, 1), interpolation="nearest",
            extent=(0, num_classes, num_classes, 0),
        )  # fmt: skip
        axes.set(xlabel="what was said, class number", ylabel="true class, number")
        axes.tick_params(labelcolor=INK)

    right = np.trace(counts) / max(counts.sum(), 1)
    alt = f"Confusion matrix of {arm} over {num_classes} classes; {100 * right:.1f} % lie on the diagonal"
    return Picture(file_name("confusion", number, arm), alt, draw, 5.2, 5.2)
