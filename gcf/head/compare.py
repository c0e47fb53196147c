"""`gcf compare`: backbones over the same videos, one row per feature file, as in the paper's Table 1."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np

from gcf.data.annotations import read_annotations
from gcf.data.features import FeatureFile
from gcf.errors import GcfError, StoppedError, UsageError
from gcf.head.ablation import Ablation, ablate
from gcf.head.fitting.metrics import is_right
from gcf.head.models.build import head_config
from gcf.head.models.config import TrainOptions, split_options
from gcf.head.runs import FORMAT, METRICS, run_folder, write_csv, write_json
from gcf.head.tables.backbones_table import backbones_markdown, comparison_notes
from gcf.head.tables.statistics import holm, paired_difference
from gcf.head.training import PREDICTIONS
from gcf.head.trials.arms import CENTRAL_ARM, REFERENCE

DIFFERENCE = ("delta", "low", "high", "p", "missing")
PREFIXES = ("", "first_")  # against D-Clips of the same file, against the head of the first file
OF_SEVERAL = (
    "Figures are hit@1, the share of videos whose most probable class is one of theirs; the mAP of every arm is in the "
    "table of each file's own run."
)


@dataclass(frozen=True, eq=False)
class BackboneComparison:
    """What came of it: rows (one per feature file, fractions), metrics (the content of metrics.json), the folder."""

    rows: list[dict]
    metrics: dict
    path: Path | None

    @property
    def markdown(self) -> str:
        """The table for people, and below it what has to be known to read it."""
        return backbones_markdown(self.rows, self.metrics["head"]) + "".join(f"\n{n}\n" for n in self.metrics["notes"])

    @property
    def failed(self) -> list[str]:
        """The feature files that gave no figures, or none of the head."""
        return [row["file"] for row in self.rows if row["error"] is not None or row["head_failed"] is not None]


@dataclass(frozen=True, eq=False)
class _Judged:
    """One feature file: its comparison and predictions, or why there are none."""

    name: str
    features: FeatureFile | None
    found: Ablation | None = None
    predictions: dict[str, np.ndarray] | None = None
    error: str | None = None

    def right(self, head: str) -> np.ndarray:
        """Which videos a head has right with each seed (S, n)."""
        saved = self.predictions or {}
        return is_right(saved[f"{head}.predicted"], saved["labels"])

    def by_chance(self, head: str) -> bool:
        """Whether there is chance in a head's training."""
        return next(row["by_chance"] for row in self.found.rows if row["name"] == head)


def compare_features(
    files: Sequence[FeatureFile | str | os.PathLike],
    out: str | os.PathLike | None = None,
    *,
    head: str = "gcf-256",
    overwrite: bool = False,
    **options: Unpack[TrainOptions],
) -> BackboneComparison:
    """Compare backbones: C-Clip, D-Clips, `mean` and a head on each feature file, trained alike on the same splits.

    Within a file the head is compared to D-Clips. Between files it is compared to that of the first one, where both
    hold the same videos with the same labels, subsets and groups; where they do not, the row says why. A file that
    cannot be used does not stop the others; its row has the reason. The folder `out` gets table.md, table.csv,
    table.json, metrics.json and the run folder of each file. options: the fields of Protocol and TrainConfig.
    """
    if not files:
        raise UsageError("no feature files given")
    name = head_config(head).name  # a plug-in file goes by the name that it gives itself
    protocol, train = split_options(options)
    if isinstance(protocol.annotations, (str, os.PathLike)):
        # Once: what is wrong with it is wrong for all.
        options["annotations"] = read_annotations(protocol.annotations, multi_label=protocol.multi_label)
    heads = tuple(dict.fromkeys(("mean", head)))
    names = _names(files)
    with (
        run_folder(out, kind="compare", parts=names, overwrite=overwrite) as folder,
        _place(folder) as place,
    ):
        judged = []
        for stem, file in zip(names, files, strict=True):
            judged.append(_judge(stem, file, place / stem, heads, options))
        rows = [_row(one, judged[0], name, annotated=protocol.annotations is not None) for one in judged]
        _adjust(rows)
        notes = [OF_SEVERAL] if protocol.multi_label else []
        notes += comparison_notes(rows, {one.name: one.found.metrics["notes"] for one in judged if one.found})
        metrics = {"format": FORMAT, "kind": "compare", "head": name, "first": rows[0]["file"]}
        metrics |= {"rows": rows, "notes": notes, "train": train.to_json(), "protocol": protocol.to_json()}
        comparison = BackboneComparison(rows, metrics, None if out is None else Path(out))
        if folder is not None:
            (folder / "table.md").write_text(comparison.markdown, encoding="utf-8")
            write_csv(folder / "table.csv", rows)
            write_json(folder / "table.json", {name: metrics[name] for name in ("head", "first", "notes", "rows")})
            write_json(folder / METRICS, metrics)
    return comparison


@contextmanager
def _place(folder: Path | None) -> Iterator[Path]:
    """Where the runs of the files go: the folder, or one that vanishes."""
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="gcf-compare-") as temporary:
        yield Path(temporary)


def _names(files: Sequence[FeatureFile | str | os.PathLike]) -> list[str]:
    """A name for each file, its stem; the same stem again gets a number."""
    names: list[str] = []
    for file in files:
        stem = Path(getattr(file, "path", file)).stem
        name, number = stem, 2
        while name in names:
            name, number = f"{stem}-{number}", number + 1
        names.append(name)
    return names


def _judge(
    name: str, file: FeatureFile | str | os.PathLike, folder: Path, heads: Sequence[str], options: dict
) -> _Judged:
    """Compare heads on one file. What is wrong with this file alone becomes its error; wrong usage is everyone's."""
    features = file if isinstance(file, FeatureFile) else None
    try:
        features = features or FeatureFile(file)
        found = ablate(features, folder, heads=heads, **options)
    except (UsageError, StoppedError):
        raise
    except GcfError as error:
        return _Judged(name, features, error=str(error))
    with np.load(folder / PREDICTIONS, allow_pickle=False) as saved:
        return _Judged(name, features, found, {key: saved[key] for key in saved.files})


def _row(one: _Judged, first: _Judged, head: str, *, annotated: bool) -> dict:
    """One line of the table; what is not known is None, and every row has the same keys."""
    arms = dict.fromkeys((CENTRAL_ARM, REFERENCE, "mean", head))
    row = {"file": one.name, "backbone": None, "weights": None, "clip_classifier": None}
    row |= dict.fromkeys(("expected", "present", "failed"))
    row |= {f"{arm}{part}": None for arm in arms for part in ("", "_k", "_n")}
    row |= {f"{prefix}{name}": None for prefix in PREFIXES for name in (*DIFFERENCE, "p_holm")}
    row |= {"not_compared": None, "head_failed": None, "error": one.error}
    if one.features is not None:
        row |= {key: one.features.recipe.get(key) for key in ("backbone", "weights")}
        present, failed = one.features.num_videos, len(one.features.failures)
        row |= {"expected": present + failed, "present": present, "failed": failed}
    if one.found is None:
        return row
    row |= {"clip_classifier": one.found.metrics["clip_classifier"]}
    row["expected"] = one.found.metrics["coverage"]["expected"]
    of_arm = {found["name"]: found for found in one.found.rows}
    for arm in arms:
        row |= {arm: of_arm[arm]["mean"], f"{arm}_k": of_arm[arm].get("k"), f"{arm}_n": of_arm[arm].get("n")}
    row |= {name: of_arm[head].get(name) for name in DIFFERENCE}
    row["head_failed"] = of_arm[head].get("failed")
    if one is not first:
        row["not_compared"] = _why_not(one, first, head, annotated=annotated)
        if row["not_compared"] is None:
            row |= {f"first_{name}": value for name, value in _against_first(one, first, head).items()}
    return row


def _why_not(one: _Judged, first: _Judged, head: str, *, annotated: bool) -> str | None:
    """Why two files cannot be compared, None where the same videos teach and judge."""
    if first.found is None:
        return f"{first.name} gave no figures"
    for judged in (one, first):
        if f"{head}.predicted" not in judged.predictions:
            return f"{head} failed in {judged.name}"
    if reason := why_other_videos(one.features, first.features, annotated=annotated):
        return reason
    shared = ("ids", "labels", "folds", "classes", "seeds")
    if any(not np.array_equal(one.predictions[key], first.predictions[key]) for key in shared):
        return "they were judged in different splits"
    return None


def why_other_videos(ours: FeatureFile, theirs: FeatureFile, *, annotated: bool) -> str | None:
    """Why two files would not be split alike, None where they are: splits follow from ids, labels, subsets and groups.

    annotated: labels, subsets and groups come from annotations, the same for both.
    """
    if ours.ids != theirs.ids:
        return f"they hold different videos, {len(set(ours.ids) & set(theirs.ids))} in common"
    facts = ("labels", "subsets", "groups", "classes")
    if not annotated and any(list(getattr(ours, fact)) != list(getattr(theirs, fact)) for fact in facts):
        return "their videos have other labels, subsets or groups"
    return None


def _against_first(one: _Judged, first: _Judged, head: str) -> dict[str, float]:
    """The head's accuracy less that of the first file's, over the same videos."""
    found = paired_difference(
        one.right(head),
        first.right(head),
        one.predictions["ids"],
        one.predictions["units"],
        by_chance=(one.by_chance(head), first.by_chance(head)),
    )
    return {name: vars(found)[name] for name in DIFFERENCE}


def _adjust(rows: Sequence[dict]) -> None:
    """Adjust every p of the table for all that are in it (Holm)."""
    there = [(row, prefix) for row in rows for prefix in PREFIXES if row[f"{prefix}p"] is not None]
    for (row, prefix), adjusted in zip(there, holm([row[f"{prefix}p"] for row, prefix in there]), strict=True):
        row[f"{prefix}p_holm"] = adjusted
