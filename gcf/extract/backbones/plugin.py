"""Backbones from outside: one Python file, or an installed package's entry point, with RECIPE and build()."""

import importlib.metadata
import json
import os
from pathlib import Path

from torch import nn

from gcf.data.plugin_files import PLUGIN_SUFFIX, code_sha256, run_plugin_file, told
from gcf.errors import UsageError
from gcf.extract.backbones.listing import ENTRY_POINTS
from gcf.extract.decoding.preprocess import CROP_RULES, RESIZE_RULES

METHODS = ("feature_map", "descriptor", "classify")
REQUIRED = ("num_frames", "resize", "crop", "channel_order", "pixel_max", "mean", "std")
# Beside these, RECIPE may say trained_fps: frames a second that the weights were trained with; None for every frame.
# crop_rule, one of preprocess.CROP_RULES: "round" where it says nothing. fixed_frames: clips are as long as num_frames
# says, always (True) or unless another multiple of frames_step is asked for (False); see recipe.py.
DEFAULTS = {"weights": "plug-in", "resize_rule": "pillow", "classes": None}
CHANNEL_ORDERS = ("RGB", "BGR")


def find_plugin(name: str | os.PathLike) -> tuple[str, object] | None:
    """(short name, object with RECIPE and build) for a path FILE.py or an entry point's name; None for neither.

    Raises UsageError when the file is not there or cannot be run, or the entry point not be loaded.
    """
    text = os.fspath(name)
    if text.endswith(PLUGIN_SUFFIX):
        return Path(text).stem, run_plugin_file(text)
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS, name=text):
        try:
            return text, entry.load()
        except Exception as error:  # whatever a stranger's package raises, the user needs to know whose it is
            raise UsageError(f"backbone {text} of {entry.value}: cannot be loaded ({told(error)})") from error
    return None


def build_plugin(name: str, plugin: object) -> nn.Module:
    """The plug-in's network in eval mode, with `.recipe` complete but for the weights' digest.

    Raises UsageError that says what the plug-in lacks.
    """
    recipe = complete_recipe(name, getattr(plugin, "RECIPE", None)) | {"plugin_sha256": code_sha256(plugin)}
    build = getattr(plugin, "build", None)
    if not callable(build):
        raise UsageError(f"plug-in {name}: has no build() that returns the network")
    try:
        network = build()
    except Exception as error:  # as above
        raise UsageError(f"plug-in {name}: build() failed ({told(error)})") from error
    if not isinstance(network, nn.Module):
        raise UsageError(f"plug-in {name}: build() gave {type(network).__name__}, not a torch.nn.Module")
    lacking = [method for method in METHODS if not callable(getattr(network, method, None))]
    if lacking:
        raise UsageError(
            f"plug-in {name}: the network has no {', '.join(lacking)}; a backbone has {', '.join(METHODS)}"
        )
    network.recipe = recipe
    return network.eval()


def complete_recipe(name: str, given: object) -> dict:
    """A plug-in's RECIPE checked, defaults filled in, tuples as lists.

    Raises UsageError that names the entry that is missing or makes no sense.
    """
    if not isinstance(given, dict):
        raise UsageError(f"plug-in {name}: has no dict RECIPE")
    missing = [key for key in REQUIRED if key not in given]
    if missing:
        raise UsageError(f"plug-in {name}: RECIPE lacks {', '.join(missing)}")
    try:
        recipe = json.loads(json.dumps({"name": name, **DEFAULTS, **given}, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsageError(f"plug-in {name}: RECIPE must be plain JSON ({error})") from error
    wrong = [key for key, good in _sensible(recipe).items() if not good]
    if wrong:
        raise UsageError(f"plug-in {name}: RECIPE's {', '.join(wrong)} cannot be used as given")
    return recipe | {"weights_sha256": None, "temporal_stride": "trained"}


def _sensible(recipe: dict) -> dict[str, bool]:
    """Entry -> whether its value can be meant."""
    classes = recipe["classes"]
    return {
        "num_frames": _is_count(recipe["num_frames"]),
        "resize": _is_count(recipe["resize"]) or _is_list(recipe["resize"], 2, _is_count),
        "crop": _is_count(recipe["crop"]) or _is_list(recipe["crop"], 2, _is_count),
        "crop (it is larger than resize)": _covers(recipe["resize"], recipe["crop"]),
        "fixed_frames": isinstance(recipe.get("fixed_frames", False), bool),
        "frames_step": _is_count(recipe.get("frames_step", 1)),
        "frames_step (it needs fixed_frames: false)": recipe.get("fixed_frames") is False
        or "frames_step" not in recipe,
        "channel_order": recipe["channel_order"] in CHANNEL_ORDERS,
        "resize_rule": recipe["resize_rule"] in RESIZE_RULES,
        "crop_rule": recipe.get("crop_rule", "round") in CROP_RULES,
        "pixel_max": _is_number(recipe["pixel_max"]) and recipe["pixel_max"] > 0,
        "mean": _is_list(recipe["mean"], 3, _is_number),
        "std": _is_list(recipe["std"], 3, _is_number) and all(recipe["std"]),
        "trained_fps": _is_rate(recipe.get("trained_fps")),
        "classes": classes is None or (isinstance(classes, list) and all(isinstance(name, str) for name in classes)),
    }


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_rate(value: object) -> bool:
    return value is None or (_is_number(value) and value > 0)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_list(value: object, length: int, fits) -> bool:
    return isinstance(value, list) and len(value) == length and all(fits(item) for item in value)


def _covers(resize: object, crop: object) -> bool:
    """Whether a frame resized so holds the crop; sizes that are none are complained of elsewhere."""
    pairs = [[size, size] if isinstance(size, int) else size for size in (resize, crop)]
    if not all(_is_list(pair, 2, _is_count) for pair in pairs):
        return True
    return all(resized >= cropped for resized, cropped in zip(*pairs, strict=True))
