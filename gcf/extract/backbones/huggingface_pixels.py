"""What a Hugging Face processor does to frames, as entries of a recipe; tried, and refused where it cannot be had."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gcf.errors import UsageError
from gcf.extract.backbones.normalise import Normalise
from gcf.extract.decoding.preprocess import Geometry, centre_view

BILINEAR, BICUBIC = 2, 3  # PIL.Image.Resampling, which the files of processors write as numbers
RULES = {
    BILINEAR: {"pil": "pillow", "torchvision": "torchvision-antialias"},
    BICUBIC: {"pil": "pillow-bicubic", "torchvision": "torchvision-antialias-bicubic"},
}
TRIED_SIZES = ((120, 161), (241, 180), (360, 641), (97, 96))  # (H, W): wide, tall, odd, and smaller than the crop
OFFSETS = (0.0, 1.0)  # VivitVideoProcessor subtracts 1 before it normalises, and has no setting that says so
TOLERANCE = 1e-3  # of a grey level: float32 rounds in another order

Run = Callable[[np.ndarray], Tensor]


def pixels_of(processor: object, run: Run, *, place: str) -> dict:
    """The recipe's resize, crop, rules, channel order, range, mean and std.

    run: frames (T, H, W, 3) uint8 through the processor, (T, 3, h, w). `place` names it in errors. What the processor
    declares is tried on frames of noise: a recipe is given only where gcf makes of them what the processor does.
    Raises UsageError that says what is asked and cannot be had.
    """
    entries = _sizes(processor, place) | _values(processor, place)
    rules = RULES.get(getattr(processor, "resample", BILINEAR))
    if rules is None:
        raise UsageError(f"{_who(processor, place)} resizes by filter {processor.resample}; 2 and 3 are known")
    first = getattr(processor, "backend", "pil")
    least = float("inf")
    for offset in sorted(OFFSETS, reverse=bool(getattr(processor, "offset", False))):
        for _, rule in sorted(rules.items(), key=lambda item: item[0] != first):
            recipe = entries | {"resize_rule": rule, "mean": [mean + offset for mean in entries["mean"]]}
            worst = worst_difference(recipe, run)
            if worst <= TOLERANCE:
                return recipe
            least = min(least, worst)
    raise UsageError(
        f"{_who(processor, place)} does with frames what gcf cannot do: pixels differ by {least:.3g} grey levels "
        "from what its settings say"
    )


def worst_difference(recipe: dict, run: Run) -> float:
    """The largest difference in grey levels between the pixels of a recipe and a processor's; inf for another shape."""
    geometry, normalise, worst = Geometry.from_recipe(recipe), Normalise(recipe), 0.0
    level = recipe["pixel_max"] / 255 / torch.tensor(recipe["std"]).view(1, 3, 1, 1)
    for seed, size in enumerate(TRIED_SIZES):
        frame = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
        pixels = centre_view(frame, geometry).copy()  # Pillow's own memory may not be written
        ours = normalise(torch.from_numpy(pixels)[None, None])[0].transpose(0, 1)  # (1, 3, h, w)
        theirs = run(frame[None])
        if ours.shape != theirs.shape:
            return float("inf")
        worst = max(worst, float(((ours - theirs) / level).abs().max()))
    return worst


def _sizes(processor: object, place: str) -> dict:
    """resize, crop and crop_rule."""
    who, resize = _who(processor, place), _given(getattr(processor, "size", None))
    if not getattr(processor, "do_resize", False):
        raise UsageError(f"{who} does not resize (do_resize false): frames would have to be of the network's size")
    if set(resize) == {"shortest_edge"}:
        resize = resize["shortest_edge"]
    elif set(resize) == {"height", "width"}:
        resize = [resize["height"], resize["width"]]
    else:
        raise UsageError(f"{who} resizes to {resize}; shortest_edge, or height and width are known")
    if getattr(processor, "do_center_crop", False):
        crop = _given(processor.crop_size)
        crop = [crop.get("height", 0), crop.get("width", 0)]
    else:
        crop = resize
    if not isinstance(crop, list):
        raise UsageError(f"{who} does not crop: pictures of another shape would stay of another shape")
    least = resize if isinstance(resize, list) else [resize, resize]
    if not all(0 < wanted <= there for wanted, there in zip(crop, least, strict=True)):
        raise UsageError(f"{who} crops {crop} out of pictures of {resize}, which are smaller, and would be padded")
    return {"resize": resize, "crop": crop, "crop_rule": "floor"}


def _values(processor: object, place: str) -> dict:
    """channel_order, pixel_max, mean and std: (pixel / 255 * pixel_max - mean) / std is what the processor gives."""
    factor = processor.rescale_factor if getattr(processor, "do_rescale", False) else 1
    mean, std = [0.0] * 3, [1.0] * 3
    if getattr(processor, "do_normalize", False):
        mean, std = (_three(value) for value in (processor.image_mean, processor.image_std))
    if not factor > 0 or not all(std) or len(mean) != 3 or len(std) != 3:
        raise UsageError(f"{_who(processor, place)} has rescale_factor {factor}, image_mean {mean}, image_std {std}")
    return {"channel_order": "RGB", "pixel_max": 255 * factor, "mean": mean, "std": std}


def _three(value: float | list[float]) -> list[float]:
    return [float(value)] * 3 if isinstance(value, int | float) else [float(each) for each in value]


def _given(sizes: object) -> dict:
    """The entries of a processor's size, of whatever class, that say something."""
    entries = sizes if isinstance(sizes, dict) else vars(sizes)
    return {name: value for name, value in entries.items() if value is not None}


def _who(processor: object, place: str) -> str:
    return f"{place}: its {type(processor).__name__}"
