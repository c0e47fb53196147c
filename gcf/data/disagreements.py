"""What two feature files say differently beside their rows, one line each; pairs are the numbers of the same video."""

from collections.abc import Sequence

import numpy as np

from gcf.data.features import FeatureFile
from gcf.data.schema import CLIP_FIELDS

FACTS = ("fps", "num_frames", "width", "height", "duration", "size", "status", "note")  # a copy has another mtime
FEW = 5  # names in a line
Pairs = Sequence[tuple[int, int]]


def failures_apart(ours: FeatureFile, theirs: FeatureFile) -> tuple[str, ...]:
    """Videos that failed in one alone, or for another reason."""
    one, other = dict(ours.failures), dict(theirs.failures)
    return tuple(
        f"{name!r}: {_reason(one, name)} against {_reason(other, name)}"
        for name in one | other
        if one.get(name) != other.get(name)
    )


def classes_apart(ours: FeatureFile, theirs: FeatureFile) -> tuple[str, ...]:
    """Class names, and those of the backbone's classifier, that one file alone has, or another order."""
    lists = {"": [f.classes for f in (ours, theirs)]}
    lists["of the backbone: "] = [f.backbone_classes or [] for f in (ours, theirs)]
    lines = []
    for what, (one, other) in lists.items():
        in_one, in_other = set(one), set(other)
        only = {"A": [c for c in one if c not in in_other], "B": [c for c in other if c not in in_one]}
        lines += [f"{what}{len(names):,} only in {file}: {_named(names)}" for file, names in only.items() if names]
        if one != other and not any(only.values()):
            lines.append(f"{what}in another order")
    return tuple(lines)


def annotations_apart(ours: FeatureFile, theirs: FeatureFile, pairs: Pairs, what: str) -> tuple[str, ...]:
    """Videos with another of `what`: labels (by the names of their classes), subsets or groups."""
    found = [(ours.ids[n], _annotation(ours, n, what), _annotation(theirs, m, what)) for n, m in pairs]
    return tuple(f"{name!r}: {one!r} against {other!r}" for name, one, other in found if one != other)


def facts_apart(ours: FeatureFile, theirs: FeatureFile, pairs: Pairs) -> tuple[str, ...]:
    """Videos of another rate, length, size or status."""
    return _lines(ours, pairs, lambda n, m: _facts(ours, theirs, n, m))


def clips_apart(ours: FeatureFile, theirs: FeatureFile, pairs: Pairs) -> tuple[str, ...]:
    """Videos of another number of clips, or whose clips have other frames or times."""
    return _lines(ours, pairs, lambda n, m: _clips(ours, theirs, n, m))


def _lines(ours: FeatureFile, pairs: Pairs, tell) -> tuple[str, ...]:
    told = ((ours.ids[n], tell(n, m)) for n, m in pairs)
    return tuple(f"{name!r}: {', '.join(texts)}" for name, texts in told if texts)


def _facts(ours: FeatureFile, theirs: FeatureFile, n: int, m: int) -> list[str]:
    values = [(what, _text(getattr(ours.videos, what)[n]), _text(getattr(theirs.videos, what)[m])) for what in FACTS]
    return [f"{what} {one} against {other}" for what, one, other in values if one != other]


def _clips(ours: FeatureFile, theirs: FeatureFile, n: int, m: int) -> list[str]:
    rows = slice(*ours.offsets[n : n + 2].tolist()), slice(*theirs.offsets[m : m + 2].tolist())
    counts = [r.stop - r.start for r in rows]
    told = [f"{counts[0]:,} against {counts[1]:,} clips"] if counts[0] != counts[1] else []
    for what in CLIP_FIELDS:
        one, other = (getattr(f.clips, what)[r][: min(counts)] for f, r in zip((ours, theirs), rows, strict=True))
        apart = np.flatnonzero((one != other) & ~(np.isnan(one) & np.isnan(other)))
        if len(apart):
            told.append(f"{what} {one[apart[0]]} against {other[apart[0]]} (clip {apart[0]}; {len(apart):,} differ)")
    return told


def _annotation(file: FeatureFile, n: int, what: str) -> str:
    if what != "labels":
        return getattr(file, what)[n]
    return file.classes[file.labels[n]] if 0 <= file.labels[n] < len(file.classes) else ""


def _reason(failures: dict[str, str], name: str) -> str:
    return repr(failures[name]) if name in failures else "no failure"


def _text(value) -> str:
    """Exact, so that equal texts are equal values; a NaN is like another."""
    return repr(value) if isinstance(value, str) else str(value)


def _named(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:FEW])) + (", ..." if len(names) > FEW else "")
