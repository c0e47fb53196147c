"""The classes of new videos: the head's own recipe decides how they are decoded and described."""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from gcf.data.folder import locked_folder
from gcf.data.schema import Clips, VideoFeatures, id_key
from gcf.data.segments import Segment, read_segments
from gcf.errors import UsageError, VideoError
from gcf.explain.drawing.pictures import Reading, draw_video
from gcf.explain.reading.described import Source, find_sources, source_of, trained
from gcf.explain.reading.evidence import check_finite
from gcf.extract.decoding.find import VideoPath
from gcf.extract.decoding.pool import Failed
from gcf.extract.stream.progress import Progress
from gcf.head.models.output import HeadOutput
from gcf.head.models.saved import SavedHead

LIKELY = 0.5  # where a video may have several classes: those above it are more likely there than not


@dataclass(frozen=True)
class VideoPrediction:
    """A video's most probable classes, best first, as (name, probability); or why there are none.

    note: why only a part of the video could be used, or why there is no picture of it; '' where all is well.
    """

    id: str
    classes: list[tuple[str, float]]
    num_clips: int
    error: str = ""
    note: str = ""


def describe(predictions: Sequence[VideoPrediction]) -> str:
    """One line per video, its classes with their probabilities in percent."""
    lines = []
    for p in predictions:
        classes = ", ".join(f"{name} {100 * share:.1f} %" for name, share in p.classes)
        partial = f"  ({p.note})" if p.note else ""
        lines.append(f"{p.id!r}: {p.error or classes}{partial}")
    return "\n".join(lines)


def predict_videos(
    head: str | os.PathLike | SavedHead,
    videos: str | os.PathLike | Sequence[str | os.PathLike],
    **settings,
) -> list[VideoPrediction]:
    """Classify videos with a trained head: what `stream_predictions` gives, which has the settings, sorted by id."""
    return sorted(stream_predictions(head, videos, **settings), key=lambda p: id_key(p.id))


def stream_predictions(
    head: str | os.PathLike | SavedHead,
    videos: str | os.PathLike | Sequence[str | os.PathLike],
    *,
    backbone: str | None = None,
    weights: str | None = None,
    head_file: str | os.PathLike | None = None,
    top: int = 5,
    pictures: str | os.PathLike | None = None,
    truth: str | os.PathLike | None = None,
    progress: bool = False,
    **options,
) -> Iterator[VideoPrediction]:
    """Classify videos, or the rows of a feature file, with a trained head; each as soon as it is done.

    Memory does not grow with their number. Checks come before the iterator is returned; closing it stops the work.

    The backbone and its weights are those of the head's recipe; a plug-in's file or a checkpoint must be named again.
    head_file: the Python file of a plug-in head that is given by its path, as for `load_head`.
    videos: a folder, files, a list, or a feature file (labels are not looked at), which needs no network.
    top: how many classes; where a video may have several, all that are more likely than not, if they are more.
    pictures: a folder that gets ID.png for each video, a frame of every clip over its evidence, gate and attention.
    truth: a file of annotated intervals (ActivityNet-style JSON) to be drawn, too.
    options: those of `open_source`. Raises RecipeError where the backbone, weights or
    preprocessing would not be those that the head was trained on. A broken video has `error` and no classes.
    """
    check_top(top)
    if truth is not None and pictures is None:
        raise UsageError("truth is drawn into pictures: name their folder, too")
    head, found = trained(head, head_file), find_sources(videos)
    if pictures is not None and not isinstance(found, list):
        raise UsageError(f"{found.path}: there are no frames to draw in a feature file; name the videos")
    drawing = None if pictures is None else Pictures.of(pictures, truth, found)
    source = source_of(head, found, backbone=backbone, weights=weights, **options)
    return locked_pictures(drawing, _predictions(source, top=top, drawing=drawing, progress=progress))


def check_top(top: int) -> None:
    """Raise UsageError for a number of classes that cannot be shown."""
    if top < 1:
        raise UsageError(f"top must be at least 1, not {top}")


def _predictions(source: Source, *, top: int, drawing: "Pictures | None", progress: bool) -> Iterator[VideoPrediction]:
    with Progress(total=len(source), done=0, shown=progress) as bar, closing(iter(source)) as outcomes:
        for video_id, outcome in outcomes:
            prediction = predict_one(source.head, video_id, outcome, top=top, drawing=drawing)
            bar.advance(clips=prediction.num_clips)
            yield prediction


def predict_one(
    head: SavedHead, video_id: str, outcome: VideoFeatures | Failed, *, top: int, drawing: "Pictures | None" = None
) -> VideoPrediction:
    """The classes of one video, drawn if wanted; or why there are none."""
    if isinstance(outcome, Failed):
        return VideoPrediction(video_id, [], 0, outcome.error)
    try:
        check_finite(outcome)
    except VideoError as error:
        return VideoPrediction(video_id, [], len(outcome.descriptors), str(error))
    chosen, answer = _answer(head, outcome)
    prediction = _classify(head, outcome, answer, top)
    if drawing is None:
        return prediction
    return drawing.draw(prediction, outcome, chosen, answer, fps=head.recipe.get("sampling_fps"))


def _answer(head: SavedHead, video: VideoFeatures) -> tuple[np.ndarray, HeadOutput]:
    """The clips that the head reads, and what it says."""
    chosen = head.choose(len(video.descriptors))
    return chosen, head(video.descriptors[chosen, 0])


def _classify(head: SavedHead, video: VideoFeatures, answer: HeadOutput, top: int) -> VideoPrediction:
    probabilities = head.probabilities(answer.logits[0]).numpy()
    shown = top if head.config.exclusive else max(top, int((probabilities > LIKELY).sum()))
    best = np.argsort(-probabilities, kind="stable")[:shown]
    named = [(head.classes[k], float(probabilities[k])) for k in best]
    return VideoPrediction(video.id, named, len(video.descriptors), note=video.info.note)


def locked_pictures(drawing: "Pictures | None", predictions: Iterator[VideoPrediction]) -> Iterator[VideoPrediction]:
    """The same predictions, while nobody else draws into their folder."""
    with closing(predictions), nullcontext() if drawing is None else locked_folder(drawing.folder):
        yield from predictions


@dataclass(frozen=True)
class Pictures:
    """Where pictures go, where the videos are, and what is annotated."""

    folder: Path
    paths: dict[str, str]
    segments: dict[str, list[Segment]]

    @classmethod
    def of(cls, folder: str | os.PathLike, truth: str | os.PathLike | None, found: Sequence[VideoPath]) -> "Pictures":
        """The folder made, and what `truth` says of the videos. Raises RefusedError or AnnotationError."""
        folder = Path(folder)
        segments = {} if truth is None else read_segments(truth, [v.id for v in found])
        with locked_folder(folder):
            pass  # what is wrong with it is said before the work
        return cls(folder, {}, segments).of_videos(found)

    def of_videos(self, found: Sequence[VideoPath]) -> "Pictures":
        """The same folder for these videos."""
        return replace(self, paths={v.id: v.path for v in found})

    def draw(
        self,
        prediction: VideoPrediction,
        video: VideoFeatures,
        chosen: np.ndarray,
        answer: HeadOutput,
        *,
        fps: float | None,
    ) -> VideoPrediction:
        """Draw one video; the prediction, with a note where there could be no picture. fps: as in `Reading`."""
        different, of_slot, repeats = np.unique(chosen, return_inverse=True, return_counts=True)
        clips = Clips(**{name: values[different] for name, values in vars(video.clips).items()})
        name, probability = prediction.classes[0]
        top = int(answer.logits[0].argmax())
        evidence = None if answer.evidence is None else answer.evidence[0, :, top]
        attention = None if answer.attention is None else answer.attention[0].mean(dim=0)
        reading = Reading(
            title=f"{video.id}: {name} {100 * probability:.0f} %",
            evidence=_of_clips(evidence, of_slot),
            gate=None if answer.gate is None else _of_clips(answer.gate[0], of_slot) / repeats,
            attention=_of_clips(attention, of_slot),
            segments=self.segments.get(video.id, ()),
            sampling_fps=fps,
        )
        place = self.folder / f"{video.id}.png"
        try:
            draw_video(place, self.paths[video.id], clips, reading, origin=float(video.clips.start_time[0]))
        except (OSError, VideoError) as error:
            return replace(prediction, note="; ".join(filter(None, [prediction.note, f"no picture: {error}"])))
        return prediction


def _of_clips(values: Tensor | None, of_slot: np.ndarray) -> np.ndarray | None:
    """The sum over the slots of each clip: (S,), of_slot (S,) which clip a slot holds -> (C,)."""
    return None if values is None else np.bincount(of_slot, weights=values.numpy())
