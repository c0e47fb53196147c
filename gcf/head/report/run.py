"""A run folder read once: the rows, the arms, the predictions, the course of training and the settings."""

import csv
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gcf.data.text import cell_text
from gcf.errors import RefusedError
from gcf.head.models.saved import FACTS
from gcf.head.runs import FORMAT, METRICS
from gcf.head.tables.arm_table import REFERENCE, has_map
from gcf.head.training import PREDICTIONS

# What a row of a comparison has, taken from the metrics of a single training.
OF_ROW = (
    *("std", "top5", "mean_class", "map", "map_std", "loss", "k", "n"),
    *("fold_mean", "fold_std", "fold_min", "fold_max", "temperature", "ece"),
)


@dataclass(frozen=True, eq=False)
class Predictions:
    """What was said of n judged videos: ids, labels (n,), classes (K,); by arm predicted, true_probability (S, n)."""

    ids: list[str]
    labels: np.ndarray
    classes: list[str]
    predicted: dict[str, np.ndarray]
    true_probability: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class ReportedRun:
    """What a run folder holds. rows: one per arm, as in table.json; arms: by name, with one entry per seed.

    predictions is None and history empty where the folder has none; recipe {} where the features' is not known.
    """

    kind: str
    metrics: dict
    config: dict
    recipe: dict
    rows: list[dict]
    arms: dict[str, dict]
    predictions: Predictions | None
    history: list[dict]

    @property
    def judged_rows(self) -> list[dict]:
        """The rows that have a figure: an arm may have failed."""
        return [row for row in self.rows if row["mean"] is not None]

    @property
    def num_seeds(self) -> int:
        """How many seeds each arm was run with, at most."""
        return max(row.get("seeds", 1) for row in self.judged_rows)

    @property
    def reference(self) -> dict | None:
        """The row that the others are compared to."""
        name = self.metrics.get("reference", REFERENCE)
        others = [row for row in self.judged_rows if row["name"] != name]
        return next((row for row in self.judged_rows if row["name"] == name and others), None)

    @property
    def best(self) -> dict:
        """The row with the highest top-1, or mAP where it is judged by that; the first of equals."""
        return max(self.judged_rows, key=self.figure)

    @property
    def multi_label(self) -> bool:
        """Whether a video may have several classes: then arms are judged by mAP, and top-1 is hit@1."""
        return has_map(self.rows)

    def figure(self, row: dict) -> float:
        """What a judged row is judged by."""
        return row["map"] if self.multi_label else row["mean"]


def read_run(folder: str | os.PathLike) -> ReportedRun:
    """Read a run folder; RefusedError where it is none, or where what is there is damaged."""
    folder = Path(folder)
    metrics, config = _read_metrics(folder), _read_json(folder / "config.json", missing={})
    try:
        rows, arms = _rows(metrics)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RefusedError(f"{folder / METRICS}: damaged ({error!r}); make the run again") from error
    recipe = metrics.get("recipe") or config.get("recipe") or _recipe_of_head(folder, metrics)
    predictions = _read_predictions(folder / PREDICTIONS, [row["name"] for row in rows])
    return ReportedRun(
        metrics["kind"], metrics, config, recipe, rows, arms, predictions, _read_history(folder / "history.csv")
    )


def _read_metrics(folder: Path) -> dict:
    path = folder / METRICS
    if not path.is_file():
        raise RefusedError(f"{folder}: not a run of gcf (no {METRICS}); name the folder of a gcf ablate or train-head")
    metrics = _read_json(path)
    if metrics.get("format") != FORMAT:
        raise RefusedError(f"{path}: not of a run of gcf (format {metrics.get('format')!r}); name another folder")
    return metrics


def _read_json(path: Path, *, missing: dict | None = None) -> dict:
    if missing is not None and not path.exists():
        return missing
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise RefusedError(f"{path}: damaged or not readable ({error}); make the run again") from error
    if not isinstance(found, dict):
        raise RefusedError(f"{path}: damaged (no JSON object); make the run again")
    return found


def _rows(metrics: Mapping) -> tuple[list[dict], dict[str, dict]]:
    """Rows and arms of a comparison, or of a single training as if it were one with one arm."""
    if "rows" in metrics:
        rows, arms = metrics["rows"], metrics.get("arms", {})
    else:
        name = metrics["head"]["name"]
        row = {"name": name, "mean": metrics["top1"], "seeds": len(metrics["seeds"])}
        rows = [row | {key: metrics.get(key) for key in OF_ROW}]
        arms = {name: {"seeds": metrics["seeds"]}}
    for row in rows:
        if not isinstance(row["name"], str) or not isinstance(row["mean"], float | int | None):
            raise TypeError(f"a row is {row}")
    if all(row["mean"] is None for row in rows):
        raise ValueError("no arm has a figure")
    return rows, {name: arm for name, arm in arms.items() if arm.get("seeds")}


def _recipe_of_head(folder: Path, metrics: Mapping) -> dict:
    """The recipe that a trained head keeps of its features."""
    if "head" not in metrics:
        return {}
    places = metrics["seeds"][0].get("heads") or ["."]
    return _read_json(folder / places[0] / FACTS, missing={}).get("recipe", {})


def _read_predictions(path: Path, names: list[str]) -> Predictions | None:
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            return _predictions(saved, names)
    except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile) as error:
        raise RefusedError(
            f"{path}: damaged ({error}); make the run again, or take the file away for a report without it"
        ) from error


def _predictions(saved: Mapping[str, np.ndarray], names: list[str]) -> Predictions | None:
    if saved["labels"].ndim != 1:  # several classes a video: no class is taken for another
        return None
    labels, classes = saved["labels"], saved["classes"].tolist()
    predicted, own = {}, {}
    if "probabilities" in saved:  # of a single head: (S, n, K)
        probabilities = saved["probabilities"]
        predicted[names[0]] = probabilities.argmax(axis=2)
        own[names[0]] = probabilities[:, np.arange(len(labels)), labels]
    for name in names:
        if f"{name}.predicted" in saved:
            predicted[name] = saved[f"{name}.predicted"]
            own[name] = np.exp(saved[f"{name}.true_log_probability"])
    for array in (*predicted.values(), *own.values()):
        if array.ndim != 2 or array.shape[1] != len(labels):
            raise ValueError(f"an array of shape {array.shape} beside {len(labels)} labels")
    for numbers in (labels, *predicted.values()):
        if not np.isin(numbers, np.arange(len(classes))).all():
            raise ValueError(f"a class beyond the {len(classes)} that have names")
    return Predictions(saved["ids"].tolist(), labels, classes, predicted, own)


def _read_history(path: Path) -> list[dict]:
    """Rows of history.csv with arm, fold and seed as text, the rest as numbers."""
    if not path.exists():
        return []
    words = ("arm", "seed", "fold")
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = []
            for row in csv.DictReader(file):
                rows.append({k: cell_text(v) if k in words else float(v) for k, v in row.items()})
        if any(not {*words, "step", "train_loss", "val_loss"} <= row.keys() for row in rows):
            raise ValueError("a column is missing")
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise RefusedError(
            f"{path}: damaged ({error}); make the run again, or take the file away for a report without it"
        ) from error
    return rows
