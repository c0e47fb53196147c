"""A run folder: built beside its place under a temporary name, complete when it bears its own."""

import csv
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gcf.data.atomic import TEMPORARY, sync_folder
from gcf.data.text import csv_cell
from gcf.errors import RefusedError

FORMAT = "gcf-run"
METRICS = "metrics.json"


@contextmanager
def run_folder(out: str | os.PathLike | None, *, overwrite: bool = False) -> Iterator[Path | None]:
    """Yield an empty folder that becomes `out` when the block ends well and vanishes when not; None for None.

    A folder with something in it is refused, unless it is an earlier run and `overwrite` is asked for (RefusedError).
    """
    if out is None:
        yield None
        return
    out = Path(out).absolute()
    _check_place(out, overwrite=overwrite)
    staging = out.with_name(f".{out.name}.{os.getpid()}{TEMPORARY}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staging.mkdir()
    except OSError as error:
        raise RefusedError(f"{out}: cannot be made ({error.strerror}); name another folder") from error
    try:
        yield staging
        for file in staging.rglob("*"):
            sync_folder(file)  # a file is synced the same way
        _put_in_place(staging, out)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    sync_folder(out.parent)


def _check_place(out: Path, *, overwrite: bool) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise RefusedError(f"{out}: is a file; name a folder for the run")
    if not any(out.iterdir()):
        return
    try:
        ours = json.loads((out / METRICS).read_bytes())["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise RefusedError(f"{out}: not empty, and not a run of gcf; name another folder")
    if not overwrite:
        raise RefusedError(f"{out}: holds an earlier run; name another folder, or ask to overwrite it")


def _put_in_place(staging: Path, out: Path) -> None:
    if not out.exists():
        staging.rename(out)
        return
    aside = staging.with_name(f"{staging.name}.old")
    out.rename(aside)
    staging.rename(out)
    shutil.rmtree(aside)


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
