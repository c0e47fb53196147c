"""How `gcf predict` shows what it finds: at the end in order, or line by line as videos are done."""

import os
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import click

from gcf.commands.options import INCOMPLETE
from gcf.data.schema import id_key
from gcf.errors import UsageError
from gcf.explain.live import watch_predictions
from gcf.explain.predict import VideoPrediction, describe, stream_predictions
from gcf.explain.prediction_files import json_line, require_table, write_table
from gcf.signals import TerminatedError, exit_code
from gcf.terminal import show


def run_predict(
    head: Path, videos: Sequence[str], *, as_json: bool, jsonl: bool, watch: bool, out: Path | None, **options
) -> int:
    """Predict as the command's options say; its exit code. Raises UsageError for options that exclude each other."""
    if as_json and (jsonl or watch):
        raise UsageError("--json prints one object at the end; --jsonl prints one for each video, also with --watch")
    if out is not None:
        require_table(out)
    line_of = None
    if jsonl:
        line_of = json_line
    elif watch:
        line_of = _description
    found = _Found(keep=out is not None or line_of is None)
    # between lines on a terminal a bar would only be in the way
    progress = not watch and not (jsonl and sys.stdout.isatty())
    stream = _stream(head, videos, watch=watch, progress=progress, **options)
    code = 0
    try:
        found.take_all(stream, line_of, needed=out is not None)
    except (KeyboardInterrupt, TerminatedError) as stop:
        if not watch:  # a watch has no other end than this
            raise
        code = exit_code(stop)
        click.echo(f"gcf: stopped watching; {found.describe()}", err=True)
    if out is not None:
        write_table(out, found.last.values())
    if line_of is None:
        kept = sorted(found.last.values(), key=lambda p: id_key(p.id))
        show({"videos": kept}, describe(kept), as_json)
    return code or (INCOMPLETE if found.incomplete else 0)


def _description(prediction: VideoPrediction) -> str:
    return describe([prediction])


def _stream(
    head: Path,
    videos: Sequence[str],
    *,
    watch: bool,
    progress: bool,
    every: float | None,
    truth: Path | None,
    **options,
) -> Iterator[VideoPrediction]:
    """The predictions of videos as they are done, or of a folder for ever."""
    if not watch:
        if every is not None:
            raise UsageError("--every is for --watch")
        return stream_predictions(head, videos, progress=progress, truth=truth, **options)
    if truth is not None:
        raise UsageError("--watch draws no --truth: nothing is annotated of videos to come")
    if len(videos) > 1:
        raise UsageError(f"--watch takes one folder, not {len(videos)} names")
    pause: dict[str, Any] = {} if every is None else {"every": every}
    return watch_predictions(head, videos[0], **pause, **options)


class _Found:
    """What has come so far: counts, and the last prediction of each video where it will be asked for."""

    def __init__(self, *, keep: bool):
        self.keep = keep
        self.last: dict[str, VideoPrediction] = {}
        self.count = self.failed = self.incomplete = 0

    def take_all(
        self, stream: Iterator[VideoPrediction], said: Callable[[VideoPrediction], str] | None, *, needed: bool
    ) -> None:
        """Take every prediction, and print it by `said`; where nobody reads that, go on only if it is `needed`."""
        with closing(cast(Generator[VideoPrediction], stream)):
            for prediction in stream:
                self._take(prediction)
                if said and not _print(said(prediction)) and not needed:
                    return

    def _take(self, prediction: VideoPrediction) -> None:
        self.count += 1
        self.failed += bool(prediction.error)
        self.incomplete += bool(prediction.error or prediction.note)
        if self.keep:
            self.last[prediction.id] = prediction

    def describe(self) -> str:
        """In words."""
        return f"{self.count:,} videos, {self.failed:,} of them failed"


def _print(line: str) -> bool:
    """Print a line at once; False where the reader has left."""
    try:
        click.echo(line)  # flushes
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True
