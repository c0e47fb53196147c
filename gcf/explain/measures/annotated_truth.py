"""Which annotated videos a measure of localisation counts, and which classes they show."""

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gcf.data.annotations import read_annotations
from gcf.data.features import FeatureFile
from gcf.data.joined import JoinedFeatures
from gcf.data.matching import match_names
from gcf.data.segments import Segment, read_segments
from gcf.data.splits import judging_subset
from gcf.errors import AnnotationError, UsageError

SUBSETS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class AnnotatedTruth:
    """The segments of each video that counts, by id.

    missed: how many of them were not localised. elsewhere: annotated videos that were not localised and do not count.
    unannotated: localised ones that the file does not name, or not in the subset.
    test: those that count and are of the file's subset that judges (`judging_subset`).
    """

    path: Path
    segments: dict[str, list[Segment]]
    missed: int
    elsewhere: int
    unannotated: int
    test: Collection[str]

    @property
    def labels(self) -> list[str]:
        """The classes of the segments, sorted."""
        return sorted({segment.label for own in self.segments.values() for segment in own})

    def classes_of(self, video: str) -> list[str]:
        """Those of a video's segments, sorted."""
        return sorted({segment.label for segment in self.segments[video]})

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


def read_truth(path: str | os.PathLike, ids: Sequence[str], subset: str | None = None) -> AnnotatedTruth:
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
    judging = judging_subset(entry.subset for entry in annotated.values() if entry.classes)
    test = {ids[row] for name, row in found.items() if annotated[name].subset == judging}
    missed = [name for name in wanted if name not in found and subset is not None]
    if not counted and not missed:
        raise AnnotationError(f"{path}: has no video in the subset {subset!r}")
    return AnnotatedTruth(
        path,
        {video: segments[video] for video in [*sorted(counted), *missed]},
        missed=len(missed),
        elsewhere=len(absent) - len(missed),
        unannotated=len(set(ids) - counted),
        test=counted & test,
    )


def judged_test_set(
    judged: AnnotatedTruth, localized: Iterable[str], features: FeatureFile | JoinedFeatures | None
) -> dict[str, list[str]]:
    """The classes of each test video that was judged, by its id: what a look at them is known by.

    localized: the ids of the videos that could be read. features: where they came from, None for
    videos. A test video is one of the subset that judges (`judging_subset`), by the truth or by the
    feature file. Its classes are those of the feature file, so that the test set is the one of
    `train_head`; where that has none, those of its segments. A video without any class is left out,
    as there.
    """
    test, labels = set(judged.test), {}
    if features is not None:
        rows = list(zip(features.ids, features.subsets, features.labels.tolist(), strict=True))
        judging = judging_subset(subset for _, subset, label in rows if label >= 0)
        test |= {video for video, subset, _ in rows if subset == judging}
        labels = {video: [features.classes[label]] for video, _, label in rows if label >= 0}
    counted = [video for video in localized if video in judged.segments and video in test]
    classes = {video: labels.get(video) or judged.classes_of(video) for video in counted}
    return {video: names for video, names in classes.items() if names}
