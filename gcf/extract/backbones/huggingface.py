"""Video networks of the Hugging Face hub, or of folders that `save_pretrained` has made, through transformers."""

import hashlib
import json
import logging
import os
import re
from pathlib import Path

import torch
from torch import Tensor, nn

from gcf.errors import UsageError, WeightsError
from gcf.extract.backbones.huggingface_faults import NO_CONFIG, quiet, told_plainly
from gcf.extract.backbones.huggingface_files import CONFIG, Files, open_files, processor_of, transformers_library
from gcf.extract.backbones.huggingface_models import DECIDING, FAMILIES, TokenNetwork
from gcf.extract.backbones.huggingface_names import place_of
from gcf.extract.backbones.huggingface_pixels import pixels_of
from gcf.extract.backbones.huggingface_weights import CLASSIFIER, SAFETENSORS, check_filled, named_tensors, read_weights
from gcf.extract.backbones.random_weights import SEED
from gcf.extract.weights.checkpoints import state_sha256

log = logging.getLogger("gcf")
UNNAMED = re.compile(r"LABEL_\d+")  # what transformers calls a class that nobody named


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
        model, tensors = _model(files, config, random=weights == "random")
        network = FAMILIES[config.model_type](model)
        pixels = pixels_of(*processor_of(files), place=place.name)
    if tuple(pixels["crop"]) != network.clip_size[1:]:
        wanted = "x".join(map(str, network.clip_size[1:]))
        raise UsageError(f"{place.name}: its processor crops {pixels['crop']}, its network takes {wanted} pixels")
    network.recipe = _recipe(files, network, config, tensors, random=weights == "random") | pixels
    return network.eval().requires_grad_(False)


def require_safetensors(name: str | os.PathLike, weights: str | os.PathLike) -> None:
    """Raise WeightsError unless the weights of `hf:...` at that revision are safetensors."""
    place = place_of(name)
    library = transformers_library()
    with quiet(library), told_plainly(place, weights):
        files = open_files(library, place, os.fspath(weights))
        if not any(files.path(file) for file in SAFETENSORS):
            raise WeightsError(
                f"{place.name}: has no weights as safetensors at {os.fspath(weights)}, and others are not read for a "
                f"head that only names them; name the network with --backbone {place.name} if you trust it"
            )


def _config(files: Files):
    """The configuration, of a kind that is known."""
    place, said = files.place.name, files.json(CONFIG)
    if said is None:
        raise WeightsError(f"{place}: {NO_CONFIG}")
    kind = said.get("model_type")
    if kind not in FAMILIES:
        raise UsageError(f"{place}: is of type {kind!r}; known: {', '.join(FAMILIES)}")
    if said.get("transformers_weights"):
        raise UsageError(
            f"{place}: its config.json names a file of weights (transformers_weights), and none may be named"
        )
    config = files.library.AutoConfig.from_pretrained(files.place.source, **files.options)
    channels = config.in_chans if kind == "vjepa2" else config.num_channels
    reason = FAMILIES[kind].impossible(config) or (f"it takes {channels} channels, not RGB" if channels != 3 else "")
    if reason:
        raise UsageError(f"{place}: this {kind} cannot be used: {reason}")
    return config


def _model(files: Files, config, *, random: bool) -> tuple[nn.Module, dict[str, Tensor]]:
    """A classifier where the checkpoint is one's, else the bare encoder; and the named tensors that a digest is of."""
    library, architecture = files.library, (config.architectures or [""])[0]
    classifies = architecture.endswith(CLASSIFIER)
    if random:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):  # the caller's random numbers stay as they are
            torch.default_generator.manual_seed(SEED)
            auto = library.AutoModelForVideoClassification if classifies else library.AutoModel
            model = auto.from_config(config, dtype=torch.float32, trust_remote_code=False)
            return model, named_tensors(model.state_dict(), model)
    state = read_weights(files)
    known = library.MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING if classifies else library.MODEL_MAPPING
    model, found = known[type(config)].from_pretrained(
        None,  # the weights are given
        config=config,
        state_dict=dict(state),
        dtype=torch.float32,  # whatever type the file keeps
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # to be told of them all, below
    )
    check_filled(model, found, files.place, architecture=architecture)
    return model, named_tensors(state, model)


def _recipe(files: Files, network: TokenNetwork, config, tensors: dict[str, Tensor], *, random: bool) -> dict:

    name = files.place.name
    if random:
        log.warning(
            "%s has random weights: its descriptors and logits mean nothing, use them to try the pipeline", name
        )
    label = "random" if random else files.revision or Path(files.place.source).name
    return {
        "name": name,
        "weights": label,
        "weights_sha256": state_sha256(tensors),
        "config_sha256": _config_digest(config),
        "num_frames": network.clip_size[0],
        "fixed_frames": network.fixed_frames,
        "frames_step": network.patch[0],
        "classes": None if random else _classes(network, config),
        "temporal_stride": "trained",
        "transformers": files.library.__version__,
    }


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
