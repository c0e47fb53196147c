"""The comparison as a table: one row per arm, for people (md, tex) and programs (csv, json)."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from gcf.head.tables.column import Column, compared, interval_text, judged, p_text, points_text
from gcf.head.tables.map_difference import map_difference, resampled_map
from gcf.head.tables.statistics import PairedDifference, holm, paired_difference, unit_numbers
from gcf.head.tables.summary import summarise
from gcf.head.trials.arms import REFERENCE
from gcf.head.trials.results import EvaluationSet, SeedResult

COMPARED = (
    *("delta", "low", "high", "p", "p_holm", "mcnemar_p", "mcnemar_holm"),
    *("gained", "lost", "units", "smallest", "detectable", "missing"),
)
COMPARED_MAP = ("map_delta", "map_low", "map_high")
ADJUSTED = {"p_holm": "p", "mcnemar_holm": "mcnemar_p"}


def table_rows(
    arms: Mapping[str, Sequence[SeedResult]],
    evaluated: EvaluationSet | Mapping[str, EvaluationSet],
    *,
    reference: str = REFERENCE,
    groups: Sequence[str] | Mapping | None = None,
    failed: Mapping[str, str] | None = None,
) -> list[dict]:
    """One row per arm: mean and std of top-1 over the seeds, the paired difference to the reference; fractions.

    evaluated: what all arms were judged on, or what each was (its videos then have to mean the same
    in all of them, like ids). groups[video] is the group of a judged video, '' for none. An arm that
    cannot be paired with the reference says why under "not_compared"; one that can, but of which
    there is no p, under "missing". failed: why an arm has no results; its row has only that, under
    "failed". by_chance: whether training the arm again can come out otherwise.
    p_holm and mcnemar_holm are adjusted for all the arms that are compared (Holm).

    Where videos have several classes, top-1 is hit@1, and the rows have "map" too, with map_delta, map_low and
    map_high, its difference to the reference and the 95 % interval of that.
    """
    failed = {name: "it has no results" for name, results in arms.items() if not results} | dict(failed or {})
    own = evaluated if isinstance(evaluated, Mapping) else dict.fromkeys(arms, evaluated)
    rows = {}
    for name in [*arms, *(name for name in failed if name not in arms)]:
        if name in failed:
            rows[name] = {"name": name, "mean": None, "failed": failed[name]}
            continue
        summary = summarise(arms[name])
        row = {"name": name, "mean": summary.pop("top1"), "std": summary.pop("std"), "seeds": len(arms[name])}
        row["by_chance"] = arms[name][0].by_chance
        row |= dict.fromkeys(COMPARED) | {"not_compared": None}
        if name != reference:
            there = reference in arms and reference not in failed
            reason = _why_not(arms, own, name, reference) if there else f"{reference} has no results to compare with."
            row["not_compared"] = reason
            if reason is None:
                row |= vars(_difference(arms, own, name, reference, groups))
        rows[name] = row | summary
    _compare_maps(rows, arms, own, reference, groups)
    _adjust(list(rows.values()))
    return list(rows.values())


def _why_not(
    arms: Mapping[str, Sequence[SeedResult]], evaluated: Mapping[str, EvaluationSet], name: str, reference: str
) -> str | None:
    """Why two arms cannot be paired, in a sentence; None where they can."""
    ours, theirs = evaluated[name], evaluated[reference]
    counts = [len(arms[arm][0].predicted) for arm in (name, reference)]
    if counts[0] != counts[1] or not np.array_equal(np.sort(ours.videos), np.sort(theirs.videos)):
        return f"Judged on {counts[0]} videos that are not the {counts[1]} of {reference}."
    if not np.array_equal(ours.videos, theirs.videos) or not np.array_equal(ours.folds, theirs.folds):
        return f"Judged in other splits than {reference}."
    seeds, other_seeds = _seeds(arms[name]), _seeds(arms[reference])
    if seeds != other_seeds:
        return f"Run with the seeds {seeds}, {reference} with {other_seeds}."
    return None


def _seeds(results: Sequence[SeedResult]) -> str:
    return ", ".join(str(result.seed) for result in results)


def _difference(
    arms: Mapping[str, Sequence[SeedResult]],
    evaluated: Mapping[str, EvaluationSet],
    name: str,
    reference: str,
    groups: Sequence[str] | Mapping | None,
) -> PairedDifference:
    ours = np.stack([evaluated[name].right(result.predicted) for result in arms[name]])  # (S, n)
    theirs = np.stack([evaluated[reference].right(result.predicted) for result in arms[reference]])
    videos = evaluated[reference].videos
    of_videos = None if groups is None else [groups[v] for v in videos.tolist()]
    chance = _by_chance(arms, name, reference)
    return paired_difference(ours, theirs, videos, of_videos, by_chance=chance)


def _by_chance(arms: Mapping[str, Sequence[SeedResult]], name: str, reference: str) -> tuple[bool, bool]:
    return arms[name][0].by_chance, arms[reference][0].by_chance


def _compare_maps(
    rows: Mapping[str, dict],
    arms: Mapping[str, Sequence[SeedResult]],
    evaluated: Mapping[str, EvaluationSet],
    reference: str,
    groups: Sequence[str] | Mapping | None,
) -> None:
    """Add the differences in mAP to the rows that have one; each arm's resamples are drawn once for all pairs."""
    maps = {name: row for name, row in rows.items() if "map" in row}
    for row in maps.values():
        row |= dict.fromkeys(COMPARED_MAP)
    compared = [name for name, row in maps.items() if row["delta"] is not None]
    needed = [reference, *compared] if compared else []
    found = {name: _resampled_map(arms[name], evaluated[name], groups) for name in needed}
    for name in compared:
        chance = _by_chance(arms, name, reference)
        difference = vars(map_difference(found[name], found[reference], rows[name]["units"], by_chance=chance))
        maps[name] |= {f"map_{key}": value for key, value in difference.items()}


def _resampled_map(
    results: Sequence[SeedResult], evaluated: EvaluationSet, groups: Sequence[str] | Mapping | None
) -> np.ndarray:
    videos = evaluated.videos
    units = unit_numbers(videos, None if groups is None else [groups[v] for v in videos.tolist()])
    return resampled_map(np.stack([r.log_probabilities for r in results]), evaluated.labels, units)


def _adjust(rows: Sequence[dict]) -> None:
    for adjusted, raw in ADJUSTED.items():
        compared = [row for row in rows if row.get(raw) is not None]
        for row, value in zip(compared, holm([row[raw] for row in compared]), strict=True):
            row[adjusted] = value


def markdown_table(rows: Sequence[dict], *, reference: str = REFERENCE) -> str:
    """The rows as GitHub draws them, in percent; below, why an arm is not compared or has failed."""
    columns = _columns(reference, several=has_map(rows))
    cells = []
    for row in rows:
        cells.append([column.text(row) for column in columns])
    return pipe_table([column.title for column in columns], cells) + "".join(
        f"\n{name}: {reason}\n" for name, reason in _reasons(rows)
    )


def pipe_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as GitHub draws it, of titles and cells that may hold anything."""
    lines = [list(map(_in_markdown, titles)), ["---"] * len(titles), *(map(_in_markdown, row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex_table(rows: Sequence[dict], *, reference: str = REFERENCE) -> str:
    """The same as a tabular for LaTeX with the package booktabs; the reasons are comments below it."""
    columns = _columns(reference, several=has_map(rows))
    head = " & ".join(_in_latex(column.title) for column in columns)
    lines = [rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}", r"\toprule", rf"{head} \\", r"\midrule"]
    for row in rows:
        cells = " & ".join(_in_latex(column.text(row)) for column in columns)
        lines.append(rf"{cells} \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [f"% {name}: {' '.join(why.split())}" for name, why in _reasons(rows)]
    return "\n".join(lines) + "\n"


def has_map(rows: Sequence[Mapping]) -> bool:
    """Whether the rows are about videos that may have several classes: judged by mAP, and hit@1 for top-1."""
    return any(row.get("map") is not None for row in rows)


def difference_keys(rows: Sequence[dict]) -> tuple[str, str, str]:
    """Under which keys rows have the difference that is shown, and its interval: that of mAP where there is one."""
    prefix = "map_" if has_map(rows) else ""
    return f"{prefix}delta", f"{prefix}low", f"{prefix}high"


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.1f}"


def _folds(row: Mapping) -> str:
    return f"{_percent(row['fold_min'])} to {_percent(row['fold_max'])}"


def _columns(reference: str, *, several: bool) -> list[Column]:
    """The columns of the table; several: a video may have several classes."""
    score, mean_class, against = "top-1 %", "mean class %", f"against {reference}"
    if several:
        score, mean_class, against = "hit@1 %", "mAP %", f"hit@1 against {reference}"
    columns = [
        Column("arm", lambda row: row["name"]),
        Column(score, lambda row: "failed" if row["mean"] is None else _percent(row["mean"])),
        Column("seeds ±", judged(lambda row: _percent(row["std"]))),
        Column("folds, min to max", judged(_folds)),
        Column(mean_class, judged(lambda row: _percent(row["mean_class"]))),
        Column("k/n", judged(lambda row: f"{row['k']}/{row['n']}")),
        Column(against, judged(_delta)),
        Column("95 % interval", compared(interval_text)),
        Column("p (Holm)", compared(lambda row: p_text(row["p_holm"]))),
        Column("gained/lost", compared(lambda row: f"{row['gained']}/{row['lost']}")),
    ]
    if several:
        columns += [
            Column(f"mAP against {reference}", compared(lambda row: points_text(row["map_delta"]))),
            Column("95 % interval", compared(lambda row: interval_text(row, "map_"))),
        ]
    return columns


def _delta(row: Mapping) -> str:
    if row["delta"] is not None:
        return points_text(row["delta"])
    return "not compared" if row.get("not_compared") else ""


def _reasons(rows: Sequence[dict]) -> list[tuple[str, str]]:
    """Why arms have failed, or are not compared; arms of one reason share a line."""
    names: dict[str, list[str]] = {}
    for row in rows:
        if reason := row.get("failed") or row.get("not_compared") or row.get("missing"):
            names.setdefault(reason, []).append(row["name"])
    return [(", ".join(own), reason) for reason, own in names.items()]


def _in_markdown(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


LATEX = {char: f"\\{char}" for char in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "±": r"$\pm$",
}


def _in_latex(text: str) -> str:
    """Escaped, with the signs of numbers as LaTeX sets them."""
    escaped = "".join(LATEX.get(char, char) for char in " ".join(text.split()))
    return re.sub(r"(?<!\S)([+-])(?=\d)", r"$\1$", escaped)
