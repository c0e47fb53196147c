"""`gcf report`: the page of a run, and its plots and tables as files beside it."""

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path

from gcf.data.atomic import atomic_file, clear_left_behind
from gcf.data.disk import disk_faults
from gcf.data.folder import entries, locked_folder
from gcf.data.text import csv_cell
from gcf.errors import RefusedError, UsageError
from gcf.head.report.content import Report, build_report
from gcf.head.report.figures import differences
from gcf.head.report.page import render
from gcf.head.report.run import ReportedRun, read_run
from gcf.head.tables import arm_table as tables
from gcf.head.tables.arm_table import pipe_table

PAGE = "report.html"
MARK = b'<meta name="generator" content="gcf'  # by it an earlier report is told from somebody's page


def write_report(run: str | os.PathLike, out: str | os.PathLike | None = None, *, overwrite: bool = False) -> Path:
    """Make one self-contained HTML page of the run folder `run`, RUN/report.html unless `out` names a file.

    Plots (PNG) and tables (md, csv, tex) go into a folder beside the page, named like it without its suffix. An
    earlier report is replaced; anything else in its place only with `overwrite`. Equal runs give equal bytes.
    Raises RefusedError where `run` is no run, is damaged, or where the page cannot be written.
    """
    page = Path(run) / PAGE if out is None else Path(out)
    if page.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{page}: a report is an HTML page; name a file that ends in .html")
    folder = page.with_suffix("")
    found = read_run(run)
    report = build_report(found)
    content = render("report.html", report=report).encode()
    with locked_folder(folder), disk_faults(page):
        _check_place(page, folder, overwrite=overwrite)
        clear_left_behind(folder)
        for name, beside in _files(found, report):
            _write(folder / name, beside)
        _write(page, content)
    return page


def _check_place(page: Path, folder: Path, *, overwrite: bool) -> None:
    if overwrite:
        return
    if page.exists() and not (page.is_file() and MARK in page.read_bytes()[:2000]):
        raise RefusedError(f"{page}: exists and is no report of gcf; name another file, or ask to overwrite it")
    if not page.exists() and entries(folder):
        raise RefusedError(f"{folder}: exists, and the report's plots would go there; name another page")


def _write(path: Path, content: bytes) -> None:
    with atomic_file(path) as file:
        file.write(content)


def _files(run: ReportedRun, report: Report) -> Iterator[tuple[str, bytes]]:
    """Names and contents of what lies beside the page."""
    for picture in report.pictures:
        yield f"{picture.name}.png", picture.png()
    if report.chart:
        yield "differences.png", differences(run.rows, report.reference or "the reference").png()
    yield "table.md", _bytes(pipe_table(report.table.headers, report.table.rows))
    yield "table.csv", _csv(_table_lines(run.rows))
    compared = all("p_holm" in row for row in run.judged_rows)  # what the table for LaTeX shows; older runs lack it
    if compared:
        yield "table.tex", _bytes(tables.latex_table(run.rows, reference=report.reference))
    for panel in report.panels:
        lines = [[name, *counts] for name, counts in zip(panel.classes, panel.counts.tolist(), strict=True)]
        yield f"{panel.picture.name}.csv", _csv([["true class", *panel.classes], *lines])


def _table_lines(rows: list[dict]) -> list[list]:
    """Rows under the keys that any of them has."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    lines = [keys]
    for row in rows:
        lines.append([row.get(key) for key in keys])
    return lines


def _csv(lines: list[list]) -> bytes:
    file = io.StringIO(newline="")
    csv.writer(file).writerows(map(csv_cell, line) for line in lines)
    return _bytes(file.getvalue())


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
