"""The classes of new videos: the head's own recipe decides how they are decoded and described."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gcf.data.recipe import INCIDENTAL, JOINED, differences
from gcf.data.schema import Clips, VideoFeatures, id_key
from gcf.data.segments import Segment, read_segments
from gcf.errors import RecipeError, RefusedError, UsageError, VideoError
from gcf.explain.pictures import Reading, draw_video
from gcf.extract.config import ExtractConfig
from gcf.extract.find import VideoPath, find_videos
from gcf.extract.pipeline import load_network, stream_features
from gcf.extract.progress import Progress
from gcf.head.ensemble import load_trained
from gcf.head.output import HeadOutput
from gcf.head.saved import SavedHead


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
    *,
    backbone: str | None = None,
    weights: str | None = None,
    top: int = 5,
    pictures: str | os.PathLike | None = None,
    truth: str | os.PathLike | None = None,
    progress: bool = False,
    **options,
) -> list[VideoPrediction]:
    """Classify videos with a trained head, in the order of their ids.

    The backbone and its weights are those of the head's recipe; a plug-in's file or a checkpoint must be named again.
    pictures: a folder that gets ID.png for each video, a frame of every clip over its evidence, gate and attention.
    truth: a file of annotated intervals (ActivityNet-style JSON) to be drawn, too.
    options: `device`, `workers`, `deadline` of ExtractConfig. Raises RecipeError where the backbone, weights or
    preprocessing would not be those that the head was trained on. A broken video has `error` and no classes.
    """
    if top < 1:
        raise UsageError(f"top must be at least 1, not {top}")
    if truth is not None and pictures is None:
        raise UsageError("truth is drawn into pictures: name their folder, too")
    head = head if isinstance(head, SavedHead) else load_trained(head)
    if JOINED in head.recipe:
        raise RecipeError(
            f"this head reads the descriptors of {len(head.recipe[JOINED])} networks side by side; extract the videos "
            "with each of them and ask gcf eval"
        )
    config = _config(head.recipe, options)
    found = find_videos([videos] if isinstance(videos, str | os.PathLike) else videos)
    weights = weights or ("default" if backbone else head.recipe["weights"])
    drawing = None if pictures is None else _Pictures.of(pictures, truth, found)
    network, recipe = load_network(backbone or head.recipe["backbone"], weights, config)
    wrong = differences(recipe, head.recipe, ignore=INCIDENTAL)
    if wrong:
        raise RecipeError(f"not what this head was trained on: {'; '.join(wrong)}; name its --backbone and --weights")
    predictions = []
    with Progress(total=len(found), done=0, shown=progress) as bar:
        for video_id, outcome in stream_features(found, network, recipe, config):
            if isinstance(outcome, VideoFeatures):
                chosen, answer = _answer(head, outcome)
                prediction = _classify(head, outcome, answer, top)
                predictions.append(drawing.draw(prediction, outcome, chosen, answer) if drawing else prediction)
                bar.advance(clips=len(outcome.descriptors))
            else:
                predictions.append(VideoPrediction(video_id, [], 0, outcome.error))
                bar.advance(clips=0)
    return sorted(predictions, key=lambda p: id_key(p.id))


def _config(recipe: dict, options: dict) -> ExtractConfig:
    """The settings that made the head's features, with the centre view alone."""
    kept = {name: recipe[name] for name in ("temporal_stride", "precision", "tail", "dtype", "batch_size")}
    return ExtractConfig(**kept, clip_frames=recipe["num_frames"], **options)


def _answer(head: SavedHead, video: VideoFeatures) -> tuple[np.ndarray, HeadOutput]:
    """The clips that the head reads, and what it says."""
    chosen = head.choose(len(video.descriptors))
    return chosen, head(video.descriptors[None, chosen, 0].astype(np.float32))


def _classify(head: SavedHead, video: VideoFeatures, answer: HeadOutput, top: int) -> VideoPrediction:
    probabilities = head.probabilities(answer.logits[0]).numpy()
    best = np.argsort(-probabilities, kind="stable")[:top]
    named = [(head.classes[k], float(probabilities[k])) for k in best]
    return VideoPrediction(video.id, named, len(video.descriptors), note=video.info.note)


@dataclass(frozen=True)
class _Pictures:
    """Where pictures go, where the videos are, and what is annotated."""

    folder: Path
    paths: dict[str, str]
    segments: dict[str, list[Segment]]

    @classmethod
    def of(cls, folder: str | os.PathLike, truth: str | os.PathLike | None, found: Sequence[VideoPath]) -> "_Pictures":
        folder = Path(folder)
        segments = {} if truth is None else read_segments(truth, [v.id for v in found])
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RefusedError(f"{folder}: cannot be made ({error.strerror}); name another folder") from error
        return cls(folder, {v.id: v.path for v in found}, segments)

    def draw(
        self, prediction: VideoPrediction, video: VideoFeatures, chosen: np.ndarray, answer: HeadOutput
    ) -> VideoPrediction:
        """Draw one video; the prediction, with a note where there could be no picture."""
        clips = Clips(**{name: values[chosen] for name, values in vars(video.clips).items()})
        name, probability = prediction.classes[0]
        reading = Reading(
            title=f"{video.id}: {name} {100 * probability:.0f} %",
            evidence=None if answer.evidence is None else answer.evidence[0, :, int(answer.logits[0].argmax())].numpy(),
            gate=None if answer.gate is None else answer.gate[0].numpy(),
            attention=None if answer.attention is None else answer.attention[0].mean(dim=0).numpy(),
            segments=self.segments.get(video.id, ()),
        )
        place = self.folder / f"{video.id}.png"
        try:
            draw_video(place, self.paths[video.id], clips, reading, origin=float(video.clips.start_time[0]))
        except (OSError, VideoError) as error:
            return replace(prediction, note="; ".join(filter(None, [prediction.note, f"no picture: {error}"])))
        return prediction
