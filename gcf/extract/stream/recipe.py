"""The recipe of a feature file, from the backbone's own and the settings of the extraction."""

import logging

import av
import PIL
import torch

from gcf._version import __version__
from gcf.errors import UsageError
from gcf.extract.backbones.huggingface_names import is_huggingface
from gcf.extract.decoding.sampling import rate_of
from gcf.extract.network.openvino_map import openvino_version
from gcf.extract.stream.config import ExtractConfig

log = logging.getLogger("gcf")
# Of a backbone's recipe: under another name here, kept elsewhere in the file, or said by num_frames
NOT_KEPT = ("name", "classes", "trained_fps", "fixed_frames", "frames_step", "transformers")


def make_recipe(backbone: dict, config: ExtractConfig, *, device: str) -> dict:
    """Everything that decides the numbers but how the network runs: precision and batch size (see precision.py).

    backbone: `.recipe` of a loaded backbone; device: cpu or cuda.
    """
    kept = {k: v for k, v in backbone.items() if k not in NOT_KEPT}
    return kept | {
        "backbone": backbone["name"],
        "tail": config.tail,
        **_sampling(backbone, config),
        "views": config.views,
        "views_seed": config.views_seed,
        "dtype": config.dtype,
        "device": device,
        "versions": _versions() | ({"transformers": backbone["transformers"]} if "transformers" in backbone else {}),
    }


def runtime_versions(runtime: str) -> dict:
    """The version of who computes the network, where it is not torch."""
    return {"openvino": openvino_version()} if runtime == "openvino" else {}


def _versions() -> dict:
    return {"gcf": __version__, "torch": torch.__version__, "av": av.__version__, "pillow": PIL.__version__}


def _sampling(backbone: dict, config: ExtractConfig) -> dict:
    """Frames of a clip and how they are chosen; `sampling_fps` is there where they are chosen by their times.

    Weights that were trained on consecutive frames at the videos' own rate (`trained_fps` None) are sampled natively
    either way, so that their files are the same and can be mixed.
    """
    num_frames = _clip_length(backbone, config)
    if config.sampling == "native":
        return {"num_frames": num_frames, "sampling": "native"}
    if rate := rate_of(config.sampling):
        return {"num_frames": num_frames, "sampling": str(rate), "sampling_fps": rate}
    if "trained_fps" not in backbone:
        advice = "" if is_huggingface(backbone["name"]) else ", or add trained_fps to its RECIPE (None for every frame)"
        raise UsageError(
            f"{backbone['name']} does not say how many frames a second it was trained with, so that sampling trained "
            f"cannot be had: say the number, such as sampling 7.5, take sampling native{advice}"
        )
    fps = backbone["trained_fps"]
    if fps is None:
        log.warning("%s was trained on every frame of its videos: sampling trained is native", backbone["name"])
        return {"num_frames": num_frames, "sampling": "native"}
    return {"num_frames": num_frames, "sampling": "trained", "sampling_fps": fps}


def _clip_length(backbone: dict, config: ExtractConfig) -> int:
    """Frames of a clip: those asked for, else the paper's 16 or what the weights were trained with.

    A backbone that says `fixed_frames` has clips as long as in its training: True allows no others, False those of
    a multiple of `frames_step` frames.
    """
    asked, own = config.clip_frames, backbone["num_frames"]
    if "fixed_frames" not in backbone:
        return asked or (min(16, own) if config.sampling == "native" else own)
    if asked is None or asked == own:
        return own
    if backbone["fixed_frames"]:
        raise UsageError(f"{backbone['name']} takes clips of {own} frames only, not {asked}: its positions are theirs")
    step = backbone.get("frames_step", 1)
    if asked % step:
        raise UsageError(f"{backbone['name']} takes {step} frames at a time: clips of {asked} frames would be cut")
    return asked
