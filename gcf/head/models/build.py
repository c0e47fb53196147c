"""A head's config by its name, and a head from its config, with weights that a seed decides."""

import os
from dataclasses import replace

import torch
from torch import nn

from gcf.data.options import did_you_mean
from gcf.data.plugin_files import PLUGIN_SUFFIX
from gcf.errors import UsageError
from gcf.head.models.config import PRESETS, HeadConfig
from gcf.head.models.initial import initialise
from gcf.head.models.kinds import KINDS
from gcf.head.models.plugin import build_plugin, plugin_config
from gcf.head.models.standard import Reduced, Standardised


def head_config(head: str | os.PathLike | HeadConfig, **changes) -> HeadConfig:
    """The preset of that name, a user's own head from its file, or the config itself; with some fields changed.

    Raises UsageError for a name that is not known and a file that is no head.

    >>> head_config("gcf-256", gate="token").fixed_clips is None
    True
    """
    if isinstance(head, str | os.PathLike):
        head = os.fspath(head)
        if head.endswith(PLUGIN_SUFFIX):
            head = plugin_config(head)
        elif head in PRESETS:
            head = PRESETS[head]
        else:
            known = f"known: {', '.join(PRESETS)}, or a plug-in's FILE.py"
            hint = did_you_mean(head, PRESETS)
            raise UsageError(" ".join(filter(None, [f"unknown head {head!r};", hint, known])))
    if "gate" in changes and head.kind != "gcf":
        raise UsageError(f"head {head.name} has no gate to choose")
    if changes.get("gate") == "none" and head.residual == "fused":
        changes = {"residual": "none"} | changes  # without a gate, b_i beside itself would only be doubled
    return replace(head, **changes)


def build_head(config: HeadConfig, descriptor_width: int, num_classes: int, *, seed: int = 0) -> nn.Module:
    """A head on the CPU, in training mode: the same seed gives the same weights, and no global state is touched.

    A plug-in draws its own weights. Raises HeadError where it is not what it was, UsageError where it does not work.
    """
    width = _width_read(config, descriptor_width)
    if config.kind == "plugin":
        head = build_plugin(config, width, num_classes, seed=seed)
    else:
        head = _shape(config, width, num_classes).to_empty(device="cpu")
        initialise(head, torch.Generator().manual_seed(seed))
    return _wrapped(head, config, descriptor_width)


def build_shape(config: HeadConfig, descriptor_width: int, num_classes: int) -> nn.Module:
    """A head without storage, on the meta device: names and shapes only. A plug-in's is built as it is."""
    width = _width_read(config, descriptor_width)
    if config.kind == "plugin":  # whether a stranger's code can do without storage is not known
        head = build_plugin(config, width, num_classes, seed=0)
    else:
        head = _shape(config, width, num_classes)
    with torch.device("meta"):
        return _wrapped(head, config, descriptor_width)


def _width_read(config: HeadConfig, descriptor_width: int) -> int:
    """How wide what the head itself reads is."""
    return min(config.components or descriptor_width, descriptor_width)


def _wrapped(head: nn.Module, config: HeadConfig, descriptor_width: int) -> nn.Module:
    """The head behind what turns descriptors into what it reads."""
    if config.components:
        head = Reduced(head, descriptor_width, _width_read(config, descriptor_width))
    return Standardised(head, descriptor_width) if config.standardised else head


def _shape(config: HeadConfig, descriptor_width: int, num_classes: int) -> nn.Module:
    """One of gcf's own heads without storage."""
    kind = KINDS[config.kind]
    with torch.device("meta"):
        if kind.reads:
            return kind.cls(config, descriptor_width, num_classes)
        keywords = {name: getattr(config, name) for name in kind.keywords}
        return kind.cls(descriptor_width, num_classes, **keywords)
