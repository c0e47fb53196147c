"""Video networks of the Hugging Face hub, or of folders that `save_pretrained` has made, through transformers."""

import hashlib
import json
import logging
import os
import re
from pathlib import Path

import torch
from torch import nn

from gcf.errors import UsageError, WeightsError
from gcf.extract.backbones.huggingface_faults import NO_CONFIG, quiet, told_plainly
from gcf.extract.backbones.huggingface_files import CONFIG, Files, open_files, processor_of, transformers_library
from gcf.extract.backbones.huggingface_models import DECIDING, FAMILIES, TokenNetwork
from gcf.extract.backbones.huggingface_names import Place, place_of
from gcf.extract.backbones.huggingface_pixels import pixels_of
from gcf.extract.backbones.random_weights import SEED

log = logging.getLogger("gcf")
UNNAMED = re.compile(r"LABEL_\d+")  # what transformers calls a class that nobody named
SHOWN = 3  # keys that an error names before it only counts


def load_huggingface(name: str | os.PathLike, weights: str | os.PathLike, temporal_stride: str) -> nn.Module:
    """The network of `hf:...`, frozen, in eval mode, float32, with its recipe.

    weights: "default"; a branch, tag or commit of a repository; or "random", of the configuration alone. Raises
    UsageError where it cannot be used, WeightsError where its files are absent, damaged or of another network.
    """
    place = place_of(name)
    if temporal_stride != "trained":
        raise UsageError(f"{place.name} has no stride in time that can be removed: its tokens are made for it")
    library = transformers_library()
    with quiet(library), told_plainly(place, weights):
        files = open_files(library, place, os.fspath(weights))
        config = _config(files)
        network = FAMILIES[config.model_type](_model(files, config, random=weights == "random"))
        pixels = pixels_of(*processor_of(files), place=place.name)
    if tuple(pixels["crop"]) != network.clip_size[1:]:
        wanted = "x".join(map(str, network.clip_size[1:]))
        raise UsageError(f"{place.name}: its processor crops {pixels['crop']}, its network takes {wanted} pixels")
    network.recipe = _recipe(files, network, config, pixels, random=weights == "random")
    return network.eval().requires_grad_(False)


def _config(files: Files):
    """The configuration, of a kind that is known."""
    place, said = files.place.name, files.json(CONFIG)
    if said is None:
        raise WeightsError(f"{place}: {NO_CONFIG}")
    kind = said.get("model_type")
    if kind not in FAMILIES:
        raise UsageError(f"{place}: is of type {kind!r}; known: {', '.join(FAMILIES)}")
    config = files.library.AutoConfig.from_pretrained(files.place.source, **files.options)
    channels = config.in_chans if kind == "vjepa2" else config.num_channels
    reason = FAMILIES[kind].impossible(config) or (f"it takes {channels} channels, not RGB" if channels != 3 else "")
    if reason:
        raise UsageError(f"{place}: this {kind} cannot be used: {reason}")
    return config


def _model(files: Files, config, *, random: bool) -> nn.Module:
    """A classifier where the checkpoint is one's, else the bare encoder."""
    library, architectures = files.library, config.architectures or [""]
    classifies = architectures[0].endswith("ForVideoClassification")
    auto = library.AutoModelForVideoClassification if classifies else library.AutoModel
    if random:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):  # the caller's random numbers stay as they are
            torch.default_generator.manual_seed(SEED)
            return auto.from_config(config, dtype=torch.float32, trust_remote_code=False)
    model, found = auto.from_pretrained(
        files.place.source,
        config=config,
        dtype=torch.float32,  # whatever type the file keeps
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # to be told of them all, below
        **files.options,
    )
    _check_filled(model, found, files.place, others=architectures[0] != type(model).__name__)
    return model


def _check_filled(model: nn.Module, found: dict, place: Place, *, others: bool) -> None:
    """Refuse a checkpoint that leaves parameters to chance, or whose tensors have no place in the model.

    others: the checkpoint is of a model around the encoder, such as one for pretraining, which has more parts.
    """
    prefix, unused = f"{model.base_model_prefix}.", FAMILIES[model.config.model_type].unused
    parts = dict(model.base_model.named_children())

    def part(key: str) -> str:
        return key.removeprefix(prefix).split(".")[0]

    missing = [key for key in found["missing_keys"] if part(key) not in unused]
    extra = [key for key in found["unexpected_keys"] if part(key) not in unused and (not others or part(key) in parts)]
    reshaped = [key if isinstance(key, str) else key[0] for key in found["mismatched_keys"]]
    faults = {"missing": missing, "not of this network": extra, "of another shape": reshaped}
    if any(faults.values()):
        listed = "; ".join(f"{len(keys)} {what} ({_first(keys)})" for what, keys in faults.items() if keys)
        raise WeightsError(f"{place.name}: its weights do not fit its {type(model).__name__}: {listed}")


def _first(keys: list[str]) -> str:
    return ", ".join(sorted(keys)[:SHOWN]) + (", ..." if len(keys) > SHOWN else "")


def _recipe(files: Files, network: TokenNetwork, config, pixels: dict, *, random: bool) -> dict:
    name = files.place.name
    if random:
        log.warning(
            "%s has random weights: its descriptors and logits mean nothing, use them to try the pipeline", name
        )
    label = "random" if random else files.revision or Path(files.place.source).name
    return {
        "name": name,
        "weights": label,
        "weights_sha256": _weights_digest(network),
        "config_sha256": _config_digest(config),
        "num_frames": network.clip_size[0],
        "fixed_frames": network.fixed_frames,
        "frames_step": network.patch[0],
        **pixels,
        "classes": None if random else _classes(network, config),
        "temporal_stride": "trained",
        "transformers": files.library.__version__,
    }


def _weights_digest(network: TokenNetwork) -> str:
    """Hex digest of all tensors, whatever they are called: transformers renames its modules from version to version."""
    from gcf.extract.backbones.loading import state_sha256  # late: it imports this

    each = sorted(state_sha256({"": tensor}) for tensor in network.state_dict().values())
    return hashlib.sha256("\n".join(each).encode()).hexdigest()


def _config_digest(config) -> str:
    """Hex digest of what decides numbers beside the weights, whatever a version of transformers adds to it."""
    said = {key: getattr(config, key, None) for key in (*DECIDING, "model_type")}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _classes(network: TokenNetwork, config) -> list[str] | None:
    """Names of the logits, in their order, where somebody has named them."""
    if not hasattr(network, "classify"):
        return None
    count = network.classify.out_features
    names = [str(config.id2label.get(number, "")) for number in range(count)]
    named = len(set(names)) == count == len(config.id2label) and not any(map(UNNAMED.fullmatch, names))
    return names if named and all(names) else None
