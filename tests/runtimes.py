"""What the tests of the runtimes share: the tiny plug-in by either of them, and what this processor can compute in."""

import functools

import torch
from stage_one import TINY

import gcf
from gcf.extract.network.conversion import ModelNames, obtain_conversion
from gcf.extract.network.openvino_map import OpenVinoMap
from gcf.extract.network.precision import precise_network

CPU = torch.device("cpu")
NAMES = ModelNames(TINY, "default", "trained")


def tiny_network(backbone=None, names=NAMES, **asked):
    """`precise_network` of the tiny plug-in for clips of four frames."""
    settings = {"device": CPU, "precision": "fp32", "batch_size": None, "num_frames": 4} | asked
    return precise_network(backbone or gcf.load_backbone(TINY), names=names, **settings)


def tiny_map(*, precision="fp32", batch_size=1, streams=1):
    """The tiny plug-in's feature map by OpenVINO."""
    backbone = gcf.load_backbone(TINY)
    conversion = obtain_conversion(backbone, NAMES, (batch_size, 4, 32, 32))
    return OpenVinoMap(conversion.model, backbone.recipe, precision=precision, streams=streams)


@functools.cache
def bf16_fault() -> str:
    """Why OpenVINO does not run a small convolution in bfloat16 here; '' where it does."""
    try:
        tiny_map(precision="bf16")
    except RuntimeError as error:
        return " ".join(str(error).split())[-100:]
    return ""
