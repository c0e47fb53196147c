"""torchvision's nine video networks, cut into feature map, descriptor and classifier.

Each takes over the modules of torchvision's own network under their own names, so its published weights load strictly.
"""

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import get_model

from gcf.extract.backbones.base import Backbone
from gcf.extract.backbones.tokens import map_around


class Adopted(Backbone):
    """A torchvision network's modules, under the names that its state dict has."""

    def __init__(self, network: nn.Module):
        super().__init__()
        for name, module in network.named_children():
            self.add_module(name, module)


class VideoResNet(Adopted):
    """r3d_18, mc3_18, r2plus1d_18: feature map (B, 512, T', H', W')."""

    def feature_map(self, clips: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W) -> (B, 512, T', H', W')."""
        return self.layer4(self.layer3(self.layer2(self.layer1(self.stem(clips)))))

    def classify(self, descriptor: Tensor) -> Tensor:
        """(B, 512) -> (B, K)."""
        return self.fc(descriptor)


class S3D(Adopted):
    """Feature map (B, 1024, T', H', W')."""

    def feature_map(self, clips: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W) -> (B, 1024, T', H', W')."""
        return self.features(clips)

    def descriptor(self, feature_map: Tensor) -> Tensor:
        """(B, 1024, T', H', W') -> (B, 1024): means of windows, then their mean, as torchvision pools.

        The classifier is a 1x1x1 convolution, so taking the mean before it or after it is the same. Maps smaller than
        the window, which torchvision refuses, are pooled whole.
        """
        window = [min(*sizes) for sizes in zip(self.avgpool.kernel_size, feature_map.shape[2:], strict=True)]
        return F.avg_pool3d(feature_map, window, stride=1).mean(dim=(2, 3, 4))

    def classify(self, descriptor: Tensor) -> Tensor:
        """(B, 1024) -> (B, K)."""
        return self.classifier(descriptor[:, :, None, None, None]).flatten(1)


class MViT(Adopted):
    """mvit_v1_b, mvit_v2_s: feature map (B, 768, 8, 7, 7) of clips (B, 3, 16, 224, 224) and of no other size.

    The classifier reads one class token that belongs to no position: see `tokens.map_around`.
    """

    def feature_map(self, clips: Tensor) -> Tensor:
        """Clips (B, 3, 16, 224, 224) -> (B, 768, 8, 7, 7)."""
        grid = (self.pos_encoding.temporal_size, *self.pos_encoding.spatial_size)
        x = self.conv_proj(clips)  # (B, M, *grid)
        if x.shape[2:] != grid:
            needed = tuple(cells * stride for cells, stride in zip(grid, self.conv_proj.stride, strict=True))
            raise ValueError(f"this network takes clips of (T, H, W) = {needed} only, got {tuple(clips.shape[2:])}")
        x = self.pos_encoding(x.flatten(2).transpose(1, 2))  # (B, 1 + positions, M), the class token first
        for block in self.blocks:
            x, grid = block(x, grid)
        x = self.norm(x)
        return map_around(x[:, :1], x[:, 1:], grid)

    def classify(self, descriptor: Tensor) -> Tensor:
        """(B, 768) -> (B, K)."""
        return self.head(descriptor)


class Swin3D(Adopted):
    """swin3d_t, swin3d_s, swin3d_b: feature map (B, 768 or 1024, ceil(T/2), ceil(H/32), ceil(W/32))."""

    def feature_map(self, clips: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W) -> (B, D, T', H', W')."""
        x = self.norm(self.features(self.pos_drop(self.patch_embed(clips))))  # (B, T', H', W', D)
        return x.permute(0, 4, 1, 2, 3)

    def classify(self, descriptor: Tensor) -> Tensor:
        """(B, D) -> (B, K)."""
        return self.head(descriptor)


NETWORKS = {
    "r3d_18": VideoResNet,
    "mc3_18": VideoResNet,
    "r2plus1d_18": VideoResNet,
    "s3d": S3D,
    "mvit_v1_b": MViT,
    "mvit_v2_s": MViT,
    "swin3d_t": Swin3D,
    "swin3d_s": Swin3D,
    "swin3d_b": Swin3D,
}


def build(name: str, *, num_classes: int, width: float | None = None) -> Adopted:  # noqa: ARG001 - no widths here
    """The untrained network of that name."""
    return NETWORKS[name](get_model(name, weights=None, num_classes=num_classes))
