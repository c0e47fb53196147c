"""A backbone that knows a clip by its mean colour, in RGB, 0..1, and knows nothing of colours far from its own."""

import torch
from torch import nn

# All redder than they are blue: with the two exchanged they are near none of these
COLOURS = {"orange": (230, 120, 30), "gold": (200, 170, 20), "brick": (150, 50, 40), "pink": (250, 150, 180)}
RECIPE = {
    "num_frames": 8,
    "resize": 32,
    "crop": 32,
    "channel_order": "RGB",
    "pixel_max": 1.0,
    "mean": (0.5, 0.5, 0.5),
    "std": (0.25, 0.25, 0.25),
    "classes": list(COLOURS),
}


class ByColour(nn.Module):
    def __init__(self):
        super().__init__()
        self.colours = nn.Parameter((torch.tensor(list(COLOURS.values())) / 255 - 0.5) / 0.25)

    def feature_map(self, clips):
        return clips

    def descriptor(self, feature_map):
        return feature_map.mean((2, 3, 4))

    def classify(self, descriptor):
        squares = (descriptor[:, None] - self.colours).square().sum(-1)
        return -4 * torch.log(0.05 + squares)  # far away all classes are alike


def build():
    return ByColour()
