"""What stage two reads of descriptors, whether they lie in one file, in several side by side, or in memory."""

import os
from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Features(Protocol):
    """N videos with T clips in all: descriptors (T, V, D), those of video n from offsets[n] to offsets[n + 1].

    labels (N,) into classes, -1 unknown; subsets and groups (N,), '' unknown; logits (T, K) of
    backbone_classes, or None. parts: the files that are joined, else the features themselves.
    """

    path: str | os.PathLike
    parts: Sequence["Features"]
    ids: list[str]
    labels: np.ndarray
    classes: list[str]
    subsets: list[str]
    groups: list[str]
    offsets: np.ndarray
    logits: np.ndarray | None
    backbone_classes: list[str] | None
    recipe: dict
    recipe_sha256: str
    failures: list[tuple[str, str]]
    left_out: int  # videos that are not in all parts

    @property
    def descriptors(self) -> np.ndarray:
        """(T, V, D)."""
        ...

    @property
    def num_videos(self) -> int:
        """N."""
        ...

    @property
    def num_clips(self) -> int:
        """T."""
        ...

    def gather(self, rows: np.ndarray | slice) -> np.ndarray:
        """Descriptors (R, V, D) of these rows, in memory."""
        ...

    def read_ahead(self, start: int, stop: int) -> None:
        """Rows that are read next."""
        ...

    def check_clips(self) -> None:
        """Raise FeatureFileError where a fact of a clip cannot be."""
        ...
