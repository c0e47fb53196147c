"""The network that a head's recipe names, if it is no file here: a head may be a stranger's."""

import ast
import hashlib
import json
import re
from pathlib import Path

from gcf.data.plugin_files import PLUGIN_SUFFIX
from gcf.data.recipe import misfits
from gcf.errors import HeadError, RecipeError, UsageError
from gcf.extract.backbones.huggingface_names import PREFIX, is_huggingface, is_repository, place_of
from gcf.extract.backbones.published import weights_ids
from gcf.extract.backbones.registry import BACKBONES, FULL_NAMES

COMMIT = re.compile(r"[0-9a-f]{40}")
SHOWN = 100  # characters of a name


def recorded_name(recipe: dict) -> str:
    """The name of a network of gcf's, of an installed package or of the hub, as a head has it.

    Raises UsageError for a file or a folder, also where a folder here has the name of a repository.
    """
    name = recipe["backbone"]
    if isinstance(name, str) and is_repository(name) and not place_of(name).is_folder:
        return name
    if isinstance(name, str) and not _is_path(name):
        return name
    raise UsageError(f"this head's network was a file or folder ({_short(name)}); name it with --backbone")


def _is_path(name: str) -> bool:
    return name.endswith(PLUGIN_SUFFIX) or is_huggingface(name) or bool(set(name) & set("/\\"))


def recorded_weights(recipe: dict) -> str:
    """The weights of a network of gcf's or of an installed package, as a head has them.

    Raises HeadError for a file: only what gcf itself has published, or makes at random, has an id.
    """
    name, weights = recipe["backbone"], recipe["weights"]
    if FULL_NAMES.get(name, name) not in BACKBONES:
        return "default"  # an installed package brings its own
    if weights in ("random", *weights_ids(name)):
        return weights
    file, sha256 = re.split(r"[/\\]", str(weights))[-1], recipe.get("weights_sha256")
    raise HeadError(
        f"this head's weights were a file ({_short(file)}, sha256 {_short(sha256)}); name it with --weights"
    )


def recorded_commit(recipe: dict) -> str:
    """The commit of a repository that a head names. Raises HeadError for what may move."""
    name, commit = recipe["backbone"], recipe["weights"]
    if isinstance(commit, str) and COMMIT.fullmatch(commit):
        return commit
    raise HeadError(
        f"this head's network is {name.removeprefix(PREFIX)} of the hub at {_short(commit)}, "
        f"which is no commit; name the network with --backbone {name}, and its revision with --weights"
    )


def check_plugin(recipe: dict, backbone: str) -> None:
    """Raise RecipeError for a plug-in's file that is not the recipe's, so that it is not run."""
    path, recorded = Path(backbone), recipe.get("plugin_sha256")
    if recorded is None or not path.name.endswith(PLUGIN_SUFFIX) or not path.is_file():
        return
    code = path.read_bytes()
    found = {"plugin_sha256": hashlib.sha256(code).hexdigest()}
    if found["plugin_sha256"] == recorded:
        return
    found |= _spelled_recipe(code)
    shared = found.keys() & recipe.keys() - {"num_frames"}  # extraction may have asked for others
    ours = {name: found[name] for name in shared}
    theirs = {name: recipe[name] for name in shared}
    raise RecipeError(
        f"not what this head was trained on: {'; '.join(misfits(ours, theirs))}; name its --backbone and --weights"
    )


def _spelled_recipe(code: bytes) -> dict:
    """RECIPE as a plug-in's file spells it, read and not run; {} where it is no plain value."""
    try:
        for node in ast.parse(code).body:
            if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["RECIPE"]:
                return dict(json.loads(json.dumps(ast.literal_eval(node.value))))
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        pass  # whoever runs the file is told what is wrong with it
    return {}


def _short(value: object) -> str:
    """What a head says, in a few characters."""
    text = str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
