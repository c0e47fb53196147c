"""What a feature file holds, as a dictionary for programs and as sentences for people."""

from collections import Counter

import numpy as np

from gcf.data.digits import noted_losses
from gcf.data.features import FeatureFile
from gcf.data.plausible import counted, missing_parts
from gcf.data.text import named_classes


def summarise(features: FeatureFile) -> dict:
    """Counts, sizes, coverage and recipe of a feature file; plain JSON values."""
    lengths = np.diff(features.offsets)
    counts = class_counts(features)
    frames = features.recipe.get("num_frames")
    full = frames if isinstance(frames, int) else 0
    return {
        "path": str(features.path),
        "recipe_sha256": features.recipe_sha256,
        "recipe": features.recipe,
        "videos": features.num_videos,
        "partial": [{"id": i, "note": note} for i, note in features.partial],
        "digits_lost": [{"id": i, "note": note} for i, note in noted_losses(features)],
        "failures": [{"id": i, "error": e} for i, e in features.failures],
        "clips": features.num_clips,
        "clips_per_video": _spread(lengths),
        "padded_clips": int((features.clips.num_frames < full).sum()),
        "hours": float(features.videos.duration.sum() / 3600),
        "descriptors": {"shape": list(features.descriptors.shape), "dtype": str(features.descriptors.dtype)},
        "backbone_classes": None if features.logits is None else features.logits.shape[1],
        "backbone_class_names_known": features.backbone_classes is not None,
        "classes": len(features.classes),
        "class_counts": counts,
        "videos_per_class": _spread(np.array([count for count in counts.values() if count])),
        "unlabelled": int((features.labels < 0).sum()),
        "subsets": dict(sorted(Counter(features.subsets).items())),
        "groups": len({g for g in features.groups if g}),
        "missing": missing_parts(features),
    }


def class_counts(features: FeatureFile) -> dict[str, int]:
    """How many videos each class has, in the order of the classes."""
    counts = np.bincount(features.labels[features.labels >= 0], minlength=len(features.classes))
    return dict(zip(features.classes, counts.tolist(), strict=True))


def describe(features: FeatureFile) -> str:
    """The same in words, one fact a line."""
    facts = summarise(features)
    recipe = facts["recipe"]
    shape, spread = facts["descriptors"]["shape"], facts["clips_per_video"]
    lines = [
        f"{facts['path']}: {facts['videos']:,} videos ({facts['hours']:.2f} h), {facts['clips']:,} clips"
        + (f", {spread['min']} to {spread['max']} a video, median {spread['median']:g}" if facts["clips"] else ""),
        f"  made by {_said(recipe, 'backbone')} with weights {_said(recipe, 'weights')}{_stride(recipe)}"
        f"{_precision(recipe)}",
        f"  descriptors {shape[2]} wide, views {shape[1]}, {facts['descriptors']['dtype']}; {_logits(facts)}",
        f"  clips of {_said(recipe, 'num_frames')} frames{_sampling(recipe)} without overlap, "
        f"tail {_said(recipe, 'tail')}, {facts['padded_clips']:,} of them padded",
        f"  pixels {_said(recipe, 'channel_order')} 0..{_said(recipe, 'pixel_max')}, mean {_said(recipe, 'mean')}, "
        f"std {_said(recipe, 'std')}",
        f"  resized to {_said(recipe, 'resize')} ({_said(recipe, 'resize_rule')}), "
        f"central crop {_said(recipe, 'crop')}",
        f"  {_labels(facts)}",
    ]
    if facts["videos_per_class"]:
        lines.append(f"  classes: {named_classes(facts['class_counts'])}")
    if recipe.get("weights") == "random":
        lines.append("  WARNING: random weights: these descriptors are for trying the pipeline only")
    lines += [f"  partial  {p['id']!r}: {p['note']}" for p in facts["partial"]]
    lines += [f"  failed   {f['id']!r}: {f['error']}" for f in facts["failures"]]
    lines += describe_losses([lost["id"] for lost in facts["digits_lost"]])
    lines += [f"  missing  {part}" for part in facts["missing"]]
    return "\n".join(lines)


def describe_losses(ids: list[str]) -> list[str]:
    """A line on the videos whose digits were lost, none where there are none."""
    return [f"  float16 loses digits of {counted(ids)}; extract with --dtype float32 to keep them"] if ids else []


def _spread(counts: np.ndarray) -> dict | None:
    if not len(counts):
        return None
    return {"min": int(counts.min()), "median": float(np.median(counts)), "max": int(counts.max())}


def _said(recipe: dict, name: str) -> str:
    """An entry of the recipe as people write it; "?" where it is not said."""
    value = recipe.get(name, "?")
    return f"{value:g}" if isinstance(value, float) else str(value)


def _stride(recipe: dict) -> str:
    return ", no temporal strides" if recipe.get("temporal_stride") == "none" else ""


def _sampling(recipe: dict) -> str:
    if not recipe.get("sampling_fps"):
        return ""
    why = "as trained" if recipe["sampling"] == "trained" else "as asked"
    return f", {recipe['sampling_fps']:g} a second {why},"


def _precision(recipe: dict) -> str:
    worst = recipe.get("precision_cosine")
    tried = f" (cosine to fp32 at least {worst:g} when tried)" if worst else ""
    runtime = f" by {recipe['runtime']}" if "runtime" in recipe else ""
    return f", in {recipe['precision']}{runtime}{tried}" if "precision" in recipe else ""


def _logits(facts: dict) -> str:
    if facts["backbone_classes"] is None:
        return "no clip logits"
    known = "" if facts["backbone_class_names_known"] else ", their names unknown"
    return f"clip logits of {facts['backbone_classes']} classes{known}"


def _labels(facts: dict) -> str:
    if not facts["videos_per_class"]:
        return "no labels; give them with --annotations, here or at training"
    spread = facts["videos_per_class"]
    subsets = ", ".join(f"{name or 'no subset'} {count:,}" for name, count in facts["subsets"].items())
    return (
        f"{facts['classes']} classes, {spread['min']} to {spread['max']} videos each, {facts['unlabelled']:,} videos "
        f"unlabelled; {subsets}; {facts['groups'] or 'no'} groups"
    )
