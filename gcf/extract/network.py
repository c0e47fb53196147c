"""The frozen backbone on batches of one fixed shape, so that a clip's numbers do not depend on its neighbours."""

import contextlib

import numpy as np
import torch
from torch import nn

from gcf.errors import UsageError
from gcf.extract.normalise import Normalise

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


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
    backbone without a classifier. Both come back as float32 arrays.
    """

    def __init__(self, backbone: nn.Module, *, device: torch.device, precision: str, batch_size: int):
        self.backbone = backbone.to(device)
        self.normalise = Normalise(backbone.recipe, device)
        self.device, self.batch_size = device, batch_size
        self.autocast = AUTOCAST.get(precision)

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Descriptors and logits of a batch."""
        count, clips = len(pixels), self._clips(pixels)
        with self._precision():
            descriptors = self.backbone.descriptor(self.backbone.feature_map(clips))
            logits = self.backbone.classify(descriptors) if hasattr(self.backbone, "classify") else None
        names = self.backbone.recipe.get("classes")
        if names and logits is not None and logits.shape[1] != len(names):
            raise UsageError(f"the backbone gives {logits.shape[1]} logits, its recipe names {len(names)} classes")
        return _array(descriptors, count), None if logits is None else _array(logits, count)

    @torch.inference_mode()
    def feature_map(self, pixels: np.ndarray) -> torch.Tensor:
        """The last feature map of a batch, (n, M, T', h, w) float32 on the device: what descriptors are made from."""
        clips = self._clips(pixels)
        with self._precision():
            maps = self.backbone.feature_map(clips)
        return maps[: len(pixels)].float()

    def _clips(self, pixels: np.ndarray) -> torch.Tensor:
        """Network input (batch_size, 3, T, H, W) of a batch that may be short."""
        padded = np.zeros((self.batch_size, *pixels.shape[1:]), np.uint8)
        padded[: len(pixels)] = pixels
        return self.normalise(torch.from_numpy(padded).to(self.device))

    def _precision(self) -> contextlib.AbstractContextManager:
        return torch.autocast(self.device.type, self.autocast) if self.autocast else contextlib.nullcontext()


def _array(values: torch.Tensor, count: int) -> np.ndarray:
    return values[:count].float().cpu().numpy()
