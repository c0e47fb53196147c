"""The weights of a Hugging Face model: read here once, so that what is hashed is what is loaded."""

from pathlib import Path

from torch import Tensor, nn

from gcf.errors import WeightsError
from gcf.extract.backbones.huggingface_files import Files
from gcf.extract.backbones.huggingface_models import FAMILIES
from gcf.extract.backbones.huggingface_names import ModelPlace
from gcf.extract.weights.checkpoints import read_state_dict

WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # in the order in which transformers looks for them
INDEX, SHARDS = ".index.json", "weight_map"  # what tells the files of a large model's weights
SAFETENSORS = (WEIGHTS[0], WEIGHTS[0] + INDEX)
SHOWN = 3  # keys that an error names before it only counts
CLASSIFIER = "ForVideoClassification"  # how the names of transformers' classifiers end
CLASSIFIER_PARTS = ("classifier", "fc_norm")  # modules that only they have


def read_weights(files: Files) -> dict[str, Tensor]:
    """Name in the file -> tensor, of one file or of all its shards. Raises WeightsError where there is none to read."""
    for name in WEIGHTS:
        if path := files.path(name):
            return _read(files, path)
        if index := files.json(name + INDEX):
            state = {}
            for shard in sorted(_shards(files, name, index)):
                if not (path := files.path(shard)):
                    raise WeightsError(f"{files.place.name}: has no {shard}, which its {name + INDEX} names")
                state |= _read(files, path)
            return state
    raise WeightsError(f"{files.place.name}: has no weights: neither {' nor '.join(WEIGHTS)}, whole or in shards")


def _shards(files: Files, name: str, index: dict) -> set[str]:
    """The files that an index names: beside it, of its kind. Anything else would be a file of this machine, or code."""
    shards = set(map(str, index[SHARDS].values()))
    wrong = [shard for shard in shards if shard != Path(shard).name or Path(shard).suffix != Path(name).suffix]
    if wrong:
        raise WeightsError(
            f"{files.place.name}: {name + INDEX} names {min(wrong)!r}, which is no {Path(name).suffix} file beside it"
        )
    return shards


def _read(files: Files, path: Path) -> dict[str, Tensor]:
    try:
        return read_state_dict(path)
    except WeightsError as error:
        raise WeightsError(f"{files.place.name}: {error}") from error


def named_tensors(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """What a digest is made of: the file's tensors that the network can need, in float32, under the file's names.

    Files of transformers 5.0 and 5.24 have the same names, while the modules in memory have not: it maps the names of
    files to its own at loading, and back at saving, so that older versions can read what newer ones write.
    """
    unused = FAMILIES[model.config.model_type].unused
    kept = {name: tensor for name, tensor in state.items() if _part(name, model) not in unused}
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in kept.items()}


def check_filled(model: nn.Module, found: dict, place: ModelPlace, *, architecture: str) -> None:
    """Refuse a checkpoint that leaves parameters to chance, or whose tensors have no place in the model.

    found: what transformers says of its loading. architecture: what the configuration calls the checkpoint, "" where it
    does not say. One of pretraining has parts around the encoder, which may be there; a classifier's are never dropped.
    """
    kind, unused = type(model).__name__, FAMILIES[model.config.model_type].unused
    missing = [key for key in found["missing_keys"] if _part(key, model) not in unused]
    extra = [key for key in found["unexpected_keys"] if _part(key, model) not in unused]
    if architecture.endswith("ForPreTraining"):
        known = {*dict(model.base_model.named_children()), *CLASSIFIER_PARTS}
        extra = [key for key in extra if _part(key, model) in known]
    reshaped = [key if isinstance(key, str) else key[0] for key in found["mismatched_keys"]]
    faults = {"missing": missing, "not of this network": extra, "of another shape": reshaped}
    if not any(faults.values()):
        return
    listed = "; ".join(f"{len(keys)} {what} ({_first(keys)})" for what, keys in faults.items() if keys)
    if not kind.endswith(CLASSIFIER) and any(_part(key, model) in CLASSIFIER_PARTS for key in extra):
        named = kind.removesuffix("Model") + CLASSIFIER
        listed += f'; if they are a classifier\'s, "architectures": ["{named}"] must stand in its config.json'
    raise WeightsError(f"{place.name}: its weights do not fit its {kind}: {listed}")


def _part(key: str, model: nn.Module) -> str:
    """The outermost module that a tensor is of, inside the encoder or beside it."""
    return key.removeprefix(f"{model.base_model_prefix}.").split(".")[0]


def _first(keys: list[str]) -> str:
    return ", ".join(sorted(keys)[:SHOWN]) + (", ..." if len(keys) > SHOWN else "")
