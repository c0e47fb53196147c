"""3D-MobileNetV2 with a width multiplier; names and shapes of okankop/Efficient-3DCNNs models/mobilenetv2.py."""

from torch import Tensor, nn

from gcf.extract.backbones.base import Backbone

STEM_WIDTH, LAST_WIDTH = 32, 1280  # the last convolution keeps its width whatever the multiplier
STAGES = (  # expansion, width, blocks, stride of the first block in T, H and W
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def convolved(width_in: int, width_out: int, *, kernel: int = 1, stride=1, groups: int = 1) -> list[nn.Module]:
    """A padded bias-free convolution and its norm."""
    convolution = nn.Conv3d(width_in, width_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm3d(width_out)]


class InvertedResidual(nn.Module):
    """Widen, filter every channel by itself, narrow without activation; added to the input where sizes agree."""

    def __init__(self, width_in: int, width_out: int, *, expansion: int, stride: int):
        super().__init__()
        inner = width_in * expansion
        widen = [*convolved(width_in, inner), nn.ReLU6(inplace=True)] if expansion > 1 else []
        filtered = [*convolved(inner, inner, kernel=3, stride=stride, groups=inner), nn.ReLU6(inplace=True)]
        self.conv = nn.Sequential(*widen, *filtered, *convolved(inner, width_out))
        self.adds_input = stride == 1 and width_in == width_out

    def forward(self, x: Tensor) -> Tensor:
        """(B, width_in, T, H, W) -> (B, width_out, T', H', W')."""
        return x + self.conv(x) if self.adds_input else self.conv(x)


class MobileNetV2(Backbone):
    """Feature map (B, 1280, ceil(T/16), ceil(H/32), ceil(W/32))."""

    def __init__(self, *, num_classes: int, width: float = 1.0):
        super().__init__()
        width_in = int(STEM_WIDTH * width)
        layers = [nn.Sequential(*convolved(3, width_in, kernel=3, stride=(1, 2, 2)), nn.ReLU6(inplace=True))]
        for expansion, full_width, depth, first_stride in STAGES:
            width_out = int(full_width * width)
            for index in range(depth):
                stride = first_stride if index == 0 else 1
                layers.append(InvertedResidual(width_in, width_out, expansion=expansion, stride=stride))
                width_in = width_out
        layers.append(nn.Sequential(*convolved(width_in, LAST_WIDTH), nn.ReLU6(inplace=True)))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(LAST_WIDTH, num_classes))

    def feature_map(self, clips: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W) -> (B, 1280, T', H', W')."""
        return self.features(clips)

    def classify(self, descriptor: Tensor) -> Tensor:
        """(B, 1280) -> (B, K)."""
        return self.classifier(descriptor)


def build(name: str, *, num_classes: int, width: float | None = None) -> MobileNetV2:  # noqa: ARG001 - one network
    """The untrained network at a width multiplier (1.0 where none is given)."""
    return MobileNetV2(num_classes=num_classes, width=1.0 if width is None else width)
