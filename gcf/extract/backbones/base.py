"""What every backbone is: clip -> feature map -> descriptor -> clip logits."""

from torch import Tensor, nn


class Backbone(nn.Module):
    """A clip network cut in three, so that stage two can stand on any of the cuts.

    B clips, T frames of H x W pixels, M channels of the map, D descriptor width, K classes. A subclass gives
    `feature_map` and `classify`; `recipe` is set by whoever loads the weights.
    """

    recipe: dict

    def feature_map(self, clips: Tensor) -> Tensor:
        """Normalised clips (B, 3, T, H, W) -> (B, M, T', H', W')."""
        raise NotImplementedError(f"{type(self).__name__} gives no feature map")

    def descriptor(self, feature_map: Tensor) -> Tensor:
        """(B, M, T', H', W') -> (B, D): what the classifier reads; here the mean over positions."""
        return feature_map.mean(dim=(2, 3, 4))

    def classify(self, descriptor: Tensor) -> Tensor:
        """(B, D) -> logits (B, K)."""
        raise NotImplementedError(f"{type(self).__name__} has no classifier")

    def forward(self, clips: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W) -> logits (B, K)."""
        return self.classify(self.descriptor(self.feature_map(clips)))
