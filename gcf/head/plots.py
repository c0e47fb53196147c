"""Plots as PNG files, drawn without a display and without pyplot's global state."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from matplotlib.figure import Figure


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


def plot_arms(path: Path, rows: Sequence[dict]) -> None:
    """Top-1 of each arm with the spread over seeds, and its difference to D-Clips with the 95 % interval."""
    figure = Figure(figsize=(9, 1.2 + 0.45 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names = [row["name"] for row in rows]
    places = list(range(len(rows)))
    left.barh(places, [100 * r["mean"] for r in rows], xerr=[100 * (r["std"] or 0) for r in rows], color="tab:blue")
    left.set(xlabel="top-1, percent", yticks=places, yticklabels=names)
    left.invert_yaxis()
    for place, row in zip(places, rows, strict=True):
        if row["delta"] is not None:
            right.plot([100 * row["low"], 100 * row["high"]], [place, place], color="tab:blue")
            right.plot([100 * row["delta"]], [place], "o", color="tab:blue")
    right.axvline(0, color="grey", linewidth=0.8)
    right.set(xlabel="difference to D-Clips, points")
    figure.savefig(path, dpi=120)
