"""What varies independently when arms are compared: groups of videos, or videos."""

import re

from gcf.head.fitting.labelled import LabelledFeatures

UCF_GROUP = re.compile(r"g\d\d")


def independent_units(data: LabelledFeatures) -> tuple[list[str], str]:
    """The unit of each video (N,), '' for one of its own; and a sentence about them.

    UCF-101 numbers the groups of each class anew: g01 of one class has nothing to do with g01 of another, though the
    published splits keep all of a number on one side.
    """
    groups = list(data.groups)
    if not any(groups):
        return groups, "Interval and p take videos as independent."
    if all(UCF_GROUP.fullmatch(group) for group in groups if group):
        own = [f"{label} {group}" if group else "" for label, group in zip(data.labels.tolist(), groups, strict=True)]
        return own, "Interval and p take the groups of each class as independent, not their videos (UCF-101's gNN)."
    return groups, "Interval and p take groups as independent, not their videos."
