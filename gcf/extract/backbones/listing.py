"""What `gcf backbones` shows. Builds no network and imports no torch."""

import importlib.metadata
from dataclasses import dataclass

from gcf.extract.backbones.published import WeightsInfo, default_listed, weights_ids
from gcf.extract.backbones.registry import SPECS, BackboneSpec

ENTRY_POINTS = "gcf.backbones"  # the group under which installed packages register theirs


@dataclass(frozen=True)
class BackboneInfo:
    """One line: name, descriptor width D, parameters, ids of published weights, default first.

    `stride_stays` says why temporal_stride="none" is impossible, '' where it is possible. A plug-in's widths and
    parameters are None: they are known only once it is built. Of the default weights: what they were trained on, their
    authors' top-1 and its source (see WeightsSpec) and `origin` (see WeightsInfo); '' and None where none are public.
    """

    name: str
    descriptor_width: int | None
    parameters: int | None
    weights: tuple[str, ...]
    stride_stays: str = ""
    plugin: bool = False
    dataset: str = ""
    top1: float | None = None
    top1_source: str = ""
    origin: str = ""


def list_backbones() -> list[BackboneInfo]:
    """Every backbone by its name: gcf's own, then those of installed packages."""
    defaults = default_listed()
    ours = (_described(spec, defaults.get(spec.name)) for spec in SPECS)
    return [*ours, *(BackboneInfo(name, None, None, (), plugin=True) for name in plugin_names())]


def plugin_names() -> list[str]:
    """Names that installed packages register."""
    return sorted({entry.name for entry in importlib.metadata.entry_points(group=ENTRY_POINTS)})


def _described(spec: BackboneSpec, weights: WeightsInfo | None) -> BackboneInfo:
    facts = (spec.name, spec.descriptor_width, spec.parameters, weights_ids(spec.name), spec.stride_stays)
    if weights is None:
        return BackboneInfo(*facts)
    judged = {name: getattr(weights, name) for name in ("dataset", "top1", "top1_source", "origin")}
    return BackboneInfo(*facts, **judged)
