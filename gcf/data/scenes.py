"""Draw synthetic scenes: a textured background that moves, a camera that shakes, and a coloured sprite on top."""

import colorsys
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from gcf.data.motions import Track

SHAPES = ("arrow", "cross", "disk", "square", "star", "triangle")
SPRITE_PIXELS = 64  # side of a sprite as drawn; frames show it smaller
OVERSAMPLING = 4
BACKGROUND_ROOM = 0.35  # how far the background wanders, a share of the short side
SHAKE = 0.012  # standard deviation of the camera's shake, a share of the short side


@dataclass(frozen=True)
class Sprite:
    """What a sprite looks like; hue 0..1. Sprites are vivid, backgrounds nearly grey."""

    shape: str
    hue: float


@dataclass(frozen=True, eq=False)
class Scene:
    """One background: a canvas larger than the frame, and the frame's (height, width)."""

    canvas: Image.Image
    size: tuple[int, int]


def draw_scene(size: tuple[int, int], rng: np.random.Generator) -> Scene:
    """A background of cloudy noise with grey clutter, for frames of `size` (height, width)."""
    room = round(BACKGROUND_ROOM * min(size)) + 8
    height, width = (side + 2 * room for side in size)
    light = _noise(height, width, rng, cells=(3, 7, 15, 40, 90), fall=0.62)
    tint = np.stack([_noise(height, width, rng, cells=(2, 4), fall=0.6) for _ in range(3)], axis=-1)
    pixels = rng.uniform(85, 165) + rng.uniform(28, 45) * light[..., None] + 5 * tint
    canvas = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(canvas)
    for _ in range(rng.integers(6, 14)):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        w, h = rng.uniform(0.05, 0.3, size=2) * min(size)
        level = int(rng.uniform(40, 215))
        draw = pen.ellipse if rng.random() < 0.5 else pen.rectangle
        draw((x, y, x + w, y + h), fill=(level, level, level))
    return Scene(canvas, size)


def draw_frames(
    scene: Scene, acts: list[tuple[Sprite, Track]], rng: np.random.Generator
) -> tuple[np.ndarray, list[tuple[int, int, int, int] | None]]:
    """Play acts one after another: frames (n, H, W, 3) uint8, and the sprite's box in each of them.

    A box is (left, top, right, bottom) in pixels, right and bottom exclusive, around what is drawn of the sprite; None
    where there is none.
    """
    height, width = scene.size
    short = min(scene.size)
    total = sum(len(track.x) for _, track in acts)
    shake = _shake(total, rng) * short
    wander = _wander(total, rng) * short
    frames, boxes = np.empty((total, height, width, 3), np.uint8), []
    index = 0
    for sprite, track in acts:
        colours, shape = _draw_sprite(sprite)
        for k in range(len(track.x)):
            frame = _cut(scene, wander[index] + shake[index])
            boxes.append(_paste(frame, colours, shape, track, k, shake[index]))
            frames[index] = np.asarray(frame)
            index += 1
    return frames, boxes


def _noise(height: int, width: int, rng: np.random.Generator, *, cells: tuple[int, ...], fall: float) -> np.ndarray:
    """Smooth random values (height, width) of mean 0 and standard deviation 1, coarse cells the strongest."""
    total = np.zeros((height, width))
    for octave, count in enumerate(cells):
        grid = Image.fromarray(rng.standard_normal((count, count)).astype(np.float32))
        total += fall**octave * np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC))
    return (total - total.mean()) / total.std()


def _shake(frames: int, rng: np.random.Generator) -> np.ndarray:
    """Camera displacement (frames, 2), smoothed so that a hand rather than a fault seems to do it."""
    raw = rng.standard_normal((frames + 4, 2))
    smooth = sum(raw[i : i + frames] for i in range(5)) / np.sqrt(5)
    return np.clip(SHAKE * smooth, -0.05, 0.05)


def _wander(frames: int, rng: np.random.Generator) -> np.ndarray:
    """Displacement (frames, 2) of the background along a slow curve, within BACKGROUND_ROOM less the shake's 0.05."""
    time = np.arange(frames)[:, None] / rng.uniform(90, 260, size=2) + rng.uniform(size=2)
    return (BACKGROUND_ROOM - 0.05) * np.sin(2 * np.pi * time)


def _cut(scene: Scene, offset: np.ndarray) -> Image.Image:
    height, width = scene.size
    left, top = (scene.canvas.width - width) / 2, (scene.canvas.height - height) / 2
    matrix = (1, 0, left + offset[0], 0, 1, top + offset[1])
    return scene.canvas.transform((width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def _paste(
    frame: Image.Image, colours: Image.Image, shape: Image.Image, track: Track, k: int, shake: np.ndarray
) -> tuple[int, int, int, int] | None:
    """Draw frame k of a track; the sprite moves against the camera's shake, as the background does."""
    if not track.visible[k]:
        return None
    width, height = frame.size
    short = min(frame.size)
    x = (width - short) / 2 + short * track.x[k] - shake[0]
    y = (height - short) / 2 + short * track.y[k] - shake[1]
    zoom = SPRITE_PIXELS / (short * track.size[k])  # sprite pixels per frame pixel
    cos, sin = zoom * np.cos(np.radians(track.angle[k])), zoom * np.sin(np.radians(track.angle[k]))
    middle = SPRITE_PIXELS / 2
    matrix = (cos, sin, middle - cos * x - sin * y, -sin, cos, middle + sin * x - cos * y)
    warp = (frame.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    mask = shape.transform(*warp)
    frame.paste(colours.transform(*warp), (0, 0), mask)
    return mask.point(lambda value: 255 * (value >= 128)).getbbox()


def _draw_sprite(sprite: Sprite) -> tuple[Image.Image, Image.Image]:
    """Colours (RGB) and shape (L, 255 inside) of a sprite; two colours, so that every shape shows how it is turned."""
    side = SPRITE_PIXELS * OVERSAMPLING
    shape = Image.new("L", (side, side))
    pen = ImageDraw.Draw(shape)
    for polygon in _outline(sprite.shape):
        pen.polygon([(side * (0.5 + 0.48 * x), side * (0.5 + 0.48 * y)) for x, y in polygon], fill=255)
    colours = Image.new("RGB", (SPRITE_PIXELS, SPRITE_PIXELS), _colour(sprite.hue, 1.0))
    half = (0, SPRITE_PIXELS // 2, SPRITE_PIXELS, SPRITE_PIXELS)
    ImageDraw.Draw(colours).rectangle(half, fill=_colour(sprite.hue + 0.12, 0.75))
    return colours, shape.resize((SPRITE_PIXELS, SPRITE_PIXELS), Image.Resampling.BOX)


def _colour(hue: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, 1.0, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _outline(shape: str) -> list[list[tuple[float, float]]]:
    """Polygons that together are a shape, inside the unit circle."""
    if shape == "cross":
        return [
            [(-0.95, -0.3), (0.95, -0.3), (0.95, 0.3), (-0.95, 0.3)],
            [(-0.3, -0.95), (0.3, -0.95), (0.3, 0.95), (-0.3, 0.95)],
        ]
    if shape == "arrow":
        return [[(-0.35, 0.93), (-0.35, -0.1), (-0.8, -0.1), (0, -1), (0.8, -0.1), (0.35, -0.1), (0.35, 0.93)]]
    corners, inner = {"disk": (40, 1.0), "square": (4, 1.0), "star": (10, 0.45), "triangle": (3, 1.0)}[shape]
    turns = [2 * np.pi * i / corners for i in range(corners)]
    radii = [inner if i % 2 else 1.0 for i in range(corners)]
    return [[(r * np.sin(t), -r * np.cos(t)) for r, t in zip(radii, turns, strict=True)]]
