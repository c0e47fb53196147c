"""The frozen backbone on batches of one fixed shape, so that a clip's numbers do not depend on its neighbours."""

import contextlib
import logging

import numpy as np
import torch
from torch import Tensor, nn

from gcf.errors import UsageError
from gcf.extract.folding import FoldedNetwork
from gcf.extract.normalise import Normalise

log = logging.getLogger(__name__)
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """`auto` is a GPU where there is one. Raises UsageError for a device that this machine has not."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return device


class ClipNetwork:
    """A backbone on a device: pixels (n, T, H, W, 3) uint8, n <= batch_size -> descriptors (n, D), logits (n, K).

    Short batches are padded to `batch_size`: kernels choose their summation order by shape. Logits are None for a
    backbone without a classifier. Both come back as float32 arrays. In half precision the feature map is made by a
    folded copy of the network where it has one (`folded`), else under autocast; what follows it is float32.
    """

    def __init__(self, backbone: nn.Module, *, device: torch.device, precision: str, batch_size: int):
        self.backbone = backbone.to(device)
        self.normalise = Normalise(backbone.recipe, device)
        self.device, self.batch_size, self.precision = device, batch_size, precision
        self.fast = self._fold() if precision in HALF else None

    @property
    def folded(self) -> bool:
        """Whether a copy with its batch norms folded gives the feature maps."""
        return self.fast is not None

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
        if self.fast is not None:
            return self.fast(padded).float()
        half = HALF.get(self.precision)
        with torch.autocast(self.device.type, half) if half else contextlib.nullcontext():
            return self.backbone.feature_map(self.normalise(padded)).float()

    def _padded(self, pixels: np.ndarray) -> Tensor:
        """(batch_size, T, H, W, 3) uint8 on the device; the way there is a copy of a quarter of float32's bytes."""
        on_gpu = self.device.type == "cuda"
        padded = torch.zeros(self.batch_size, *pixels.shape[1:], dtype=torch.uint8, pin_memory=on_gpu)
        padded[: len(pixels)] = torch.from_numpy(pixels)
        return padded.to(self.device, non_blocking=on_gpu)

    def _fold(self) -> FoldedNetwork | None:
        fuse = self.device.type == "cpu" and torch.backends.mkldnn.is_available()
        try:
            return FoldedNetwork(self.backbone, dtype=HALF[self.precision], device=self.device, fuse=fuse)
        except ValueError as error:
            log.debug("the network is used as it is: it %s", error)
            return None


def _array(values: Tensor, count: int) -> np.ndarray:
    return values[:count].float().cpu().numpy()
