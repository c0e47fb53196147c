"""Feature files in the making: which videos each still lacks, their rows as they come, parts, and the merge."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from gcf.data.annotations import Labelling
from gcf.data.committed import Committed, holds
from gcf.data.features import FeatureFile
from gcf.data.parts import PartFolder, check_list, check_recipe
from gcf.data.schema import FeatureContent, VideoFeatures, id_key
from gcf.data.writer import write_features
from gcf.extract.decoding.find import VideoPath
from gcf.extract.decoding.pool import Failed
from gcf.extract.stream.config import ExtractConfig
from gcf.extract.stream.pipeline import NetworkJob, stream_together

if TYPE_CHECKING:
    from gcf.extract.network.clip_network import ClipNetwork

PART_VIDEOS, PART_SECONDS = 256, 60.0  # a part is committed at whichever comes first: the most that a kill can cost


class ExtractionRun:
    """One feature file in the making: what is wanted (`found`), what it lacks (`todo`), what is in hand."""

    def __init__(
        self,
        found: Sequence[VideoPath],
        parts: PartFolder,
        config: ExtractConfig,
        recipe: dict,
        backbone_classes: list[str] | None,
    ):
        self.found, self.parts, self.config = found, parts, config
        self.recipe, self.backbone_classes = recipe, backbone_classes
        self.todo = found
        self.videos: list[VideoFeatures] = []
        self.failures: list[tuple[str, str]] = []

    def begin(self) -> None:
        """Learn which videos no part and no finished file has, or have changed since: those are left in `todo`."""
        ids = [v.id for v in self.found]
        self.finished = [FeatureFile(self.parts.out)] if self.parts.out.exists() else []
        for features in self.finished:
            check_recipe(features.path, features.recipe, self.recipe)
            if not self.config.update:
                check_list(features.path, [*features.ids, *(f[0] for f in features.failures)], ids)
        self.parts.begin(self.recipe, ids, update=self.config.update)
        parts = self.parts.parts(repair=self.config.repair)
        for part in parts:
            check_recipe(part.path, part.recipe, self.recipe)
        self.done = Committed({v.id: v.path for v in self.found}, repair=self.config.repair)
        settled = set(self.done.gather([*parts, *self.finished]).ids)  # failures are tried again: they may be mended
        self.todo = [v for v in self.found if v.id not in settled]

    def take(self, video_id: str, outcome: VideoFeatures | Failed) -> int:
        """Hold a video's rows, or why there are none, until the next part; gives the number of its clips."""
        if isinstance(outcome, Failed):
            self.failures.append((video_id, outcome.error))
            return 0
        self.videos.append(outcome)
        return len(outcome.descriptors)

    def commit_in_time(self) -> None:
        """Commit what is in hand when it is enough, or old enough."""
        in_hand = len(self.videos) + len(self.failures)
        if in_hand >= PART_VIDEOS or time.monotonic() - self.committed >= PART_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Put what is in hand on the disk."""
        self.committed = time.monotonic()
        if not self.videos and not self.failures:
            return
        videos, failures = sorted(self.videos, key=lambda v: id_key(v.id)), sorted(self.failures)
        self.videos, self.failures = [], []
        self.parts.commit(FeatureContent(self.recipe, videos, failures, self.backbone_classes))

    def merge(self, labelling: Labelling, row_of: dict[str, int]) -> None:
        """Write the finished file from the parts and from what was finished before; row_of: id -> row of labelling."""
        parts = self.parts.parts()
        videos = self.done.gather([*parts, *self.finished])
        reasons = {video_id: error for part in reversed(parts) for video_id, error in part.failures}
        lost, there = "changed or removed after it was decoded; run the same command again", set(videos.ids)
        failures = [(v.id, reasons.get(v.id, lost)) for v in self.found if v.id not in there]
        rows = [row_of[video_id] for video_id in videos.ids]
        content = FeatureContent(
            recipe=self.recipe,
            videos=videos,
            failures=failures,
            backbone_classes=self.backbone_classes,
            classes=labelling.classes,
            labels=[int(labelling.labels[n]) for n in rows],
            subsets=[labelling.subsets[n] for n in rows],
            groups=[labelling.groups[n] for n in rows],
        )
        if self.finished and holds(self.finished[0], content):
            return
        with self.parts.room_needed(sum(source.path.stat().st_size for source in videos.used)):
            write_features(self.parts.out, content)


def lacking(runs: Iterable[ExtractionRun]) -> list[VideoPath]:
    """The videos that at least one of the runs lacks."""
    return list({video.id: video for run in runs for video in run.todo}.values())


def work(runs: Sequence[ExtractionRun], networks: "Sequence[ClipNetwork]", videos: Sequence[VideoPath], bar) -> None:
    """Bring `videos` to a committed state in every run that lacks them, each run with its own network.

    Part by part; what is complete is committed even when stopped.
    """
    network_jobs = []
    for run, network in zip(runs, networks, strict=True):
        network_jobs.append(NetworkJob(network, run.recipe, {video.id for video in run.todo}))
    # How many networks have yet to see a video.
    left = Counter(video_id for network_job in network_jobs for video_id in network_job.ids)
    num_clips = Counter()

    def commit_in_time() -> None:
        for run in runs:
            run.commit_in_time()

    for run in runs:
        run.committed = time.monotonic()
    stream = stream_together(videos, network_jobs, runs[0].config, after_batch=commit_in_time)
    try:
        for index, (video_id, outcome) in stream:
            num_clips[video_id] += runs[index].take(video_id, outcome)
            left[video_id] -= 1
            if not left[video_id]:
                bar.advance(clips=num_clips.pop(video_id))
            commit_in_time()
    finally:
        with ExitStack() as stack:  # every run has its turn, whatever goes wrong with another
            for run in runs:
                stack.callback(run.commit)
            stream.close()
