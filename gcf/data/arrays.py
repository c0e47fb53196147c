"""Descriptors that lie in memory, in the shape of a feature file: for training on arrays of one's own."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gcf.data.recipe import recipe_sha256
from gcf.errors import UsageError

NAME = Path("(arrays)")  # what messages call them
RECIPE = {"source": "arrays"}  # arrays do not say what made them


class ArrayFeatures:
    """The T clips of N videos as rows (T, D), with what stage two reads of a FeatureFile: one view, no clip logits.

    counts (N,): clips of each video. labels (N,) into `classes`, subsets and groups (N,); None means unknown. recipe:
    what made the descriptors, where the caller knows it.
    """

    path = NAME
    logits = backbone_classes = None
    left_out = 0

    def __init__(
        self,
        rows: np.ndarray,
        counts: Sequence[int],
        *,
        labels: Sequence[int] | None = None,
        classes: Sequence[str] = (),
        subsets: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
        recipe: dict | None = None,
    ):
        self.offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        n = len(counts)
        if rows.ndim != 2 or self.offsets[-1] != len(rows) or (np.diff(self.offsets) < 1).any():
            raise UsageError(f"need rows (T, D) and at least one for each video, got {rows.shape} for {n} videos")
        self.descriptors = rows[:, None]  # (T, 1, D)
        self.ids = [f"video {i}" for i in range(n)]
        self.labels = np.full(n, -1) if labels is None else np.asarray(labels, dtype=np.int64)
        self.classes = list(classes)
        self.subsets = [""] * n if subsets is None else list(subsets)
        self.groups = [""] * n if groups is None else list(groups)
        if not n == len(self.labels) == len(self.subsets) == len(self.groups):
            raise UsageError(f"labels, subsets and groups must be of the {n} videos")
        self.recipe = RECIPE if recipe is None else recipe
        self.recipe_sha256 = recipe_sha256(self.recipe)
        self.failures: list[tuple[str, str]] = []

    @property
    def parts(self) -> tuple["ArrayFeatures"]:
        """Itself alone."""
        return (self,)

    def check_clips(self) -> None:
        """Nothing to find: clips of arrays have no times."""

    @property
    def num_videos(self) -> int:
        """N."""
        return len(self.ids)

    @property
    def num_clips(self) -> int:
        """T, the clips of all videos."""
        return len(self.descriptors)

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """The descriptors of these rows (...) -> (..., 1, D)."""
        return self.descriptors[rows]

    def read_ahead(self, start: int, stop: int) -> None:
        """Nothing: the rows are in memory."""
