"""The recipe of a feature file, from the backbone's own and the settings of the extraction."""

import logging

import av
import PIL
import torch

from gcf._version import __version__
from gcf.errors import UsageError
from gcf.extract.config import ExtractConfig

log = logging.getLogger("gcf")


def make_recipe(backbone: dict, config: ExtractConfig, *, device: str) -> dict:
    """Everything that decides the numbers but how the network runs: precision and batch size (see precision.py).

    backbone: `.recipe` of a loaded backbone; device: cpu or cuda.
    """
    kept = {k: v for k, v in backbone.items() if k not in ("name", "classes", "trained_fps")}
    return kept | {
        "backbone": backbone["name"],
        "tail": config.tail,
        **_sampling(backbone, config),
        "views": config.views,
        "views_seed": config.views_seed,
        "dtype": config.dtype,
        "device": device,
        "versions": {"gcf": __version__, "torch": torch.__version__, "av": av.__version__, "pillow": PIL.__version__},
    }


def _sampling(backbone: dict, config: ExtractConfig) -> dict:
    """Frames of a clip and how they are chosen; `sampling_fps` is there where they are chosen by their times.

    Weights that were trained on consecutive frames at the videos' own rate (`trained_fps` None) are sampled natively
    either way, so that their files are the same and can be mixed.
    """
    if config.sampling == "native":
        return {"num_frames": config.clip_frames or min(16, backbone["num_frames"]), "sampling": "native"}
    if "trained_fps" not in backbone:
        raise UsageError(
            f"{backbone['name']} does not say how many frames a second it was trained with, so that sampling trained "
            "cannot be had: add trained_fps to its RECIPE (None for every frame), or take sampling native"
        )
    num_frames, fps = config.clip_frames or backbone["num_frames"], backbone["trained_fps"]
    if fps is None:
        log.warning("%s was trained on every frame of its videos: sampling trained is native", backbone["name"])
        return {"num_frames": num_frames, "sampling": "native"}
    return {"num_frames": num_frames, "sampling": "trained", "sampling_fps": fps}
