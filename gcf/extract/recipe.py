"""The recipe of a feature file, from the backbone's own and the settings of the extraction."""

import av
import PIL
import torch

from gcf._version import __version__
from gcf.extract.config import ExtractConfig

# Clips a forward pass. On processors 4 came within a tenth of each of five networks' best (benchmarks/README.md). One
# number a kind of device, not one measured at the start: it decides the last bits, and shards and repeated runs must
# agree on it.
BATCH_SIZES = {"cpu": 4, "cuda": 32}


def make_recipe(backbone: dict, config: ExtractConfig, *, device: str) -> dict:
    """Everything that decides the numbers but the precision, which is found out by trying.

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
        "batch_size": config.batch_size or BATCH_SIZES.get(device, BATCH_SIZES["cuda"]),
        "device": device,
        "versions": {"gcf": __version__, "torch": torch.__version__, "av": av.__version__, "pillow": PIL.__version__},
    }
