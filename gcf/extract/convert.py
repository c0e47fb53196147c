"""The process that converts a backbone: loads it once more, traces a clip's way through it, writes OpenVINO's file."""

import json
import logging
import sys
import warnings

import torch
from torch import Tensor, nn

from gcf.data.text import one_line
from gcf.extract.backbones import load_backbone
from gcf.extract.conversion import LASTING
from gcf.extract.folding import FeatureMap
from gcf.extract.openvino_map import import_openvino


def main() -> None:
    """Do the task on standard input. On failure the reason is the only line that is printed, and the exit code says
    whether another attempt would end the same way."""
    task = json.loads(sys.stdin.buffer.read())
    answers, sys.stdout = sys.stdout, sys.stderr  # what a plug-in prints is no answer
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    try:
        backbone = load_backbone(task["backbone"], task["weights"], task["temporal_stride"])
        if backbone.recipe["weights_sha256"] != task["expected"]:
            raise OSError("its weights have changed meanwhile")
        convert(backbone, tuple(task["shape"]), task["model"])
    except Exception as error:  # whatever it is, the extraction goes on without the conversion
        said = str(error).strip().splitlines() or [type(error).__name__]
        print(said[-1], file=answers, flush=True)
        passing = isinstance(error, OSError | MemoryError) or "allocate" in str(error)
        sys.exit(1 if passing else LASTING)


def convert(backbone: nn.Module, shape: tuple[int, int, int, int], model: str) -> None:
    """Write the feature map of clips of a shape (B, T, H, W) to `model`, in float32.

    Raises ValueError for a network whose steps depend on what it is shown: a trace has one of its ways alone.
    """
    batch, frames, height, width = shape
    clips = torch.zeros(batch, 3, frames, height, width)
    network = FeatureMap(backbone).eval()
    with warnings.catch_warnings(record=True) as doubts, torch.no_grad():
        warnings.simplefilter("always", torch.jit.TracerWarning)
        traced = torch.jit.trace(network, (clips,), check_trace=False)
    if any(issubclass(doubt.category, torch.jit.TracerWarning) for doubt in doubts):
        _require_one_way(network, clips)
    openvino = import_openvino()
    converted = openvino.convert_model(traced, example_input=(clips,), input=[list(clips.shape)])
    try:
        openvino.save_model(converted, model, compress_to_fp16=False)
    except RuntimeError as error:  # a full disk
        raise OSError(f"it cannot be written ({one_line(error)})") from error


def _require_one_way(network: nn.Module, clips: Tensor) -> None:
    """Tracing doubts also what depends on sizes, which are fixed; torch.export follows values, and knows better."""
    try:
        torch.export.export(network, (clips,), strict=False)
    except Exception as error:
        raise ValueError("its steps depend on what it is shown") from error
