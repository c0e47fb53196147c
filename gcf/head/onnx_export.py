"""A trained head as an ONNX file for any batch and number of clips, compared with the head itself before it is kept."""

import contextlib
import importlib
import json
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from gcf.data.atomic import atomic_file
from gcf.data.disk import disk_faults
from gcf.data.recipe import recipe_sha256
from gcf.data.text import one_line
from gcf.data.writer import require_output
from gcf.errors import RefusedError, UsageError
from gcf.head.models.dense import DenseHead, example
from gcf.head.models.ensemble import load_trained
from gcf.head.models.saved import SavedHead, given_or_loaded

if TYPE_CHECKING:
    import onnx

OPSET = 18  # what torch's exporter writes without converting, in every version that gcf runs with
WORST = 1e-5  # summation order alone moves float32 results by a tenth of that
INPUTS, OUTPUTS = ("descriptors", "mask"), ("logits", "gate", "evidence", "attention")
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
NOT_EXPORTED = {"gru": "it reads as many steps as a video has clips, which PyTorch cannot write as ONNX"}  # by kind
OTHER_WAYS = "use it from Python (gcf.load_head), or train another head"
SIZES = ((1, 1), (1, 5), (2, 1), (3, 4), (5, 10), (4, 37))  # (videos, clips) that are compared


def export_onnx(
    head: SavedHead | str | os.PathLike,
    out: str | os.PathLike,
    *,
    opset: int = OPSET,
    head_file: str | os.PathLike | None = None,
) -> dict:
    """Write a head as ONNX and say how far it is from the head in torch, at worst, relative to the largest value.

    Inputs: descriptors (B, C, D) float32, mask (B, C) bool, True on real clips, at least one in a video. Outputs, where
    the head has them: logits (B, K), gate (B, C), evidence (B, C, K), attention (B, C, C). B and C are free; a gate
    for a fixed number of clips takes up to that many (`max_clips`). The file's metadata has the classes, whether
    they are exclusive (a softmax of the logits, else a sigmoid each), the recipe and its sha256, num_clips,
    clip_policy, padding and the difference. The file takes clips as they come: with padding "loop"
    its caller repeats those of a short video up to num_clips.

    head_file: the Python file of a plug-in head that is given by its path, as for `load_head`.

    Raises UsageError where a package is absent or the opset too old, HeadError for a damaged head, and RefusedError
    where `out` is there already or cannot be, where PyTorch cannot translate the head, or runtime and
    head differ by more than 1e-5; then no file is written.
    """
    _check_packages()
    _check_opset(opset)
    out = Path(out)
    if out.exists():
        raise RefusedError(f"{out}: exists already; name one that is not there yet")
    require_output(out)
    head = given_or_loaded(head, head_file=head_file, load=load_trained)
    why_not = NOT_EXPORTED.get(head.config.kind)
    if why_not:
        raise RefusedError(f"{out}: not written: a {head.config.name} head cannot be exported, {why_not}; {OTHER_WAYS}")
    names = [name for name in OUTPUTS if getattr(head(*_inputs(head, 1, 1)), name) is not None]
    try:
        model = _translate(head, names, opset)
    except torch.onnx.OnnxExporterError as error:
        said = one_line(str(error.__cause__ or error).partition("\n")[0])
        raise RefusedError(
            f"{out}: not written: PyTorch cannot translate {head.config.name} ({said}); {OTHER_WAYS}"
        ) from error
    worst = _worst_difference(head, model.SerializeToString(), names)
    if not worst <= WORST:
        raise RefusedError(f"{out}: not written: onnxruntime and the head differ by {worst:.1e}, {WORST:g} is allowed")
    facts = {
        "head": head.config.name,
        "classes": list(head.classes),
        "exclusive": head.config.exclusive,
        "recipe": head.recipe,
        "recipe_sha256": recipe_sha256(head.recipe),
        "num_clips": head.training["num_clips"],
        "clip_policy": head.training["clip_policy"],
        "padding": head.padding,
        "max_clips": head.config.fixed_clips,
        "worst_relative_difference": worst,
    }
    _describe(model, facts)
    _write(out, model)
    return facts | {"path": out, "opset": opset, "outputs": names, "bytes": out.stat().st_size}


def describe(result: dict) -> str:
    """What was written, in words."""
    clips = "any number of clips" if result["max_clips"] is None else f"up to {result['max_clips']} clips"
    return (
        f"{result['path']}: {result['head']} for {len(result['classes'])} classes, {clips}; gives "
        f"{', '.join(result['outputs'])}; within {result['worst_relative_difference']:.1e} of the head in torch"
    )


def _check_packages() -> None:
    absent = []
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError:
            absent.append(name)
    if absent:
        raise UsageError(f"ONNX export needs {', '.join(absent)}: pip install gcf-net[onnx]")


def _check_opset(opset: int) -> None:
    import onnx

    newest = onnx.defs.onnx_opset_version()
    if not OPSET <= opset <= newest:
        raise UsageError(f"opset {opset} cannot be written; {OPSET} to {newest} can")


class _Parts(nn.Module):
    """The parts of a head's answer as a tuple, which is what the exporter takes."""

    def __init__(self, head: nn.Module, names: list[str]):
        super().__init__()
        self.head, self.names = head, names

    def forward(self, descriptors: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        output = self.head(descriptors, mask)
        return tuple(getattr(output, name) for name in self.names)


def _translate(head: SavedHead, names: list[str], opset: int) -> "onnx.ModelProto":
    """The head as a model in memory, B and C free."""
    slots = head.config.fixed_clips
    videos = torch.export.Dim("B")
    clips = torch.export.Dim("C") if slots is None else torch.export.Dim("C", max=slots)
    free = {0: videos} if slots == 1 else {0: videos, 1: clips}
    module = _Parts(DenseHead(head.module), names).eval()
    with _quiet():
        program = torch.onnx.export(
            module,
            _inputs(head, 3, 2 if slots is None else min(2, slots)),
            dynamo=True,
            verbose=False,
            opset_version=opset,
            input_names=INPUTS,
            output_names=names,
            dynamic_shapes=(free, free),
        )
    return program.model_proto


def _inputs(head: SavedHead, videos: int, clips: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    return example(clips, head.descriptor_width, num_videos=videos, seed=seed)


def _worst_difference(head: SavedHead, model: bytes, names: list[str]) -> float:
    """The largest difference of any output, over inputs of several sizes, relative to that output's largest value."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    slots, worst = head.config.fixed_clips, 0.0
    for seed, (videos, clips) in enumerate(SIZES):
        inputs = _inputs(head, videos, clips if slots is None else min(clips, slots), seed=seed)
        expected = head(*inputs)
        found = session.run(names, {name: x.numpy() for name, x in zip(INPUTS, inputs, strict=True)})
        for name, values in zip(names, found, strict=True):
            wanted = getattr(expected, name).numpy()
            if values.shape != wanted.shape:
                raise RefusedError(f"{name} of {videos} videos is {values.shape} in onnxruntime, not {wanted.shape}")
            worst = max(worst, float(np.abs(values - wanted).max() / max(np.abs(wanted).max(), 1e-30)))
    return worst


def _describe(model: "onnx.ModelProto", facts: dict) -> None:
    """Put the facts into the metadata; take out what names files of this machine."""
    import onnx

    graph = model.graph
    for item in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *model.functions):
        del item.metadata_props[:]
    for function in model.functions:
        for node in function.node:
            del node.metadata_props[:]
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in facts.items()}
    onnx.helper.set_model_props(model, texts)


def _write(out: Path, model: "onnx.ModelProto") -> None:
    with disk_faults(out), atomic_file(out) as file:
        file.write(model.SerializeToString(deterministic=True))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks about its own insides from the terminal."""
    loud = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(loud)
