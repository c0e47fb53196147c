"""Do the numbers per clip mean what they say? Take the clips away in their order, and see how the answer fades.

Deletion and insertion as Petsiuk, Das, Saenko have them for pixels (RISE, BMVC 2018), with clips for pixels. Deletion:
the clips leave from the most to the least important; the probability of the class that the head predicts on all of them
falls, the faster the better the order. Insertion: they come in the same order; it rises. The area under a curve is
that over the share of clips gone, or there, from 0 to 1.

A clip is taken away by its mask, in its slot, and in those that repeat it: what is left stays where
it was. The last clip stays: no head has learned what to say of a video without any, and its answer
would be the same for every order. So a video of n clips gives n points, at 0, 1 / (n - 1), ..., 1,
and one of a single clip none. Of the clips that the head reads, at most 21 numbers are asked for,
evenly spread.
"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.integrate import trapezoid

from gcf.data.schema import VideoFeatures, id_key
from gcf.explain.measures.bootstrap import mean_interval
from gcf.explain.reading.clip_reading import ClipReading
from gcf.head.models.saved import SavedHead
from gcf.head.tables.statistics import unit_numbers

POINTS = 21  # of a curve, at most
BLOCK = 1 << 24  # numbers that are given to the head at once, 64 MB
RANDOM = "random"
KINDS = ("deletion", "insertion")


@dataclass(frozen=True, eq=False)
class _Curves:
    """Of one video: the probability (P,) after each step, by (kind, order); for random orders, (R, P)."""

    id: str
    steps: np.ndarray  # (P,) share of the way, 0 to 1
    found: dict[tuple[str, str], np.ndarray]


def clip_scores(reading: ClipReading) -> dict[str, np.ndarray]:
    """The orders that a reading holds, by name: (C,) scores of all clips; evidence is that for the top class."""
    found = {"evidence": reading.evidence[:, reading.top], "gate": reading.gate, "attention": reading.attention}
    return {name: scores for name, scores in found.items() if scores is not None}


def faithfulness(
    head: SavedHead,
    videos: Iterable[VideoFeatures],
    scores: Mapping[str, Mapping[str, np.ndarray]],
    *,
    groups: Mapping[str, str] | None = None,
    repeats: int = 20,
    seed: int = 0,
) -> dict | None:
    """Areas under the deletion and insertion curves of each order, against random ones, paired within each video.

    scores: by the video's id, then by the order's name, (C,) of all its clips, the largest the most important (see
    `clip_scores`); of equal ones the earlier comes first. A video without scores is left out. groups: of videos, by id,
    which the interval draws as a whole. Only the clips that the head reads (`choose`) take part.

    Plain JSON values, by kind and order: `area`, the mean over videos; `difference`, the mean of its difference to the
    random orders of the same video, of which there are `repeats`; `low` and `high`, its 95 % bootstrap interval over
    videos or groups; `better`, the share of videos in which it beats the mean random order; `curve`, the mean at 0,
    5, ..., 100 %. None where no video has scores and two clips. An order counts only the videos that have it.
    """
    curves, single = [], 0
    for video in videos:
        orders = scores.get(video.id)
        if not orders:
            continue
        if len(np.unique(head.choose(len(video.descriptors)))) < 2:
            single += 1
            continue
        rng = np.random.default_rng([seed, zlib.crc32(id_key(video.id))])  # in whatever order the videos come
        curves.append(_curves(head, video, orders, rng, repeats))
    if not curves:
        return None
    curves.sort(key=lambda one: one.id)
    unit = unit_numbers(np.array([c.id for c in curves]), [(groups or {}).get(c.id, "") for c in curves])
    summary = {"videos": len(curves), "single_clip": single, "units": int(unit.max()) + 1, "repeats": repeats}
    return summary | {kind: _summarise(kind, curves, unit, seed) for kind in KINDS}


def _curves(
    head: SavedHead,
    video: VideoFeatures,
    orders: Mapping[str, np.ndarray],
    rng: np.random.Generator,
    repeats: int,
) -> _Curves:
    chosen = head.choose(len(video.descriptors))  # (S,)
    clips, of_slot = np.unique(chosen, return_inverse=True)  # (n,), and which of them is where (S,)
    count = len(clips)
    named = [np.argsort(-np.asarray(own)[clips], kind="stable") for own in orders.values()]
    ranked = np.stack(named + [rng.permutation(count) for _ in range(repeats)])  # (O, n), the most important first
    kept = np.unique(np.linspace(1, count, min(count, POINTS)).round().astype(int))  # (P,) numbers of clips
    ranks = ranked.argsort(axis=1)  # (O, n): the rank of each clip
    inserted = ranks[:, None] < kept[:, None]  # (O, P, n): the first ones are there
    deleted = ranks[:, None] >= kept[:, None] - 1  # the last ones are still there
    masks = np.stack([deleted, inserted])  # (2, O, P, n)
    in_slots = masks.reshape(-1, count)[:, of_slot]  # (2 O P, S)
    probabilities = ask(head, video.descriptors[chosen, 0], in_slots).reshape(masks.shape[:3])
    found = {}
    for kind, own in zip(KINDS, probabilities, strict=True):
        found |= {(kind, name): own[n] for n, name in enumerate(orders)} | {(kind, RANDOM): own[len(orders) :]}
    return _Curves(video.id, (kept - 1) / (count - 1), found)


def ask(head: SavedHead, clips: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Probability (M,) of the class that is the most probable with all clips (n, D), for each of masks (M, n).

    Masks that occur several times are asked for once, many at a time.
    """
    clips = torch.as_tensor(np.asarray(clips, dtype=np.float32))
    top = int(head(clips).logits[0].argmax())
    different, which = np.unique(masks, axis=0, return_inverse=True)
    step = max(1, BLOCK // clips.numel())
    found = []
    for part in torch.from_numpy(different).split(step):
        logits = head(clips.expand(len(part), -1, -1), part).logits
        found.append(head.probabilities(logits)[:, top].numpy())
    return np.concatenate(found).astype(float)[which.reshape(-1)]


def area(steps: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """The area under curves (..., P) over steps (P,) from 0 to 1, by trapezoids.

    >>> float(area(np.array([0.0, 0.5, 1.0]), np.array([1.0, 1.0, 0.0])))
    0.75
    """
    return trapezoid(curve, steps, axis=-1)


def _summarise(kind: str, curves: list[_Curves], unit: np.ndarray, seed: int) -> dict[str, dict]:
    """Every order's figures, the random one's last."""
    names = dict.fromkeys(name for one in curves for of, name in one.found if of == kind and name != RANDOM)
    return {name: _of_order(kind, name, curves, unit, seed) for name in [*names, RANDOM]}


def _of_order(kind: str, name: str, curves: list[_Curves], unit: np.ndarray, seed: int) -> dict:
    rows = [n for n, one in enumerate(curves) if (kind, name) in one.found]
    own = [np.atleast_2d(curves[n].found[kind, name]) for n in rows]  # (1, P), or (R, P) of random orders
    areas = np.array([area(curves[n].steps, curve).mean() for n, curve in zip(rows, own, strict=True)])
    places = np.linspace(0, 1, POINTS)
    drawn = [np.interp(places, curves[n].steps, curve.mean(axis=0)) for n, curve in zip(rows, own, strict=True)]
    found = {"videos": len(rows), "area": float(areas.mean()), "curve": np.mean(drawn, axis=0).tolist()}
    if name == RANDOM:
        return found
    chance = np.array([area(curves[n].steps, curves[n].found[kind, RANDOM]).mean() for n in rows])
    gains = areas - chance
    low, high = mean_interval(gains, unit[rows], seed=seed)
    better = gains < 0 if kind == "deletion" else gains > 0
    return found | {"difference": float(gains.mean()), "low": low, "high": high, "better": float(better.mean())}
