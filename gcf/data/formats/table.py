"""CSV with a header: path,label[,subset][,group], and the files that Kinetics is published in."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from gcf.data.formats.common import Annotation, Annotations, Collector, read_text, refuse_split, subset_of
from gcf.errors import AnnotationError

# Each of our columns and the header words for it.
PLAIN_COLUMNS: dict[str, tuple[str, ...]] = {
    "path": ("path", "video", "id", "name"),
    "label": ("label",),
    "subset": ("subset", "split"),
    "group": ("group",),
}
# DeepMind's header; the test file of Kinetics-400 has no label column.
KINETICS_COLUMNS: dict[str, tuple[str, ...]] = {
    "label": ("label",),
    "youtube_id": ("youtube_id",),
    "time_start": ("time_start",),
    "time_end": ("time_end",),
    "split": ("split",),
}
BETWEEN_LABELS = "|"
EXPECTED = "expected path,label[,subset][,group] or label,youtube_id,time_start,time_end,split, separated by commas"


def read_csv(
    paths: Sequence[Path], *, source: Path, split: str | None = None, multi_label: bool = False
) -> Annotations:
    """One CSV file, or the several files that Kinetics comes in, all of one kind.

    With `multi_label` a label may be several, with | between them.
    """
    refuse_split(source, split, "a CSV file")
    collector = Collector(source)
    notes = []
    for path in paths:
        rows = _rows(path)
        header, place = next(rows, ([], f"{path}: line 1"))
        names = [word.strip().lower() for word in header]
        kinetics = "youtube_id" in names
        if len(paths) > 1 and not kinetics:
            raise AnnotationError(
                f"{place}: no Kinetics header; of several CSV files in one folder name the one you mean"
            )
        columns = _kinetics_columns(names, place) if kinetics else _plain_columns(names, place)
        ignored = [word for i, word in enumerate(names) if i not in columns.values() and word != "is_cc"]
        if ignored:
            notes.append(f"{path}: columns not used: {', '.join(ignored)}")
        parse = _kinetics_entry if kinetics else _plain_entry
        for row, where in rows:
            if len(row) != len(names):
                raise AnnotationError(f"{where}: {len(row)} fields, expected {len(names)}: {','.join(names)}")
            name, entry = parse({word: row[i] for word, i in columns.items()}, where)
            collector.add(name, _with_all_labels(entry) if multi_label else entry, where)
    return Annotations(str(source), collector.sorted_classes(), collector.videos, notes=tuple(notes))


def _rows(path: Path) -> Iterator[tuple[list[str], str]]:
    """Rows that are not blank, each with the line on which it ends."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield row, f"{path}: line {reader.line_num}"
    except csv.Error as error:
        raise AnnotationError(f"{path}: line {reader.line_num}: {error}; {EXPECTED}") from error


def _plain_columns(names: list[str], place: str) -> dict[str, int]:
    columns = _find_columns(names, PLAIN_COLUMNS, place)
    if not {"path", "label"} <= columns.keys():
        raise AnnotationError(f"{place}: header {','.join(names)!r}; {EXPECTED}")
    return columns


def _kinetics_columns(names: list[str], place: str) -> dict[str, int]:
    columns = _find_columns(names, KINETICS_COLUMNS, place)
    missing = KINETICS_COLUMNS.keys() - columns.keys() - {"label"}
    if missing:
        raise AnnotationError(f"{place}: no column {', '.join(sorted(missing))}; {EXPECTED}")
    return columns


def _find_columns(names: list[str], wanted: dict[str, tuple[str, ...]], place: str) -> dict[str, int]:
    """Where each of our columns stands; two candidates for one column are refused."""
    columns = {}
    for column, words in wanted.items():
        found = [i for i, name in enumerate(names) if name in words]
        if len(found) > 1:
            twice = ", ".join(names[i] for i in found)
            raise AnnotationError(f"{place}: columns {twice} all name the {column}; keep one")
        if found:
            columns[column] = found[0]
    return columns


def _plain_entry(cells: dict[str, str], place: str) -> tuple[str, Annotation]:
    name = cells["path"]  # as it stands: a file name may begin or end with a space
    if not name.strip():
        raise AnnotationError(f"{place}: no path")
    subset = subset_of(cells.get("subset", ""), place)
    return name, Annotation(cells["label"].strip() or None, subset, cells.get("group", "").strip())


def _kinetics_entry(cells: dict[str, str], place: str) -> tuple[str, Annotation]:
    """Named as the published download tools name the cut file, without its ending."""
    youtube_id = cells["youtube_id"].strip()
    if not youtube_id:
        raise AnnotationError(f"{place}: no youtube_id")
    start, end = (_whole_seconds(cells[name], name, place) for name in ("time_start", "time_end"))
    label = cells.get("label", "").strip() or None
    return f"{youtube_id}_{start:06d}_{end:06d}", Annotation(label, subset_of(cells["split"], place))


def _with_all_labels(entry: Annotation) -> Annotation:
    """The same with the labels between | apart, which otherwise is a character like any other."""
    names = [name.strip() for name in (entry.label or "").split(BETWEEN_LABELS)]
    return Annotation.of_classes(filter(None, names), entry.subset, entry.group)


def _whole_seconds(text: str, name: str, place: str) -> int:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if seconds < 0 or not seconds.is_integer():
        raise AnnotationError(f"{place}: {name} is {text!r}; expected whole seconds")
    return int(seconds)
