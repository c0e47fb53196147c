"""Between a command and the terminal: results in words or JSON, faults as one line and an exit code."""

import errno
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path

import click

from gcf.data.text import printable, printable_lines
from gcf.errors import GcfError
from gcf.signals import TerminatedError, exit_code, signals_raised

STOPPED_EARLY = 5
RESUME = "the same command goes on from what is committed"


class _Lines(logging.Formatter):
    """Log records as lines that no terminal obeys."""

    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record))


def guarded(command: Callable[[], int | None]) -> int:
    """Run a command; its exit code, whatever happens in it. A fault becomes one line on standard error."""
    _open_standard_streams()
    logger, handler = logging.getLogger("gcf"), logging.StreamHandler()
    handler.setFormatter(_Lines("gcf: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    for stream in (sys.stdout, sys.stderr):  # names that are no UTF-8 must not end a finished run
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        with signals_raised():
            return command() or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as stop:
        return _say(f"interrupted; {RESUME}", exit_code(stop))
    except TerminatedError as stop:
        return _say(f"terminated; {RESUME}", exit_code(stop))
    except GcfError as error:
        return _say(str(error), error.exit_code)
    except Exception as error:  # the last line of defence: users get a sentence, developers may ask for more
        if os.environ.get("GCF_TRACEBACK"):
            raise
        if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "DefaultCPUAll" in str(error):
            return _say("out of memory; try a smaller --batch-size", 1)
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        said = f"{type(error).__name__}: {error} (GCF_TRACEBACK=1 shows where)"
        return _say(said, STOPPED_EARLY if full else 1)
    finally:
        logger.removeHandler(handler)


def _open_standard_streams() -> None:
    """Put the null device where a standard stream was closed (`2>&-`), or the next file would take its number, and
    what a library prints would go into that file.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _say(message: str, code: int) -> int:
    click.echo(f"gcf: {printable(' '.join(message.split()))}", err=True)
    return code


def show(result, text: str, as_json: bool) -> None:
    """The result on standard output: one JSON object for programs, or words, in which no terminal finds a command."""
    try:
        click.echo(json.dumps(_plain(result), indent=1) if as_json else printable_lines(text))
    except BrokenPipeError:  # the reader has left; the command is done all the same
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _plain(value):
    """JSON values of dataclasses, paths and sequences."""
    if is_dataclass(value):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def columns(rows: Iterable[Sequence]) -> str:
    """Rows of cells as aligned text.

    >>> print(columns([("name", "width"), ("resnext101", 2048)]))
    name        width
    resnext101  2,048
    """
    cells = [list(map(_cell, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
    return "\n".join(lines)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else str(value)
