"""Which ways of feeding a network are tried: its declared recipe, altered in one thing at a time, and clip orders."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gcf.extract.backbones.published import PUBLISHED, TORCHVISION, Pixels, find_weights

DECLARED = "as declared"
PIXEL_KEYS = ("channel_order", "pixel_max", "mean", "std")
OTHER_ORDER = {"RGB": "BGR", "BGR": "RGB"}


@dataclass(frozen=True)
class Setting:
    """One way of making network input of uint8 pixels: the recipe entries PIXEL_KEYS, and what it is called."""

    name: str
    pixels: dict

    def describe(self) -> str:
        """The four entries in words."""
        mean, std = _numbers(self.pixels["mean"]), _numbers(self.pixels["std"])
        return f"{self.pixels['channel_order']}, 0..{self.pixels['pixel_max']:g}, mean {mean}, std {std}"


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


def declared_setting(recipe: dict) -> Setting:
    """What the backbone's recipe asks for."""
    return Setting(DECLARED, {key: recipe[key] for key in PIXEL_KEYS})


def altered_settings(declared: Setting) -> list[Setting]:
    """Both channel orders times both ranges, then every mean and std of the registry in its own range; each once.

    A range alone is altered as a mistake alters it: mean and std stay as they are. A mean and std of another range come
    in both orders: from a wrong range, neither mistake shows before the other is put right.
    """
    pixels = declared.pixels
    other = 255.0 if pixels["pixel_max"] != 255.0 else 1.0
    order = OTHER_ORDER[pixels["channel_order"]]
    found = [
        Setting(order, pixels | {"channel_order": order}),
        Setting(f"0..{other:g}", pixels | {"pixel_max": other}),
        Setting(f"{order}, 0..{other:g}", pixels | {"channel_order": order, "pixel_max": other}),
    ]
    for name, values in known_normalisations().items():
        found.append(Setting(f"mean and std of {name}", pixels | values))
        if values["pixel_max"] != pixels["pixel_max"]:
            found.append(Setting(f"mean and std of {name}, {order}", pixels | values | {"channel_order": order}))
    return distinct([declared, *found])[1:]


def distinct(settings: list[Setting]) -> list[Setting]:
    """Those that no earlier one equals."""
    kept: list[Setting] = []
    for setting in settings:
        if all(setting.pixels != other.pixels for other in kept):
            kept.append(setting)
    return kept


def known_normalisations() -> dict[str, dict]:
    """Backbone that wants it -> pixel_max, mean and std, each triple once; of all published weights."""
    found: dict[str, dict] = {}
    pairs = [(spec.backbone, spec.pixels) for spec in PUBLISHED]
    pairs += [(name, find_weights(name, weights_id).pixels) for name, weights_id in TORCHVISION]
    for name, pixels in pairs:
        values = _normalisation(pixels)
        if values not in found.values():
            found[name] = values
    return found


def _normalisation(pixels: Pixels) -> dict:
    return {key: value for key, value in pixels.recipe().items() if key in ("pixel_max", "mean", "std")}


def _shuffled(clips: np.ndarray) -> np.ndarray:
    """All clips alike, and alike on every run."""
    return clips[:, np.random.default_rng(0).permutation(clips.shape[1])]


def _frozen(clips: np.ndarray) -> np.ndarray:
    middle = clips.shape[1] // 2
    return np.repeat(clips[:, middle : middle + 1], clips.shape[1], axis=1)


# clips (n, T, H, W, 3) -> the same with frames moved; never a fault, it tells what the network looks at
CLIP_ORDERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "frames reversed": lambda clips: clips[:, ::-1],
    "frames shuffled": _shuffled,
    "frozen to one frame": _frozen,
}
