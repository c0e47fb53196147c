"""The classes of new videos: the head's own recipe decides how they are decoded and described."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gcf.data.recipe import INCIDENTAL, differences
from gcf.data.schema import VideoFeatures, id_key
from gcf.errors import RecipeError, UsageError
from gcf.extract.config import ExtractConfig
from gcf.extract.find import find_videos
from gcf.extract.pipeline import load_network, stream_features
from gcf.extract.progress import Progress
from gcf.head.saved import SavedHead, load_head


@dataclass(frozen=True)
class VideoPrediction:
    """A video's most probable classes, best first, as (name, probability); or why there are none.

    note: why only a part of the video could be used, '' where it is whole.
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
        partial = f"  (partial: {p.note})" if p.note else ""
        lines.append(f"{p.id!r}: {p.error or classes}{partial}")
    return "\n".join(lines)


def predict_videos(
    head: str | os.PathLike | SavedHead,
    videos: str | os.PathLike | Sequence[str | os.PathLike],
    *,
    backbone: str | None = None,
    weights: str | None = None,
    top: int = 5,
    progress: bool = False,
    **options,
) -> list[VideoPrediction]:
    """Classify videos with a trained head, in the order of their ids.

    The backbone and its weights are those of the head's recipe; a plug-in's file or a checkpoint must be named again.
    options: `device`, `workers`, `deadline` of ExtractConfig. Raises RecipeError where the backbone, weights or
    preprocessing would not be those that the head was trained on. A broken video has `error` and no classes.
    """
    if top < 1:
        raise UsageError(f"top must be at least 1, not {top}")
    head = head if isinstance(head, SavedHead) else load_head(head)
    config = _config(head.recipe, options)
    found = find_videos([videos] if isinstance(videos, str | os.PathLike) else videos)
    weights = weights or ("default" if backbone else head.recipe["weights"])
    network, recipe = load_network(backbone or head.recipe["backbone"], weights, config)
    wrong = differences(recipe, head.recipe, ignore=INCIDENTAL)
    if wrong:
        raise RecipeError(f"not what this head was trained on: {'; '.join(wrong)}; name its --backbone and --weights")
    predictions = []
    with Progress(total=len(found), done=0, shown=progress) as bar:
        for video_id, outcome in stream_features(found, network, recipe, config):
            if isinstance(outcome, VideoFeatures):
                predictions.append(_classify(head, outcome, top))
                bar.advance(clips=len(outcome.descriptors))
            else:
                predictions.append(VideoPrediction(video_id, [], 0, outcome.error))
                bar.advance(clips=0)
    return sorted(predictions, key=lambda p: id_key(p.id))


def _config(recipe: dict, options: dict) -> ExtractConfig:
    """The settings that made the head's features, with the centre view alone."""
    kept = {name: recipe[name] for name in ("temporal_stride", "precision", "tail", "dtype", "batch_size")}
    return ExtractConfig(**kept, clip_frames=recipe["num_frames"], **options)


def _classify(head: SavedHead, video: VideoFeatures, top: int) -> VideoPrediction:
    chosen = video.descriptors[head.choose(len(video.descriptors)), 0].astype(np.float32)
    probabilities = head(chosen[None]).logits[0].softmax(dim=-1).numpy()
    best = np.argsort(-probabilities, kind="stable")[:top]
    named = [(head.classes[k], float(probabilities[k])) for k in best]
    return VideoPrediction(video.id, named, len(video.descriptors), note=video.info.note)
