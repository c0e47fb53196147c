"""Extraction: find the videos, skip what is done, run the rest through decoders and network, commit parts, merge."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gcf.data.annotations import Annotations, Labelling, label_videos, read_annotations
from gcf.data.committed import Committed, holds
from gcf.data.features import FeatureFile
from gcf.data.parts import PartFolder, check_list, check_recipe
from gcf.data.schema import FeatureContent, VideoFeatures, id_key
from gcf.data.writer import require_output, write_features
from gcf.extract.config import ExtractConfig
from gcf.extract.engines import open_engine
from gcf.extract.find import VideoPath, find_videos
from gcf.extract.pipeline import stream_features
from gcf.extract.progress import Progress

PART_VIDEOS, PART_SECONDS = 256, 60.0  # a part is committed at whichever comes first: the most that a kill can cost


@dataclass(frozen=True)
class ExtractSummary:
    """What an extraction left: counts, and every video that gave nothing or only a part, with the reason.

    extracted counts the videos decoded this time; missing and unlabelled compare the annotations with the videos;
    notes are what reading the annotations brought up.
    """

    path: Path
    videos: int
    clips: int
    extracted: int
    seconds: float
    failures: list[tuple[str, str]]
    partial: list[tuple[str, str]]
    missing: Sequence[str]
    unlabelled: Sequence[str]
    notes: Sequence[str]

    @property
    def complete(self) -> bool:
        """Every video gave all it has."""
        return not self.failures and not self.partial

    def describe(self) -> str:
        """The same in words."""
        rate = f", {self.extracted:,} of them now, in {self.seconds:.0f} s" if self.extracted else ", all from before"
        lines = [f"{self.path}: {self.videos:,} videos, {self.clips:,} clips{rate}"]
        lines += [f"  partial  {video_id!r}: {note}" for video_id, note in self.partial]
        lines += [f"  failed   {video_id!r}: {error}" for video_id, error in self.failures]
        if self.missing:
            lines.append(f"  annotated, but not found: {len(self.missing):,} videos, such as {self.missing[0]!r}")
        if self.unlabelled:
            lines.append(f"  without a label: {len(self.unlabelled):,} videos, such as {self.unlabelled[0]!r}")
        lines += [f"  annotations: {note}" for note in self.notes]
        return "\n".join(lines)


def extract_videos(
    videos: str | os.PathLike | Sequence[str | os.PathLike],
    out: str | os.PathLike,
    *,
    backbone: str = "resnext101",
    weights: str = "default",
    annotations: str | os.PathLike | Annotations | None = None,
    progress: bool = False,
    **options,
) -> ExtractSummary:
    """Run a frozen backbone once over every clip of every video and keep the descriptors in one feature file.

    videos: a folder, a file, several files, or a text/CSV list. options: the fields of ExtractConfig. The same call
    again resumes: videos that are done and unchanged are not decoded again. A broken video is recorded under
    `failures` and costs nobody else anything. Raises GcfError children; see `gcf.errors` for what each means.
    """
    config = ExtractConfig(**options)
    out = Path(out)
    require_output(out)
    sources = [videos] if isinstance(videos, str | os.PathLike) else videos
    found = find_videos(sources, stay_inside=config.stay_inside)
    if annotations is not None and not isinstance(annotations, Annotations):
        annotations = read_annotations(annotations)
    labelling = label_videos([v.id for v in found], annotations)  # of all shards: labels do not depend on sharding
    row_of = {v.id: row for row, v in enumerate(found)}
    if config.shard:
        found = found[config.shard[0] - 1 :: config.shard[1]]
    notes = annotations.notes if annotations else ()
    with PartFolder(out).locked() as parts, open_engine(config) as engine:
        recipe, backbone_classes = engine.load(backbone, weights)
        run = _Run(found, parts, config, recipe, backbone_classes)
        begun = time.monotonic()
        todo = run.todo()
        if todo:
            with Progress(total=len(found), done=len(found) - len(todo), shown=progress) as bar:
                engine.work(run, todo, bar)
        seconds = time.monotonic() - begun
        run.merge(labelling, row_of)
        parts.remove()
    return _summary(out, labelling, notes, len(todo), seconds)


def _summary(out: Path, labelling: Labelling, notes: Sequence[str], extracted: int, seconds: float) -> ExtractSummary:
    features = FeatureFile(out)
    return ExtractSummary(
        path=out,
        videos=features.num_videos,
        clips=features.num_clips,
        extracted=extracted,
        seconds=seconds,
        failures=features.failures,
        partial=[(i, note) for i, note in zip(features.ids, features.videos.note, strict=True) if note],
        missing=labelling.missing,
        unlabelled=labelling.unlabelled,
        notes=notes,
    )


class _Run:
    """One extraction: what is wanted, what is committed, what is in hand."""

    def __init__(
        self,
        found: list[VideoPath],
        parts: PartFolder,
        config: ExtractConfig,
        recipe: dict,
        backbone_classes: list[str] | None,
    ):
        self.found, self.parts, self.config = found, parts, config
        self.recipe, self.backbone_classes = recipe, backbone_classes
        self.videos: list[VideoFeatures] = []
        self.failures: list[tuple[str, str]] = []

    def todo(self) -> list[VideoPath]:
        """The videos that no part and no finished file has, or that have changed since."""
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
        return [v for v in self.found if v.id not in settled]

    def work(self, todo: list[VideoPath], network, bar) -> None:
        """Bring `todo` to a committed state, part by part; what is complete is committed even when stopped."""
        self.committed = time.monotonic()
        stream = stream_features(todo, network, self.recipe, self.config, after_batch=self._commit_in_time)
        try:
            for video_id, outcome in stream:
                if isinstance(outcome, VideoFeatures):
                    self.videos.append(outcome)
                    bar.advance(clips=len(outcome.descriptors))
                else:
                    self.failures.append((video_id, outcome.error))
                    bar.advance(clips=0)
                self._commit_in_time()
        finally:
            stream.close()
            self._commit()

    def _commit_in_time(self) -> None:
        in_hand = len(self.videos) + len(self.failures)
        if in_hand >= PART_VIDEOS or time.monotonic() - self.committed >= PART_SECONDS:
            self._commit()

    def _commit(self) -> None:
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
