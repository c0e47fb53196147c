"""`gcf localize`: when and where the classes of videos happen, as a trained head sees it."""

import contextlib
import hashlib
import os
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from gcf._version import __version__
from gcf.data.boxes import read_boxes
from gcf.data.folder import locked_folder
from gcf.data.looks import looks_notes, record_look
from gcf.data.options import did_you_mean
from gcf.data.schema import VideoFeatures, id_key
from gcf.errors import AnnotationError, UsageError
from gcf.explain.files.localization_files import video_entry
from gcf.explain.files.localization_folder import LocalizationFolder
from gcf.explain.localizer import LocalizeConfig, Localizer, map_network
from gcf.explain.measures.annotated_truth import AnnotatedTruth, judged_test_set, read_truth
from gcf.explain.measures.measure import describe_measures, measure
from gcf.explain.reading.clip_reading import Localization
from gcf.explain.reading.described import Found, Source, find_sources, source_of, trained
from gcf.explain.reading.intervals import propose_intervals
from gcf.extract.decoding.find import VideoPath
from gcf.extract.decoding.pool import Failed
from gcf.extract.stream.progress import Progress
from gcf.head.models.saved import SavedHead

SHOWN = 4  # intervals of a video in its line


@dataclass(frozen=True, eq=False)
class LocalizedVideos(Sequence[Localization]):
    """The localisations of all videos, in the order of their ids; what was measured where a truth was given."""

    videos: Sequence[Localization]
    metrics: dict | None = None
    folder: Path | None = None

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, place):
        return self.videos[place]

    @property
    def complete(self) -> bool:
        """Every video was read as a whole and has all that was asked for; a note on something else does not matter."""
        return not any(one.error or one.missing for one in self.videos)

    def summary(self) -> dict:
        """All of it as plain JSON values, clips apart."""
        return {
            "folder": self.folder and str(self.folder),
            "videos": [video_entry(one) for one in self.videos],
            "metrics": self.metrics,
        }

    def describe(self) -> str:
        """A line for each video, what was measured, and where all of it is."""
        lines = [_line(one) for one in self.videos]
        if self.metrics is not None:
            lines.append(describe_measures(self.metrics))
        if self.folder is not None:
            lines.append(f"in {self.folder}; gcf report {self.folder} makes a page of each")
        return "\n".join(lines)


def localize_videos(
    head: str | os.PathLike | SavedHead,
    videos: str | os.PathLike | Sequence[str | os.PathLike],
    out: str | os.PathLike | None = None,
    *,
    config: LocalizeConfig | None = None,
    truth: str | os.PathLike | None = None,
    subset: str | None = None,
    head_file: str | os.PathLike | None = None,
    overwrite: bool = False,
    progress: bool = False,
    **options,
) -> LocalizedVideos:
    """Say of videos when, where and why a trained head sees its classes, in the order of their ids.

    videos: files, a folder, a list; or one feature file, which needs neither videos nor network and gives no pictures.
    out: a folder for overlay videos, contact sheets, and tables of intervals and clips; None keeps all in memory, maps
    included. The same call goes on where it was stopped: what is drawn is not drawn again.
    truth: annotated intervals (ActivityNet-style JSON, with boxes as gcf demo-videos writes them), against which the
    result is measured, in a `subset` alone or wherever there are any. Where test videos are among
    those judged, that is a look at them (`record_look`, `judged_test_set`): `test_looks` and
    `notes` of the metrics say how many there were.
    head_file: the Python file of a plug-in head that is given by its path, as for `load_head`.
    options: `backbone`, `weights` (to be named again where they were files), and those of
    `open_source`.

    Raises RecipeError or HeadError where the videos cannot be described as the head expects, UsageError for a class
    that it has not, AnnotationError for a truth of other videos or classes, RefusedError for a folder with something
    else in it; all of them before anything is done. A broken video has `error` and no reading.
    """
    config = config or LocalizeConfig()
    if subset is not None and truth is None:
        raise UsageError(f"subset {subset!r} is one of a truth file: name that, too")
    name = os.fspath(head) if isinstance(head, str | os.PathLike) else "a head in memory"
    head, found = trained(head, head_file), find_sources(videos)
    if isinstance(found, list):
        found = _outside(out, found)
    judged = None if truth is None else _read_truth(truth, found, config, subset)
    wanted = _wanted(judged, subset, _ids(found))
    if isinstance(found, list):
        found = [video for video in found if video.id in wanted]
    source = source_of(head, found, **options)
    _check_classes(source.head.classes, config, judged)
    maps = map_network(source, config, options)
    folder = None
    with contextlib.nullcontext() if out is None else locked_folder(out):
        if out is not None:
            facts = _facts(source, config, name)
            folder = LocalizationFolder.begin(Path(out), facts, videos=wanted, overwrite=overwrite)
        segments = {} if judged is None else judged.segments
        localizer = Localizer(source, config, folder, segments, maps)
        localized, described = _localize(localizer, wanted, keep=judged is not None, progress=progress)
        metrics = None
        if judged is not None:
            metrics = _measure(localized, described, localizer, truth, subset)
            metrics |= _look_at_test(localized, source, judged)
        if folder is not None:
            folder.finish(localized, metrics, "" if metrics is None else describe_measures(metrics))
    return LocalizedVideos(localized, metrics, folder and folder.path)


def _localize(
    localizer: Localizer, wanted: Collection[str], *, keep: bool, progress: bool
) -> tuple[list[Localization], list[VideoFeatures]]:
    """All videos that are wanted, by their ids; and, if they are to be kept, what describes them."""
    localized, described = [], []
    kept = contextlib.nullcontext() if localizer.folder is None else localizer.folder.kept()
    bar = Progress(total=len(wanted), done=0, shown=progress)
    with bar, kept, contextlib.closing(iter(localizer.source)) as stream:
        for video_id, outcome in stream:
            if video_id not in wanted:
                continue
            localized.append(localizer.localize(video_id, outcome))
            if keep and isinstance(outcome, VideoFeatures):
                described.append(outcome)
            bar.advance(clips=0 if isinstance(outcome, Failed) else len(outcome.descriptors))
    return sorted(localized, key=lambda one: id_key(one.id)), described


def _measure(
    localized: Sequence[Localization],
    described: Sequence[VideoFeatures],
    localizer: Localizer,
    truth: str | os.PathLike,
    subset: str | None,
) -> dict:
    settings = localizer.config.intervals
    return measure(
        localized,
        truth,
        head=localizer.source.head,
        videos=described,
        subset=subset,
        propose=lambda reading, labels: propose_intervals(reading, settings, labels=labels),
    )


def _look_at_test(localized: Sequence[Localization], source: Source, judged: AnnotatedTruth) -> dict:
    """For the metrics: how many looks there were at the test videos judged, this one counted."""
    read = [one.id for one in localized if one.reading is not None]
    test_set = judged_test_set(judged, read, source.features)
    path = None if source.features is None else source.features.path
    looks = record_look(path, test_set, what="gcf localize")
    return {"test_looks": looks, "notes": looks_notes(looks)}


def _read_truth(truth: str | os.PathLike, found: Found, config: LocalizeConfig, subset: str | None) -> AnnotatedTruth:
    """What is annotated of the videos; what is wrong with it, boxes included, is said before the work."""
    judged = read_truth(truth, _ids(found), subset)
    if config.heat:
        read_boxes(truth, _ids(found))
    return judged


def _outside(out: str | os.PathLike | None, found: list[VideoPath]) -> list[VideoPath]:
    """All but the videos in the folder to be written, which an earlier run drew. UsageError if none is left."""
    if out is None:
        return found
    folder = Path(os.path.abspath(out))
    if left := [video for video in found if folder not in Path(video.path).parents]:
        return left
    raise UsageError(f"{out}: all the videos lie in this folder; name another one for what is made of them")


def _ids(found: Found) -> list[str]:
    """Of all videos, with those that had failed when a feature file was made."""
    return [one.id for one in found] if isinstance(found, list) else [*found.ids, *(name for name, _ in found.failures)]


def _wanted(judged: AnnotatedTruth | None, subset: str | None, ids: Sequence[str]) -> set[str]:
    """The videos to localise: all, or those of the subset."""
    if subset is None:
        return set(ids)
    if wanted := judged.segments.keys() & set(ids):
        return wanted
    raise AnnotationError(f"{judged.path}: none of the {len(ids)} videos is in its subset {subset!r}; name its videos")


def _check_classes(classes: Sequence[str], config: LocalizeConfig, judged: AnnotatedTruth | None) -> None:
    """Raise UsageError or AnnotationError unless the head has the class to show, and one of the truth's."""
    if config.label is not None and config.label not in classes:
        fault = f"class {config.label!r} is none of this head's: {', '.join(classes)}"
        hint = did_you_mean(config.label, classes)
        raise UsageError("; ".join(filter(None, [fault, hint])))
    if judged is not None:
        judged.check_classes(classes)


def _facts(source: Source, config: LocalizeConfig, name: str) -> dict:
    """What decides a localisation, for those who come back to its folder."""
    head = source.head
    digest = hashlib.sha256()
    for key, value in sorted(head.module.state_dict().items()):
        digest.update(key.encode() + value.cpu().numpy().tobytes())
    return {
        "gcf": __version__,
        "head": name,
        "head_sha256": digest.hexdigest(),
        "classes": list(head.classes),
        "recipe": source.recipe,
        "settings": asdict(config),
    }


def _line(found: Localization) -> str:
    """One video in a line: the class that is shown, when it happens, and what else must be known."""
    if found.reading is None:
        return f"{found.id!r}: {found.error}"
    reading = found.reading
    name = reading.classes[found.shown]
    own = sorted((one for one in found.intervals if one.label == name), key=lambda one: -one.score)[:SHOWN]
    when = ", ".join(f"{one.start:.1f}-{one.end:.1f} s ({one.score:.2f})" for one in own)
    note = f"  ({found.note})" if found.note else ""
    return f"{found.id!r}: {name} {100 * reading.probabilities[found.shown]:.1f} %  {when}{note}"
