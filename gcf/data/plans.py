"""What every synthetic video shows: which sprite does what, when, before which scene."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations_with_replacement

import numpy as np

from gcf.data.motions import PRIMITIVES
from gcf.data.scenes import SHAPES, Sprite

KEYS = ("bounce", "grow", "orbit", "spin")  # what actions are made of
DISTRACTORS = tuple(name for name in PRIMITIVES if name not in KEYS)
MOVING = ("bounce", "orbit")  # the other actions stay where they are
CLASSES = tuple("+".join(pair) for pair in combinations_with_replacement(KEYS, 2))
RELATIONS = ("alike", "unlike")  # two that move, or two that stay; one of each
OF_TASK = {"pairs": CLASSES, "presence": KEYS, "relation": RELATIONS}
TASKS = tuple(OF_TASK)
SIZES = ((120, 160), (144, 176), (108, 192), (160, 120), (128, 128))  # (H, W)
RATES = (Fraction(12), Fraction(15), Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(30))
GROUP_VIDEOS = 6  # videos that share a scene, a size and a rate
SUBSETS = {"training": 0.6, "validation": 0.1, "testing": 0.3}  # ActivityNet's words, and shares of the groups
ACTION_FRAMES = (24, 40)  # one and a half to two and a half clips
DISTRACTOR_FRAMES = (12, 28)
VIDEO_FRAMES = (120, 208)  # 8 to 13 clips of 16
BETWEEN_FRAMES = 16  # at least, so that no clip shows both actions
TRIMMED_FRAMES = 32
OF_VIDEO, OF_GROUP, OF_SCENE, OF_FRAMES, OF_SET = range(1, 6)  # what a stream of random numbers is for


@dataclass(frozen=True)
class Act:
    """What one sprite does for a while; `action` is False for distractors."""

    primitive: str
    frames: int
    sprite: Sprite
    action: bool


@dataclass(frozen=True)
class VideoPlan:
    """All that decides one video; size is (H, W), seeds feed numpy's default_rng."""

    id: str
    label: str
    subset: str
    group: str
    size: tuple[int, int]
    rate: Fraction
    acts: tuple[Act, ...]
    scene_seed: tuple[int, ...]
    seed: tuple[int, ...]


def plan_videos(count: int, *, seed: int, trimmed: bool, task: str = "pairs") -> list[VideoPlan]:
    """The plans of a set, in the order of their numbers; classes are balanced inside each subset."""
    drawn = (seed, trimmed, *([TASKS.index(task)] if task != "pairs" else []))
    rng = np.random.default_rng([OF_SET, *drawn])
    classes = rng.permutation(PRIMITIVES if trimmed else OF_TASK[task]).tolist()
    num_groups = -(-count // GROUP_VIDEOS)
    subsets = rng.permutation([_subset(g, num_groups) for g in range(num_groups)])
    seen = dict.fromkeys(SUBSETS, 0)
    plans = []
    for number in range(count):
        subset = str(subsets[number // GROUP_VIDEOS])
        label = classes[seen[subset] % len(classes)]
        seen[subset] += 1
        plans.append(_plan(number, label, "" if trimmed else subset, drawn, trimmed=trimmed))
    return plans


def _subset(group: int, num_groups: int) -> str:
    """The subset of the group-th of all, by shares."""
    bounds = np.cumsum(list(SUBSETS.values()))
    return list(SUBSETS)[int(np.searchsorted(bounds, (group + 0.5) / num_groups, side="right"))]


def _actions(label: str, rng: np.random.Generator) -> list[str]:
    """The actions of a video of a class, in random order: one, two, or two that are of one kind or of two."""
    if label not in RELATIONS:
        return rng.permutation(label.split("+")).tolist()
    first = str(rng.choice(KEYS))
    seconds = [key for key in KEYS if ((key in MOVING) == (first in MOVING)) == (label == RELATIONS[0])]
    return [first, str(rng.choice(seconds))]


def _plan(number: int, label: str, subset: str, drawn: Sequence[int], *, trimmed: bool) -> VideoPlan:
    """One video; drawn: what numbers of this set are drawn by."""
    group = number // GROUP_VIDEOS
    rng = np.random.default_rng([OF_VIDEO, *drawn, number])
    shared = np.random.default_rng([OF_GROUP, *drawn, group])
    shapes = [str(shape) for shape in rng.permutation(SHAPES)]
    actor = Sprite(shapes[0], float(rng.uniform()))
    acts: tuple[Act, ...] = (Act(label, TRIMMED_FRAMES, actor, action=True),)
    if not trimmed:
        acts = _script(_actions(label, rng), actor, shapes[1:], rng)
    return VideoPlan(
        id=f"{label}/{'t' if trimmed else 'v'}{number:05d}_g{group + 1:03d}.mp4",
        label=label,
        subset=subset,
        group=f"g{group + 1:03d}",
        size=SIZES[shared.integers(len(SIZES))],
        rate=RATES[shared.integers(len(RATES))],
        acts=acts,
        scene_seed=(OF_SCENE, *drawn, group),
        seed=(OF_FRAMES, *drawn, number),
    )


def _script(actions: Sequence[str], actor: Sprite, others: Sequence[str], rng: np.random.Generator) -> tuple[Act, ...]:
    """Distractors, an action, distractors, the other action where there is one, distractors."""
    acts = [Act(name, int(rng.integers(*ACTION_FRAMES, endpoint=True)), actor, True) for name in actions]
    total = int(rng.integers(*VIDEO_FRAMES, endpoint=True))
    if len(acts) == 1:
        rest = total - acts[0].frames
        early = int(rng.integers(0, rest + 1))
        return (*_distractors(early, others, rng), *acts, *_distractors(rest - early, others, rng))
    first, second = acts
    free = total - first.frames - second.frames - BETWEEN_FRAMES
    cuts = sorted(rng.integers(0, free + 1, size=2).tolist())
    lengths = (cuts[0], cuts[1] - cuts[0] + BETWEEN_FRAMES, free - cuts[1])
    before, between, after = (_distractors(frames, others, rng) for frames in lengths)
    return (*before, first, *between, second, *after)


def _distractors(frames: int, shapes: Sequence[str], rng: np.random.Generator) -> list[Act]:
    """Acts that fill so many frames, none too short to be seen: what is left over is added to the last."""
    shortest, acts = DISTRACTOR_FRAMES[0], []
    while frames > 0:
        length = int(rng.integers(*DISTRACTOR_FRAMES, endpoint=True))
        length = frames if frames - length < shortest else length
        primitive = DISTRACTORS[rng.integers(len(DISTRACTORS))] if length >= shortest else "none"
        sprite = Sprite(shapes[int(rng.integers(len(shapes)))], float(rng.uniform()))
        acts.append(Act(primitive, length, sprite, action=False))
        frames -= length
    return acts
