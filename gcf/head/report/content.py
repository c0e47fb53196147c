"""All that the report of a run shows, in its order, as plain values: what a run does not have is None or empty."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gcf.head.report import figures, words
from gcf.head.report.classes import (
    MOST_CHANGES,
    Change,
    Miss,
    class_changes,
    confused_pairs,
    confusion,
    surest_misses,
)
from gcf.head.report.picture import Picture
from gcf.head.report.run import ReportedRun
from gcf.head.report.tables import (
    Chart,
    Table,
    calibration_table,
    further_table,
    gate_table,
    interval_chart,
    result_table,
)

FEW_CLASSES = 24  # as a table; more are drawn
MOST_SHARED = 20  # of a kind
KINDS = {"train-head": "Training of a head", "ablate": "Comparison of heads", "compare": "Comparison of backbones"}


@dataclass(frozen=True, eq=False)
class Panel:
    """One arm class by class. counts (K, K): the confusion matrix, drawn where `as_table` is False."""

    name: str
    counts: np.ndarray
    classes: list[str]
    picture: Picture
    pairs: list[tuple[str, str, int, int]]
    changes: list[Change] | None
    misses: list[Miss]

    @property
    def as_table(self) -> bool:
        """Whether the classes are few enough for a table."""
        return len(self.classes) <= FEW_CLASSES

    @property
    def ends(self) -> tuple[list[Change], list[Change], int]:
        """The classes that gained most and those that lost most, and how many between them are not shown."""
        gained = [change for change in self.changes or () if change.points > 0]
        lost = [change for change in self.changes or () if change.points < 0]
        shown = gained[:MOST_CHANGES], lost[-MOST_CHANGES:]
        return *shown, len(gained) + len(lost) - len(shown[0]) - len(shown[1])


@dataclass(frozen=True, eq=False)
class Audit:
    """What the sides of a split share: findings in words, and what they are about as a table."""

    findings: list[str]
    pairs: Table | None


@dataclass(frozen=True, eq=False)
class Report:
    """The parts of the page, from the verdict to the command that makes the run again."""

    title: str
    facts: str
    verdict: str
    evidence: str
    best: str
    reference: str | None
    table: Table
    chart: Chart | None
    further: Table | None
    reasons: list[tuple[str, str]]
    notes: list[str]
    coverage: list[tuple[str, str]]
    audit: Audit | None
    sweep: Picture | None
    panels: list[Panel]
    chosen: int
    num_seeds: int
    gate: Table | None
    calibration: Table | None
    reliability: list[Picture]
    training: list[Picture]
    recipe: list[tuple[str, list[tuple[str, str]]]]
    command: str

    @property
    def most_points(self) -> float:
        """The largest change of a class in any arm: the length that the longest bar has."""
        return max((abs(change.points) for panel in self.panels for change in panel.changes or ()), default=1.0)

    @property
    def pictures(self) -> list[Picture]:
        """Every plot of the page."""
        matrices = [panel.picture for panel in self.panels]
        return [*filter(None, [self.sweep]), *matrices, *self.reliability, *self.training]


def build_report(run: ReportedRun) -> Report:
    """Put together what there is to show of a run."""
    panels = _panels(run)
    headline, evidence = words.verdict(run)
    calibration = run.metrics.get("calibration") or {}
    noted = "reference" in run.metrics  # such runs say this in their own notes
    further = [] if noted else [words.sensitivity(run.rows), words.looks(run.metrics)]
    reference = None
    if run.reference is not None:
        reference = run.reference["name"]
    return Report(
        title=KINDS.get(run.kind, run.kind),
        facts=_facts(run),
        verdict=headline,
        evidence=evidence,
        best=run.best["name"],
        reference=reference,
        table=result_table(run),
        chart=interval_chart(run.rows),
        further=further_table(run),
        reasons=_reasons(run),
        notes=[*run.metrics.get("notes", ()), *filter(None, further)],
        coverage=_coverage(run.metrics.get("coverage") or {}),
        audit=_audit(run.metrics.get("audit") or {}),
        sweep=figures.sweep_curve(run),
        panels=panels,
        chosen=_chosen(run, [panel.name for panel in panels]),
        num_seeds=run.num_seeds,
        gate=gate_table(run),
        calibration=calibration_table(run),
        reliability=figures.reliability(calibration),
        training=figures.training_curves(run.history) if run.history else [],
        recipe=_recipe(run),
        command=words.command(run),
    )


def _facts(run: ReportedRun) -> str:
    """What was done, in a line."""
    splits = len((run.metrics.get("coverage") or {}).get("splits") or [None])
    preset, judged_on = run.metrics.get("preset"), run.metrics.get("judged_on")
    facts = [f"preset {preset}" if preset else run.best["name"]]
    if judged_on:
        facts.append(f"judged on {judged_on}")
    if splits > 1:
        facts.append(f"{splits} folds")
    facts.append(f"{run.num_seeds} seeds" if run.num_seeds > 1 else "1 seed")
    if run.predictions:
        facts.append(f"{len(run.predictions.ids)} videos of {len(run.predictions.classes)} classes")
    return " · ".join(facts)


def _reasons(run: ReportedRun) -> list[tuple[str, str]]:
    """Arms that failed or cannot be compared, and why."""
    told = [(row["name"], row.get("failed") or row.get("not_compared")) for row in run.rows]
    return [(name, str(reason)) for name, reason in told if reason]


def _coverage(found: Mapping) -> list[tuple[str, str]]:
    """Counts of videos in words; those that are 0 say nothing, but for the ones expected and used."""
    kept = ("expected", "used")
    names = ("expected", "used", "failed", "missing", "unlabelled", "in_no_subset")
    lines = [
        (name.replace("_", " "), str(found[name])) for name in names if found.get(name) or name in kept & found.keys()
    ]
    splits = found.get("splits") or []
    for part in ("train", "val", "test"):
        sizes = sorted({split[part] for split in splits})
        if sizes and sizes[-1]:
            lines.append((part, f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else str(sizes[0])))
    return lines


def _audit(found: Mapping) -> Audit | None:
    """The leak audit; None where there was none."""
    if not found:
        return None
    findings, rows = [], []
    for key, what in (
        ("shared_groups", "{} group{s} in several subsets of a split"),
        ("shared_ids", "{} pair{s} of one name and size in different subsets"),
        ("near_duplicates", "{} pair{s} in different subsets more alike than different videos are"),
    ):
        shown = found.get(key) or []
        count = found.get(f"num_{key}", len(shown))
        if count:
            more = f", of which {MOST_SHARED} are shown" if count > MOST_SHARED else ""
            findings.append(f"{what.format(count, s='s' if count > 1 else '')}{more}.")
        rows += [_shared(entry) for entry in shown[:MOST_SHARED]]
    headers = ["group or video", "looks like", "subsets", "split", "similarity"]
    return Audit(findings or ["Nothing was found that they share."], Table(headers, rows) if rows else None)


def _shared(entry: object) -> list[str]:
    """One line of the audit: a group or a video, its like, subsets, split, similarity."""
    if not isinstance(entry, Mapping):
        return [words.listed([entry]), "", "", "", ""]
    subsets = entry.get("subsets", "")
    similarity = entry.get("similarity")
    return [
        str(entry.get("group", entry.get("a", ""))),
        str(entry.get("b", "")),
        words.listed([subsets]),
        str(entry.get("split", "")),
        "" if similarity is None else f"{similarity:.3f}",
    ]


def _panels(run: ReportedRun) -> list[Panel]:
    found = run.predictions
    if found is None:
        return []
    panels = []
    for number, arm in enumerate(row["name"] for row in run.rows if row["name"] in found.predicted):
        counts = confusion(found, arm)
        reference = run.reference["name"] if run.reference else None
        compared = reference in found.predicted and reference != arm
        same = compared and found.predicted[reference].shape[1] == found.predicted[arm].shape[1]
        changes = class_changes(found, arm, reference) if same else None
        picture = figures.confusion_picture(number, arm, counts)
        pairs, misses = confused_pairs(counts, found.classes), surest_misses(found, arm)
        panels.append(Panel(arm, counts, found.classes, picture, pairs, changes, misses))
    return panels


def _chosen(run: ReportedRun, names: list[str]) -> int:
    """The panel to show first: of the best arm that is not the reference."""
    others = [row for row in run.judged_rows if row is not run.reference and row["name"] in names]
    return names.index(max(others, key=run.figure)["name"]) if others else 0


def _recipe(run: ReportedRun) -> list[tuple[str, list[tuple[str, str]]]]:
    """What decided the numbers, under headings."""
    protocol = run.config.get("protocol") or {
        name: run.config[name] for name in ("preset", "annotations", "multi_label", "cv", "seeds") if name in run.config
    }
    parts = (
        ("Features", run.recipe),
        ("Head", run.config.get("head")),
        ("Training", run.config.get("train")),
        ("Protocol", protocol),
        ("Where the features were kept", run.metrics.get("residency")),
        ("Precision", run.metrics.get("precision")),
    )
    return [(heading, words.settings(part)) for heading, part in parts if part]
