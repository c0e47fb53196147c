"""The process that converts a backbone: loads it once more, traces a clip's way through it, writes OpenVINO's file."""

import json
import logging
import sys
import warnings

import torch
from torch import Tensor, nn

from gcf.data.text import one_line
from gcf.extract.backbones import load_backbone
from gcf.extract.network.conversion import LASTING
from gcf.extract.network.folding import FeatureMap
from gcf.extract.network.openvino_map import import_openvino


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
    _split_means(converted)
    try:
        openvino.save_model(converted, model, compress_to_fp16=False)
    except RuntimeError as error:  # a full disk
        raise OSError(f"it cannot be written ({one_line(error)})") from error


def _split_means(model) -> None:
    """Take every mean over frames and places (squeeze-and-excitation) in two steps, places first.

    OpenVINO adds up the 100,000 values of an early map one after another, which is off by 3e-5 for X3D with trained
    weights; in two steps it is 2e-6. A reshape stands between them, or OpenVINO would merge them again.
    """
    ops = import_openvino().opset13
    for mean in [op for op in model.get_ops() if op.get_type_name() == "ReduceMean"]:
        values, axes = mean.input_value(0), mean.input_value(1).get_node()
        if not (axes.get_type_name() == "Constant" and values.partial_shape.is_static and len(values.shape) == 5):
            continue
        if sorted(axes.data.flatten() % 5) == [2, 3, 4]:
            batch, channels, frames, height, width = values.shape
            places = ops.reshape(values, [batch, channels, frames, height * width], special_zero=False)
            by_frame = ops.reduce_mean(places, [3], keep_dims=False)
            over_all = ops.reduce_mean(by_frame, [2], keep_dims=False)
            same_shape = ops.reshape(over_all, list(mean.output(0).shape), special_zero=False)
            mean.output(0).replace(same_shape.output(0))


def _require_one_way(network: nn.Module, clips: Tensor) -> None:
    """Tracing doubts also what depends on sizes, which are fixed; torch.export follows values, and knows better."""
    try:
        torch.export.export(network, (clips,), strict=False)
    except Exception as error:
        raise ValueError("its steps depend on what it is shown") from error
