"""A run folder: complete when it has its metrics.json. What else lies in it is left alone."""

import csv
import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path

from gcf.data.atomic import FULL
from gcf.data.folder import clear_staging, entries, locked_folder, named, remove_files, staged
from gcf.data.text import csv_cell
from gcf.errors import RefusedError, StoppedError
from gcf.head.models.head_json import METRICS

FORMAT = "gcf-run"
HEAD = ("head.safetensors", "head.json")
TRAINED = (METRICS, "config.json", "predictions.npz", "history.csv", "training.png")
TABLES = ("table.md", "table.csv", "table.json")
COMPARED = (*TRAINED, *TABLES, "table.tex", "arms.png", "sweep.png", "reliability.png")
HEADS = [f"{place}/{name}" for place in ("seed-[0-9]*", "fold-[0-9]*") for name in HEAD]
STAGES = ("source", "transferred", "scratch")

log = logging.getLogger(__name__)


def files_of(kind: str, parts: Sequence[str] = ()) -> list[str]:
    """Patterns of all that a run of a kind may write; parts: the feature files' names in `compare`."""
    trained = [*TRAINED, *HEAD, *HEADS]
    kinds = {
        "train-head": trained,
        "ablate": list(COMPARED),
        "compare": [METRICS, *TABLES, *(f"{escape(part)}/{name}" for part in parts for name in COMPARED)],
        "transfer": [METRICS, *(f"{stage}/{name}" for stage in STAGES for name in trained)],
    }
    return kinds.get(kind, [METRICS])


@contextmanager
def run_folder(
    out: str | os.PathLike | None, *, kind: str, parts: Sequence[str] = (), overwrite: bool = False
) -> Iterator[Path | None]:
    """Yield an empty folder, whose files move into `out` when the block ends well; None for None.

    `out` is locked from the start. An earlier run in it is replaced where `overwrite` is asked for,
    file by file: what no run wrote stays. Raises RefusedError where `out` is in use, holds a run, or
    anything else without one, StoppedError for a full disk. parts: as in `files_of`.
    """
    if out is None:
        yield None
        return
    with _full_disk(Path(out)), locked_folder(out) as folder:
        clear_staging(folder, last=METRICS)
        earlier = _earlier_files(Path(out), folder, files_of(kind, parts), overwrite=overwrite)
        with staged(folder, last=METRICS, replaces=earlier) as staging:
            yield staging


@contextmanager
def _full_disk(out: Path) -> Iterator[None]:
    """A full disk where nothing is lost that is not kept beside the features."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise StoppedError(
            f"{out}: no room on the disk ({error.strerror}); free some and run the same command again"
        ) from error


def _earlier_files(out: Path, folder: Path, writes: Sequence[str], *, overwrite: bool) -> list[Path]:
    """The files of the run in a folder; RefusedError where there is one that may not be replaced."""
    there = entries(folder)
    if not there:
        return []
    metrics = _metrics(folder)
    if metrics is None:
        raise RefusedError(f"{out}: not empty, and not a run of gcf (it holds {named(there)}); name another folder")
    if not overwrite:
        raise RefusedError(f"{out}: holds an earlier run; name another folder, or ask to overwrite it")
    earlier = _written(folder, metrics)
    others = _matching(folder, writes) - set(earlier)
    if others:
        names = named([str(path.relative_to(folder)) for path in others])
        raise RefusedError(
            f"{out}: beside the earlier run lies what this one would replace ({names}); name another folder"
        )
    staying = set(there) - {path.relative_to(folder).parts[0] for path in earlier}
    if staying:
        log.info("%s: what is not of the earlier run stays: %s", out, named(staying))
    return earlier


def clear_run(folder: Path, kind: str) -> None:
    """Remove what a run of a kind wrote into a folder, and nothing else."""
    remove_files(_matching(folder, files_of(kind)), folder)


def _metrics(folder: Path) -> dict | None:
    """What metrics.json says, None where it is not that of a run."""
    try:
        metrics = json.loads((folder / METRICS).read_bytes())
        return metrics if metrics["format"] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _written(folder: Path, metrics: dict) -> list[Path]:
    """The files that the run in a folder wrote."""
    rows = metrics.get("rows") if metrics.get("kind") == "compare" else []
    parts = [row["file"] for row in rows or []]
    found = _matching(folder, files_of(metrics.get("kind", ""), parts))
    return [path for path in found if not path.is_dir()]


def _matching(folder: Path, patterns: Sequence[str]) -> set[Path]:
    return {path for pattern in patterns for path in folder.glob(pattern)}


def write_json(path: Path, content: dict) -> None:
    """JSON without NaN: what is not known is null."""
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_csv(path: Path, rows: Sequence[dict]) -> None:
    """Rows under the keys of all of them, in the order of their first appearance; None and absent are empty.

    Texts that a spreadsheet would run as a formula begin with an apostrophe.
    """
    keys = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(map(csv_cell, keys))
        writer.writerows(map(csv_cell, map(row.get, keys)) for row in rows)
