"""Decoded frames to the uint8 pixels a network sees: resize and crop, centre or augmented."""

import hashlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

# 3D-ResNets-PyTorch and Efficient-3DCNNs train with these: 5 scales, each 2^(1/4) smaller, at the centre or a corner
SCALES = tuple(2 ** (-i / 4) for i in range(5))
POSITIONS = ((0.5, 0.5), (0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0))  # (x, y) shares of the free margin

RESIZE_RULES = ("pillow", "pillow-bicubic", "torchvision", "torchvision-antialias", "torchvision-antialias-bicubic")
CROP_RULES = ("round", "floor")


@dataclass(frozen=True)
class Geometry:
    """How frames become network input: `resize` the short side (or to (H, W)), then the central `crop` (H, W).

    rule: "pillow" = Pillow's antialiased BILINEAR, the first five families' own; "torchvision" = tensors with
    antialias=False, as the transforms of torchvision's video weights are written; "torchvision-antialias" = tensors
    with antialias=True, within one grey level of Pillow. "-bicubic" after it: BICUBIC in the place of BILINEAR.
    crop_rule: see `crop_corner`.
    """

    resize: int | tuple[int, int]
    crop: tuple[int, int]
    rule: str = "pillow"
    crop_rule: str = "round"

    @classmethod
    def from_recipe(cls, recipe: dict) -> "Geometry":
        """The geometry that a backbone's recipe asks for; sizes may be an int or an [H, W] pair."""
        resize, crop = recipe["resize"], recipe["crop"]
        if not isinstance(resize, int):
            resize = tuple(resize)
        return cls(
            resize=resize,
            crop=(crop, crop) if isinstance(crop, int) else tuple(crop),
            rule=recipe.get("resize_rule", "pillow"),
            crop_rule=recipe.get("crop_rule", "round"),
        )


@dataclass(frozen=True)
class View:
    """One augmented treatment of a whole video: a square of `scale` x the short side, placed, perhaps mirrored."""

    scale: float
    position: tuple[float, float]
    flip: bool


def resized_size(height: int, width: int, resize: int | tuple[int, int]) -> tuple[int, int]:
    """(H, W) after resizing; the long side is int(resize * long / short).

    >>> resized_size(240, 320, 112)
    (112, 149)
    """
    if not isinstance(resize, int):
        return resize
    if height <= width:
        return resize, int(resize * width / height)
    return int(resize * height / width), resize


def crop_corner(size: tuple[int, int], crop: tuple[int, int], rule: str = "round") -> tuple[int, int]:
    """(top, left) of the central crop. "round": int(round(margin / 2)), half to even, as torchvision has it.

    "floor": half of an odd margin is rounded down, as transformers has it (image_transforms.center_crop).

    >>> crop_corner((115, 113), (112, 112)), crop_corner((115, 113), (112, 112), "floor")
    ((2, 0), (1, 0))
    """
    margins = size[0] - crop[0], size[1] - crop[1]
    return tuple(margin // 2 if rule == "floor" else round(margin / 2) for margin in margins)


def centre_view(frame: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Frame (H, W, 3) uint8 -> (h, w, 3) uint8, the view that networks are tested with."""
    height, width = frame.shape[:2]
    size = resized_size(height, width, geometry.resize)
    if size != (height, width):
        frame = _resized(frame, size, geometry.rule)
    top, left = crop_corner(size, geometry.crop, geometry.crop_rule)
    return frame[top : top + geometry.crop[0], left : left + geometry.crop[1]]


def crop_square(size: tuple[int, int], view: View) -> tuple[int, int, int]:
    """(left, top, side) of what a view cuts out of frames of `size` (H, W), in pixels."""
    side = max(1, int(min(size) * view.scale))
    left, top = (round(share * (free - side)) for share, free in zip(view.position, size[::-1], strict=True))
    return left, top, side


def augmented_view(frame: np.ndarray, view: View, crop: tuple[int, int]) -> np.ndarray:
    """Frame (H, W, 3) uint8 -> (h, w, 3) uint8: multi-scale corner crop resized by Pillow, then the flip."""
    left, top, side = crop_square(frame.shape[:2], view)
    pixels = _resize_pillow(np.ascontiguousarray(frame[top : top + side, left : left + side]), crop)
    return pixels[:, ::-1] if view.flip else pixels


def draw_views(video_id: str, *, count: int, seed: int) -> list[View]:
    """The augmented views 1..count of a video: the same for a video and seed wherever and whenever it is extracted."""
    views = []
    for index in range(count):
        text = f"{seed}/{index}/".encode() + video_id.encode("utf-8", "surrogateescape")
        rng = np.random.Generator(np.random.Philox(int.from_bytes(hashlib.sha256(text).digest()[:8], "big")))
        scale, position = SCALES[rng.integers(len(SCALES))], POSITIONS[rng.integers(len(POSITIONS))]
        views.append(View(scale, position, flip=bool(rng.integers(2))))
    return views


def _resized(frame: np.ndarray, size: tuple[int, int], rule: str) -> np.ndarray:
    """By one of RESIZE_RULES."""
    library, *how = rule.split("-")
    if library == "pillow":
        return _resize_pillow(frame, size, Image.Resampling.BICUBIC if "bicubic" in how else Image.Resampling.BILINEAR)
    return _resize_torchvision(frame, size, antialias="antialias" in how, bicubic="bicubic" in how)


def _resize_pillow(
    frame: np.ndarray, size: tuple[int, int], resample: Image.Resampling = Image.Resampling.BILINEAR
) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).resize((size[1], size[0]), resample))


def _resize_torchvision(frame: np.ndarray, size: tuple[int, int], *, antialias: bool, bicubic: bool) -> np.ndarray:
    """Without antialias by the first version of the transforms, with it by the second: their rounding differs.

    The first version's steps are written out here: importing torchvision takes each decoder 1.5 s.
    """
    import torch

    pixels = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)
    if not antialias:
        resized = torch.nn.functional.interpolate(pixels[None].float(), size, mode="bilinear", align_corners=False)
        return resized[0].round().to(torch.uint8).permute(1, 2, 0).numpy()
    from torchvision.transforms.v2 import InterpolationMode, functional

    how = InterpolationMode.BICUBIC if bicubic else InterpolationMode.BILINEAR
    pixels = pixels.contiguous()  # as transformers' processors have them
    return functional.resize(pixels, list(size), interpolation=how, antialias=True).permute(1, 2, 0).numpy()
