"""The recipe of a feature file, from the backbone's own and the settings of the extraction."""

import av
import PIL
import torch

from gcf._version import __version__
from gcf.extract.config import ExtractConfig


def make_recipe(backbone: dict, config: ExtractConfig, *, device: str) -> dict:
    """Everything that decides the numbers but how the network runs: precision and batch size (see precision.py).

    backbone: `.recipe` of a loaded backbone; device: cpu or cuda.
    """
    kept = {k: v for k, v in backbone.items() if k not in ("name", "classes")}
    return kept | {
        "backbone": backbone["name"],
        "num_frames": config.clip_frames or min(16, backbone["num_frames"]),
        "tail": config.tail,
        "sampling": "native",
        "views": config.views,
        "views_seed": config.views_seed,
        "dtype": config.dtype,
        "device": device,
        "versions": {"gcf": __version__, "torch": torch.__version__, "av": av.__version__, "pillow": PIL.__version__},
    }
