"""Primitive motions of a sprite: where it is in every frame, in units of the frame's central square."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MARGIN = 0.06  # room for the camera's shake


@dataclass(frozen=True, eq=False)
class Track:
    """A sprite's way through n frames; arrays (n,).

    x, y: its centre, 0..1 from left to right and from top to bottom of the central square. size: diameter of the
    circle around it, a share of the square's side. angle: degrees, clockwise. visible: False where it is hidden.
    """

    x: np.ndarray
    y: np.ndarray
    size: np.ndarray
    angle: np.ndarray
    visible: np.ndarray


def _resting(frames: int, rng: np.random.Generator, **moved: np.ndarray) -> Track:
    """A path at rest but for what is given; what is given must leave the sprite inside."""
    size = np.full(frames, rng.uniform(0.22, 0.34))
    values = {"size": size, "angle": np.full(frames, rng.uniform(0, 360)), "visible": np.ones(frames, bool)} | moved
    room = 0.5 * values["size"].max() + MARGIN
    values = {axis: np.full(frames, rng.uniform(room, 1 - room)) for axis in ("x", "y")} | values
    return Track(**values)


def _slide(direction: int) -> Callable[[int, np.random.Generator], Track]:
    def path(frames: int, rng: np.random.Generator) -> Track:
        size = rng.uniform(0.22, 0.34)
        room = 0.5 * size + MARGIN
        way = (1 - 2 * room) * rng.uniform(0.85, 1) * np.linspace(-0.5, 0.5, frames)
        return _resting(frames, rng, x=0.5 + direction * way, size=np.full(frames, size))

    return path


def _spin(frames: int, rng: np.random.Generator) -> Track:
    angle = rng.uniform(0, 360) + rng.choice([-1, 1]) * rng.uniform(12, 26) * np.arange(frames)
    return _resting(frames, rng, angle=angle)


def _zoom(direction: int) -> Callable[[int, np.random.Generator], Track]:
    def path(frames: int, rng: np.random.Generator) -> Track:
        size = rng.uniform(0.15, 0.19) * rng.uniform(2.6, 3.2) ** np.linspace(0, 1, frames)
        return _resting(frames, rng, size=size[::direction])

    return path


def _bounce(frames: int, rng: np.random.Generator) -> Track:
    size = rng.uniform(0.22, 0.34)
    room = 0.5 * size + MARGIN
    height = rng.uniform(0.25, 0.4)
    hops = np.arange(frames) / rng.uniform(10, 18) + rng.uniform()
    y = rng.uniform(room + height, 1 - room) - height * abs(np.sin(np.pi * hops))
    return _resting(frames, rng, y=y, size=np.full(frames, size))


def _orbit(frames: int, rng: np.random.Generator) -> Track:
    size, radius = rng.uniform(0.22, 0.3), rng.uniform(0.15, 0.22)
    room = 0.5 * size + MARGIN + radius
    turns = 2 * np.pi * (rng.choice([-1, 1]) * np.arange(frames) / rng.uniform(14, 24) + rng.uniform())
    x, y = (rng.uniform(room, 1 - room) + radius * wave(turns) for wave in (np.cos, np.sin))
    return _resting(frames, rng, x=x, y=y, size=np.full(frames, size))


def _shake(frames: int, rng: np.random.Generator) -> Track:
    size, width = rng.uniform(0.22, 0.34), rng.uniform(0.06, 0.1)
    room = 0.5 * size + MARGIN + width
    waves = np.arange(frames) / rng.uniform(4, 8) + rng.uniform()
    x = rng.uniform(room, 1 - room) + width * np.sin(2 * np.pi * waves)
    return _resting(frames, rng, x=x, size=np.full(frames, size))


def _blink(frames: int, rng: np.random.Generator) -> Track:
    half_period = rng.integers(2, 5)
    visible = (np.arange(frames) + rng.integers(2 * half_period)) // half_period % 2 == 0
    return _resting(frames, rng, visible=visible)


def _none(frames: int, rng: np.random.Generator) -> Track:
    return _resting(frames, rng, visible=np.zeros(frames, bool))


# No motion depends on the frame rate: a 16-frame clip sees as much of it at 12 frames a second as at 30
MOTIONS: dict[str, Callable[[int, np.random.Generator], Track]] = {
    "blink": _blink,
    "bounce": _bounce,
    "grow": _zoom(1),
    "none": _none,
    "orbit": _orbit,
    "shake": _shake,
    "shrink": _zoom(-1),
    "slide-left": _slide(-1),
    "slide-right": _slide(1),
    "spin": _spin,
    "still": _resting,
}
PRIMITIVES = tuple(MOTIONS)
# What a motion becomes when the picture is flipped from left to right; all others stay what they are
MIRRORED = {"slide-left": "slide-right", "slide-right": "slide-left"}
