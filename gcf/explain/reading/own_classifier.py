"""A backbone's own classifier as a head: what a network knows already needs no training to be looked at."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from gcf.errors import UsageError
from gcf.extract.decoding.preprocess import Geometry
from gcf.head.models.baselines import MeanHead
from gcf.head.models.config import PRESETS
from gcf.head.models.saved import SavedHead

if TYPE_CHECKING:
    from gcf.extract.network.clip_network import ClipNetwork

OWN = "backbone"  # in the place of a head's folder
LINEAR = 1e-4  # relative difference to W d + b that rounding in float32 explains


def own_classifier(network: "ClipNetwork", recipe: dict) -> SavedHead:
    """The network's last linear layer on the mean descriptor of all clips, which is the mean of the clips' logits.

    Its evidence is exact: a clip's share of a logit, less the bias, is its own logit less the bias, divided by the
    number of clips. Raises UsageError for a network without a classifier, or with one that is not linear.
    """
    backbone = network.backbone
    if not hasattr(backbone, "classify"):
        raise UsageError("this backbone has no classifier of its own; train a head and name its folder")
    one_clip = np.zeros((1, recipe["num_frames"], *Geometry.from_recipe(recipe).crop, 3), np.uint8)
    width = network(one_clip)[0].shape[1]  # D
    weight, bias = _affine(backbone, width, network.device)
    module = MeanHead(width, len(weight))
    module.classifier.weight, module.classifier.bias = nn.Parameter(weight), nn.Parameter(bias)
    names = backbone.recipe.get("classes") or [f"class {k}" for k in range(len(weight))]
    training = {"num_clips": 1, "clip_policy": "all"}
    return SavedHead(module.eval(), PRESETS["mean"], width, tuple(names), recipe, training)


@torch.no_grad()
def _affine(backbone: nn.Module, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """W (K, D) and b (K,) of `classify`, found by asking it; UsageError where it is no W d + b."""
    bias = backbone.classify(torch.zeros(1, width, device=device))[0]
    weight = (backbone.classify(torch.eye(width, device=device)) - bias).T
    tried = torch.randn(4, width, generator=torch.Generator().manual_seed(0)).to(device)
    expected = tried @ weight.T + bias
    if not (backbone.classify(tried) - expected).abs().max() <= LINEAR * expected.abs().max():  # NaN is no better
        raise UsageError("this backbone's classifier is not linear in the descriptor; train a head and name its folder")
    return weight.float().cpu().contiguous(), bias.float().cpu()
