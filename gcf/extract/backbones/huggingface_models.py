"""Video transformers of Hugging Face's transformers, cut into feature map, descriptor and classifier.

Each runs the model's own encoder, and lays out the tokens that it ends with as a map. B clips of T frames, N tokens of
M channels, T' = T / frames per tubelet, h and w patches.
"""

import torch
from torch import Tensor, nn

from gcf.extract.backbones.tokens import as_map, map_around


def _pair(size: int | list[int] | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


class TokenNetwork(nn.Module):
    """The encoder of a transformers model, and its classifier, where it has one, as `classify`: (B, D) -> (B, K).

    fixed_frames: whether positions are learnt, or tabulated, for clips of one length. A class reads its own kind of
    configuration: `clip_size` and `tubelet` are (T, H, W) of a clip and of what one token shows.
    """

    recipe: dict
    fixed_frames = True
    unused: tuple[str, ...] = ()  # parts of the encoder that no descriptor needs

    def __init__(self, model: nn.Module):
        super().__init__()
        self.encoder = model.base_model
        self.clip_size, self.patch = self.clip_size_of(model.config), self.tubelet_of(model.config)
        for name in self.unused:
            setattr(self.encoder, name, None)
        if isinstance(getattr(model, "classifier", None), nn.Linear):
            self.classify = model.classifier

    @staticmethod
    def clip_size_of(config) -> tuple[int, int, int]:
        """(T, H, W) of the clips that a configuration is for."""
        return config.num_frames, *_pair(config.image_size)

    @staticmethod
    def tubelet_of(config) -> tuple[int, int, int]:
        """(T, H, W) of the part of a clip that becomes one token."""
        return config.tubelet_size, *_pair(config.patch_size)

    @classmethod
    def impossible(cls, config) -> str:
        """Why such a configuration cannot be used; '' where it can."""
        clip, patch = cls.clip_size_of(config), cls.tubelet_of(config)
        if all(part > 0 and full > 0 and full % part == 0 for full, part in zip(clip, patch, strict=True)):
            return ""
        return f"its clips of (T, H, W) = {clip} are no whole number of its patches of {patch}: some would be cut"

    def feature_map(self, clips: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W) -> (B, M, T', h, w). Raises ValueError for a size that the network does not take."""
        frames, *size = clips.shape[2:]
        wrong = frames != self.clip_size[0] if self.fixed_frames else frames < 1 or frames % self.patch[0]
        if wrong or tuple(size) != self.clip_size[1:]:
            raise ValueError(f"this network takes clips of (T, H, W) = {self.clip_size}, got {(frames, *size)}")
        tokens = self.tokens(clips.transpose(1, 2))
        grid = tuple(full // part for full, part in zip((frames, *size), self.patch, strict=True))
        return self.laid_out(tokens.to(torch.promote_types(tokens.dtype, torch.float32)), grid)

    def tokens(self, frames: Tensor) -> Tensor:
        """Frames (B, T, 3, H, W) -> what the encoder makes of them, (B, N, M)."""
        return self.encoder(frames).last_hidden_state

    def laid_out(self, tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """(B, N, M) -> (B, M, *grid)."""
        return as_map(tokens, grid)

    def descriptor(self, feature_map: Tensor) -> Tensor:
        """(B, M, T', h, w) -> (B, D): the mean over positions."""
        return feature_map.mean(dim=(2, 3, 4))


class VideoMAE(TokenNetwork):
    """Descriptor: the mean token, after the classifier's norm where there is one. Without classifier: the mean token.

    A classifier of a configuration without `use_mean_pooling` reads the first token, which is a patch's: the map then
    lies around it.
    """

    def __init__(self, model: nn.Module):
        super().__init__(model)
        self.norm = getattr(model, "fc_norm", None)
        self.reads_first = hasattr(self, "classify") and self.norm is None

    def laid_out(self, tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """(B, N, M) -> (B, M, *grid)."""
        return map_around(tokens[:, :1], tokens, grid) if self.reads_first else as_map(tokens, grid)

    def descriptor(self, feature_map: Tensor) -> Tensor:
        """(B, M, T', h, w) -> (B, M)."""
        mean = super().descriptor(feature_map)
        return mean if self.norm is None else self.norm(mean)


class TimeSformer(TokenNetwork):
    """Descriptor: the class token, with a classifier and without. The map lies around it."""

    @staticmethod
    def tubelet_of(config) -> tuple[int, int, int]:
        """A token shows one frame."""
        return 1, *_pair(config.patch_size)

    @classmethod
    def impossible(cls, config) -> str:
        """Where transformers' own code gives no answer for a clip."""
        if config.attention_type == "space_only":
            return "with space_only attention it answers for each frame, not for the clip"
        if not isinstance(config.image_size, int) or not isinstance(config.patch_size, int):
            return "transformers runs it on square frames and patches only"
        return super().impossible(config)

    def laid_out(self, tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """(B, 1 + N, M) -> (B, M, *grid); the tokens of a place lie side by side, in the order of their frames."""
        frames, height, width = grid
        by_place = tokens[:, 1:].unflatten(1, (height * width, frames))  # (B, h w, T, M)
        return map_around(tokens[:, :1], by_place.transpose(1, 2).flatten(1, 2), grid)


class ViViT(TokenNetwork):
    """Descriptor: the class token; without classifier: the model's pooled output, made from that token.

    The map lies around it.
    """

    @staticmethod
    def tubelet_of(config) -> tuple[int, int, int]:
        """It is written out in the configuration."""
        return tuple(config.tubelet_size)

    def laid_out(self, tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """(B, 1 + N, M) -> (B, M, *grid)."""
        return map_around(tokens[:, :1], tokens[:, 1:], grid)

    def descriptor(self, feature_map: Tensor) -> Tensor:
        """(B, M, T', h, w) -> (B, D)."""
        token, pooler = super().descriptor(feature_map), self.encoder.pooler
        return token if pooler is None else pooler(token[:, None])


class VJEPA2(TokenNetwork):
    """Descriptor: what the attentive pooler makes of all tokens; without classifier: the mean token.

    Positions are angles of rotation, so clips of any whole number of tubelets are taken. The predictor, which guesses
    masked tokens, is left out.
    """

    fixed_frames = False
    unused = ("predictor",)

    def __init__(self, model: nn.Module):
        super().__init__(model)
        self.pooler = getattr(model, "pooler", None)

    @staticmethod
    def clip_size_of(config) -> tuple[int, int, int]:
        """(T, H, W) of the clips that a configuration is for."""
        return config.frames_per_clip, *_pair(config.crop_size)

    def tokens(self, frames: Tensor) -> Tensor:
        """Frames (B, T, 3, H, W) -> (B, N, M)."""
        return self.encoder(frames, skip_predictor=True).last_hidden_state

    def descriptor(self, feature_map: Tensor) -> Tensor:
        """(B, M, T', h, w) -> (B, M)."""
        if self.pooler is None:
            return super().descriptor(feature_map)
        return self.pooler(feature_map.flatten(2).transpose(1, 2))


FAMILIES = {"videomae": VideoMAE, "timesformer": TimeSformer, "vivit": ViViT, "vjepa2": VJEPA2}  # by config.model_type
# Entries of configurations that change what a network gives and none of its tensors
DECIDING = (
    *("num_frames", "frames_per_clip", "image_size", "crop_size", "tubelet_size", "patch_size", "num_attention_heads"),
    *("hidden_act", "layer_norm_eps", "attention_type", "use_mean_pooling", "pooler_act"),
)
