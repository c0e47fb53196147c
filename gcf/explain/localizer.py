"""What `gcf localize` does with one video: reading, intervals, maps, pictures."""

from dataclasses import dataclass, field, replace
from functools import cached_property

from gcf.data.recipe import misfits
from gcf.data.schema import VideoFeatures
from gcf.data.segments import Segment
from gcf.errors import RecipeError, UsageError, VideoError
from gcf.explain.drawing.contact_sheet import write_sheet
from gcf.explain.drawing.overlay_video import write_overlay
from gcf.explain.files.localization_files import file_name
from gcf.explain.files.localization_folder import DrawnFile, LocalizationFolder
from gcf.explain.reading.clip_reading import Localization
from gcf.explain.reading.described import Source, network_of
from gcf.explain.reading.evidence import read_video, rounds
from gcf.explain.reading.gradcam import THRESHOLD, passing_clips
from gcf.explain.reading.intervals import IntervalSettings, propose_intervals
from gcf.explain.reading.maps import video_heat
from gcf.extract.decoding.jobs import ClipJob
from gcf.extract.decoding.pool import Failed
from gcf.extract.network.clip_network import ClipNetwork

CHANNELS = ("all", "positive")


@dataclass(frozen=True)
class LocalizeConfig:
    """What to make of each video.

    label: the class that maps and pictures are about; None: each video's most probable. threshold: of the gate, below
    which a clip gets no map. heat, overlay, sheet: whether to make maps, videos and contact sheets. windows: maps of a
    clip, from the clip moved in time, at so many times the cost. channels: "all" is the paper's Grad-CAM, "positive"
    takes only those that speak for the class. temporal_stride "none": a map for every frame, from the same weights
    without strides in time; None: as in the head's own recipe.
    """

    label: str | None = None
    threshold: float = THRESHOLD
    heat: bool = True
    overlay: bool = True
    sheet: bool = True
    windows: int = 1
    channels: str = "all"
    temporal_stride: str | None = None
    intervals: IntervalSettings = field(default_factory=IntervalSettings)

    def __post_init__(self):
        if not 0 <= self.threshold < 1:
            raise UsageError(f"the gate's threshold lies in 0..1, not {self.threshold}")
        if self.channels not in CHANNELS:
            raise UsageError(f"channels is one of {', '.join(CHANNELS)}, not {self.channels!r}")
        if self.windows < 1:
            raise UsageError(f"windows must be at least 1, not {self.windows}")
        if self.temporal_stride not in (None, "none"):
            raise UsageError(f"temporal_stride is none, or left out; not {self.temporal_stride!r}")


@dataclass(frozen=True, eq=False)
class Localizer:
    """What is done with each video; maps: the network that makes them, None where there are to be none."""

    source: Source
    config: LocalizeConfig
    folder: LocalizationFolder | None
    segments: dict[str, list[Segment]]
    maps: ClipNetwork | None

    @cached_property
    def paths(self) -> dict[str, str]:
        """Where the videos are, by id; none with a feature file."""
        return {video.id: video.path for video in self.source.found}

    @property
    def job(self) -> ClipJob:
        """How a video becomes clips, as the head's recipe has it."""
        return ClipJob.from_recipe(self.source.recipe)

    def localize(self, video_id: str, outcome: VideoFeatures | Failed) -> Localization:
        """One video, with its files in the folder."""
        if isinstance(outcome, Failed):
            found = Localization(video_id, None, error=outcome.error)
        else:
            try:
                found = self._read(outcome)
            except VideoError as error:
                found = Localization(video_id, None, error=str(error))
        pictures = {}
        if self.folder is not None:
            found, pictures = self._draw(found)
            self.folder.add(found, pictures, self.segments.get(video_id, ()))
        return found

    def _read(self, video: VideoFeatures) -> Localization:
        head, label = self.source.head, self.config.label
        reading = read_video(head, video)
        intervals = propose_intervals(reading, self.config.intervals)
        if label is not None and not any(one.label == label for one in intervals):  # not probable, but asked for
            intervals = [*intervals, *propose_intervals(reading, self.config.intervals, labels=[label])]
        found = Localization(
            video.id, reading, intervals, note=video.info.note, missing=video.info.status != "ok", label=label or ""
        )
        path = self.paths.get(video.id)
        if self.maps is None or path is None:
            return found
        passing, note = passing_clips(reading, self.config.threshold)
        try:
            heat = video_heat(
                path,
                video,
                head=head,
                network=self.maps,
                job=self.job,
                class_index=found.shown,
                passing=passing,
                rounds=rounds(head, len(reading.evidence)),
                windows=self.config.windows,
                positive=self.config.channels == "positive",
            )
        except VideoError as error:
            return _noted(found, f"no heat map: {error}", missing=True)
        return _noted(replace(found, heat=heat), note)

    def _draw(self, found: Localization) -> tuple[Localization, dict[str, DrawnFile]]:
        """The overlay video and the contact sheet, or those of an earlier run; a note where one could not be made."""
        path = self.paths.get(found.id)
        if found.reading is None or path is None:
            return found, {}
        segments = self.segments.get(found.id, ())
        pictures = self.folder.pictures(found.id, found.reading.info, segments)
        wanted = {"overlay": (".mp4", write_overlay)} if self.config.overlay else {}
        wanted |= {"sheet": (".png", write_sheet)} if self.config.sheet else {}
        for kind, (suffix, write) in wanted.items():
            if kind not in pictures:
                name = file_name(found.id, suffix)
                try:
                    note = write(self.folder.path / name, path, found, segments=segments)
                except VideoError as error:
                    found = _noted(found, f"no {kind}: {error}", missing=True)
                    continue
                pictures[kind] = DrawnFile(name, note or "")
            found = _noted(found, pictures[kind].note)
        return found, pictures


def _noted(found: Localization, note: str, *, missing: bool = False) -> Localization:
    """The same with one more note; missing: of something that should be there."""
    return replace(found, note="; ".join(filter(None, [found.note, note])), missing=found.missing or missing)


def map_network(source: Source, config: LocalizeConfig, options: dict) -> ClipNetwork | None:
    """The network whose feature maps are shown: the one that describes the clips, or its twin without strides.

    Raises UsageError for more windows than a clip has frames, or settings of maps where there are no videos.
    """
    if source.network is None:
        if config.windows > 1 or config.channels != CHANNELS[0] or config.temporal_stride:
            raise UsageError(
                "a feature file has no pixels to make heat maps of: windows, channels and temporal_stride "
                "are for videos"
            )
        return None
    if not config.heat:
        return None
    if config.windows > (most := source.recipe["num_frames"]):
        raise UsageError(f"windows are at most the {most} frames of a clip, not {config.windows}")
    if config.temporal_stride in (None, source.recipe["temporal_stride"]):
        return source.network
    settings = replace(source.config, temporal_stride=config.temporal_stride)
    names = {name: options.get(name) for name in ("backbone", "weights")}
    network, recipe = network_of(source.recipe, settings, **names)
    if wrong := misfits(recipe, source.recipe, ignore={"temporal_stride"}):
        raise RecipeError(f"the network without strides in time is another one: {'; '.join(wrong)}")
    return network
