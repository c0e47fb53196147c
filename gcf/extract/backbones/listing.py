"""What `gcf backbones` shows. Builds no network and imports no torch."""

import importlib.metadata
from dataclasses import dataclass

from gcf.extract.backbones.registry import SPECS, BackboneSpec
from gcf.extract.weights import weights_ids

ENTRY_POINTS = "gcf.backbones"  # the group under which installed packages register theirs


@dataclass(frozen=True)
class BackboneInfo:
    """One line: name, descriptor width D, parameters, ids of published weights, default first.

    `stride_stays` says why temporal_stride="none" is impossible, '' where it is possible. A plug-in's widths and
    parameters are None: they are known only once it is built.
    """

    name: str
    descriptor_width: int | None
    parameters: int | None
    weights: tuple[str, ...]
    stride_stays: str = ""
    plugin: bool = False


def list_backbones() -> list[BackboneInfo]:
    """Every backbone by its name: gcf's own, then those of installed packages."""
    return [*map(_described, SPECS), *(BackboneInfo(name, None, None, (), plugin=True) for name in plugin_names())]


def plugin_names() -> list[str]:
    """Names that installed packages register."""
    return sorted({entry.name for entry in importlib.metadata.entry_points(group=ENTRY_POINTS)})


def _described(spec: BackboneSpec) -> BackboneInfo:
    return BackboneInfo(spec.name, spec.descriptor_width, spec.parameters, weights_ids(spec.name), spec.stride_stays)
