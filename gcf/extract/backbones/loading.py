"""A name and weights in, a network in eval mode with its recipe out."""

import importlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from gcf.errors import UsageError, WeightsError
from gcf.extract.backbones.huggingface_names import is_huggingface
from gcf.extract.backbones.plugin import build_plugin, find_plugin
from gcf.extract.backbones.published import (
    Pixels,
    WeightsSpec,
    assumed_pixels,
    default_weights,
    find_weights,
    weights_ids,
    weights_of_file,
)
from gcf.extract.backbones.random_weights import SEED, fill_randomly
from gcf.extract.backbones.registry import BACKBONES, FULL_NAMES, BackboneSpec, find_backbone, widths_of
from gcf.extract.backbones.temporal import remove_temporal_stride
from gcf.extract.weights.cache import FILE_SUFFIXES, obtain
from gcf.extract.weights.checkpoints import load_strictly, read_state_dict, state_sha256
from gcf.extract.weights.download import file_sha256

log = logging.getLogger("gcf")
TEMPORAL_STRIDES = ("trained", "none")


@dataclass(frozen=True)
class ChosenWeights:
    """A file of weights, what the recipe calls it, and which published ones it is, if any."""

    path: Path
    label: str
    sha256: str
    published: WeightsSpec | None


def load(name: str | os.PathLike, weights: str | os.PathLike, temporal_stride: str) -> nn.Module:
    """See `load_backbone`."""
    if temporal_stride not in TEMPORAL_STRIDES:
        raise UsageError(f"temporal stride {temporal_stride!r}; it can be {' or '.join(TEMPORAL_STRIDES)}")
    if is_huggingface(name):
        from gcf.extract.backbones.huggingface import load_huggingface  # late: nobody else needs it

        return load_huggingface(name, weights, temporal_stride)
    plugin = None if FULL_NAMES.get(name, name) in BACKBONES else find_plugin(name)
    if plugin:
        return _load_plugin(*plugin, weights=weights, temporal_stride=temporal_stride)
    spec = find_backbone(os.fspath(name))
    if temporal_stride == "none" and spec.stride_stays:
        raise UsageError(f"{spec.name} cannot be used without stride in time: {spec.stride_stays}")
    if weights == "random":
        network = _random_network(spec)
    else:
        network = _trained_network(spec, weights, any_width=name == spec.family)
    if temporal_stride == "none":
        remove_temporal_stride(network)
    network.recipe["temporal_stride"] = temporal_stride
    return network.eval().requires_grad_(False)


def build_network(spec: BackboneSpec, *, num_classes: int) -> nn.Module:
    """The network with untrained parameters, on the default device."""
    module = importlib.import_module(f"gcf.extract.backbones.{spec.module}")
    return module.build(spec.name, num_classes=num_classes, width=spec.width)


def _trained_network(spec: BackboneSpec, weights: str | os.PathLike, *, any_width: bool) -> nn.Module:
    chosen = _choose(spec, weights)
    state = read_state_dict(chosen.path)
    if any_width:
        spec = _of_width(spec, state)
    rows = state[spec.classifier].shape if spec.classifier in state else ()
    num_classes = rows[0] if any(rows) else spec.num_classes
    with torch.device("meta"):  # no memory, no time, no random numbers spent on values that are replaced
        network = build_network(spec, num_classes=num_classes)
    load_strictly(network, state, source=f"{chosen.path} as {spec.name} with {num_classes} classes")
    log.info("%s: %d classes, %s, sha256 %s", spec.name, num_classes, chosen.path, chosen.sha256)
    pixels, classes = _trained_with(spec, chosen, num_classes)
    network.recipe = _recipe(spec.name, chosen.label, chosen.sha256, pixels=pixels, classes=classes)
    return network


def _random_network(spec: BackboneSpec) -> nn.Module:
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):  # the caller's random numbers stay as they are
        torch.default_generator.manual_seed(SEED)  # torch.manual_seed would reach the GPUs' generators too
        network = build_network(spec, num_classes=spec.num_classes)
    fill_randomly(network)
    log.warning(
        "%s has random weights: its descriptors and logits mean nothing, use them to try the pipeline", spec.name
    )
    sha256 = state_sha256(network.state_dict())
    network.recipe = _recipe(
        spec.name, "random", sha256, pixels=assumed_pixels(spec.name, spec.num_classes), classes=None
    )
    return network


def _recipe(name: str, label: str, sha256: str, *, pixels: Pixels, classes: list[str] | None) -> dict:
    return {
        "name": name,
        "weights": label,
        "weights_sha256": sha256,
        **pixels.recipe(),
        "trained_fps": pixels.frame_rate,
        "classes": classes,
        "temporal_stride": "trained",
    }


def _choose(spec: BackboneSpec, weights: str | os.PathLike) -> ChosenWeights:
    """Find or fetch the file that `weights` means."""
    if weights == "default" or weights in weights_ids(spec.name):
        published = default_weights(spec.name) if weights == "default" else find_weights(spec.name, weights)
        path, sha256 = obtain(published.source)
        return ChosenWeights(path, published.id, sha256, published)
    path = Path(weights)
    if not path.is_file():
        if path.suffix in FILE_SUFFIXES or len(path.parts) > 1:
            raise WeightsError(f"{path}: no such file of weights")
        find_weights(spec.name, os.fspath(weights))  # raises, naming the ids that there are
    published = next(filter(None, (weights_of_file(each.name, path.name) for each in widths_of(spec.name))), None)
    if published:
        log.info("%s: by its name these are %s of %s", path, published.id, published.backbone)
    return ChosenWeights(path, path.name, file_sha256(path), published)


def _trained_with(spec: BackboneSpec, chosen: ChosenWeights, num_classes: int) -> tuple[Pixels, list[str] | None]:
    """Pixels and class names of a file; names only where the order of the logits is known for certain."""
    published = chosen.published
    if published:
        return published.pixels, published.class_names() if num_classes == published.num_classes else None
    pixels = assumed_pixels(spec.name, num_classes)
    log.warning(
        "%s: not a published file; assumed that it wants %s, 0..%g, mean %s, std %s; its class names are unknown",
        *(chosen.path, pixels.channel_order, pixels.pixel_max, pixels.mean, pixels.std),
    )
    return pixels, None


def _of_width(spec: BackboneSpec, state: dict[str, Tensor]) -> BackboneSpec:
    """The spec of the same family that the shapes tell; the given one where they tell none."""
    if spec.width_layer not in state:
        return spec
    rows = state[spec.width_layer].shape[:1]
    found = next((each for each in widths_of(spec.family) if (each.width_rows,) == tuple(rows)), spec)
    if found != spec:
        log.info("the shapes of the weights are those of width %s: %s", found.width, found.name)
    return found


def _load_plugin(name: str, plugin: object, *, weights: str | os.PathLike, temporal_stride: str) -> nn.Module:
    if weights != "default":
        raise UsageError(f"plug-in {name} brings its own weights, {os.fspath(weights)!r} cannot be given to it")
    if temporal_stride != "trained":
        raise UsageError(f"plug-in {name} decides its own strides, temporal stride {temporal_stride!r} cannot be asked")
    network = build_plugin(name, plugin)
    network.recipe["weights_sha256"] = state_sha256(network.state_dict())
    return network.requires_grad_(False)
