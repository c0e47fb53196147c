"""Which annotated videos a measure of localisation counts, and which classes they show."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gcf.data.annotations import read_annotations
from gcf.data.matching import match_names
from gcf.data.segments import Segment, read_segments
from gcf.errors import AnnotationError, UsageError

SUBSETS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class Judged:
    """The segments of each video that counts, by id.

    missed: how many of them were not localised. elsewhere: annotated videos that were not localised and do not count.
    unannotated: localised ones that the file does not name, or not in the subset.
    """

    path: Path
    segments: dict[str, list[Segment]]
    missed: int
    elsewhere: int
    unannotated: int

    @property
    def labels(self) -> list[str]:
        """The classes of the segments, sorted."""
        return sorted({segment.label for own in self.segments.values() for segment in own})

    @property
    def num_segments(self) -> int:
        """Of all videos."""
        return sum(map(len, self.segments.values()))

    def check_classes(self, classes: Sequence[str]) -> None:
        """Raise AnnotationError unless a segment is of one of the head's classes; with () they are not known."""
        if not self.labels:
            raise AnnotationError(f"{self.path}: annotates no segment of the {len(self.segments)} videos")
        if classes and not set(self.labels) & set(classes):
            raise AnnotationError(
                f"{self.path}: its classes, such as {self.labels[0]!r}, are none of the head's {len(classes)}, such as "
                f"{classes[0]!r}; give the truth of what the head was trained to tell"
            )


def read_judged(path: str | os.PathLike, ids: Sequence[str], subset: str | None = None) -> Judged:
    """Those of these videos that the file names; with `subset`, all that it names in it and no others.

    Raises AnnotationError for a file of another form, or one that names none of the videos or none in the subset.
    """
    if subset not in (None, *SUBSETS):
        raise UsageError(f"unknown subset {subset!r}; known: {', '.join(SUBSETS)}")
    path = Path(path)
    read_segments(path, ids)  # names none of them: said before anything else
    annotated = read_annotations(path, multi_label=True).videos
    found = match_names(ids, annotated, source=str(path))
    absent = [name for name in annotated if name not in found]
    segments = read_segments(path, [*ids, *absent])
    wanted = [name for name in annotated if subset is None or annotated[name].subset == subset]
    counted = {ids[found[name]] for name in wanted if name in found}
    missed = [name for name in wanted if name not in found and subset is not None]
    if not counted and not missed:
        raise AnnotationError(f"{path}: has no video in the subset {subset!r}")
    return Judged(
        path,
        {video: segments[video] for video in [*sorted(counted), *missed]},
        missed=len(missed),
        elsewhere=len(absent) - len(missed),
        unannotated=len(set(ids) - counted),
    )
