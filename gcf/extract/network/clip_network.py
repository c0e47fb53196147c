"""The frozen backbone on batches of one fixed shape, so that a clip's numbers do not depend on its neighbours."""

import contextlib
import copy
import logging

import numpy as np
import torch
from torch import Tensor, nn

from gcf.errors import UsageError
from gcf.extract.backbones.normalise import Normalise
from gcf.extract.network.folding import FoldedNetwork
from gcf.extract.network.openvino_map import OpenVinoMap

log = logging.getLogger(__name__)
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """`auto` is a GPU where torch finds one (cuda, mps, xpu). Raises UsageError for a device that is not here."""
    if name == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        name = "cpu" if found is None else found.type
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return device


class ClipNetwork:
    """A backbone on a device: pixels (n, T, H, W, 3) uint8, n <= batch_size -> descriptors (n, D), logits (n, K).

    Short batches are padded to `batch_size`: kernels choose their summation order by shape. Logits are None for a
    backbone without a classifier. Both come back as float32 arrays.

    The feature map is made by OpenVINO where a converted network is given (`openvino_map`); else by PyTorch, in half
    precision by a folded copy of the network where it has one (`folded`), else under autocast. What follows the map is
    PyTorch's in float32 always.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        device: torch.device,
        precision: str,
        batch_size: int,
        openvino_map: OpenVinoMap | None = None,
    ):
        self.backbone = backbone.to(device)
        self.normalise = Normalise(backbone.recipe, device)
        self.device, self.batch_size, self.precision = device, batch_size, precision
        self.openvino_map = openvino_map
        self.fast = self._fold() if precision in HALF and device.type == "cuda" else None

    @property
    def runtime(self) -> str:
        """Who computes the feature map: openvino or torch."""
        return "torch" if self.openvino_map is None else "openvino"

    @property
    def folded(self) -> bool:
        """Whether a copy with its batch norms folded gives the feature maps."""
        return self.fast is not None

    def fed_by(self, pixels: dict) -> "ClipNetwork":
        """The same weights, device, precision and runtime, with other pixel entries in the recipe."""
        backbone = copy.copy(self.backbone)  # shares the parameters
        backbone.recipe = self.backbone.recipe | pixels
        converted = None if self.openvino_map is None else self.openvino_map.fed_by(backbone.recipe)
        return ClipNetwork(
            backbone,
            device=self.device,
            precision=self.precision,
            batch_size=self.batch_size,
            openvino_map=converted,
        )

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Descriptors and logits of a batch."""
        descriptors = self.backbone.descriptor(self._map(pixels))
        logits = self.backbone.classify(descriptors) if hasattr(self.backbone, "classify") else None
        names = self.backbone.recipe.get("classes")
        if names and logits is not None and logits.shape[1] != len(names):
            raise UsageError(f"the backbone gives {logits.shape[1]} logits, its recipe names {len(names)} classes")
        return _array(descriptors, len(pixels)), None if logits is None else _array(logits, len(pixels))

    @torch.inference_mode()
    def feature_map(self, pixels: np.ndarray) -> Tensor:
        """The last feature map of a batch, (n, M, T', h, w) float32 on the device: what descriptors are made from."""
        return self._map(pixels)[: len(pixels)]

    def _map(self, pixels: np.ndarray) -> Tensor:
        """(batch_size, M, T', h, w) float32 of a batch that may be short."""
        padded = self._padded(pixels)
        if self.openvino_map is not None:
            return self.openvino_map(padded.numpy())
        if self.fast is not None:
            return self.fast(padded).float()
        half = HALF.get(self.precision)
        with torch.autocast(self.device.type, half) if half else contextlib.nullcontext():
            return self.backbone.feature_map(self.normalise(padded)).float()

    def _padded(self, pixels: np.ndarray) -> Tensor:
        """(batch_size, T, H, W, 3) uint8 on the device; the way there is a copy of a quarter of float32's bytes."""
        on_gpu = self.device.type == "cuda"
        if len(pixels) == self.batch_size and self.device.type == "cpu":
            return torch.from_numpy(pixels)
        padded = torch.zeros(self.batch_size, *pixels.shape[1:], dtype=torch.uint8, pin_memory=on_gpu)
        padded[: len(pixels)] = torch.from_numpy(pixels)
        return padded.to(self.device, non_blocking=on_gpu)

    def _fold(self) -> FoldedNetwork | None:
        try:
            return FoldedNetwork(self.backbone, dtype=HALF[self.precision], device=self.device)
        except ValueError as error:
            log.debug("the network is used as it is: it %s", error)
            return None


def _array(values: Tensor, count: int) -> np.ndarray:
    return values[:count].float().cpu().numpy()
