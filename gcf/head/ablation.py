"""`gcf ablate`: compare heads over the same videos, splits, clips and seeds."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gcf.data.features import FeatureFile
from gcf.data.splits import Split
from gcf.errors import UsageError
from gcf.head.arms import CENTRAL, Arm
from gcf.head.backbone_clips import backbone_columns, whose_classifier
from gcf.head.config import PRESETS, HeadConfig, Protocol, TrainConfig, head_config, split_options
from gcf.head.crossval import Trial
from gcf.head.labelled import LabelledFeatures, coverage, coverage_notes, label_features, make_splits
from gcf.head.plots import plot_arms, plot_training
from gcf.head.results import Judged, SeedResult
from gcf.head.runs import FORMAT, METRICS, run_folder, write_csv, write_json
from gcf.head.summary import history_rows, seed_entry, summarise
from gcf.head.tables import REFERENCE, markdown_table, table_rows
from gcf.head.training import PREDICTIONS, judged_arrays
from gcf.head.transfer import Start, fit_to_clips

# Further comparisons are further entries. "modules" is the paper's Table 2 and the honest baseline that it leaves out.
ABLATIONS: dict[str, tuple[str, ...]] = {"modules": ("mean", "fusion-only", "attention-only", "gcf-256")}
CENTRAL_ARM = "c-clip"  # shares the training of D-Clips
DEFAULT_SEEDS = 5
DEFAULT_FOLDS = 5  # where the file has no test subset


@dataclass(frozen=True, eq=False)
class Ablation:
    """What a comparison found: rows (one per arm, fractions), metrics (the content of metrics.json), the run folder."""

    rows: list[dict]
    metrics: dict
    path: Path | None

    @property
    def markdown(self) -> str:
        """The table for people, and below it what has to be known to read it."""
        return markdown_table(self.rows) + "".join(f"\n{note}\n" for note in self.metrics["notes"])


def ablate(
    features: FeatureFile | str | os.PathLike,
    out: str | os.PathLike | None = None,
    *,
    preset: str = "modules",
    overwrite: bool = False,
    **options,
) -> Ablation:
    """Train and judge every arm of a preset on the same splits with the same seeds (five unless `seeds` says).

    C-Clip and D-Clips are always among them; each other arm is compared to D-Clips, paired. Without a test subset and
    without `cv`, five folds that keep groups whole are used. The run folder `out` gets table.md, table.csv,
    table.json, metrics.json, predictions.npz, config.json, history.csv and plots. options: the fields of Protocol and
    TrainConfig. Raises what `train_head` does.
    """
    if preset not in ABLATIONS:
        raise UsageError(f"unknown preset {preset!r}; known: {', '.join(ABLATIONS)}")
    protocol, train = split_options(options)
    if train.init is not None:
        raise UsageError("a comparison trains every arm from the start; leave init and freeze to train-head")
    data = label_features(features, protocol.annotations, multi_label=protocol.multi_label)
    splits, notes = _splits(data, protocol)
    arms, source = _arms(preset, data, train)
    seeds = [train.seed + i for i in range(protocol.seeds or DEFAULT_SEEDS)]
    trial = Trial(data, splits, train, Start())
    judged = trial.judged
    with run_folder(out, overwrite=overwrite) as folder:
        outcome = trial.run(arms, seeds)
        results = outcome.results
        rows = table_rows(results, judged)
        metrics = {"format": FORMAT, "kind": "ablate", "preset": preset, "judged_on": judged.subset}
        metrics |= {"clip_classifier": source, "rows": rows}
        metrics["arms"] = {
            name: summarise(found) | {"seeds": [seed_entry(result, PREDICTIONS) for result in found]}
            for name, found in results.items()
        }
        metrics["coverage"] = coverage(data, splits)
        metrics["residency"] = trial.descriptors.residency.to_json()
        metrics["notes"] = [*notes, *_notes(train, data), *coverage_notes(metrics["coverage"]), *outcome.notes]
        found = Ablation(rows, metrics, None if out is None else Path(out))
        if folder is not None:
            write_json(folder / "config.json", {"preset": preset, "train": train.to_json()} | protocol.to_json())
            history = history_rows({name: r for name, r in results.items() if name != CENTRAL_ARM}, splits)
            write_csv(folder / "history.csv", history)
            plot_training(folder / "training.png", history)
            _write_arms(folder / PREDICTIONS, data, judged, results)
            _write_table(folder, found)
    return found


def _splits(data: LabelledFeatures, protocol: Protocol) -> tuple[list[Split], list[str]]:
    splits = make_splits(data, protocol)
    if protocol.cv is not None or len(splits[0].test):
        return splits, []
    note = (
        f"No test subset is given: heads are judged by {DEFAULT_FOLDS}-fold cross-validation that keeps groups whole."
    )
    return make_splits(data, replace(protocol, cv=DEFAULT_FOLDS)), [note]


def _arms(preset: str, data: LabelledFeatures, train: TrainConfig) -> tuple[list[Arm], str]:
    """All arms in the order of the table, and whose clip classifier the first two read: "backbone" or "linear"."""
    own = backbone_columns(data) is not None
    clip: HeadConfig | None = None if own else PRESETS["clip"]
    arms = [Arm(CENTRAL_ARM, clip, policy=CENTRAL), Arm(REFERENCE, clip)]
    arms += [Arm(name, _fitting(PRESETS[name], train)) for name in ABLATIONS[preset]]
    return arms, "backbone" if own else "linear"


def _fitting(head: HeadConfig, train: TrainConfig) -> HeadConfig:
    """With all clips of a video, a gate for a fixed number of them gives way to the one for any number."""
    if train.clip_policy == "all" and head.fixed_clips is not None:
        return head_config(head, gate="token")
    return fit_to_clips(head, train)


def _notes(train: TrainConfig, data: LabelledFeatures) -> list[str]:
    clips = "all" if train.clip_policy == "all" else f"at most {train.num_clips}, {train.clip_policy}"
    gates = " Gates are `token`, which take any number of clips." if train.clip_policy == "all" else ""
    return [
        f"C-Clip (central clip) and D-Clips (all chosen clips) read one clip classifier: {whose_classifier(data)}.",
        f"Clips of a video: {clips}.{gates}",
        "The interval resamples videos and seeds; p is an exact sign-flip test over videos for these seeds. Both take "
        "videos as independent: where groups share a scene, they are somewhat too sure.",
    ]


def _write_arms(
    path: Path, data: LabelledFeatures, judged: Judged, results: Mapping[str, Sequence[SeedResult]]
) -> None:
    """ids, labels, folds (n,), classes (K,), and for each arm ARM.predicted and ARM.true_log_probability (S, n)."""
    arrays = judged_arrays(data, judged, next(iter(results.values())))
    for name, found in results.items():
        arrays[f"{name}.predicted"] = np.stack([r.predicted for r in found])
        arrays[f"{name}.true_log_probability"] = np.stack([r.true_log_probability for r in found])
    np.savez(path, **arrays)


def _write_table(folder: Path, found: Ablation) -> None:
    (folder / "table.md").write_text(found.markdown, encoding="utf-8")
    write_csv(folder / "table.csv", found.rows)
    shown = {name: found.metrics[name] for name in ("preset", "judged_on", "clip_classifier", "notes", "rows")}
    write_json(folder / "table.json", shown)
    plot_arms(folder / "arms.png", found.rows)
    write_json(folder / METRICS, found.metrics)
