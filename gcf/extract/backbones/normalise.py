"""uint8 pixels to network input, on whatever device the pixels are."""

import torch
from torch import Tensor


class Normalise:
    """Pixels (B, T, H, W, 3) uint8 RGB -> (B, 3, T, H, W) float32 in a recipe's channel order, range, mean and std.

    The operations and their order are those of the original transforms, so that results agree to the last bit.
    """

    def __init__(self, recipe: dict, device: torch.device | str = "cpu"):
        if recipe["channel_order"] not in ("RGB", "BGR"):
            raise ValueError(f"channel_order is RGB or BGR, not {recipe['channel_order']!r}")
        self.flip = recipe["channel_order"] == "BGR"
        self.divisor = 255.0 / recipe["pixel_max"]
        self.mean = torch.tensor(recipe["mean"], dtype=torch.float32, device=device).view(1, 3, 1, 1, 1)
        self.std = torch.tensor(recipe["std"], dtype=torch.float32, device=device).view(1, 3, 1, 1, 1)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Mean and std are in the network's channel order."""
        clips = pixels.permute(0, 4, 1, 2, 3)
        clips = clips.flip(1) if self.flip else clips
        return (clips.float().contiguous() / self.divisor - self.mean) / self.std
