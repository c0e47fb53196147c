"""`gcf train-head`: train one head and leave a run folder."""

import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from torch import nn

from gcf._version import __version__
from gcf.data.features import FeatureFile
from gcf.errors import GcfError, UsageError
from gcf.head.arms import Arm
from gcf.head.config import HeadConfig, TrainConfig, head_config, split_options
from gcf.head.crossval import Trial
from gcf.head.fit import Trained
from gcf.head.labelled import LabelledFeatures, coverage, coverage_notes, label_features, make_splits
from gcf.head.plots import plot_training
from gcf.head.results import Judged, SeedResult
from gcf.head.runs import FORMAT, METRICS, run_folder, write_csv, write_json
from gcf.head.saved import SavedHead, save_head
from gcf.head.summary import describe, history_rows, seed_entry, summarise
from gcf.head.transfer import starting_point

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
    overwrite: bool = False,
    **options,
) -> TrainingRun:
    """Train a head on the labelled videos of a feature file, and judge it on the test videos, once, at the end.

    head: a preset's name or a config; None is "gcf-256", or the head that `init` starts from. gate: another gate than
    the preset's, "clips", "token" or "none". options: the fields of Protocol and TrainConfig. Weights and rate follow
    `val` alone. Where there is no test video the figures are of `val`, and `metrics["judged_on"]` says so. The run
    folder `out` gets metrics.json, predictions.npz, config.json, history.csv, training.png and the head; with several
    seeds or folds each head has a sub-folder.

    Raises FeatureFileError, AnnotationError, RecipeError, HeadError, UsageError, and RefusedError for a folder in use.
    """
    protocol, train = split_options(options)
    if gate is not None and train.init is not None:
        raise UsageError("the head to start from brings its gate: give init or gate, not both")
    if gate is not None:
        head = head_config(head or "gcf-256", gate=gate)
    data = label_features(features, protocol.annotations, multi_label=protocol.multi_label)
    splits = make_splits(data, protocol)
    config, start = starting_point(head, train, data)
    seeds = [train.seed + i for i in range(protocol.seeds or 1)]
    alone = len(seeds) * len(splits) == 1
    trial = Trial(data, splits, train, start, keep_heads=True, listener=_log_validation if alone else None)
    with run_folder(out, overwrite=overwrite) as folder:
        outcome = trial.run([Arm(config.name, config)], seeds)
        if outcome.failures:
            raise GcfError(f"{config.name}: {outcome.failures[config.name]}")
        results, judged = outcome.results[config.name], trial.judged
        heads = {
            (result.seed, number): _saved(
                config,
                data,
                train,
                (splits[number].name, result.seed),
                run,
                outcome.heads[config.name, result.seed, number],
            )
            for result in results
            for number, run in enumerate(result.trained)
        }
        places = {key: _place(key, len(seeds), len(splits)) for key in heads}
        settings = {"head": asdict(config), "train": train.to_json(), "protocol": protocol.to_json()}
        metrics = {"format": FORMAT, "kind": "train-head", "judged_on": judged.subset}
        metrics |= summarise(results) | settings | {"coverage": coverage(data, splits)}
        metrics["residency"] = trial.descriptors.residency.to_json()
        metrics["notes"] = [*_notes(judged), *coverage_notes(metrics["coverage"]), *outcome.notes]
        metrics["seeds"] = [
            seed_entry(result, PREDICTIONS) | {"heads": [places[result.seed, n] for n in range(len(splits))]}
            for result in results
        ]
        if folder is not None:
            for key, saved in heads.items():
                save_head(folder / places[key], saved)
            probabilities = np.stack([np.exp(r.log_probabilities) for r in results])  # (S, n, K)
            np.savez(folder / PREDICTIONS, probabilities=probabilities, **judged_arrays(data, judged, results))
            rows = history_rows({config.name: results}, splits)
            write_csv(folder / "history.csv", rows)
            plot_training(folder / "training.png", rows)
            write_json(folder / "config.json", settings)
            write_json(folder / METRICS, metrics)
    return TrainingRun(metrics, tuple(heads.values()), None if out is None else Path(out))


def _log_validation(_name: str, _member: int, row: dict) -> None:
    """One training is followed, hundreds are only counted."""
    log.info("epoch %(epoch)d: train loss %(train_loss).4f, val loss %(val_loss).4f, lr %(lr)g", row)


def _notes(judged: Judged) -> list[str]:
    if judged.subset == "test":
        return []
    return [
        "There is no test subset: the figures are of val, which also chose the weights. Cross-validate (cv) instead."
    ]


def _place(key: tuple[int, int], num_seeds: int, num_splits: int) -> str:
    """The head's folder inside the run: the run's own where there is one head."""
    seed, number = key
    parts = ([f"seed-{seed}"] if num_seeds > 1 else []) + ([f"fold-{number:02d}"] if num_splits > 1 else [])
    return "-".join(parts) or "."


def _saved(
    config: HeadConfig,
    data: LabelledFeatures,
    train: TrainConfig,
    whose: tuple[str, int],
    run: Trained,
    module: nn.Module,
) -> SavedHead:
    split, seed = whose
    record = {"gcf": __version__, "split": split, "seed": seed, "order_seed": train.seed} | run.record
    record |= {"num_clips": train.num_clips, "clip_policy": train.clip_policy, "settings": train.to_json()}
    record["features_sha256"] = data.features.recipe_sha256
    width = data.features.descriptors.shape[2]
    return SavedHead(module, config, width, data.classes, data.features.recipe, record)


def judged_arrays(data: LabelledFeatures, judged: Judged, results: Sequence[SeedResult]) -> dict[str, np.ndarray]:
    """What every predictions.npz holds: ids, labels and folds of the judged videos (n,), classes (K,), seeds (S,)."""
    return {
        "ids": np.array([data.features.ids[n] for n in judged.videos]),
        "labels": judged.labels,
        "folds": judged.folds,
        "classes": np.array(data.classes),
        "seeds": np.array([r.seed for r in results]),
    }
