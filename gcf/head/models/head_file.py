"""The Python file of a saved plug-in head: the caller names it, and it is the recorded one.

A head may be a stranger's, and so may be the file that it names: only its digest is believed.
"""

import os
import re
from dataclasses import replace
from pathlib import Path

from gcf.errors import HeadError, UsageError
from gcf.head.models.config import HeadConfig
from gcf.head.models.plugin import check_unchanged

SHOWN = 100  # characters of a name


def with_head_file(config: HeadConfig, head_file: str | os.PathLike | None, *, folder: Path) -> HeadConfig:
    """The config of a head from a folder with the caller's file in the place of the recorded one.

    Raises HeadError where the caller names none, and for a file of another sha256; neither is run.
    """
    if head_file is None:
        raise HeadError(
            f"{folder}: the head {config.name} needs the Python file that it was trained with, "
            f"{_base_name(config)} (sha256 {config.source_sha256}), which gcf does not run unless "
            "you name it: read it, then give it with --head-file FILE.py (in Python head_file=)"
        )
    path = Path(head_file).absolute()
    check_unchanged(path, config.source_sha256)
    return replace(config, source=str(path))


def refuse_head_file(head_file: str | os.PathLike | None, head: str) -> None:
    """Raise UsageError for a file that nothing would read; `head` says what it was given with."""
    if head_file is not None:
        raise UsageError(f"{head}: needs no Python file; leave out --head-file (head_file)")


def _base_name(config: HeadConfig) -> str:
    """The recorded file without its folders, of either kind of system."""
    return re.split(r"[/\\]", config.source or "")[-1][:SHOWN]
