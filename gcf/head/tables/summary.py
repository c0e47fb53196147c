"""From the results of an arm to what the JSON, the table and the history say."""

import re
from collections.abc import Mapping, Sequence
from statistics import stdev

import numpy as np

from gcf.data.splits import Split
from gcf.head.fitting.calibration import expected_calibration_error, reliability
from gcf.head.fitting.labelled import LabelledFeatures
from gcf.head.trials.results import EvaluationSet, SeedResult

UCF_GROUP = re.compile(r"g\d\d")
AVERAGED = ("top1", "top5", "map", "mean_class", "loss")


def summarise(results: Sequence[SeedResult]) -> dict:
    """Mean over the seeds of the pooled metrics, the spread of top-1 over seeds and over folds; k and n are summed.

    "fold_mean" is the mean over the folds, each counting alike: of official splits, what papers print.

    Where there is a mAP, its spread over the seeds is "map_std".
    """
    metrics = [r.metrics for r in results]
    folds = np.mean([_top1_of_folds(result) for result in results], axis=0)  # (splits,)
    averages = {}
    for name in AVERAGED:
        if name in metrics[0]:
            averages[name] = float(np.mean([m[name] for m in metrics]))
    if "map" in averages:
        averages["map_std"] = _std([m["map"] for m in metrics])
    return averages | {
        "k": sum(m["k"] for m in metrics),
        "n": sum(m["n"] for m in metrics),
        "std": _std([m["top1"] for m in metrics]),
        "fold_mean": float(folds.mean()),
        "fold_std": _std(folds.tolist()),
        "fold_min": float(folds.min()),
        "fold_max": float(folds.max()),
    }


def _top1_of_folds(result: SeedResult) -> list[float]:
    return [fold["top1"] for fold in result.folds]


def _std(values: Sequence[float]) -> float | None:
    return float(stdev(values)) if len(values) > 1 else None


def seed_entry(result: SeedResult, predictions: str) -> dict:
    """One seed in metrics.json: its pooled metrics, the predictions file, its folds and how each was trained."""
    training = [None if run is None else run.record for run in result.trained]
    return (
        {"seed": result.seed}
        | result.metrics
        | {
            "predictions": predictions,
            "folds": result.folds,
            "training": training,
        }
    )


def history_rows(arms: Mapping[str, Sequence[SeedResult]], splits: Sequence[Split]) -> list[dict]:
    """One row per validation of every training, under arm, seed and fold."""
    return [
        {"arm": arm, "seed": result.seed, "fold": split.name} | row
        for arm, results in arms.items()
        for result in results
        for split, run in zip(splits, result.trained, strict=True)
        if run is not None
        for row in run.history
    ]


def describe(metrics: Mapping) -> str:
    """Pooled metrics in words, with what has to be known to read them."""
    several = metrics.get("map") is not None  # classes a video
    one, five = ("hit@1", "hit@5") if several else ("top-1", "top-5")
    top5 = "" if metrics["top5"] is None else f", {five} {100 * metrics['top5']:.1f} %"
    share = f"{one} {100 * metrics['top1']:.1f} % ({metrics['k']}/{metrics['n']}){top5}"
    if several:
        figures = f"mAP {100 * metrics['map']:.1f} %, {share}"
    else:
        figures = f"{share}, mean class {100 * metrics['mean_class']:.1f} %"
    lines = [f"{metrics['judged_on']}: {figures}, loss {metrics['loss']:.3f}"]
    if metrics.get("std") is not None:
        both = f"mAP +- {100 * metrics['map_std']:.1f}, {one} " if several else ""
        lines[0] += f", {both}+- {100 * metrics['std']:.1f} over seeds"
    if metrics.get("fold_std") is not None:
        low, mean, high = (100 * metrics[f"fold_{what}"] for what in ("min", "mean", "max"))
        lines.append(f"folds: {one} {mean:.1f} % in the mean, {low:.1f} to {high:.1f} %")
    return "\n".join([*lines, *metrics.get("notes", ())])


def calibration_of(results: Sequence[SeedResult], evaluated: EvaluationSet) -> dict | None:
    """Temperature (the median over seeds and splits), ECE and reliability rows before and after it; seeds pooled.

    None where there is no temperature: without a test set, and for classes that do not exclude each other.
    """
    if any(result.calibrated is None for result in results):
        return None
    correct = np.concatenate([evaluated.right(result.predicted) for result in results])
    before = np.concatenate([result.confidence for result in results])
    after = np.concatenate([result.calibrated for result in results])
    return {
        "temperature": float(np.median([t for result in results for t in result.temperatures])),
        "ece_before": float(expected_calibration_error(before, correct)),
        "ece_after": float(expected_calibration_error(after, correct)),
        "before": reliability(before, correct),
        "after": reliability(after, correct),
    }


def independent_units(data: LabelledFeatures) -> tuple[list[str], str]:
    """The unit of each video (N,), '' for one of its own; and a sentence about them.

    UCF-101 numbers the groups of each class anew: g01 of one class has nothing to do with g01 of another, though the
    published splits keep all of a number on one side.
    """
    groups = list(data.groups)
    if not any(groups):
        return groups, "Interval and p take videos as independent."
    if all(UCF_GROUP.fullmatch(group) for group in groups if group):
        own = [f"{label} {group}" if group else "" for label, group in zip(data.labels.tolist(), groups, strict=True)]
        return own, "Interval and p take the groups of each class as independent, not their videos (UCF-101's gNN)."
    return groups, "Interval and p take groups as independent, not their videos."
