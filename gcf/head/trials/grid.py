"""Any grid of heads and settings: the fields to vary and their values, as Python or as text."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from itertools import product
from math import prod
from typing import get_args

from gcf.errors import UsageError
from gcf.head.models.config import HeadConfig, TrainConfig
from gcf.head.trials.arms import (
    HEAD_FIELDS,
    TRAIN_FIELDS,
    Arm,
    Comparison,
    head_name,
    known_fields,
    varied,
    with_baselines,
)

MOST_ARMS = 500
TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
TYPES = {f.name: get_args(f.type) or (f.type,) for config in (HeadConfig, TrainConfig) for f in fields(config)}


def grid_comparison(
    head: str | HeadConfig, grid: Mapping[str, Sequence], train: TrainConfig, *, own_classifier: bool
) -> Comparison:
    """Every combination of the grid against C-Clip and D-Clips.

    The axis is the first field of numbers with several values; arms that differ in nothing else lie on one curve.
    """
    arms = grid_arms(head, grid, train)
    found = Comparison(arms)
    axis = next((name for name, values in grid.items() if len(values) > 1 and all(map(_is_number, values))), None)
    if axis is not None:
        points = dict(zip((arm.name for arm in arms), _combinations(grid), strict=True))
        base = getattr(head, "name", head)
        lines = {}
        for name, point in points.items():
            other = {field: value for field, value in point.items() if field != axis}
            lines[name] = head_name(base, other)
        found = Comparison(arms, axis=axis, values={n: p[axis] for n, p in points.items()}, lines=lines)
    return with_baselines(found, own_classifier=own_classifier)


def grid_arms(head: str | HeadConfig, grid: Mapping[str, Sequence], train: TrainConfig) -> tuple[Arm, ...]:
    """One arm for every combination of values, the last field fastest; fields are those of HeadConfig or TrainConfig.

    Raises UsageError for an unknown field, a value that the field does not take, and too many arms.

    >>> [arm.name for arm in grid_arms("gcf-256", {"width": [64, 256], "layers": [2]}, TrainConfig())]
    ['gcf-256 width=64 layers=2', 'gcf-256 width=256 layers=2']
    """
    for name, values in grid.items():
        if name not in HEAD_FIELDS | TRAIN_FIELDS:
            raise UsageError(f"unknown field {name!r} in the grid; {known_fields()}")
        if len(set(values)) < len(values) or not values:
            raise UsageError(f"grid {name}: give each value once, and at least one; got {', '.join(map(str, values))}")
    if not grid:
        raise UsageError(f"an empty grid; {known_fields()}")
    count = prod(len(values) for values in grid.values())
    if count > MOST_ARMS:
        raise UsageError(f"the grid makes {count} arms; at most {MOST_ARMS} are compared at once, so give fewer values")
    return tuple(varied(head, train, **point) for point in _combinations(grid))


def _combinations(grid: Mapping[str, Sequence]) -> Iterable[dict]:
    return [dict(zip(grid, point, strict=True)) for point in product(*grid.values())]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def parse_grid(texts: Iterable[str]) -> dict[str, list]:
    """Texts of the form FIELD=VALUE,VALUE,... as a grid; each value is read as its field's type.

    >>> parse_grid(["width=64,256", "sparsity=0,1e-3", "input-projection=false"])
    {'width': [64, 256], 'sparsity': [0.0, 0.001], 'input_projection': [False]}
    """
    grid: dict[str, list] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise UsageError(f"grid {text!r} is not of the form FIELD=VALUE,VALUE,..., such as width=64,256")
        if name not in HEAD_FIELDS | TRAIN_FIELDS:
            raise UsageError(f"unknown field {name!r} in the grid; {known_fields()}")
        if name in grid:
            raise UsageError(f"grid {name}: given twice; put all its values into one, {name}=VALUE,VALUE,...")
        grid[name] = [_parsed(name, value.strip()) for value in values.split(",")]
    return grid


def _parsed(name: str, text: str) -> object:
    """The text as the field's type; a type that may be None is never given as None."""
    kind = next(t for t in TYPES[name] if t in (bool, int, float, str))
    try:
        return TRUTHS[text.lower()] if kind is bool else kind(text)
    except (ValueError, KeyError):
        kinds = {bool: "true or false", int: "a whole number", float: "a number"}
        raise UsageError(f"grid {name}: {text!r} is not {kinds[kind]}") from None
