"""What `hf:...` means: a repository of the Hugging Face hub, or a folder that `save_pretrained` made. Without torch."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from gcf.errors import UsageError

PREFIX = "hf:"
# name or owner/name, at most 96 characters, no "..": huggingface_hub utils/_validators.py, validate_repo_id
REPOSITORY = re.compile(r"(?!.*\.\.)(?!.{97})[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


@dataclass(frozen=True)
class ModelPlace:
    """Where a network's files are: `source` is what transformers takes, a repository's id or a folder's path.

    name: what recipes call it. A repository's is "hf:owner/name", with which it can be loaded again. A folder's is
    "hf:./" and the last part of its path, as a plug-in's is its file's name: wherever the folder lies, and never to be
    taken for a repository.
    """

    name: str
    source: str
    is_folder: bool


def is_huggingface(name: str | os.PathLike) -> bool:
    """Whether the name of a backbone is one of these.

    >>> is_huggingface("hf:MCG-NJU/videomae-base"), is_huggingface("resnext101")
    (True, False)
    """
    return os.fspath(name).startswith(PREFIX)


def is_repository(name: str) -> bool:
    """Whether a name can only mean a repository of the hub, unless a folder of that name lies here.

    >>> is_repository("hf:MCG-NJU/videomae-base"), is_repository("hf:./tuned"), is_repository("mine.py")
    (True, False, False)
    """
    return name.startswith(PREFIX) and REPOSITORY.fullmatch(name.removeprefix(PREFIX)) is not None


def place_of(name: str | os.PathLike) -> ModelPlace:
    """The place that a name means; a folder that is there comes before a repository of that name.

    >>> place_of("hf:MCG-NJU/videomae-base").name
    'hf:MCG-NJU/videomae-base'

    Raises UsageError for what is neither.
    """
    given = os.fspath(name).removeprefix(PREFIX)
    if given and (path := _folder(given)):
        return ModelPlace(f"{PREFIX}./{path.name}", str(path), is_folder=True)
    if REPOSITORY.fullmatch(given):
        return ModelPlace(PREFIX + given, given, is_folder=False)
    raise UsageError(
        f"{os.fspath(name)}: no such folder, and no repository's name; give hf:OWNER/NAME as on the Hugging Face hub, "
        "or hf: and the folder that save_pretrained has made"
    )


def _folder(given: str) -> Path | None:
    """The whole path of a folder that is there; None where there is none."""
    try:
        path = Path(given).expanduser()
        return path.resolve() if path.is_dir() else None
    except (OSError, RuntimeError, ValueError):  # a name too long, a ~ of nobody, a zero byte: no folder's name
        return None


def absolute_name(name: str) -> str:
    """The same name for a process that works in another folder."""
    place = place_of(name)
    return PREFIX + place.source
