"""What a comparison leaves in its run folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gcf.head.runs import METRICS, write_csv, write_json
from gcf.head.tables.arm_table import latex_table
from gcf.head.tables.plots import plot_arms, plot_reliability, plot_training
from gcf.head.tables.summary import history_rows
from gcf.head.tables.sweep_plot import plot_sweep
from gcf.head.training import PREDICTIONS, judged_arrays
from gcf.head.trials.arms import CENTRAL_ARM
from gcf.head.trials.experiment import Experiment
from gcf.head.trials.results import SeedResult

IN_TABLE = ("preset", "judged_on", "reference", "clip_classifier", "notes", "rows")
Results = Mapping[str, Sequence[SeedResult]]


def write_ablation(
    folder: Path, metrics: dict, markdown: str, settings: dict, *, experiment: Experiment, results: Results
) -> None:
    """Tables, predictions, history, settings and plots; metrics.json last."""
    write_json(folder / "config.json", settings)
    _write_predictions(folder / PREDICTIONS, experiment, results)
    history = history_rows({name: r for name, r in results.items() if name != CENTRAL_ARM}, experiment.splits)
    if history:  # D-Clips' stands for C-Clip's; neither has one where the backbone's own classifier speaks
        write_csv(folder / "history.csv", history)
        plot_training(folder / "training.png", history)
    rows, reference = metrics["rows"], metrics["reference"]
    (folder / "table.md").write_text(markdown, encoding="utf-8")
    (folder / "table.tex").write_text(latex_table(rows, reference=reference), encoding="utf-8")
    write_csv(folder / "table.csv", rows)
    write_json(folder / "table.json", {name: metrics[name] for name in IN_TABLE})
    plot_arms(folder / "arms.png", rows, reference=reference)
    if "sweep" in metrics:
        sweep = metrics["sweep"]
        plot_sweep(
            folder / "sweep.png", rows, sweep["axis"], sweep["values"], lines=sweep["lines"], reference=reference
        )
    if metrics["calibration"]:
        best = max((row for row in rows if row["name"] in metrics["calibration"]), key=lambda row: row["mean"])["name"]
        curves = {f"{best}, {when} its temperature": metrics["calibration"][best][when] for when in ("before", "after")}
        plot_reliability(folder / "reliability.png", curves)
    write_json(folder / METRICS, metrics)


def _write_predictions(path: Path, experiment: Experiment, results: Results) -> None:
    """ids, labels, folds (n,), classes (K,), and ARM.predicted, .true_log_probability, .confidence (S, n) of each."""
    arrays = judged_arrays(experiment.data, experiment.evaluation_set, next(iter(results.values())))
    for name, found in results.items():
        for what in ("predicted", "true_log_probability", "confidence"):
            arrays[f"{name}.{what}"] = np.stack([getattr(result, what) for result in found])
    np.savez(path, **arrays)
