"""`gcf train-head`: train one head and leave a run folder."""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Unpack

import numpy as np
from torch import nn

from gcf._version import __version__
from gcf.data.features import FeatureFile
from gcf.data.splits import Split
from gcf.data.text import named_classes
from gcf.errors import GcfError, UsageError
from gcf.head.circumstances import audit_splits, circumstances
from gcf.head.fitting.labelled import LabelledFeatures, film_notes, judge_notes, label_features, make_splits
from gcf.head.fitting.start import DEFAULT_HEAD, Start, starting_point
from gcf.head.fitting.tensorboard import TensorBoardLog
from gcf.head.models.build import head_config
from gcf.head.models.config import HeadConfig, Protocol, TrainOptions, split_options
from gcf.head.models.saved import SavedHead, load_head, save_head
from gcf.head.runs import FORMAT, METRICS, run_folder, write_csv, write_json
from gcf.head.tables.plots import plot_training
from gcf.head.tables.summary import calibration_of, describe, history_rows, independent_units, seed_entry, summarise
from gcf.head.trials.arms import Arm
from gcf.head.trials.experiment import Experiment
from gcf.head.trials.outcome import Outcome
from gcf.head.trials.results import EvaluationSet, SeedResult, ensemble
from gcf.head.trials.store import features_digest, split_digest
from gcf.head.unplaced import forgotten_at_the_end, is_there, take, unplaced_run, write_run

log = logging.getLogger(__name__)
PREDICTIONS = "predictions.npz"


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """What came of a training: metrics (the content of metrics.json), one head per seed and split, the run folder."""

    metrics: dict
    heads: tuple[SavedHead, ...]
    path: Path | None

    @property
    def head(self) -> SavedHead:
        """The first head, the only one without folds and further seeds."""
        return self.heads[0]

    def describe(self) -> str:
        """The figures in words, and where the run is."""
        return f"{describe(self.metrics)}\nin {self.path}"


def train_head(
    features: FeatureFile | str | os.PathLike,
    out: str | os.PathLike | None = None,
    *,
    head: str | HeadConfig | None = None,
    gate: str | None = None,
    audit: bool = True,
    tensorboard: str | os.PathLike | None = None,
    overwrite: bool = False,
    **options: Unpack[TrainOptions],
) -> TrainingRun:
    """Train a head on the labelled videos of a feature file, and judge it on the test videos, once, at the end.

    head: a preset's name or a config; None is "gcf-256", or the head that `init` starts from. gate: another gate than
    the preset's, "clips", "token" or "none". options: the fields of Protocol and TrainConfig. Weights and rate follow
    `val` alone. audit: look for leaks across the splits first. tensorboard: a folder for the curves. Where there is no
    test video the figures are of `val`, and `metrics["judged_on"]` says so. The run folder `out` gets metrics.json,
    predictions.npz, config.json, history.csv, training.png and the head; with several seeds or folds each head has a
    sub-folder.

    Raises FeatureFileError, AnnotationError, RecipeError, HeadError, UsageError, and RefusedError for a folder in use.
    """
    protocol, train = split_options(options)
    if gate is not None and train.init is not None:
        raise UsageError("the head to start from brings its gate: give init or gate, not both")
    if gate is not None:
        head = head_config(head or DEFAULT_HEAD, gate=gate)
    data = label_features(features, protocol.annotations, **protocol.labels)
    splits = make_splits(data, protocol)
    config, start = starting_point(head, train, data)
    leaks, found_leaks = audit_splits(data, splits) if audit else (None, [])
    seeds = [train.seed + i for i in range(protocol.seeds or 1)]
    settings = {"head": asdict(config), "train": train.to_json(config), "protocol": protocol.to_json()}
    kept = _kept_place(data, splits, settings, start, audit=audit) if out is not None else None
    with (
        forgotten_at_the_end(kept),
        run_folder(out, kind="train-head", overwrite=overwrite) as folder,
        nullcontext() if tensorboard is None else TensorBoardLog(tensorboard) as board,
    ):
        if is_there(kept):
            log.info("%s: trained already, when there was no room for it", kept)
            take(kept, folder, out=Path(out))
            return _read(kept, Path(out))
        listener = _Listener(board, tell=len(seeds) * len(splits) == 1)
        experiment = Experiment(data, splits, train, start, keep_heads=True, listener=listener)
        outcome = experiment.run([Arm(config.name, config)], seeds)
        if outcome.failures:
            raise GcfError(f"{config.name}: {outcome.failures[config.name]}")
        results = outcome.results[config.name]
        heads = _heads(experiment, config, results, outcome, judge=protocol.judge)
        places = {key: _place(key, len(seeds), len(splits)) for key in heads}
        metrics = {"format": FORMAT, "kind": "train-head"} | settings
        metrics |= _figures(experiment, outcome, protocol, found_leaks) | {"audit": leaks}
        of_seeds: list[dict] = []
        for result in results:
            of_splits = [places[result.seed, n] for n in range(len(splits))]
            of_seeds.append(seed_entry(result, PREDICTIONS) | {"heads": of_splits})
        metrics |= {"seeds": of_seeds}
        if folder is not None:

            def write(place: Path) -> None:
                for key, saved in heads.items():
                    save_head(place / places[key], saved)
                _write(place, experiment, config.name, results)
                write_json(place / "config.json", settings)
                write_json(place / METRICS, metrics)

            write_run(folder, write, out=Path(out), kept=kept)
    return TrainingRun(metrics, tuple(heads.values()), None if out is None else Path(out))


def _figures(experiment: Experiment, outcome: Outcome, protocol: Protocol, found_leaks: Sequence[str]) -> dict:
    """What the one head came to, and what has to be known to read it."""
    ((name, results),) = outcome.results.items()
    data, splits, evaluated = experiment.data, experiment.splits, experiment.evaluation_set
    around, about = circumstances(experiment, "gcf train-head")
    metrics = {"judged_on": evaluated.subset} | summarise(results) | around
    metrics["ensemble"] = ensemble(results, evaluated)
    measured = calibration_of(results, evaluated)
    metrics["calibration"] = {name: measured} if measured else {}
    named = named_classes(metrics["coverage"]["class_counts"])
    who = [f"{len(data.classes):,} classes: {named}.", *_notes(evaluated)]
    who += [*judge_notes(data, protocol, splits), *film_notes(data, protocol, splits)]
    metrics["notes"] = [*who, *about, *found_leaks, *outcome.notes]
    return metrics


def _kept_place(
    data: LabelledFeatures, splits: Sequence[Split], settings: dict, start: Start, *, audit: bool
) -> Path | None:
    """Where this very training is kept, should there be no room for its run."""
    weights = hashlib.sha256()
    for name, value in {} if start.head is None else start.head.module.state_dict().items():
        weights.update(name.encode() + value.cpu().numpy().tobytes())
    facts = {"features": features_digest(data.features), "audit": audit, "init": weights.hexdigest()}
    return unplaced_run(settings | facts | {"splits": [split_digest(data, one) for one in splits]})


def _read(kept: Path, out: Path) -> TrainingRun:
    """A run that was trained before."""
    metrics = json.loads((kept / METRICS).read_bytes())
    heads = [load_head(kept / place) for seed in metrics["seeds"] for place in seed["heads"]]
    return TrainingRun(metrics, tuple(heads), out)


@dataclass(frozen=True, eq=False)
class _Listener:
    """Passes validations on to TensorBoard; one training is followed, hundreds are only counted."""

    board: TensorBoardLog | None
    tell: bool

    def __call__(self, arm: str, seed: int, split: str, row: dict) -> None:
        if self.tell:
            log.info("epoch %(epoch)d: train loss %(train_loss).4f, val loss %(val_loss).4f, lr %(lr)g", row)
        if self.board is not None:
            self.board.add(arm, seed, split, row)


def _heads(
    experiment: Experiment, config: HeadConfig, results: Sequence[SeedResult], outcome: Outcome, *, judge: str | None
) -> dict[tuple[int, int], SavedHead]:
    """Every trained head, by seed and number of the split."""
    found = {}
    for result in results:
        for number, (run, temperature) in enumerate(zip(result.trained, result.temperatures, strict=True)):
            whose = {
                "split": experiment.splits[number].name,
                "seed": result.seed,
                "temperature": temperature,
                "judge": judge,
            }
            module = outcome.heads[config.name, result.seed, number]
            found[result.seed, number] = _saved(experiment, config, whose | run.record, module)
    return found


def _write(folder: Path, experiment: Experiment, name: str, results: Sequence[SeedResult]) -> None:
    """Predictions, history and plots."""
    probabilities = np.stack([np.exp(r.log_probabilities) for r in results])  # (S, n, K)
    confidence = np.stack([r.confidence for r in results])
    arrays = judged_arrays(experiment.data, experiment.evaluation_set, results)
    np.savez(folder / PREDICTIONS, probabilities=probabilities, confidence=confidence, **arrays)
    rows = history_rows({name: results}, experiment.splits)
    if rows:  # logistic regression has none
        write_csv(folder / "history.csv", rows)
        plot_training(folder / "training.png", rows)


def _notes(evaluated: EvaluationSet) -> list[str]:
    if evaluated.subset == "test":
        return []
    return [
        "There is no test subset: the figures are of val, which also chose the weights. Cross-validate (cv) instead."
    ]


def _place(key: tuple[int, int], num_seeds: int, num_splits: int) -> str:
    """The head's folder inside the run: the run's own where there is one head."""
    seed, number = key
    parts = []
    if num_seeds > 1:
        parts.append(f"seed-{seed}")
    if num_splits > 1:
        parts.append(f"fold-{number:02d}")
    return "-".join(parts) or "."


def _saved(experiment: Experiment, config: HeadConfig, record: dict, module: nn.Module) -> SavedHead:
    data, train = experiment.data, experiment.train
    record = {"gcf": __version__, "order_seed": train.seed} | record
    record |= {"num_clips": train.num_clips, "clip_policy": train.clip_policy}
    record |= {"padding": train.padding, "settings": train.to_json(config)}
    record["features_sha256"] = data.features.recipe_sha256
    width = experiment.descriptors.width
    return SavedHead(module, config, width, data.classes, data.features.recipe, record)


def judged_arrays(
    data: LabelledFeatures, evaluated: EvaluationSet, results: Sequence[SeedResult]
) -> dict[str, np.ndarray]:
    """What every predictions.npz holds: ids, labels, folds and independent units of the judged videos (n,), classes
    (K,), seeds (S,).
    """
    units = independent_units(data)[0]
    return {
        "units": np.array([units[n] for n in evaluated.videos]),
        "ids": np.array([data.features.ids[n] for n in evaluated.videos]),
        "labels": evaluated.labels,
        "folds": evaluated.folds,
        "classes": np.array(data.classes),
        "seeds": np.array([r.seed for r in results]),
    }
