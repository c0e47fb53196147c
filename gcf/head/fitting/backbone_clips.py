"""C-Clip and D-Clips by the backbone's own classifier, from the cached logits."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gcf.data.text import class_key
from gcf.head.fitting.batches import ClipBatches
from gcf.head.fitting.labelled import LabelledFeatures
from gcf.head.fitting.prediction import BATCH_SIZE
from gcf.head.models.baselines import average_probabilities


def backbone_columns(data: LabelledFeatures) -> list[int] | None:
    """Which of the backbone's classes are the data's, in their order; None where it does not know all of them.

    Names are compared without case, and with _ and - as spaces. None, too, where a video may have several classes: the
    logits are those of a softmax network, which scores classes against each other and not each by itself.
    """
    known = data.features.backbone_classes
    if known is None or data.features.logits is None or data.multi_label:
        return None
    places = {class_key(name): i for i, name in enumerate(known)}
    columns = [places.get(class_key(name)) for name in data.classes]
    return None if None in columns or len(set(columns)) < len(columns) or len(places) < len(known) else columns


def whose_classifier(data: LabelledFeatures) -> str:
    """Which clip classifier C-Clip and D-Clips read, and why, in words."""
    if backbone_columns(data) is not None:
        return f"the backbone's own, over the data's {len(data.classes)} classes"
    linear = "a linear one trained on the clips of the training videos, because the backbone"
    if data.multi_label:
        return f"{linear}'s own, if it has one, scores classes against each other, and here a video may have several"
    return f"{linear} has none for all of the data's classes"


def backbone_log_probabilities(
    batches: ClipBatches,
    videos: np.ndarray,
    columns: Sequence[int],
    *,
    rng: np.random.Generator,
    policy: str | None = None,
) -> np.ndarray:
    """D-Clips from the cached clip logits (n, K): softmax over the data's classes alone, averaged over the clips."""
    found = []
    for start in range(0, len(videos), BATCH_SIZE):
        part = videos[start : start + BATCH_SIZE]
        clips, mask = batches.select(part, rng=rng, policy=policy)
        rows = batches.descriptors.starts[part][:, None] + clips
        logits: Tensor = torch.from_numpy(batches.descriptors.features.logits[rows][..., columns]).float()
        found.append(average_probabilities(logits, torch.from_numpy(mask)).numpy())
    return np.concatenate(found)
