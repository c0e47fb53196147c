"""The videos of a feature file with their labels and splits: from the file, or from annotations given later."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from gcf.data.annotations import Annotations, label_videos, read_annotations
from gcf.data.features import FeatureFile
from gcf.data.films import film_group, film_of, shared_films_note
from gcf.data.joined import open_features
from gcf.data.protocol import Features
from gcf.data.spellings import settle_spellings
from gcf.data.splits import Split, folds, holdout, judging_subset, published
from gcf.data.stratify import rarest_classes
from gcf.errors import AnnotationError, UsageError
from gcf.head.fitting.finite import check_finite, check_learnable
from gcf.head.models.config import Protocol


@dataclass(frozen=True, eq=False)
class LabelledFeatures:
    """A feature file and, for its N videos: labels (N,) into `classes` (-1 unknown), subsets, groups, splits.

    `missing` are annotated names that stand for no video of the file, nor for one that failed at extraction. targets
    (N, K) bool: all classes of each video, where it may have several; its label is then the rarest of them, which
    splits are stratified by and balanced batches drawn by. notes: what a user must know of the spelling of classes.
    """

    features: Features
    classes: tuple[str, ...]
    labels: np.ndarray
    subsets: Sequence[str]
    groups: Sequence[str]
    published: dict[str, Sequence[str]]
    missing: tuple[str, ...]
    targets: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    @property
    def truth(self) -> np.ndarray:
        """What heads learn and are judged by: labels (N,), or targets (N, K) where a video may show several classes."""
        return self.labels if self.targets is None else self.targets

    @property
    def multi_label(self) -> bool:
        """Whether a video may show several classes, none of which says anything against another."""
        return self.targets is not None

    def class_sizes(self, videos: np.ndarray) -> np.ndarray:
        """How many of these labelled videos show each class (K,)."""
        if self.targets is None:
            return np.bincount(self.labels[videos], minlength=len(self.classes))
        return self.targets[videos].sum(axis=0)

    def classes_of(self, videos: Iterable[int]) -> dict[str, list[str]]:
        """The names of the classes that each of these labelled videos shows, by its id."""
        return {self.features.ids[n]: self._names(n) for n in videos}

    def _names(self, video: int) -> list[str]:
        if self.targets is None:
            return [self.classes[self.labels[video]]]
        return [self.classes[k] for k in np.flatnonzero(self.targets[video])]

    def test_videos(self, videos: np.ndarray, *, judge: str | None = None) -> np.ndarray:
        """Those of these videos that are of the subset which judges: `judge`, or what `judging_subset` finds."""
        judging = judge or judging_subset(_marked(self))
        return videos[np.asarray(self.subsets, dtype=object)[videos] == judging]


def label_features(
    features: FeatureFile | str | os.PathLike,
    annotations: Annotations | str | os.PathLike | None = None,
    *,
    multi_label: bool = False,
    merge_labels: bool = False,
) -> LabelledFeatures:
    """Open (if need be) and label a feature file, and check that the labelled videos can be used.

    multi_label: a video may have several classes; the file itself knows one alone, so it takes annotations.
    merge_labels: classes that differ in letter case or blanks only are one (`settle_spellings`).

    Raises AnnotationError where nothing is labelled or all of it alike, FeatureFileError for values that are not
    finite, UsageError for several classes from what can name only one.
    """
    features = open_features(features)
    if annotations is None and multi_label:
        raise UsageError(f"{features.path}: a feature file holds one label a video; give annotations for several")
    if annotations is None:
        found = LabelledFeatures(
            features, tuple(features.classes), features.labels, features.subsets, features.groups, {}, ()
        )
        found = settle_spellings(found, merge=merge_labels)
        source = str(features.path)
    else:
        if not isinstance(annotations, Annotations):
            annotations = read_annotations(annotations, multi_label=multi_label)
        if annotations.multi_label != multi_label:
            raise UsageError(
                f"{annotations.source}: was read with multi_label={annotations.multi_label}, to be used with "
                f"multi_label={multi_label}; read and use it alike"
            )
        found = _annotated(features, annotations, merge_labels=merge_labels)
        source = annotations.source
    used = np.flatnonzero(found.labels >= 0)
    num_classes = np.count_nonzero(found.class_sizes(used))
    if num_classes < 2:
        raise AnnotationError(
            f"{source}: {len(used)} of {features.num_videos} videos have a label, of {num_classes} classes"
            f"{_other_names(found)}; two classes are the least: give annotations that name these videos"
        )
    check_finite(features, used)
    return found


def _other_names(data: LabelledFeatures) -> str:
    """Where no video has a label, one name of the annotations and one of the videos, in words."""
    names, ids = data.missing, data.features.ids
    if (data.labels >= 0).any() or not ids:
        return ""
    return f"; it names {names[0]!r}, and the videos are called {ids[0]!r}" if names else f", such as {ids[0]!r}"


def _annotated(features: Features, annotations: Annotations, *, merge_labels: bool) -> LabelledFeatures:
    """Labels by annotations; the videos that failed at extraction are looked up too, so as not to count as missing."""
    n, known = features.num_videos, set(features.ids)
    failed = [name for name in dict(features.failures) if name not in known]
    by = label_videos([*features.ids, *failed], annotations, merge_labels=merge_labels)
    splits = {name: subsets[:n] for name, subsets in by.splits.items()}
    targets = None if by.targets is None else by.targets[:n]
    labels = by.labels[:n] if targets is None else rarest_classes(targets)
    return LabelledFeatures(
        features, by.classes, labels, by.subsets[:n], by.groups[:n], splits, by.missing, targets, by.notes
    )


def make_splits(data: LabelledFeatures, protocol: Protocol) -> list[Split]:
    """The splits to train on that the protocol asks for, the same for every head and seed.

    Raises FeatureFileError where nothing can be learned from the labelled videos, UsageError for splits that there are
    not, and where val is to judge and has no video.
    """
    check_learnable(data.features, np.flatnonzero(data.labels >= 0))
    if protocol.judge == "val" and not np.any(_marked(data) == "val"):
        raise UsageError("no video of the subset val has a label: leave out judge, or give annotations")
    if protocol.cv is None:
        subsets = _val_as_test(data.subsets) if val_judges(data, protocol) else data.subsets
        return [holdout(data.labels, subsets, data.groups, divided=_published_films(data))]
    if protocol.cv != "official":
        return folds(data.labels, data.groups, scheme=protocol.cv)
    if not data.published:
        raise UsageError("cv official needs annotations that publish splits (UCF-101 and HMDB-51 lists do)")
    return published(data.labels, data.groups, data.published, divided=_published_films(data))


def _published_films(data: LabelledFeatures) -> set[str]:
    """The groups that published lists may divide: those in the names of HMDB-51's videos.

    Where no lists were read there are none: whoever writes subsets keeps groups whole.
    """
    if not data.published:
        return set()
    return {film_group(video, label) for video, label in _named_labels(data)}


def _named_labels(data: LabelledFeatures) -> list[tuple[str, str | None]]:
    """The id of each video (N,) and the name of its class, None without one."""
    labels = [*data.classes, None]
    named = zip(data.features.ids, data.labels.tolist(), strict=True)
    return [(video, labels[k]) for video, k in named]


def val_judges(data: LabelledFeatures, protocol: Protocol) -> bool:
    """Whether the published val judges: where that is asked for, or train and val are marked and test is not."""
    unasked = protocol.cv is None and protocol.judge is None
    return protocol.judge == "val" or (unasked and judging_subset(_marked(data)) == "val")


def judge_notes(data: LabelledFeatures, protocol: Protocol, splits: Sequence[Split]) -> list[str]:
    """Who judges, where that is not the test subset; nothing else."""
    if not val_judges(data, protocol):
        return []
    untouched = np.count_nonzero(_marked(data) == "test")
    beside = f" The {untouched} test videos take no part." if untouched else ""
    why = "" if protocol.judge else " There is no test subset."
    return [
        f"The published val ({len(splits[0].test)} videos) judges, once, at the end, and is what is called test here; "
        f"another val ({len(splits[0].val)} videos) is carved from train, by whole groups, to choose by.{why}{beside}"
    ]


def film_notes(data: LabelledFeatures, protocol: Protocol, splits: Sequence[Split]) -> list[str]:
    """The films of HMDB-51 in train and in test, counted for each split of given subsets.

    val counts as train, out of which it was carved (`shared_films`). Folds of our own, of which
    there may be thousands, are not told of.
    """
    if protocol.cv not in (None, "official"):
        return []
    films = [(film_of(video, label), label or "") for video, label in _named_labels(data)]
    notes = []
    for split in splits:
        used = [(*films[n], "train") for n in [*split.train, *split.val]]
        used += [(*films[n], "test") for n in split.test]
        notes += shared_films_note(split.name, used)
    return [f"{note[0].upper()}{note[1:]}." for note in notes]


def _marked(data: LabelledFeatures) -> np.ndarray:
    """The subsets of the labelled videos."""
    return np.asarray(data.subsets, dtype=object)[data.labels >= 0]


def _val_as_test(subsets: Sequence[str]) -> list[str]:
    """Subsets in which val is the test set and the test set takes no part; what is unmarked trains where nothing else
    would.
    """
    rest = "" if "train" in subsets else "train"
    roles = {"val": "test", "test": "", "": rest}
    return [roles.get(subset, subset) for subset in subsets]


def coverage(data: LabelledFeatures, splits: Sequence[Split]) -> dict:
    """What was expected and what takes part, in counts; nothing is left out in silence.

    `expected` are the videos that somebody named: those in the file, those that failed at extraction, and those that
    only the annotations know. `never_trained` are the classes that some split has no training video of, `class_counts`
    the labelled videos of each class.
    """
    features, labelled = data.features, data.labels >= 0
    sizes = data.class_sizes(np.flatnonzero(labelled)).tolist()
    used = np.zeros(len(labelled), dtype=bool)
    absent: set[int] = set()
    for split in splits:
        for part in (split.train, split.val, split.test):
            used[part] = True
        absent |= set(np.flatnonzero(data.class_sizes(split.train) == 0).tolist())
    failed = len(features.failures)
    return {
        "expected": features.num_videos + failed + len(data.missing),
        "used": int(used.sum()),
        "failed": failed,
        "missing": len(data.missing),
        "unlabelled": int((~labelled).sum()),
        "in_no_subset": int((labelled & ~used).sum()),
        "class_counts": dict(zip(data.classes, sizes, strict=True)),
        "splits": [{"name": s.name, "train": len(s.train), "val": len(s.val), "test": len(s.test)} for s in splits],
        "never_trained": [data.classes[c] for c in sorted(absent)],
    }


def coverage_notes(found: dict) -> list[str]:
    """What a reader must know of `coverage`, in sentences; nothing where all that was expected is used."""
    reasons = (
        ("failed", "gave no clips at extraction"),
        ("missing", "are annotated but not in the feature file"),
        ("unlabelled", "have no label"),
        ("in_no_subset", "lie in no subset that takes part"),
    )
    left_out = [f"{found[key]} {reason}" for key, reason in reasons if found[key]]
    notes = []
    if left_out:
        notes.append(f"Of {found['expected']} expected videos {found['used']} are used: {', '.join(left_out)}.")
    if found["never_trained"]:
        names = found["never_trained"]
        shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        notes.append(
            f"{len(names)} classes have no training video in some split and cannot be recognised there: {shown}."
        )
    return notes
