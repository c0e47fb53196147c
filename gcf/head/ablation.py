"""`gcf ablate`: compare heads over the same videos, splits, clips and seeds."""

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Unpack

import numpy as np

from gcf.data.features import FeatureFile
from gcf.data.options import did_you_mean
from gcf.data.splits import Split
from gcf.errors import GcfError, UsageError
from gcf.head.ablation_files import write_ablation
from gcf.head.circumstances import audit_splits, circumstances
from gcf.head.fitting.backbone_clips import backbone_columns, whose_classifier
from gcf.head.fitting.labelled import LabelledFeatures, film_notes, judge_notes, label_features, make_splits
from gcf.head.fitting.start import DEFAULT_HEAD, Start
from gcf.head.fitting.tensorboard import TensorBoardLog
from gcf.head.models.config import HeadConfig, Protocol, TrainConfig, TrainOptions, split_options
from gcf.head.runs import FORMAT, run_folder
from gcf.head.tables.arm_table import markdown_table, table_rows
from gcf.head.tables.summary import calibration_of, independent_units, seed_entry, summarise
from gcf.head.training import PREDICTIONS
from gcf.head.trials.arms import REFERENCE, Comparison, comparison, heads_comparison
from gcf.head.trials.experiment import Experiment
from gcf.head.trials.grid import grid_comparison, parse_grid
from gcf.head.trials.outcome import Outcome
from gcf.head.trials.result_cache import ResultCache
from gcf.head.trials.results import ensemble
from gcf.head.trials.store import open_store
from gcf.head.unplaced import write_run

DEFAULT_SEEDS = 5
DEFAULT_FOLDS = 5  # where the file has no test subset
DEFAULT_PRESET = "modules"
SEEDS_DIFFER = {  # by the batch order
    "own": "Seeds differ in their initial weights and in the order of their batches.",
    "shared": "Seeds differ in their initial weights; the order of batches is one for all, so their spread is smaller "
    "than that of separate runs.",
}


@dataclass(frozen=True, eq=False)
class Ablation:
    """What a comparison found: rows (one per arm, fractions), metrics (the content of metrics.json), the run folder."""

    rows: list[dict]
    metrics: dict
    path: Path | None

    @property
    def markdown(self) -> str:
        """The table for people, and below it what has to be known to read it."""
        table = markdown_table(self.rows, reference=self.metrics["reference"])
        return table + "".join(f"\n{note}\n" for note in self.metrics["notes"])

    @property
    def failed(self) -> list[str]:
        """The arms that gave no figures."""
        return [row["name"] for row in self.rows if row["mean"] is None]


def ablate(
    features: FeatureFile | str | os.PathLike | Sequence[str | os.PathLike],
    out: str | os.PathLike | None = None,
    *,
    preset: str | None = None,
    heads: Sequence[str | HeadConfig] = (),
    grid: Mapping[str, Sequence] | Sequence[str] = (),
    reference: str = REFERENCE,
    reuse: bool = True,
    audit: bool = True,
    tensorboard: str | os.PathLike | None = None,
    overwrite: bool = False,
    **options: Unpack[TrainOptions],
) -> Ablation:
    """Train and judge every arm on the same splits with the same seeds (five unless `seeds` says), in one pass.

    What is compared: a `preset` ("modules" unless another is named), or `heads`, or every point of a `grid` of fields
    of HeadConfig and TrainConfig, {"width": [64, 256]} or ["width=64,256"], on the one head given. C-Clip and D-Clips
    are always among the arms; each other arm is compared to `reference`, paired. Several feature files of the same
    videos are joined. Without a test subset the published val judges (see `Protocol.judge`); without either and
    without `cv`, five folds that keep groups whole are used.

    An arm that fails does not stop the others. reuse: results are kept beside the feature file, so that a stopped
    comparison goes on and another one takes what it shares. audit: look for leaks across the splits first.
    tensorboard: a folder for the curves. The run folder `out` gets table.md, .csv, .tex and .json, metrics.json,
    predictions.npz, config.json, history.csv and plots. options: the fields of Protocol and TrainConfig. Raises what
    `train_head` does, and GcfError where no arm is left.
    """
    protocol, train = split_options(options)
    if train.init is not None:
        raise UsageError("a comparison trains every arm from the start; leave init and freeze to train-head")
    data = label_features(features, protocol.annotations, **protocol.labels)
    splits, notes = _splits(data, protocol)
    compared = _comparison(preset, heads, grid, train, data)
    names = [arm.name for arm in compared.arms]
    if reference not in names:
        hint = did_you_mean(reference, names)
        known = f"known: {', '.join(names)}"
        raise UsageError(" ".join(filter(None, [f"no arm is called {reference};", hint, known])))
    leaks, found_leaks = audit_splits(data, splits) if audit else (None, [])
    seeds = [train.seed + i for i in range(protocol.seeds or DEFAULT_SEEDS)]
    store, *refusal = _open_store(data) if reuse else (None,)
    with (
        run_folder(out, kind="ablate", overwrite=overwrite) as folder,
        nullcontext() if tensorboard is None else TensorBoardLog(tensorboard) as board,
    ):
        cache = None if store is None else ResultCache(store, data, splits, train)
        experiment = Experiment(data, splits, train, Start(), cache=cache, listener=board and board.add)
        outcome = experiment.run(compared.arms, seeds)
        if not outcome.results:
            raise GcfError(f"every arm failed; the first: {next(iter(outcome.failures.values()))}")
        metrics = {"format": FORMAT, "kind": "ablate", "preset": _shown(preset, heads, grid), "reference": reference}
        metrics |= _metrics(experiment, outcome, compared, reference)
        around, about = circumstances(experiment, "gcf ablate")
        metrics |= around | {"audit": leaks}
        notes += _mean_of_splits(metrics["rows"]) if protocol.cv == "official" else []
        metrics["notes"] = [*notes, *metrics["notes"], *about, *found_leaks, *outcome.notes, *refusal]
        found = Ablation(metrics["rows"], metrics, None if out is None else Path(out))
        if folder is not None:
            settings = _asked(preset, heads, grid, reference) | {"arms": [asdict(arm) for arm in compared.arms]}
            settings |= {"train": train.to_json()} | protocol.to_json()
            write = partial(
                write_ablation,
                metrics=metrics,
                markdown=found.markdown,
                settings=settings,
                experiment=experiment,
                results=outcome.results,
            )
            write_run(folder, write, out=found.path, kept_already=_kept(cache))
    return found


def _kept(cache: ResultCache | None) -> Path | None:
    """Where all results are, for another run of the same comparison; None where some could not be kept."""
    return None if cache is None or cache.refused else cache.store.folder


def _open_store(data: LabelledFeatures) -> tuple:
    """The store, and a note where there can be none."""
    store, note = open_store(data.features.path)
    return (store,) if note is None else (store, note)


def _splits(data: LabelledFeatures, protocol: Protocol) -> tuple[list[Split], list[str]]:
    splits = make_splits(data, protocol)
    if protocol.cv is not None or len(splits[0].test):
        return splits, judge_notes(data, protocol, splits) + film_notes(data, protocol, splits)
    note = (
        f"No test subset is given: heads are judged by {DEFAULT_FOLDS}-fold cross-validation that keeps groups whole."
    )
    return make_splits(data, replace(protocol, cv=DEFAULT_FOLDS)), [note]


def _comparison(
    preset: str | None,
    heads: Sequence[str | HeadConfig],
    grid: Mapping[str, Sequence] | Sequence[str],
    train: TrainConfig,
    data: LabelledFeatures,
) -> Comparison:
    own = backbone_columns(data) is not None
    if preset is not None and (heads or grid):
        raise UsageError("give a preset, or heads, or a grid on one head; not a preset beside them")
    if grid:
        if len(heads) > 1:
            raise UsageError(f"a grid varies one head; got {len(heads)}")
        points = grid if isinstance(grid, Mapping) else parse_grid(grid)
        return grid_comparison(heads[0] if heads else DEFAULT_HEAD, points, train, own_classifier=own)
    if heads:
        return heads_comparison(heads, train, own_classifier=own)
    longest = int(np.diff(data.features.offsets).max())
    return comparison(preset or DEFAULT_PRESET, train, own_classifier=own, max_clips=longest)


def _asked(
    preset: str | None, heads: Sequence[str | HeadConfig], grid: Mapping[str, Sequence] | Sequence[str], reference: str
) -> dict:
    """What was asked for, as JSON takes it."""
    names = [str(getattr(head, "source", "") or getattr(head, "name", head)) for head in heads]
    points = dict(grid) if isinstance(grid, Mapping) else parse_grid(grid)
    chosen = None if heads or grid else preset or DEFAULT_PRESET
    return {"preset": chosen, "heads": names, "grid": points, "reference": reference}


def _shown(preset: str | None, heads: Sequence[str | HeadConfig], grid: Mapping[str, Sequence] | Sequence[str]) -> str:
    """What was compared, in a word."""
    if grid:
        return "grid"
    return "heads given" if heads else preset or DEFAULT_PRESET


def _metrics(experiment: Experiment, outcome: Outcome, compared: Comparison, reference: str) -> dict:
    """Rows and arms, and what lies behind them."""
    units, about_units = independent_units(experiment.data)
    results, evaluated = outcome.results, experiment.evaluation_set
    rows = table_rows(results, evaluated, reference=reference, groups=units, failed=outcome.failures)
    of_arm = {row["name"]: row for row in rows}
    rows = [of_arm[arm.name] for arm in compared.arms]
    calibration = {name: calibration_of(found, evaluated) for name, found in results.items()}
    ensembles = {name: ensemble(found, evaluated) for name, found in results.items()}
    for row in rows:
        measured, together = calibration.get(row["name"]), ensembles.get(row["name"])
        row["ensemble"] = None if together is None else together["top1"]
        row["temperature"], row["ece"] = (measured["temperature"], measured["ece_before"]) if measured else (None, None)
    metrics = {"judged_on": evaluated.subset, "rows": rows, "precision": outcome.notes}
    metrics["clip_classifier"] = "linear" if backbone_columns(experiment.data) is None else "backbone"
    arms: dict[str, dict] = {}
    for name, seed_results in results.items():
        seeds = [seed_entry(result, PREDICTIONS) for result in seed_results]
        arms[name] = summarise(seed_results) | {"ensemble": ensembles[name], "seeds": seeds}
    metrics["arms"] = arms
    metrics["calibration"] = {name: measured for name, measured in calibration.items() if measured}
    if compared.axis:
        metrics["sweep"] = {"axis": compared.axis, "values": compared.values, "lines": compared.lines}
    about = _about(about_units, rows, experiment.train.batch_order)
    metrics["notes"] = [*_notes(experiment.train, experiment.data), about, *_sensitivity(rows)]
    return metrics


def _notes(train: TrainConfig, data: LabelledFeatures) -> list[str]:
    clips = "all" if train.clip_policy == "all" else f"at most {train.num_clips}, {train.clip_policy}"
    gates = " Gates are `token`, which take any number of clips." if train.clip_policy == "all" else ""
    looped = " Videos with fewer repeat theirs from the first." if train.padding == "loop" else ""
    return [
        f"C-Clip (central clip) and D-Clips (all chosen clips) read one clip classifier: {whose_classifier(data)}.",
        f"Clips of a video: {clips}.{gates}{looped}",
    ]


def _about(units: str, rows: Sequence[dict], batch_order: str) -> str:
    """How to read the differences."""
    return (
        f"{units} They ask whether a difference would come out again with other videos and another training: a t test "
        "that takes these and the seeds of each arm as drawn at random; p is adjusted for the number of arms (Holm), "
        f"the interval is not. {_once(rows)}Gained and lost are the videos that turned right and wrong. "
        f"{SEEDS_DIFFER[batch_order]}"
    )


def _sensitivity(rows: Sequence[dict]) -> list[str]:
    """The true differences that would be found in four of five cases; nothing where no arm is compared."""
    least = [row["detectable"] for row in rows if row.get("detectable")]
    if not least:
        return []
    low, high = 100 * min(least), 100 * max(least)
    return [f"These videos and seeds show a true difference of {low:.1f} to {high:.1f} points in four of five cases."]


def _mean_of_splits(rows: Sequence[dict]) -> list[str]:
    """What papers print of official splits, beside the table's figure over all of their videos together."""
    means = [f"{row['name']} {100 * row['fold_mean']:.1f}" for row in rows if row["mean"] is not None]
    return [f"Mean of the official splits, top-1 %: {', '.join(means)}. The table counts their videos together."]


def _once(rows: Sequence[dict]) -> str:
    """Which arms count as one run, because their training has no chance in it."""
    names = [row["name"] for row in rows if row.get("by_chance") is False]
    return f"Trained without chance, and so one run whatever the seeds: {', '.join(names)}. " if names else ""
