"""What two feature files say differently: recipe, videos, annotations, clips, and descriptors clip by clip."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from gcf.data.compared import RowsComparison, RowsDifference
from gcf.data.disagreements import (
    annotations_apart,
    classes_apart,
    clips_apart,
    facts_apart,
    failures_apart,
)
from gcf.data.features import FeatureFile
from gcf.data.recipe import differences, misfits
from gcf.data.verify import open_suspect, progress_bar

FEW = 5  # lines a topic, in words
UNWEIGHED = ("a", "b", "videos", "incidental", "descriptors", "logits")


@dataclass(frozen=True)
class FeatureDifference:
    """What differs between the feature files `a` and `b`; `videos` are in both. Each text is one difference.

    incidental: recipe entries that do not change what a descriptor means (versions, device, type of storage, ...).
    They are no difference: that the numbers differ is seen in the numbers.
    """

    a: Path
    b: Path
    videos: int
    recipe: tuple[str, ...]
    incidental: tuple[str, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    failures: tuple[str, ...]
    classes: tuple[str, ...]
    labels: tuple[str, ...]
    subsets: tuple[str, ...]
    groups: tuple[str, ...]
    facts: tuple[str, ...]
    clips: tuple[str, ...]
    descriptors: RowsDifference
    logits: RowsDifference

    @property
    def same(self) -> bool:
        """Nothing differs but what is incidental."""
        told = any(getattr(self, f.name) for f in fields(self) if f.name not in UNWEIGHED)
        return not told and self.descriptors.same and self.logits.same

    def to_json(self) -> dict:
        """All of it, with the verdict."""
        return {"same": self.same} | asdict(self)

    def describe(self) -> str:
        """In words: the verdict, then a few lines a topic."""
        verdict = "say the same" if self.same else "differ"
        lines = [f"{self.a} and {self.b} {verdict}: {self.videos:,} videos in both, {self.descriptors.clips:,} clips"]
        for f in fields(self)[3:]:
            found = getattr(self, f.name)
            found = found.describe() if isinstance(found, RowsDifference) else _first(found)
            lines += [f"  {f.name.replace('only_', 'only in '):11}  {line}" for line in found]
        return "\n".join(lines)


def diff_features(a: str | os.PathLike, b: str | os.PathLike, *, progress: bool = False) -> FeatureDifference:
    """Compare two feature files, whatever made them.

    Clips of a video are compared in their order, as many as both have; float16 and float32 by value. Memory does not
    grow with the descriptors. Raises FeatureFileError for a file that cannot be opened.
    """
    ours, theirs = open_suspect(a), open_suspect(b)
    places = {name: n for n, name in enumerate(theirs.ids)}
    pairs = [(n, places[name]) for n, name in enumerate(ours.ids) if name in places]
    known = set(ours.ids)
    descriptors, logits = _compare_rows(ours, theirs, pairs, progress=progress)
    real = misfits(ours.recipe, theirs.recipe)
    return FeatureDifference(
        a=ours.path,
        b=theirs.path,
        videos=len(pairs),
        recipe=tuple(real),
        incidental=tuple(line for line in differences(ours.recipe, theirs.recipe) if line not in real),
        only_a=tuple(repr(name) for name in ours.ids if name not in places),
        only_b=tuple(repr(name) for name in theirs.ids if name not in known),
        failures=failures_apart(ours, theirs),
        classes=classes_apart(ours, theirs),
        **{what: annotations_apart(ours, theirs, pairs, what) for what in ("labels", "subsets", "groups")},
        facts=facts_apart(ours, theirs, pairs),
        clips=clips_apart(ours, theirs, pairs),
        descriptors=descriptors,
        logits=logits,
    )


def _compare_rows(
    ours: FeatureFile, theirs: FeatureFile, pairs, *, progress: bool
) -> tuple[RowsDifference, RowsDifference]:
    """All descriptors and logits that both files have, video by video."""
    shapes = [file.descriptors.shape for file in (ours, theirs)]
    descriptors = RowsComparison(_shapes(*shapes) if pairs else ())
    logits = RowsComparison(_logit_shapes(ours, theirs) if pairs else ())
    views, widths_agree = min(shape[1] for shape in shapes), shapes[0][2] == shapes[1][2]
    with progress_bar(int(sum(ours.offsets[n + 1] - ours.offsets[n] for n, _ in pairs)), shown=progress) as bar:
        for n, m in pairs:
            one, other = ours.video(n), theirs.video(m)
            count = min(len(one.descriptors), len(other.descriptors))
            if widths_agree:
                descriptors.add(one.id, one.descriptors[:count, :views], other.descriptors[:count, :views])
            if one.logits is not None and other.logits is not None and not logits.shapes:
                logits.add(one.id, one.logits[:count], other.logits[:count])
            bar.update(len(one.descriptors))
    return descriptors.result(), logits.result()


def _shapes(ours: Sequence[int], theirs: Sequence[int]) -> tuple[str, ...]:
    """How two shapes (T, V, D) differ in V and D."""
    said = [f"{ours[1]} against {theirs[1]} views; those in both are compared"] if ours[1] != theirs[1] else []
    if ours[2] != theirs[2]:
        said.append(f"{ours[2]:,} against {theirs[2]:,} wide; not compared")
    return tuple(said)


def _logit_shapes(ours: FeatureFile, theirs: FeatureFile) -> tuple[str, ...]:
    widths = [0 if file.logits is None else file.logits.shape[1] for file in (ours, theirs)]
    return () if widths[0] == widths[1] else (f"of {widths[0]:,} against {widths[1]:,} classes; not compared",)


def _first(lines: Sequence[str]) -> list[str]:
    """The first few, and how many more."""
    return [*lines[:FEW], *([f"... {len(lines):,} in all"] if len(lines) > FEW else [])]
