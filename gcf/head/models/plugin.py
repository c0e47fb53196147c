"""A user's own head: one Python file with HEAD and build().

HEAD = {"name": "mine", "order_aware": False} says what it is called and whether the order of clips may matter to it;
build(descriptor_width, num_classes) returns an nn.Module whose forward(descriptors (B, C, D), mask (B, C)) gives
logits (B, K), or a dict or HeadOutput that has them beside gate, evidence, attention or weights. `gcf check-head` tries
it out. Where its last layer is called `classifier`, it can start from a head of other classes.
"""

import hashlib
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from gcf.data.plugin_files import line_in, run_plugin_file, told
from gcf.errors import HeadError, UsageError
from gcf.head.models.config import PRESETS, HeadConfig
from gcf.head.models.output import HeadOutput, part_shapes

PARTS = tuple(field.name for field in fields(HeadOutput))
NAME = re.compile(r"[\w.+-]+")
_SEEDED = threading.Lock()


def plugin_config(path: str | os.PathLike) -> HeadConfig:
    """The config of the head in this file, which names the file and its sha256. Raises UsageError for no such head."""
    path = Path(path).absolute()
    sha256 = _file_sha256(path) if path.is_file() else ""  # "": running it says that it is not there
    module = _run(path, sha256)
    facts = getattr(module, "HEAD", None)
    if not isinstance(facts, dict):
        raise UsageError(f'{path}: has no HEAD = {{"name": ..., "order_aware": ...}}')
    missing = [key for key in ("name", "order_aware") if key not in facts]
    if missing:
        raise UsageError(f"{path}: HEAD lacks {', '.join(missing)}")
    name, order_aware = facts["name"], facts["order_aware"]
    if not (isinstance(name, str) and NAME.fullmatch(name)) or name in PRESETS:
        raise UsageError(f"{path}: HEAD's name {name!r} must be letters, digits or . _ + -, and no preset's")
    if not isinstance(order_aware, bool):
        raise UsageError(f"{path}: HEAD's order_aware must be True or False, not {order_aware!r}")
    _builder(path, module)
    return HeadConfig(name, kind="plugin", source=str(path), source_sha256=sha256, knows_order=order_aware)


def build_plugin(config: HeadConfig, descriptor_width: int, num_classes: int, *, seed: int) -> nn.Module:
    """The plug-in's module on the CPU, in training mode, its output made a HeadOutput; the seed decides its weights.

    Raises HeadError where the file is gone or has changed, UsageError where build() or a first try of forward fails.
    """
    path = Path(config.source or "")
    check_unchanged(path, config.source_sha256)
    build = _builder(path, _run(path, config.source_sha256))
    # The generator is the process's: heads that are built side by side would draw from each other's seeds.
    with (
        _SEEDED,
        torch.random.fork_rng(devices=[]),
        torch.device("cpu"),
    ):  # the caller's random numbers stay as they are
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach the GPUs' generators too
        try:
            module = build(descriptor_width, num_classes)
        except Exception as error:  # a stranger's code may raise anything; the user needs to know where
            raise UsageError(f"{path}: build() failed ({told(error)}){line_in(path, error)}") from error
        if not isinstance(module, nn.Module):
            raise UsageError(f"{path}: build() gave {type(module).__name__}, not a torch.nn.Module")
        module.register_forward_hook(_as_output)
        _try(path, module.eval(), descriptor_width, num_classes)
    return module.train()


@lru_cache(maxsize=16)
def _run(path: Path, _sha256: str) -> ModuleType:
    """The module, run once as long as the file stays the same: only heads of one class can be stacked for vmap."""
    return run_plugin_file(path)


def _file_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_unchanged(path: Path, sha256: str | None) -> None:
    """Raise HeadError unless the file is there and the one that a head was made of."""
    try:
        found = _file_sha256(path)
    except OSError as error:
        raise HeadError(f"{path}: the head's file cannot be read ({error.strerror}); put it back there") from error
    if found != sha256:
        raise HeadError(
            f"{path}: the file has changed since the head was made of it, or is another one (its sha256 is {found}, "
            f"the head's is {sha256}): name the one that the head was trained with, or train the head again"
        )


def _builder(path: Path, module: ModuleType):
    build = getattr(module, "build", None)
    if not callable(build):
        raise UsageError(f"{path}: has no build(descriptor_width, num_classes) that returns the head")
    return build


def _as_output(_module: nn.Module, _inputs: tuple, result: Tensor | Mapping | HeadOutput) -> HeadOutput:
    """What forward returned as a HeadOutput. A hook rather than a module around it keeps the names of its weights."""
    if isinstance(result, Tensor):
        return HeadOutput(result)
    if isinstance(result, Mapping) and "logits" in result and set(result) <= set(PARTS):
        return HeadOutput(**result)
    if isinstance(result, HeadOutput):
        return result
    given = f"a dict of {', '.join(map(str, result))}" if isinstance(result, Mapping) else type(result).__name__
    raise UsageError(f"forward() gave {given}; it gives logits (B, K), or a dict of logits and any of {PARTS[1:]}")


def _try(path: Path, module: nn.Module, descriptor_width: int, num_classes: int) -> None:
    """One pass over two videos, of three clips and of one, so that a head that cannot work is known at once."""
    mask = torch.tensor([[True] * 3, [True, False, False]])
    try:
        with torch.no_grad():
            output = module(torch.randn(2, 3, descriptor_width), mask)
    except UsageError as error:  # of `_as_output`
        raise UsageError(f"{path}: {error}") from error
    except Exception as error:
        raise UsageError(f"{path}: forward() failed ({told(error)}){line_in(path, error)}") from error
    for name, expected in part_shapes(2, 3, num_classes).items():
        found = getattr(output, name)
        if found is not None and not isinstance(found, Tensor):
            raise UsageError(f"{path}: forward() gave {name} of type {type(found).__name__}, not a tensor")
        if found is not None and tuple(found.shape) != expected:
            raise UsageError(f"{path}: forward() gave {name} {tuple(found.shape)}, expected {expected}")
