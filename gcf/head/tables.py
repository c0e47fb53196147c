"""The comparison as a table: one row per arm, for people (md) and programs (csv, json)."""

from collections.abc import Mapping, Sequence

import numpy as np

from gcf.head.results import Judged, SeedResult
from gcf.head.statistics import paired_difference
from gcf.head.summary import summarise

REFERENCE = "d-clips"


def table_rows(arms: Mapping[str, Sequence[SeedResult]], judged: Judged) -> list[dict]:
    """One row per arm: mean and std of top-1 over the seeds, the paired difference to D-Clips; fractions throughout."""
    right = {
        name: np.stack([r.predicted == judged.labels for r in results]) for name, results in arms.items()
    }  # (S, n)
    rows = []
    for name, results in arms.items():
        summary = summarise(results)
        row = {"name": name, "mean": summary.pop("top1"), "std": summary.pop("std"), "seeds": len(results)}
        if name == REFERENCE:
            row |= {"delta": None, "low": None, "high": None, "p": None}
        else:
            row |= vars(paired_difference(right[name], right[REFERENCE], judged.videos))
        rows.append(row | summary)
    return rows


def markdown_table(rows: Sequence[dict]) -> str:
    """The rows as GitHub draws them, in percent."""
    lines = [
        "| arm | top-1 % | seeds ± | folds, min to max | mean class % | k/n | against D-Clips | 95 % interval | p |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            row["name"],
            f"{100 * row['mean']:.1f}",
            "" if row["std"] is None else f"{100 * row['std']:.1f}",
            f"{100 * row['fold_min']:.1f} to {100 * row['fold_max']:.1f}",
            f"{100 * row['mean_class']:.1f}",
            f"{row['k']}/{row['n']}",
        ]
        if row["delta"] is None:
            cells += ["", "", ""]
        else:
            interval = f"{100 * row['low']:+.1f} to {100 * row['high']:+.1f}"
            cells += [f"{100 * row['delta']:+.1f}", interval, _p(row["p"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
