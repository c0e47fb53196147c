"""Extraction: find the videos, skip what is done, run the rest through decoders and networks, commit parts, merge."""

import logging
import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from gcf.data.annotations import Annotations, Labelling, label_videos, read_annotations
from gcf.data.digits import noted_losses
from gcf.data.features import FeatureFile
from gcf.data.info import class_counts, describe_losses
from gcf.data.parts import PartFolder
from gcf.data.plugin_files import PLUGIN_SUFFIX
from gcf.data.text import named_classes
from gcf.data.writer import require_output
from gcf.errors import UsageError
from gcf.extract.backbones.huggingface_names import is_huggingface, place_of
from gcf.extract.decoding.find import find_videos
from gcf.extract.engines import open_engine
from gcf.extract.stream.config import ExtractConfig, ExtractOptions, extract_config
from gcf.extract.stream.progress import Progress
from gcf.extract.stream.run import ExtractionRun, lacking
from gcf.extract.weights.cache import FILE_SUFFIXES

log = logging.getLogger("gcf")
PathLike = str | os.PathLike


@dataclass(frozen=True)
class ExtractSummary:
    """What an extraction left: counts, and every video that gave nothing or only a part, with the reason.

    digits_lost: the videos for whose descriptors float16 is too coarse, with how far off the worst clip is.
    extracted counts the videos decoded this time; class_counts the videos of each class; missing and unlabelled compare
    the annotations with the videos; notes are what the annotations and the spelling of classes brought up.
    """

    path: Path
    videos: int
    clips: int
    extracted: int
    seconds: float
    failures: list[tuple[str, str]]
    partial: list[tuple[str, str]]
    digits_lost: list[tuple[str, str]]
    class_counts: dict[str, int]
    missing: Sequence[str]
    unlabelled: Sequence[str]
    notes: Sequence[str]

    @property
    def complete(self) -> bool:
        """Every video gave all it has."""
        return not self.failures and not self.partial

    def describe(self, *, labels: bool = True) -> str:
        """The same in words; labels: the classes, and what annotations and videos lack of each other, too."""
        rate = f", {self.extracted:,} of them now, in {self.seconds:.0f} s" if self.extracted else ", all from before"
        lines = [f"{self.path}: {self.videos:,} videos, {self.clips:,} clips{rate}"]
        lines += [f"  partial  {video_id!r}: {note}" for video_id, note in self.partial]
        lines += [f"  failed   {video_id!r}: {error}" for video_id, error in self.failures]
        lines += describe_losses([video_id for video_id, _ in self.digits_lost])
        if not labels:
            return "\n".join(lines)
        if self.class_counts:
            lines.append(f"  {len(self.class_counts):,} classes: {named_classes(self.class_counts)}")
        if self.missing:
            lines.append(f"  annotated, but not found: {len(self.missing):,} videos, such as {self.missing[0]!r}")
        if self.unlabelled:
            lines.append(f"  without a label: {len(self.unlabelled):,} videos, such as {self.unlabelled[0]!r}")
        lines += [f"  labels: {note}" for note in self.notes]
        return "\n".join(lines)


def extract_videos(
    videos: PathLike | Sequence[PathLike],
    out: PathLike,
    *,
    backbone: PathLike = "resnext101",
    weights: PathLike = "default",
    annotations: PathLike | Annotations | None = None,
    progress: bool = False,
    **options: Unpack[ExtractOptions],
) -> ExtractSummary:
    """Run a frozen backbone once over every clip of every video and keep the descriptors in one feature file.

    videos: a folder, a file, several files, or a text/CSV list. options: the fields of ExtractConfig. The same call
    again resumes: videos that are done and unchanged are not decoded again. A broken video is recorded under
    `failures` and costs nobody else anything. Raises GcfError children; see `gcf.errors` for what each means.
    """
    models = {Path(out): (os.fspath(backbone), os.fspath(weights))}
    return _extract(videos, models, annotations=annotations, progress=progress, config=extract_config(options))[0]


def extract_together(
    videos: PathLike | Sequence[PathLike],
    out: PathLike,
    *,
    backbones: Sequence[PathLike],
    weights: PathLike | Sequence[PathLike] = "default",
    annotations: PathLike | Annotations | None = None,
    progress: bool = False,
    **options: Unpack[ExtractOptions],
) -> list[ExtractSummary]:
    """The same for several backbones in one pass: every video is decoded once, every backbone has a file of its own.

    weights: one for all backbones, or one for each. Each file is, byte for byte, what `extract_videos` alone would
    have made, so either can go on where the other stopped. Their names: see `outputs_of`.
    """
    require_output(Path(out))
    backbones = [backbones] if isinstance(backbones, PathLike) else backbones
    weights = [weights] * len(backbones) if isinstance(weights, PathLike) else weights
    if not backbones or len(weights) != len(backbones):
        raise UsageError(
            f"{len(backbones)} backbones and {len(weights)} weights: name the weights once for all, or each backbone "
            "with its own, one that has several again for each"
        )
    models = [(os.fspath(backbone), os.fspath(each)) for backbone, each in zip(backbones, weights, strict=True)]
    named = dict(zip(outputs_of(Path(out), models), models, strict=True))
    return _extract(videos, named, annotations=annotations, progress=progress, config=extract_config(options))


def outputs_of(out: Path, models: Sequence[tuple[str, str]]) -> list[Path]:
    """The file of each (backbone, weights): OUT-backbone.h5, with the weights' name where a backbone comes twice.

    >>> [path.name for path in outputs_of(Path("f.h5"), [("x3d_s", "default"), ("nets/mine.py", "default")])]
    ['f-x3d_s.h5', 'f-mine.h5']

    Raises UsageError where that would be one name twice.
    """
    often = Counter(backbone for backbone, _ in models)
    told_apart = [(name, weights) if often[name] > 1 else (name,) for name, weights in models]
    names = ["-".join(map(_short, parts)) for parts in told_apart]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        file = f"{out.stem}-{twice[0]}{out.suffix}"
        raise UsageError(f"two backbones would have the same file, {file}: extract them one after another")
    return [out.with_name(f"{out.stem}-{name}{out.suffix}") for name in names]


def _short(name: str) -> str:
    """A backbone or weights as part of a file name: what follows the last slash, without a file's suffix."""
    last = (place_of(name).name if is_huggingface(name) else name).rstrip("/").split("/")[-1]
    suffix = next((each for each in (PLUGIN_SUFFIX, *FILE_SUFFIXES) if last.endswith(each)), "")
    return last.removesuffix(suffix)


def _extract(
    videos: PathLike | Sequence[PathLike],
    models: dict[Path, tuple[str, str]],
    *,
    annotations: PathLike | Annotations | None,
    progress: bool,
    config: ExtractConfig,
) -> list[ExtractSummary]:
    """models: the backbone and weights of every output."""
    for out in models:
        require_output(out)
    sources = [videos] if isinstance(videos, PathLike) else videos
    found = find_videos(sources, stay_inside=config.stay_inside)
    if annotations is not None and not isinstance(annotations, Annotations):
        annotations = read_annotations(annotations)
    ids = [v.id for v in found]  # of all shards: labels do not depend on sharding
    labelling = label_videos(ids, annotations, class_level=config.class_level, merge_labels=config.merge_labels)
    for note in labelling.notes:  # before the work, which may take days
        log.warning("%s", note)
    row_of = {v.id: row for row, v in enumerate(found)}
    if config.shard:
        found = found[config.shard[0] - 1 :: config.shard[1]]
    notes = (*(annotations.notes if annotations else ()), *labelling.notes)
    with ExitStack() as stack:
        folders = [stack.enter_context(PartFolder(out).locked()) for out in models]
        engine = stack.enter_context(open_engine(config))
        loaded = engine.load(list(models.values()))
        runs = [ExtractionRun(found, parts, config, *one) for parts, one in zip(folders, loaded, strict=True)]
        for run in runs:
            run.begin()
        begun, todo = time.monotonic(), lacking(runs)
        if todo:
            with Progress(total=len(found), done=len(found) - len(todo), shown=progress) as bar:
                engine.work(runs, todo, bar)
        seconds = time.monotonic() - begun
        for run, parts in zip(runs, folders, strict=True):
            run.merge(labelling, row_of)
            parts.remove()
    return [_summary(run, labelling, notes, seconds) for run in runs]


def _summary(run: ExtractionRun, labelling: Labelling, notes: Sequence[str], seconds: float) -> ExtractSummary:
    features = FeatureFile(run.parts.out)
    return ExtractSummary(
        path=features.path,
        videos=features.num_videos,
        clips=features.num_clips,
        extracted=len(run.todo),
        seconds=seconds,
        failures=features.failures,
        partial=features.partial,
        digits_lost=noted_losses(features),
        class_counts=class_counts(features),
        missing=labelling.missing,
        unlabelled=labelling.unlabelled,
        notes=notes,
    )
