"""Who computes a network, and with what numbers: the fastest way whose descriptors are the published network's.

The rule is fixed, a trial is its check, and no clock is asked: what is chosen follows from network, processor and
versions alone, so that shards and repeated runs agree.
"""

import json
import logging
import math
from dataclasses import dataclass

import torch
from torch import nn

from gcf.data.text import one_line
from gcf.errors import UsageError
from gcf.extract.network.agreement import Comparison, drawn_clips, largest_difference, one_thread, worst_cosine
from gcf.extract.network.clip_network import ClipNetwork
from gcf.extract.network.conversion import Conversion, ConversionError, ModelNames, obtain_conversion
from gcf.extract.network.folding import is_convolutional
from gcf.extract.network.openvino_map import HINTS, OpenVinoMap, openvino_fault, processor

log = logging.getLogger("gcf")
WORST_COSINE = 0.999  # between a clip's descriptors in half and in full precision
LARGEST_DIFFERENCE = 1e-5  # between OpenVINO's descriptors and PyTorch's, in float32
OTHER_NETWORK = 1e-3  # beyond what float32 rounds differently: the conversion computes something else
TRIED_CLIPS = 4
BATCH_ON_GPU, BATCH_ON_PROCESSOR = 32, 1  # clips; on processors larger ones are no faster (benchmarks/README.md)


def natural_precision(device: torch.device) -> str:
    """What `auto` means: bf16 where the device multiplies in it, else fp16 on a GPU and fp32 on a processor."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    if device.type == "cpu":
        return "bf16" if _multiplies_bf16() else "fp32"
    return {"mps": "fp16", "xpu": "bf16"}.get(device.type, "fp32")


def _multiplies_bf16() -> bool:
    """Whether this processor has units for bfloat16, and is not held to older instructions (ONEDNN_MAX_CPU_ISA).

    That oneDNN can compute in it is not enough: on plain AVX-512 it emulates bfloat16, slower than float32.
    """
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    has_units = any(getattr(torch.cpu, name, bool)() for name in names)  # older versions of torch lack them
    return has_units and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def precise_network(
    backbone: nn.Module,
    *,
    device: torch.device,
    precision: str,
    batch_size: int | None,
    num_frames: int,
    runtime: str = "auto",
    names: ModelNames | None = None,
) -> tuple[ClipNetwork, dict]:
    """The network by the runtime and in the precision asked for, and what the recipe says of it.

    On processors OpenVINO computes convolutional networks, PyTorch all others. Each way is tried on a few drawn clips:
    where a descriptor's cosine to the published network's is below 0.999 in half precision, or descriptors differ by
    more than 1e-5 in float32, or the device cannot do it, the next takes its place, with a warning: half precision and
    float32 by OpenVINO, then half precision and the published network by PyTorch.

    names: how the process that converts a network for OpenVINO loads it; without them PyTorch computes it.
    batch_size None: one clip on processors, 32 on GPUs. The recipe's entries: runtime; precision; folded: whether
    PyTorch has batch norms folded; precision_cosine: the worst one seen, None in float32; batch_size. Raises UsageError
    where runtime is "openvino" and OpenVINO cannot compute the network.
    """
    natural = natural_precision(device) if precision == "auto" else precision
    asked = _Asked(
        backbone,
        device=device,
        precisions=tuple(dict.fromkeys([natural, "fp32"])),
        batch_size=batch_size or (BATCH_ON_PROCESSOR if device.type == "cpu" else BATCH_ON_GPU),
        num_frames=num_frames,
    )
    chosen = None
    if runtime != "torch":
        chosen = _openvino_if_possible(asked, names, required=runtime == "openvino")
    network, worst = chosen or _by_torch(asked)
    entries = {name: getattr(network, name) for name in ("runtime", "precision", "folded", "batch_size")}
    return network, entries | {"precision_cosine": worst}


@dataclass(frozen=True, eq=False)
class _Asked:
    """What is to be computed; precisions: those to try, one after another, float32 last."""

    backbone: nn.Module
    device: torch.device
    precisions: tuple[str, ...]
    batch_size: int
    num_frames: int

    def network(self, precision: str, openvino_map: OpenVinoMap | None = None) -> ClipNetwork:
        """The network in a precision, by PyTorch unless a converted one is given."""
        return ClipNetwork(
            self.backbone,
            device=self.device,
            precision=precision,
            batch_size=self.batch_size,
            openvino_map=openvino_map,
        )

    def compare(self, network: ClipNetwork, comparison: Comparison) -> float:
        """A network beside the published one, on drawn clips that fill its batches."""
        count = self.batch_size * math.ceil(TRIED_CLIPS / self.batch_size)
        clips = drawn_clips(self.num_frames, self.backbone.recipe["crop"], count)
        with one_thread():  # as in the lanes, and the same digits whatever the number of processors
            return comparison(network, self.network("fp32"), clips)


Chosen = tuple[ClipNetwork, float | None]  # with the worst cosine, None in float32


def _by_torch(asked: _Asked) -> Chosen:
    """By PyTorch in the first precision that agrees."""
    for precision in asked.precisions[:-1]:
        try:
            network = asked.network(precision)
            worst = asked.compare(network, worst_cosine)
        except torch.OutOfMemoryError:  # float32 would take more memory still
            raise
        except (RuntimeError, NotImplementedError) as error:
            _warn_unusable(precision, error)
            continue
        if worst >= WORST_COSINE:
            return network, worst
        _warn_inexact(precision, worst)
    return asked.network("fp32"), None


def _openvino_if_possible(asked: _Asked, names: ModelNames | None, *, required: bool) -> Chosen | None:
    """By OpenVINO; None where it does not, and why is worth a line. Raises UsageError where it is required."""
    reason, level = _against_openvino(asked, names), logging.DEBUG
    if not reason:
        reason, level = openvino_fault(), logging.INFO
    if not reason:
        try:
            return _by_openvino(asked, names)
        except torch.OutOfMemoryError:
            raise
        except (ConversionError, OSError, RuntimeError, TypeError) as error:
            reason, level = _in_a_line(error), logging.WARNING
    if required:
        raise UsageError(f"runtime openvino cannot be had for this network: {reason}")
    log.log(level, "%s: computed by PyTorch, not by OpenVINO: %s", asked.backbone.recipe.get("name"), reason)
    return None


def _against_openvino(asked: _Asked, names: ModelNames | None) -> str:
    """Why OpenVINO is not asked at all; '' where it is."""
    if asked.device.type != "cpu":
        return f"it computes on processors, not on {asked.device.type}"
    if not set(asked.precisions) <= HINTS.keys():
        return f"it has no {asked.precisions[0]}"
    if names is None:
        return "nothing says how to load this network once more"
    if not is_convolutional(asked.backbone):
        return "it is for networks of convolutions; transformers are faster by PyTorch"
    return ""


def _by_openvino(asked: _Asked, names: ModelNames) -> Chosen:
    """By OpenVINO in the first precision that agrees. Raises ConversionError where there is none.

    Whatever OpenVINO, the disk or a plug-in's own code raises passes through.
    """
    recipe = asked.backbone.recipe
    size = recipe["crop"] if isinstance(recipe["crop"], list | tuple) else [recipe["crop"]] * 2
    conversion = obtain_conversion(asked.backbone, names, (asked.batch_size, asked.num_frames, *size))
    differs = _tried(asked, conversion, "fp32", largest_difference)
    off = f"its descriptors are off by {differs:.0e} of the largest value"
    streams = torch.get_num_threads()
    for precision in asked.precisions[:-1]:
        if differs > OTHER_NETWORK:  # half precision hides, say, a frame beside the right one; float32 does not
            raise ConversionError(f"{off} in float32")
        try:
            worst = _tried(asked, conversion, precision, worst_cosine)
            if worst >= WORST_COSINE:
                return _converted(asked, conversion, precision, streams=streams), worst
        except RuntimeError as error:
            _warn_unusable(precision, error)
        else:
            _warn_inexact(precision, worst)
    if differs > LARGEST_DIFFERENCE:
        raise ConversionError(off)
    return _converted(asked, conversion, "fp32", streams=streams), None


def _converted(asked: _Asked, conversion: Conversion, precision: str, *, streams: int) -> ClipNetwork:
    """The network by OpenVINO."""
    recipe = asked.backbone.recipe
    return asked.network(precision, OpenVinoMap(conversion.model, recipe, precision=precision, streams=streams))


def _tried(asked: _Asked, conversion: Conversion, precision: str, comparison: Comparison) -> float:
    """What the trial of a converted network shows, or has shown before on a processor of this kind."""
    pixels = [asked.backbone.recipe[name] for name in ("channel_order", "pixel_max", "mean", "std")]
    key = f"{precision} on {processor()}, pixels {json.dumps(pixels)}"
    shown = conversion.trial(key)
    if shown is None:
        shown = asked.compare(_converted(asked, conversion, precision, streams=1), comparison)
        conversion.note_trial(key, shown)
    return shown


def _warn_unusable(precision: str, error: Exception) -> None:
    log.warning("%s cannot be used (%s); float32 is used instead", precision, _in_a_line(error))


def _in_a_line(error: Exception) -> str:
    """What an error says, cut to a length; PyTorch has its cause in the first line, OpenVINO in the last."""
    return one_line(error)[:300] or type(error).__name__


def _warn_inexact(precision: str, worst: float) -> None:
    log.warning(
        "%s is not exact enough for this network (a descriptor's cosine to float32's is %.5f, at least %g is asked "
        "for); float32 is used instead",
        *(precision, worst, WORST_COSINE),
    )
