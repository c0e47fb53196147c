"""Plots as PNG files, drawn without a display and without pyplot's global state."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from matplotlib.figure import Figure

from gcf.head.tables.arm_table import difference_keys, has_map


def plot_training(path: Path, rows: Sequence[dict]) -> None:
    """Loss over the steps from the rows of history.csv: training dashed, validation solid, mean over the runs."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for number, arm in enumerate(dict.fromkeys(row["arm"] for row in rows)):
        for key, style in (("train_loss", "--"), ("val_loss", "-")):
            losses: dict[int, list[float]] = {}
            for row in rows:
                if row["arm"] == arm:
                    losses.setdefault(row["step"], []).append(row[key])
            steps = sorted(losses)
            label = f"{arm}, {'training' if key == 'train_loss' else 'validation'}"
            axes.plot(steps, [mean(losses[s]) for s in steps], style, marker=".", color=f"C{number}", label=label)
    axes.set(xlabel="optimisation step", ylabel="loss", ylim=(0, None))
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def plot_arms(path: Path, rows: Sequence[dict], *, reference: str = "D-Clips") -> None:
    """Top-1 of each arm with the spread over seeds, and its difference to the reference with the 95 % interval.

    Of rows that have a mAP it is the mAP.
    """
    rows = [row for row in rows if row["mean"] is not None]
    what, mean_key, std_key = ("mAP", "map", "map_std") if has_map(rows) else ("top-1", "mean", "std")
    delta, low, high = difference_keys(rows)
    figure = Figure(figsize=(9, 1.2 + 0.45 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names = [row["name"] for row in rows]
    places = list(range(len(rows)))
    spreads = [100 * (row[std_key] or 0) for row in rows]
    left.barh(places, [100 * row[mean_key] for row in rows], xerr=spreads, color="tab:blue")
    left.set(xlabel=f"{what}, percent", yticks=places, yticklabels=names)
    left.invert_yaxis()
    for place, row in zip(places, rows, strict=True):
        if row[low] is not None:
            right.plot([100 * row[low], 100 * row[high]], [place, place], color="tab:blue")
        if row[delta] is not None:
            right.plot([100 * row[delta]], [place], "o", color="tab:blue")
    right.axvline(0, color="grey", linewidth=0.8)
    right.set(xlabel=f"difference to {reference}, points")
    figure.savefig(path, dpi=120)


def plot_reliability(path: Path, curves: Mapping[str, Sequence[dict]]) -> None:
    """Accuracy over confidence, one line for the rows of each `calibration.reliability`; honest is the diagonal.

    The larger a dot, the more videos it stands for.
    """
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], "--", color="grey", linewidth=0.8)
    for number, (name, rows) in enumerate(curves.items()):
        confidence = [row["confidence"] for row in rows]
        accuracy = [row["accuracy"] for row in rows]
        total = sum(row["count"] for row in rows)
        axes.plot(confidence, accuracy, color=f"C{number}", label=name)
        axes.scatter(confidence, accuracy, [10 + 150 * row["count"] / total for row in rows], color=f"C{number}")
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)
