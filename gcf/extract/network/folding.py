"""A backbone's way to its feature map with batch norms folded into convolutions: half precision on GPUs."""

import copy
import operator
from collections.abc import Callable
from functools import partialmethod

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from gcf.extract.backbones.normalise import Normalise

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSFORMER_LAYERS = (nn.LayerNorm, nn.MultiheadAttention)


def is_convolution(module: object) -> bool:
    """Whether a module computes what nn.Conv3d does: one, or a subclass that has not changed its forward."""
    return isinstance(module, nn.Conv3d) and type(module).forward is nn.Conv3d.forward


def is_convolutional(network: nn.Module) -> bool:
    """Whether a network is of convolutions alone: it has some, and no layers of transformers."""
    modules = list(network.modules())
    has_convolutions = any(isinstance(module, CONVOLUTIONS) for module in modules)
    return has_convolutions and not any(isinstance(module, TRANSFORMER_LAYERS) for module in modules)


class _Proxy(fx.Proxy):
    """Keeps x += y a change of x, which others may read, where fx's own would make x + y of it."""

    def _change(self, operation: Callable, other: object) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operation, (self, other), {})

    __iadd__ = partialmethod(_change, operator.iadd)
    __isub__ = partialmethod(_change, operator.isub)
    __imul__ = partialmethod(_change, operator.imul)
    __itruediv__ = partialmethod(_change, operator.itruediv)


class _Tracer(fx.Tracer):
    """Takes convolutions as they are, also those of torchvision's that only name their arguments otherwise."""

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_convolution(m) or super().is_leaf_module(m, module_qualified_name)


class FeatureMap(nn.Module):
    """A backbone's feature map as a module's forward, so that it can be traced."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, clips: Tensor) -> Tensor:
        """Normalised clips (B, 3, T, H, W) -> (B, M, T', H', W')."""
        return self.backbone.feature_map(clips)


class FoldedNetwork(nn.Module):
    """A backbone's feature map of raw pixels (B, T, H, W, 3) uint8, in half precision, channels last.

    Raises ValueError for a network that cannot be rewritten: one whose steps depend on its input, or one that is not of
    convolutions alone. The backbone is left as it is.
    """

    def __init__(self, backbone: nn.Module, *, dtype: torch.dtype, device: torch.device):
        super().__init__()
        try:
            root = FeatureMap(backbone)
            self.traced = copy.deepcopy(fx.GraphModule(root, _Tracer().trace(root)))
        except Exception as error:  # whatever a plug-in's own code raises when it is given no numbers
            raise ValueError(f"cannot be traced: {error}") from error
        if not is_convolutional(self.traced):
            raise ValueError("is no network of convolutions alone")
        _fold_norms(self.traced.eval())
        self.dtype, self.normalise = dtype, Normalise(backbone.recipe, device)
        self.traced.delete_all_unused_submodules()
        self.traced.recompile()
        self.traced.to(dtype)
        for weights in self.traced.parameters():
            if weights.dim() == 5:  # others have no such order, and Module.to would ask it of them
                weights.data = weights.data.contiguous(memory_format=torch.channels_last_3d)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, T, H, W, 3) uint8 -> (B, M, T', H', W')."""
        return self.traced(self.normalise(pixels).to(self.dtype, memory_format=torch.channels_last_3d))


def _fold_norms(traced: fx.GraphModule) -> None:
    """Fold every batch norm that follows a convolution directly, where nobody else uses or watches either of them."""
    calls = _calls(traced)
    for node in list(traced.graph.nodes):
        norm, before = _module(traced, node), node.args[0] if node.args else None
        if not isinstance(norm, nn.BatchNorm3d) or not norm.track_running_stats or not isinstance(before, fx.Node):
            continue
        convolution = _module(traced, before)
        alone = len(before.users) == 1 and calls.get(before.target) == 1
        if alone and is_convolution(convolution) and not _has_hooks(convolution) and not _has_hooks(norm):
            parent, _, name = before.target.rpartition(".")
            setattr(traced.get_submodule(parent), name, fuse_conv_bn_eval(convolution, norm))
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)


def _calls(traced: fx.GraphModule) -> dict[str, int]:
    """How often each module is used; also by a step that reads its weights itself: they must stay what they are."""
    calls: dict[str, int] = {}
    for node in traced.graph.nodes:
        if node.op in ("call_module", "get_attr"):
            name = node.target.rpartition(".")[0] if node.op == "get_attr" else node.target
            calls[name] = calls.get(name, 0) + 1
    return calls


def _module(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return traced.get_submodule(node.target) if node.op == "call_module" else None


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)
