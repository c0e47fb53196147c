"""What a head takes from each clip of one video: its answer, and the evidence, gate and attention of all clips."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gcf.data.schema import VideoFeatures
from gcf.errors import VideoError
from gcf.explain.reading.clip_reading import ClipReading
from gcf.head.models.ensemble import SavedEnsemble
from gcf.head.models.output import HeadOutput
from gcf.head.models.saved import SavedHead
from gcf.head.models.standard import inner_head

TRACED, SHARE, OCCLUSION = "traced", "share", "occlusion"
MOST_CLIPS = 1 << 13  # asked for in one go when clips are left out: 64 MiB of descriptors 2048 wide


def read_video(head: SavedHead, video: VideoFeatures) -> ClipReading:
    """Ask a head, or the heads of several seeds as one, about every clip of a video.

    logits and probabilities are those of `predict_videos`, from the clips that the head's training would choose. What
    is said of clips covers all of them, also where the head reads fewer: it is then asked in `rounds`, and a clip's
    evidence is that of its round divided by their number. A clip that padding "loop" repeats has
    the evidence and the attention of all its repeats, and the mean of their gates. evidence_kind
    says what evidence is:

    * "traced": GCF-Net with fusion. Its exact share of the logit, through the fusion back to the clip it came from.
    * "share": the exact share that the head itself gives, of the logit less the classifier's bias.
    * "occlusion": how much the logit falls when the clip alone is left out; any head has it. It is no share: where
      clips stand in for each other, each seems to matter little, and nothing adds up.

    Of "traced" and "share" the sum over the clips is the mean over the rounds of the logits (less the bias), so where
    one round reads all, the logits themselves. Several heads give the mean of their shares, a share of their mean
    logit, or occlusion where they have none.

    Raises VideoError for a video without clips or with descriptors that are no numbers, HeadError for another width.
    """
    check_finite(video)
    descriptors = np.asarray(video.descriptors)[:, 0].astype(np.float32)  # (C, D)
    logits = head(video).logits[0]
    shown = _Rounds.of(rounds(head, len(descriptors)), descriptors)
    answers = [_ask(member, shown) for member in (head.members if isinstance(head, SavedEnsemble) else [head])]
    exact = all(answer.kind != OCCLUSION for answer in answers)
    if exact:
        evidence = sum(answer.evidence for answer in answers) / len(answers)
    else:
        evidence = shown.collect(_occlusion(head, shown)) / len(shown.indices)
    return ClipReading(
        id=video.id,
        clips=video.clips,
        info=video.info,
        classes=head.classes,
        logits=logits.numpy(),
        probabilities=head.probabilities(logits).numpy(),
        evidence=evidence,
        evidence_kind=answers[0].kind if exact else OCCLUSION,
        gate=_mean([answer.gate for answer in answers]),
        attention=_mean([answer.attention for answer in answers]),
        sampling_fps=head.recipe.get("sampling_fps"),
    )


def rounds(head: SavedHead, num_clips: int) -> list[np.ndarray]:
    """Which clips of a video a head reads together: indices (n,), ascending; each is in one round.

    The most that it reads at once is what it was trained on, or built for. Longer videos are read in as few interleaved
    parts as that takes, each of which spans the whole video, as the clips do that training chooses.
    A part is read as a video of so many clips is: padding "loop" repeats them, from the first, up
    to the number that training read.
    """
    limit, slots = head.training["num_clips"], head.config.fixed_clips
    if head.training["clip_policy"] == "all":
        limit = num_clips
    parts = -(-num_clips // (limit if slots is None else min(limit, slots)))
    interleaved = [np.arange(first, num_clips, parts) for first in range(parts)]
    return [part[head.choose(len(part))] for part in interleaved]


@dataclass(frozen=True, eq=False)
class _Rounds:
    """The clips of a video as the head reads them: descriptors (R, n, D) and mask (R, n).

    indices: (n,) of each round. repeats (C,) float32: in how many slots each clip is.
    """

    indices: list[np.ndarray]
    descriptors: Tensor
    mask: Tensor
    repeats: np.ndarray

    @classmethod
    def of(cls, indices: list[np.ndarray], descriptors: np.ndarray) -> "_Rounds":
        longest = len(indices[0])
        padded = np.zeros((len(indices), longest, descriptors.shape[1]), np.float32)
        mask = np.zeros((len(indices), longest), bool)
        for row, own in enumerate(indices):
            padded[row, : len(own)], mask[row, : len(own)] = descriptors[own], True
        repeats = np.bincount(np.concatenate(indices)).astype(np.float32)
        return cls(indices, torch.from_numpy(padded), torch.from_numpy(mask), repeats)

    def collect(self, values: Tensor) -> np.ndarray:
        """What all slots of each clip hold together: (R, n, ...) -> (C, ...), in the video's order."""
        found = np.zeros((len(self.repeats), *values.shape[2:]), np.float32)
        for row, own in enumerate(self.indices):
            np.add.at(found, own, values[row, : len(own)].numpy())
        return found


@dataclass(frozen=True, eq=False)
class _Answer:
    """What one head says of all clips of a video."""

    kind: str
    evidence: np.ndarray | None
    gate: np.ndarray | None
    attention: np.ndarray | None


def _ask(head: SavedHead, shown: _Rounds) -> _Answer:
    said = head(shown.descriptors, shown.mask)
    if said.attention is not None and hasattr(inner_head(head.module), "traced_evidence"):
        with torch.inference_mode():
            kind, evidence = TRACED, head.module.traced_evidence(shown.descriptors, shown.mask)
    else:
        kind, evidence = (OCCLUSION if said.evidence is None else SHARE), said.evidence
    of_clips, gate = None, None
    if evidence is not None:
        of_clips = shown.collect(evidence) / len(shown.indices)
    if said.gate is not None:
        gate = shown.collect(said.gate) / shown.repeats
    return _Answer(kind, of_clips, gate, _received(said, shown))


def _received(said: HeadOutput, shown: _Rounds) -> np.ndarray | None:
    """How much the clips of its round take from each clip, on average: (C,), a sum of 1; None without attention.

    Without a softmax attention may be negative; what counts is its size. A round counts by its number of clips, so
    that even attention is 1 / C everywhere, but where clips are repeated.
    """
    if said.attention is None:
        return None
    taken = said.attention.abs().sum(dim=1)  # over the takers; padding takes nothing
    clips_a_slot = torch.tensor([len(np.unique(own)) / len(own) for own in shown.indices])
    taken = shown.collect(taken * clips_a_slot.unsqueeze(1))
    total = taken.sum()
    return taken / total if total > 0 else np.full_like(taken, 1 / len(taken))


def _occlusion(head: SavedHead, shown: _Rounds) -> Tensor:
    """How much each logit of a round falls without each clip: (R, n, K), in the clip's first slot.

    The clips after it move up, and are repeated, as they would be in a video without it. Alone in
    its round, a clip has all of the logit.
    """
    logits = head(shown.descriptors, shown.mask).logits  # (R, K)
    found = logits.new_zeros(*shown.mask.shape, logits.shape[1])
    for row, own in enumerate(shown.indices):
        count = len(np.unique(own))  # the first slots hold them all
        if count == 1:
            found[row, 0] = logits[row]
            continue
        kept = torch.from_numpy(head.choose(count - 1))
        for left_out in torch.arange(count).split(max(1, MOST_CLIPS // len(own))):
            rest = kept + (kept >= left_out.unsqueeze(1))  # places of the clips that stay: (few, S)
            clips = shown.descriptors[row][rest]  # (few, n - 1, D)
            found[row, left_out] = logits[row] - head(clips, torch.ones(rest.shape, dtype=torch.bool)).logits
    return found


def _mean(parts: list[np.ndarray | None]) -> np.ndarray | None:
    """The mean of what all heads have; None where one has not."""
    return None if any(part is None for part in parts) else sum(parts) / len(parts)


def check_finite(video: VideoFeatures) -> None:
    """Raise VideoError for a video without clips, or with a clip whose centre view no head can say anything of."""
    descriptors = np.asarray(video.descriptors)[:, 0]  # (C, D)
    if not len(descriptors):
        raise VideoError("no clips; extract the video again")
    broken = np.flatnonzero(~np.isfinite(descriptors).all(axis=1))
    if len(broken):
        raise VideoError(
            f"descriptors with NaN or infinite values in {len(broken)} of {len(descriptors)} clips (clip {broken[0]} "
            "is the first); extract the video again"
        )
