"""`gcf transfer`: what a head brings from one data set to another, beside the same head trained from the start.

The paper's protocol for UCF-101 (section 3.3): a head trained on a large data set, then everything frozen but its last
layer, which is trained on the small one at a rate of 0.01.
"""

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Unpack

import numpy as np

from gcf.data.annotations import Annotations
from gcf.data.features import FeatureFile
from gcf.data.joined import open_features
from gcf.errors import UsageError
from gcf.head.fitting.labelled import label_features, make_splits
from gcf.head.fitting.metrics import is_right
from gcf.head.models.config import HeadConfig, TrainConfig, TrainOptions, split_options
from gcf.head.models.head_file import refuse_head_file
from gcf.head.models.saved import SavedHead, check_features, given_or_loaded, save_head
from gcf.head.runs import FORMAT, METRICS, run_folder, write_json
from gcf.head.tables.statistics import paired_difference
from gcf.head.tables.summary import describe as describe_metrics
from gcf.head.training import PREDICTIONS, TrainingRun, train_head

log = logging.getLogger(__name__)
OF_TARGET = ("annotations", "multi_label", "cv", "seeds")  # options that say nothing of the training on the source
SHOWN = (
    *("judged_on", "top1", "top5", "map", "mean_class", "loss", "k", "n"),
    *("std", "map_std", "fold_mean", "fold_std", "fold_min", "fold_max"),
)


@dataclass(frozen=True, eq=False)
class TransferRun:
    """What came of it: metrics (the content of metrics.json), both trainings on the target, the run folder."""

    metrics: dict
    transferred: TrainingRun
    scratch: TrainingRun
    path: Path | None

    def describe(self) -> str:
        """Both accuracies and their difference in words, and where the run is."""
        return f"{describe(self.metrics)}\nin {self.path}"


def transfer_head(
    source: str | os.PathLike | None,
    target: str | os.PathLike,
    out: str | os.PathLike | None = None,
    *,
    init: SavedHead | str | os.PathLike | None = None,
    head: str | HeadConfig | None = None,
    gate: str | None = None,
    head_file: str | os.PathLike | None = None,
    source_annotations: Annotations | str | os.PathLike | None = None,
    overwrite: bool = False,
    **options: Unpack[TrainOptions],
) -> TransferRun:
    """Train a head on the feature file `source`, then its last layer alone on `target`; and the same head from scratch.

    init: a trained head instead of a source (None then); head_file: its Python file, if it is a plug-in given by its
    path, as for `load_head`. head, gate: as for `train_head`, of the source's head.
    options: the fields of Protocol, which are the target's, and of TrainConfig but init and freeze. The rate `lr` is
    that of the trainings from the start; the last layer alone is trained at the paper's 0.01. Both heads are judged on
    the same videos, with the same seeds, and their difference is paired. The run folder `out` gets source/ (the head
    that was transferred), transferred/, scratch/ and metrics.json.

    Raises what `train_head` does; RecipeError and HeadError, where the two files do not go together, before any work.
    """
    chosen = {"head": head, "gate": gate, "annotations": source_annotations}
    _check_choice(source, init, chosen, options, head_file)
    protocol, train = split_options(options)
    data = label_features(open_features(target), protocol.annotations, **protocol.labels)
    make_splits(data, protocol)  # what the target cannot give is known before the source is trained on
    origin = open_features(source) if init is None else _usable(init, train, head_file)
    width = origin.descriptor_width if isinstance(origin, SavedHead) else origin.descriptors.shape[2]
    check_features(data.features, recipe=origin.recipe, width=width)
    with (
        run_folder(out, kind="transfer", overwrite=overwrite) as place,
        _folder(place) as folder,
    ):
        start = _source_head(origin, folder / "source", chosen, options)
        log.info("target: training the last layer of the source's head")
        frozen = {"init": start, "freeze": "all-but-classifier", "lr": None}
        transferred = train_head(data.features, folder / "transferred", **options | frozen)
        log.info("target: training the same head from the start")
        scratch = train_head(data.features, folder / "scratch", head=start.config, **options)
        metrics = {"format": FORMAT, "kind": "transfer", "head": start.config.name, "source": start.training}
        metrics |= {"transferred": _shown(transferred), "scratch": _shown(scratch)}
        metrics["difference"] = _difference(folder / "transferred", folder / "scratch")
        metrics["notes"] = transferred.metrics["notes"]
        write_json(folder / METRICS, metrics)
    return TransferRun(metrics, _moved(transferred, out), _moved(scratch, out), None if out is None else Path(out))


def _check_choice(
    source: object, init: object, chosen: dict, options: dict, head_file: str | os.PathLike | None
) -> None:
    """One origin, and no option that would do nothing."""
    if (source is None) == (init is None):
        raise UsageError("give either a feature file to train on first, or a trained head (init)")
    if init is None:
        refuse_head_file(head_file, "a head that is trained on the source")
    if init is not None and (given := [name for name, value in chosen.items() if value is not None]):
        given = [name.replace("annotations", "source annotations") for name in given]
        raise UsageError(f"the head to start from is trained already: leave out {', '.join(given)}")
    if "freeze" in options:
        raise UsageError("a transfer freezes all but the last layer; leave out freeze")


def _usable(init: SavedHead | str | os.PathLike, train: TrainConfig, head_file: str | os.PathLike | None) -> SavedHead:
    """The head to start from; its gate must be the one that the same head from scratch would get."""
    head = given_or_loaded(init, head_file=head_file)
    slots = head.config.fixed_clips
    if slots not in (None, train.num_clips):
        raise UsageError(f"the head to start from has a gate for {slots} clips; choose as many (num_clips)")
    return head


def _source_head(origin: SavedHead | FeatureFile, folder: Path, chosen: dict, options: dict) -> SavedHead:
    """The head that is transferred, put into `folder`: as given, or trained on the source."""
    if isinstance(origin, SavedHead):
        save_head(folder, origin)
        return origin
    log.info("source: training")
    training = {name: value for name, value in options.items() if name not in OF_TARGET}
    return train_head(origin, folder, **chosen, **training).head


@contextmanager
def _folder(place: Path | None) -> Iterator[Path]:
    """The folder of the run, or one that vanishes."""
    if place is not None:
        yield place
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _shown(run: TrainingRun) -> dict:
    return {name: run.metrics[name] for name in SHOWN if name in run.metrics}


def _moved(run: TrainingRun, out: str | os.PathLike | None) -> TrainingRun:
    """The training under the run's final name."""
    return replace(run, path=None if out is None else Path(out) / run.path.name)


def _difference(transferred: Path, scratch: Path) -> dict:
    """Transferred less scratch, over the same videos."""
    saved = [np.load(folder / PREDICTIONS) for folder in (transferred, scratch)]
    right = [is_right(found["probabilities"].argmax(axis=2), found["labels"]) for found in saved]  # (S, n)
    return asdict(paired_difference(*right, saved[0]["ids"], saved[0]["units"]))


def describe(metrics: dict) -> str:
    """Both accuracies and their difference, in percent and points."""
    lines = [
        f"{name}, {describe_metrics(metrics[key])}"
        for name, key in (("last layer alone", "transferred"), ("from scratch", "scratch"))
    ]
    d = metrics["difference"]
    difference = f"difference {100 * d['delta']:+.1f} points"
    if d["missing"] is None:
        interval = f"95 % interval {100 * d['low']:+.1f} to {100 * d['high']:+.1f}"
        lines.append(f"{difference}, {interval}, p {d['p']:.3g}")
    else:
        lines += [difference, d["missing"]]
    return "\n".join([*lines, *metrics["notes"]])
