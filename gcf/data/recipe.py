"""The recipe: everything that decides the numbers of a feature file, as one flat JSON object."""

import hashlib
import json
from collections.abc import Callable

# They change the last bits or what is stored beside the centre view, not what a descriptor means; the weights' name
# is a label, their sha256 decides.
INCIDENTAL = frozenset(
    {"versions", "device", "batch_size", "dtype", "views", "views_seed", "weights", "folded", "precision_cosine"}
)

# What was seen when the network was tried, not what was asked: machines that share a run may see other last digits
MEASURED = frozenset({"precision_cosine"})

# What a recipe means that does not say it: files made before there was a choice
UNSAID = {"runtime": "torch"}

# Without them other videos cannot be described as these were
DESCRIBING = (
    *("backbone", "weights", "precision", "num_frames", "tail", "channel_order"),
    *("pixel_max", "mean", "std", "resize", "resize_rule", "crop"),
)

JOINED = "joined"  # the recipe of joined files is the list of theirs, under this key


def canonical_json(recipe: dict) -> str:
    """One text per recipe: sorted keys, no spaces, ASCII.

    >>> canonical_json({"b": 1, "a": [0.5]})
    '{"a":[0.5],"b":1}'
    """
    return json.dumps(recipe, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def recipe_sha256(recipe: dict) -> str:
    """Hex digest of the canonical text, which is how gcf stores a recipe."""
    return text_sha256(canonical_json(recipe))


def text_sha256(text: str) -> str:
    """Hex digest of a recipe's text as it is stored, whoever wrote it."""
    return hashlib.sha256(text.encode()).hexdigest()


def differences(ours: dict, theirs: dict, *, ignore: frozenset[str] = frozenset()) -> list[str]:
    """What two recipes disagree about, one readable line each; empty when they agree. Joined ones file by file.

    >>> differences({"crop": 112, "views": 1}, {"crop": 160, "views": 3}, ignore=INCIDENTAL)
    ['crop: 112 against 160']
    """

    def compare(ours: dict, theirs: dict) -> list[str]:
        ours, theirs = UNSAID | ours, UNSAID | theirs
        keys = sorted((ours.keys() | theirs.keys()) - ignore)
        return [f"{k}: {_shown(ours, k)} against {_shown(theirs, k)}" for k in keys if ours.get(k) != theirs.get(k)]

    return _file_by_file(ours, theirs, compare)


def misfits(ours: dict, theirs: dict, *, ignore: frozenset[str] = frozenset()) -> list[str]:
    """What makes descriptors of two recipes mean different things, so that no head reads both; as `differences`.

    Float32 is float32 whoever computes it: runtimes agree to 1e-5.

    >>> misfits({"precision": "fp32", "runtime": "openvino"}, {"precision": "fp32", "runtime": "torch"})
    []
    """

    def compare(ours: dict, theirs: dict) -> list[str]:
        exact = ours.get("precision") == theirs.get("precision") == "fp32"
        either = {"runtime"} if exact else set()
        return differences(ours, theirs, ignore=INCIDENTAL | ignore | either)

    return _file_by_file(ours, theirs, compare)


def other_runtime(ours: dict, theirs: dict) -> list[str]:
    """Where two recipes differ in who computed the network; as `differences`."""

    def compare(ours: dict, theirs: dict) -> list[str]:
        return differences(_runtime_alone(ours), _runtime_alone(theirs))

    return _file_by_file(ours, theirs, compare)


def _runtime_alone(recipe: dict) -> dict:
    return {key: recipe[key] for key in ("runtime",) if key in recipe}


def _file_by_file(ours: dict, theirs: dict, compare: Callable[[dict, dict], list[str]]) -> list[str]:
    """Compare two recipes, or the recipes of joined files one after another."""
    one, other = ours.get(JOINED), theirs.get(JOINED)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True), start=1)
        return [f"file {n}: {line}" for n, pair in pairs for line in compare(*pair)]
    return compare(ours, theirs)


def _shown(recipe: dict, key: str) -> str:
    return json.dumps(recipe[key]) if key in recipe else "nothing"
