"""The clips that pixels are tried on: a few of each of a few videos, decoded once, uint8."""

from collections.abc import Sequence
from dataclasses import dataclass

import joblib
import numpy as np
from tqdm import tqdm

from gcf.data.annotations import Labelling
from gcf.data.text import class_key
from gcf.errors import GcfError
from gcf.extract.decoding.find import VideoPath
from gcf.extract.decoding.jobs import Clip, ClipJob
from gcf.extract.decoding.pool import DecoderPool, Failed

LEAST_VIDEOS = 7  # whose labels are known; fewer cannot reach the verdict's level: 2 / 2^6 = 0.031
CLIPS_OF_A_VIDEO = (2, 8)  # at least and at most; two are what agreement needs
MOST_VIDEOS = 16  # unless a number of clips is asked for


@dataclass(frozen=True, eq=False)
class TrialClips:
    """n clips of V videos: pixels (n, T, H, W, 3) uint8, video (n,) which, ids and truth (V,).

    truth: the index of the video's class among the network's, -1 where its label is unknown or is none of them.
    failed: (id, reason) of videos that gave nothing.
    """

    pixels: np.ndarray
    video: np.ndarray
    ids: Sequence[str]
    truth: np.ndarray
    failed: Sequence[tuple[str, str]] = ()


def decode_trial(
    videos: Sequence[VideoPath],
    truth: np.ndarray,
    job: ClipJob,
    *,
    num_clips: int | None = None,
    progress: bool = False,
) -> TrialClips:
    """About `num_clips` clips, evenly from videos that are spread evenly over the list. Raises GcfError without any.

    Without `num_clips`, two of each of up to 16 videos: the verdict counts videos, and two clips of eight tell every
    mistake that it was tried on. Labelled videos are preferred, since labels are the better evidence.
    """
    least, most = CLIPS_OF_A_VIDEO
    chosen = choose_videos(truth, num_clips or least * MOST_VIDEOS)
    each = min(most, max(least, (num_clips or 0) // len(chosen)))
    todo, begun, kept, failed = [videos[n] for n in chosen], {}, {}, []
    pool = DecoderPool(todo, [job], num_workers=joblib.cpu_count(), ahead=8)
    with tqdm(total=len(todo), desc="decoding", unit="video", disable=not progress, leave=False) as bar:
        for video, _, item in pool:
            if isinstance(item, Clip):
                begun.setdefault(video.id, Spread(each)).add(item.pixels[0])
                continue
            if isinstance(item, Failed):
                failed.append((video.id, item.error))
            else:
                kept[video.id] = begun.pop(video.id).chosen()
            bar.update()
    found = [n for n in chosen if videos[n].id in kept]
    if not found:
        raise GcfError(f"none of {len(todo)} videos could be decoded, such as {failed[0][0]!r}: {failed[0][1]}")
    clips = [kept[videos[n].id] for n in found]
    video = np.repeat(np.arange(len(found)), [len(own) for own in clips])
    pixels = np.stack([clip for own in clips for clip in own])
    return TrialClips(pixels, video, [videos[n].id for n in found], truth[found], failed)


def choose_videos(truth: np.ndarray, num_clips: int) -> np.ndarray:
    """Rows of the videos taken: labelled ones alone where there are enough to judge by, spread evenly."""
    labelled = np.flatnonzero(truth >= 0)
    rows = labelled if len(labelled) >= LEAST_VIDEOS else np.arange(len(truth))
    wanted = min(len(rows), max(1, num_clips // CLIPS_OF_A_VIDEO[0]))
    return rows[np.unique(np.linspace(0, len(rows) - 1, wanted).round().astype(int))]


class Spread:
    """A few clips, evenly from a video whose length is not known before its end; never more than four times as many."""

    def __init__(self, wanted: int):
        self.wanted, self.step, self.seen, self.kept = wanted, 1, 0, []

    def add(self, clip: np.ndarray) -> None:
        """The next clip of the video."""
        if self.seen % self.step == 0:
            self.kept.append(clip)
        self.seen += 1
        if len(self.kept) > 4 * self.wanted:
            self.kept, self.step = self.kept[::2], self.step * 2

    def chosen(self) -> list[np.ndarray]:
        """The middles of `wanted` equal parts; all where there are fewer."""
        count = min(self.wanted, len(self.kept))
        places = (np.arange(count) + 0.5) / count * len(self.kept)
        return [self.kept[int(place)] for place in places]


def true_classes(labelling: Labelling, class_names: Sequence[str] | None) -> np.ndarray:
    """The network's index of each video's class (V,), -1 without; names are compared without case, _ and -."""
    places = {class_key(name): k for k, name in enumerate(class_names or ())}
    of_label = [places.get(class_key(name), -1) for name in labelling.classes]
    return np.array([of_label[label] if label >= 0 else -1 for label in labelling.labels], dtype=int)
