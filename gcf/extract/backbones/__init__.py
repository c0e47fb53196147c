"""The clip networks: `load_backbone` builds one by name with its weights, `list_backbones` says which there are."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from gcf.extract.backbones.listing import BackboneInfo


def list_backbones() -> "list[BackboneInfo]":
    """Every backbone by its name: gcf's own, then those of installed packages. Quick: loads no torch."""
    from gcf.extract.backbones import listing  # late, because it needs the weights table, which needs this package

    return listing.list_backbones()


def load_backbone(
    name: str | os.PathLike, weights: str | os.PathLike = "default", temporal_stride: str = "trained"
) -> "nn.Module":
    """A backbone in eval mode with its weights, frozen, on the CPU, float32; `.recipe` says how it was made.

    It has `feature_map`, `descriptor` and `classify` (see base.Backbone); an encoder of Hugging Face's has no
    `classify`. `name`: one of `list_backbones()`, the path of a plug-in FILE.py, or "hf:" and a Hugging Face repository
    or a folder that `save_pretrained` has made (needs gcf-net[hf]). `weights`: "default", the id of published ones, a
    checkpoint file, or "random" (seeded, for trying things out); of a repository, a branch, tag or commit. Width
    multiplier and number of classes are read from the file. temporal_stride="none": the same weights with stride 1 in
    time, T' = T.

    >>> load_backbone("mobilenetv2_0.2x", weights="random").recipe["name"]
    'mobilenetv2_0.2x'

    Raises UsageError for names that do not exist, WeightsError for weights that are absent, damaged, unsafe or of
    another network.
    """
    from gcf.extract.backbones.loading import load  # late, because listing the backbones needs no torch

    return load(name, weights, temporal_stride)
