"""The recipe of a feature file, from the backbone's own and the settings of the extraction."""

import av
import PIL
import torch

from gcf._version import __version__
from gcf.extract.config import ExtractConfig


def make_recipe(backbone: dict, config: ExtractConfig, *, device: str) -> dict:
    """Everything that decides the numbers. backbone: `.recipe` of a loaded backbone; device: cpu or cuda."""
    kept = {k: v for k, v in backbone.items() if k not in ("name", "classes")}
    return kept | {
        "backbone": backbone["name"],
        "num_frames": config.clip_frames or min(16, backbone["num_frames"]),
        "tail": config.tail,
        "sampling": "native",
        "views": config.views,
        "views_seed": config.views_seed,
        "precision": "fp32" if config.precision == "auto" else config.precision,
        "dtype": config.dtype,
        "batch_size": config.batch_size,
        "device": device,
        "versions": {"gcf": __version__, "torch": torch.__version__, "av": av.__version__, "pillow": PIL.__version__},
    }
