"""What `head.json` may say: what each of its fields must be, checked before any of it is used.

A head may be a stranger's. What its fields ask for is bounded, so that reading one takes little
time and memory whatever it says, and every fault is one line: file, field, what was found, what to
do.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeGuard

from gcf.data.recipe import JOINED
from gcf.errors import HeadError
from gcf.head.models.config import JUDGES, MOST_LAYERS, PADDINGS, POLICIES, HeadConfig

FORMAT, SCHEMA = "gcf-head", 1
METRICS = "metrics.json"  # of the run that trained the head, in its folder
MOST_BYTES = 64 << 20
MOST_DEPTH = 64  # objects and lists within each other; gcf writes five
WIDEST = 1 << 20  # channels or classes
MOST_CLIPS = 100_000  # of a video that a head reads at once
MOST_FRAMES = 1024  # of a clip
MOST_PIXELS = 8192  # a side of a frame
MOST_VIDEOS = 1024  # clips in a batch of the network
MOST_JOINED = 64  # feature files side by side
MOST_RATE = 1000.0  # frames a second, as `gcf.extract.decoding.sampling` has it
MOST_SEED = (1 << 64) - 1
SHOWN = 40  # characters of what was found
DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Field:
    """What a field must be, in words and as a test of its value; whether it may be left out."""

    words: str
    fits: Callable[[object], bool]
    needed: bool = False


def _is_whole(value: object) -> TypeGuard[int]:
    return type(value) is int  # True and False are no numbers here


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(low: int, high: int, *, needed: bool = False) -> Field:
    words = f"a whole number from {low:,} to {high:,}"
    return Field(words, lambda value: _is_whole(value) and low <= value <= high, needed)


def _number(high: float) -> Field:
    words = f"a number above 0, at most {high:,g}"
    return Field(words, lambda value: _is_number(value) and 0 < value <= high)


def _text(most: int, *, needed: bool = False) -> Field:
    words = f"text of at most {most:,} characters"
    return Field(words, lambda value: isinstance(value, str) and len(value) <= most, needed)


def _one_of(choices: tuple[str, ...], *, needed: bool = False) -> Field:
    return Field(f"one of {', '.join(choices)}", lambda value: value in choices, needed)


def _digest(*, needed: bool = False) -> Field:
    def fits(value: object) -> bool:
        return isinstance(value, str) and DIGEST.fullmatch(value) is not None

    return Field("a sha256 of 64 hexadecimal digits", fits, needed)


def _either(first: Field, second: Field) -> Field:
    words = f"{first.words}, or {second.words}"
    return Field(words, lambda value: first.fits(value) or second.fits(value))


NULL = Field("null", lambda value: value is None)
FLAG = Field("true or false", lambda value: isinstance(value, bool))
OBJECT = Field("an object", lambda value: isinstance(value, dict), needed=True)
WORDS = _either(_text(300), NULL)


def _is_classes(value: object) -> bool:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        return False
    return 2 <= len(set(value)) == len(value) <= WIDEST


def _is_size(value: object) -> bool:
    """A number of pixels, or height and width."""
    sides = value if isinstance(value, list) and len(value) == 2 else [value]
    return all(_is_whole(side) and 1 <= side <= MOST_PIXELS for side in sides)


HEAD = {
    "config": OBJECT,
    "recipe": OBJECT,
    "training": OBJECT,
    "weights_sha256": _digest(needed=True),
    "descriptor_width": _whole(1, WIDEST, needed=True),
    "classes": Field(f"a list of 2 to {WIDEST:,} names, each once", _is_classes, needed=True),
}

OF_TYPE: dict[Any, Field] = {
    str: _text(200),
    int: _whole(1, WIDEST),
    bool: FLAG,
    str | None: _either(_text(4096), NULL),
}
CONFIG = {f.name: OF_TYPE[f.type] for f in fields(HeadConfig)}
CONFIG |= {"source_sha256": _either(_digest(), NULL)}
CONFIG["layers"] = Field(
    f"at most {MOST_LAYERS} layers, 1 or more",
    lambda value: _is_whole(value) and 1 <= value <= MOST_LAYERS,
)
CONFIG["components"] = _whole(0, WIDEST)
CONFIG_NEEDED = [f.name for f in fields(HeadConfig) if f.default is MISSING]

TRAINING = {
    "num_clips": _whole(1, MOST_CLIPS, needed=True),
    "clip_policy": _one_of(POLICIES, needed=True),
    "padding": _one_of(PADDINGS),
    "judge": _either(_one_of(JUDGES), NULL),
    "order_seed": _whole(0, MOST_SEED),
    "seed": _whole(0, MOST_SEED),
    "temperature": _either(_number(1e9), NULL),
}

# Of any feature file, also one that gcf has not written: sizes that are said in words take no time
SIZE = _either(Field(f"pixels from 1 to {MOST_PIXELS:,}, or two such", _is_size), WORDS)
RECIPE = {
    "num_frames": _whole(1, MOST_FRAMES),
    "resize": SIZE,
    "crop": SIZE,
    "batch_size": _either(_whole(1, MOST_VIDEOS), NULL),
    "sampling": _either(_number(MOST_RATE), WORDS),
    "sampling_fps": _either(_number(MOST_RATE), NULL),
    JOINED: Field(
        f"a list of 1 to {MOST_JOINED} recipes",
        lambda value: (
            isinstance(value, list)
            and 1 <= len(value) <= MOST_JOINED
            and all(isinstance(recipe, dict) for recipe in value)
        ),
    ),
}
NAMES = (*("backbone", "weights", "precision", "runtime", "tail", "temporal_stride", "dtype", "device"),)
RECIPE |= dict.fromkeys(NAMES, WORDS)


def read_facts(path: Path) -> dict:
    """What a `head.json` says, every field that gcf reads checked.

    Raises FileNotFoundError where there is none, HeadError for anything else than a sound one.
    """
    facts = _parsed(path)
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise HeadError(f"{path}: not a saved head")
    if facts.get("schema") != SCHEMA:
        raise HeadError(
            f"{path}: schema {_found(facts.get('schema'))}, this version reads {SCHEMA}; "
            "use the version of gcf that wrote it, or train the head again"
        )
    damaged = next(_faults(facts), None) or _unreadable(facts)
    if damaged:
        raise HeadError(f"{path}: incomplete or damaged: {damaged}; train the head again")
    if other := next(_config_faults(facts["config"]), None):
        raise HeadError(f"{path}: not a head of this version: {other}; train it again")
    return facts


def _parsed(path: Path) -> object:
    """The JSON of a file, of bounded size and depth."""
    try:
        size = path.stat().st_size
        if not path.is_file():  # a pipe would be waited for
            raise HeadError(f"{path}: not a regular file; train the head again")
        if size > MOST_BYTES:
            raise HeadError(f"{path}: {size:,} bytes, at most {MOST_BYTES:,} are read; train again")
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise
    except RecursionError:
        raise HeadError(f"{path}: cannot be read ({_too_deep()}); train the head again") from None
    except (OSError, ValueError) as error:
        raise HeadError(f"{path}: cannot be read ({error}); train the head again") from error


def _faults(facts: dict) -> Iterator[str]:
    """What is wrong with the fields but those of the config."""
    yield from _misfits(HEAD, facts)
    yield from _misfits(TRAINING, facts["training"], "training.")
    training = facts["training"]
    if (training.get("padding"), training["clip_policy"]) == ("loop", "all"):
        yield "training.padding is loop, which the clip_policy all names no number for"
    recipe = facts["recipe"]
    yield from _misfits(RECIPE, recipe, "recipe.")
    for n, part in enumerate(recipe.get(JOINED, ())):
        yield from _misfits(RECIPE, part, f"recipe.{JOINED}[{n}].")


def _config_faults(config: dict) -> Iterator[str]:
    """What of the config this version does not know, or of what type it is not."""
    yield from (f"config.{name[:SHOWN]} is no setting of a head" for name in config.keys() - CONFIG)
    yield from (f"config.{name} is missing" for name in CONFIG_NEEDED if name not in config)
    yield from _misfits(CONFIG, config, "config.")
    if config.get("kind") == "plugin":
        for name in ("source", "source_sha256"):
            if config.get(name) is None:
                yield f"config.{name} is missing, which says what file a plug-in head is made of"


def _misfits(table: dict[str, Field], facts: dict, prefix: str = "") -> Iterator[str]:
    """Every field that is missing or not what it must be, in words."""
    for name, field in table.items():
        if name not in facts:
            if field.needed:
                yield f"{prefix}{name} is missing, expected {field.words}"
        elif not field.fits(facts[name]):
            yield f"{prefix}{name} is {_found(facts[name])}, expected {field.words}"


def _unreadable(facts: dict) -> str:
    """Why values without a field here could not be compared or written again; '' where they can."""
    level: list[object] = [facts]
    depth = 0
    while level:
        if depth == MOST_DEPTH:
            return _too_deep()
        if any(type(value) is float and not math.isfinite(value) for value in level):
            return "a number is not finite"
        level, depth = [inner for value in level for inner in _inside(value)], depth + 1
    return ""


def _inside(value: object) -> Iterable[object]:
    """What an object or a list holds."""
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _too_deep() -> str:
    return f"objects or lists more than {MOST_DEPTH} deep within each other"


def _found(value: object) -> str:
    """A value in a few characters, however large it is."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else f"a list of {len(value):,}"
    text = json.dumps(value[: SHOWN + 1] if isinstance(value, str) else value)
    return text if len(text) <= SHOWN + 2 else f"{text[:SHOWN]}..."
