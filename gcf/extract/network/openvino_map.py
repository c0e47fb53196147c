"""A backbone's feature map as OpenVINO computes it: the runtime of convolutional networks on processors.

https://github.com/openvinotoolkit/openvino, Apache-2.0. Its results do not depend on how many streams or threads there
are, nor on a clip's neighbours in the batch; they differ between processors in the last digits, as PyTorch's do.
"""

import functools
import importlib
import importlib.metadata
import os
import sys
import threading
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from gcf.data.text import one_line

HINTS = {"fp32": "f32", "bf16": "bf16"}  # precision -> OpenVINO's INFERENCE_PRECISION_HINT
TELEMETRY = "openvino_telemetry"
_ALONE = threading.Lock()  # who makes the first call of all


@functools.cache
def import_openvino() -> ModuleType:
    """OpenVINO, which sends nothing anywhere. Raises ImportError where it is not installed.

    OpenVINO reports that it was imported, and each conversion, unless its telemetry package is missing. So the package
    is missing while OpenVINO is imported, and OpenVINO takes the silent stand-in that it brings for that case.
    """
    before = sys.modules.get(TELEMETRY)
    sys.modules[TELEMETRY] = None  # what Python takes for "not installed"
    try:
        openvino = importlib.import_module("openvino")
    finally:
        del sys.modules[TELEMETRY]
        if before is not None:
            sys.modules[TELEMETRY] = before
    return openvino


def openvino_fault() -> str:
    """Why OpenVINO cannot be used here; '' where it can."""
    try:
        import_openvino()
        _core()
        openvino_version()
    except ModuleNotFoundError:
        return "it is not installed (pip install openvino)"
    except Exception as error:  # a library whose own files do not fit each other raises OSError, RuntimeError, ...
        return f"it cannot be used ({one_line(error)}); install it again"
    return ""


def _core():
    """OpenVINO's core, one for the whole process, kept until its end.

    The last core that goes frees the signal stack which it has given to the thread of the first. Where another thread
    lets go of it, the next signal that is handled would end the process (2026.4.1).
    """
    with _ALONE:
        return _new_core()


@functools.cache
def _new_core():
    core = import_openvino().Core()
    _make_first_call(core)
    return core


def _make_first_call(core) -> None:
    """Compute something once with this thread alone: two threads that make the first call of all at the same time wait
    for each other for ever, one for Python's lock, one for OpenVINO's (2026.4.1, ten of ten times)."""
    openvino = import_openvino()
    values = openvino.opset13.parameter([1, 1], openvino.Type.u8)
    model = openvino.Model([openvino.opset13.convert(values, "f32")], [values])
    request = core.compile_model(model, "CPU").create_infer_request()
    request.infer([np.zeros((1, 1), np.uint8)], share_inputs=True)
    request.get_output_tensor().data.copy()


def openvino_version() -> str:
    """Of what is installed, such as 2026.4.1."""
    return importlib.metadata.version("openvino")


def processor() -> str:
    """The processor, and the instruction set that it is held to: what may change a result's last digits."""
    name = _core().get_property("CPU", "FULL_DEVICE_NAME").strip()
    held = os.environ.get("ONEDNN_MAX_CPU_ISA", "")
    return ", ".join(filter(None, [name, torch.backends.cpu.get_cpu_capability(), held]))


class OpenVinoMap:
    """Pixels (B, T, H, W, 3) uint8 of one fixed shape -> feature map (B, M, T', H', W') float32.

    model: a kept conversion, which reads normalised clips; recipe: whose pixel entries say how clips are normalised;
    streams: how many calls run side by side, each on one thread. Raises RuntimeError for a model that cannot be read,
    or a precision that this processor has not.
    """

    def __init__(self, model: Path, recipe: dict, *, precision: str, streams: int):
        self.model, self.precision, self.streams = model, precision, streams
        core = _core()
        settings = {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": streams,
            "ENABLE_CPU_PINNING": False,  # pinned streams of two processes would share one core and leave another idle
        }
        network = _from_pixels(core.read_model(model), recipe)
        try:
            self.compiled = core.compile_model(network, "CPU", settings)
        except RuntimeError as error:
            if precision == "fp32":
                raise
            raise RuntimeError("OpenVINO has none for this processor") from error  # its own words: not initialized
        if self.compiled.get_property("INFERENCE_PRECISION_HINT").to_string() != HINTS[precision]:
            raise RuntimeError("this processor has none")
        self.local = threading.local()  # a request is one call's memory: every thread has its own

    def __call__(self, pixels: np.ndarray) -> Tensor:
        """The feature map of a batch."""
        if not hasattr(self.local, "request"):
            self.local.request = self.compiled.create_infer_request()
        self.local.request.infer([pixels], share_inputs=True)
        return torch.from_numpy(self.local.request.get_output_tensor().data.copy())

    def fed_by(self, recipe: dict) -> "OpenVinoMap":
        """The same network, given other pixels."""
        return OpenVinoMap(self.model, recipe, precision=self.precision, streams=self.streams)


def _from_pixels(model, recipe: dict):
    """The model with the steps of `normalise.Normalise` before it, so that it reads raw pixels."""
    openvino = import_openvino()
    steps = importlib.import_module("openvino.preprocess").PrePostProcessor(model)
    clips = steps.input()
    clips.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NDHWC"))
    clips.model().set_layout(openvino.Layout("NCDHW"))
    clips.preprocess().convert_element_type(openvino.Type.f32)
    if recipe["channel_order"] == "BGR":
        clips.preprocess().reverse_channels()
    unit = 255.0 / recipe["pixel_max"]
    clips.preprocess().mean([unit * value for value in recipe["mean"]])
    clips.preprocess().scale([unit * value for value in recipe["std"]])
    return steps.build()
