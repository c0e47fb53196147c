"""Heads small enough to be computed by hand, and clips for them."""

import torch
from caches import RECIPE

from gcf.head.models.baselines import MeanHead
from gcf.head.models.build import build_head, head_config
from gcf.head.models.config import PRESETS, HeadConfig
from gcf.head.models.saved import SavedHead

D, K = 24, 5
SMALL = {"width": 16, "key_width": 8}
CONFIGS = [head_config(p, **SMALL) for p in PRESETS.values() if p.kind == "gcf"] + [
    HeadConfig("three layers", layers=3, **SMALL),
    HeadConfig("1/C", fusion="average", **SMALL),
    HeadConfig("W_r", residual="linear", **SMALL),
    HeadConfig("no residual", residual="none", **SMALL),
    HeadConfig("token", gate="token", **SMALL),
]


def name_of(config):
    return config.name


def built(config, *, gain=4.0, seed=0):
    """In float64 and with larger weights than at the start, so that attention and gate are far from uniform."""
    head = build_head(config, D, K, seed=seed).double().eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(gain)
    return head


def some_clips(batch=3, count=10, seed=1):
    """Descriptors (B, C, D) and masks of 10, 4 and 1 real clips, not all at the front."""
    descriptors = torch.randn(batch, count, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    mask = torch.zeros(batch, count, dtype=torch.bool)
    mask[0], mask[1, [0, 2, 3, 7]], mask[2, 0] = True, True, True
    return descriptors, mask


TRAINING = {"num_clips": 10, "clip_policy": "uniform", "seed": 3}


def some_head(name="gcf-256", width=12, classes=("a", "b", "c")):
    config = head_config(name, width=16, key_width=8)
    return SavedHead(build_head(config, width, len(classes)).eval(), config, width, tuple(classes), RECIPE, TRAINING)


def saved(module, *, width=1, config="mean", classes=("run", "sit"), **training):
    return SavedHead(module.eval(), head_config(config), width, classes, {}, TRAINING | training)


def mean_head(**training):
    """The probability of "run" is the sigmoid of the mean of the clips there."""
    head = MeanHead(1, 2)
    with torch.no_grad():
        head.classifier.weight.copy_(torch.tensor([[1.0], [0.0]]))
        head.classifier.bias.zero_()
    return saved(head, **training)
