"""The comparison of backbones for people: the table of `gcf compare`, and the notes below it."""

from collections.abc import Mapping, Sequence

from gcf.head.tables.arm_table import pipe_table
from gcf.head.tables.column import interval_text, p_text, points_text
from gcf.head.trials.arms import CENTRAL_ARM, REFERENCE


def backbones_markdown(rows: Sequence[dict], head: str) -> str:
    """One line per feature file, in percent, as GitHub draws it."""
    arms = list(dict.fromkeys((CENTRAL_ARM, REFERENCE, "mean", head)))
    first = rows[0]["file"]
    titles = ["features", "backbone", "videos", *(f"{arm} % (k/n)" for arm in arms)]
    titles += [f"{head} against {REFERENCE}", "95 % interval", "p (Holm)"]
    titles += [f"{head} against that of {first}", "95 % interval", "p (Holm)"]
    lines = []
    for row in rows:
        cells = [row["file"], row["backbone"], None if row["present"] is None else str(row["present"])]
        cells += [_accuracy(row, arm) for arm in arms]
        cells += [*_difference(row, ""), *_difference(row, "first_")]
        lines.append([cell or "" for cell in cells])
    return pipe_table(titles, lines)


def comparison_notes(rows: Sequence[dict], notes: Mapping[str, Sequence[str]]) -> list[str]:
    """What a reader must know: why files failed or are not compared, and the notes of each file's comparison.

    notes: those of each file that gave figures; what holds for all of them is said once.
    """
    first, said = rows[0], []
    for row in rows:
        if row["error"] is not None:
            said.append(f"{row['file']} failed: {row['error']}")
        elif row["head_failed"] is not None:
            said.append(f"{row['file']}: the head failed: {row['head_failed']}")
        elif row["not_compared"] is not None:
            counts = "; ".join(_counts(r) for r in (first, row)) if first["expected"] is not None else _counts(row)
            said.append(f"{row['file']} is not compared with {first['file']}: {row['not_compared']}. {counts}.")
    of_files = [dict.fromkeys(of_file) for of_file in notes.values()]
    shared = of_files[0].keys() if of_files else set()
    for of_file in of_files:
        shared = shared & of_file.keys()
    everyone = [note for of_file in of_files[:1] for note in of_file if note in shared]
    own = [f"{file}: {note}" for file, of_file in notes.items() for note in of_file if note not in shared]
    return [*said, *everyone, *own]


def _counts(row: dict) -> str:
    return f"{row['file']}: {row['expected']} videos expected, {row['present']} present, {row['failed']} failed"


def _accuracy(row: dict, arm: str) -> str:
    return "" if row[arm] is None else f"{100 * row[arm]:.1f} ({row[f'{arm}_k']}/{row[f'{arm}_n']})"


def _difference(row: dict, prefix: str) -> list[str]:
    """Difference, interval and p, adjusted for all of the table; empty where there is none."""
    delta, p = row[f"{prefix}delta"], row[f"{prefix}p_holm"]
    if delta is None:
        return ["", "", ""]
    if p is None:  # the notes say why
        return [points_text(delta), "-", "-"]
    return [points_text(delta), interval_text(row, prefix), p_text(p)]
