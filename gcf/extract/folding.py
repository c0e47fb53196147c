"""A backbone's way to its feature map, rewritten for speed: norms folded, activations and additions fused."""

import copy
import operator
from collections.abc import Callable
from functools import partialmethod

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from gcf.extract.convolution import ACTIVATIONS, NO_ACTIVATION, FusedConvolution, fold_norm, is_convolution
from gcf.extract.first_layer import PixelBlocks
from gcf.extract.normalise import Normalise

ADDITIONS = (operator.add, operator.iadd, torch.add)
CONVOLUTIONS = (nn.Conv3d, FusedConvolution)
OWNERS = (*CONVOLUTIONS, nn.MaxPool3d)  # what they give is nobody else's memory


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


class _FeatureMap(nn.Module):
    """A backbone's feature map as a module's forward, so that it can be traced."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, clips: Tensor) -> Tensor:
        return self.backbone.feature_map(clips)


class FoldedNetwork(nn.Module):
    """A backbone's feature map of raw pixels (B, T, H, W, 3) uint8, in half precision, channels last.

    fuse: with oneDNN's fused convolutions, which run on processors alone. Raises ValueError for a network that cannot
    be rewritten: one whose steps depend on its input, or one that is not of convolutions alone. The backbone is left
    as it is. All batches must have one shape.
    """

    def __init__(self, backbone: nn.Module, *, dtype: torch.dtype, device: torch.device, fuse: bool):
        super().__init__()
        try:
            root = _FeatureMap(backbone)
            self.traced = copy.deepcopy(fx.GraphModule(root, _Tracer().trace(root)))
        except Exception as error:  # whatever a plug-in's own code raises when it is given no numbers
            raise ValueError(f"cannot be traced: {error}") from error
        modules = list(self.traced.modules())
        if not any(map(is_convolution, modules)) or any(isinstance(m, nn.LayerNorm) for m in modules):
            raise ValueError("is no network of convolutions alone")
        graph = _Rewriter(self.traced)
        graph.fold_norms()
        self.dtype, self.normalise, self.blocks = dtype, Normalise(backbone.recipe, device), None
        if fuse:
            self.blocks = graph.take_pixels(backbone.recipe)
            graph.fuse_additions()
            graph.fuse_activations()
        self.traced.delete_all_unused_submodules()
        self.traced.recompile()
        self.traced.eval().to(dtype)
        for weights in self.traced.parameters():
            if weights.dim() == 5:  # others have no such order, and Module.to would ask it of them
                weights.data = weights.data.contiguous(memory_format=torch.channels_last_3d)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, T, H, W, 3) uint8 -> (B, M, T', H', W')."""
        if self.blocks:
            return self.traced(self.blocks(pixels, self.dtype))
        return self.traced(self.normalise(pixels).to(self.dtype, memory_format=torch.channels_last_3d))


class _Rewriter:
    """The rewriting steps on one traced network."""

    def __init__(self, traced: fx.GraphModule):
        self.traced = traced
        self.calls: dict[str, int] = {}
        for node in traced.graph.nodes:
            # a step that reads a module's weights itself counts as a call: they must stay what they are
            name = node.target.rpartition(".")[0] if node.op == "get_attr" else node.target
            if node.op in ("call_module", "get_attr"):
                self.calls[name] = self.calls.get(name, 0) + 1

    def fold_norms(self) -> None:
        """Fold every batch norm that follows a convolution directly."""
        for node in self._nodes():
            before = node.args[0] if node.args else None
            norm = self._module(node)
            if isinstance(norm, nn.BatchNorm3d) and norm.track_running_stats and self._is_lone_convolution(before):
                self._set(before, fold_norm(self._module(before), norm))
                self._replace(node, before)

    def take_pixels(self, recipe: dict) -> PixelBlocks | None:
        """Let the first convolution read blocks of raw pixels, if it and the size of the frames allow it."""
        clips = next(node for node in self.traced.graph.nodes if node.op == "placeholder")
        first = next(iter(clips.users))
        if len(clips.users) != 1 or not is_convolution(self._module(first)) or not self._can_change(first):
            return None
        crop = recipe["crop"]
        if any(side % 2 for side in ([crop] if isinstance(crop, int) else crop)):
            return None
        try:
            blocks = PixelBlocks(self._module(first), recipe)
        except ValueError:
            return None
        self._set(first, blocks.convolution)
        return blocks

    def fuse_additions(self) -> None:
        """Convolutions whose output is only added to something take the addition, and the activation after it."""
        for node in self._nodes():
            if node.op != "call_function" or node.target not in ADDITIONS or len(node.args) != 2 or node.kwargs:
                continue
            place = {n: i for i, n in enumerate(self.traced.graph.nodes)}
            for ours, other in (node.args, node.args[::-1]):
                # directly before the addition: a step between them could change what is added
                lone = self._is_lone_convolution(ours) and node.prev is ours and other is not ours
                if lone and isinstance(other, fx.Node) and self._fuse_addition(node, ours, other, place):
                    break

    def _fuse_addition(self, addition: fx.Node, ours: fx.Node, other: fx.Node, place: dict[fx.Node, int]) -> bool:
        readers = [user for user in other.users if user is not addition]
        free = isinstance(self._module(other), OWNERS) and all(
            place[user] < place[ours] and isinstance(self._module(user), CONVOLUTIONS) for user in readers
        )  # nothing reads it afterwards, not even a view of it
        if addition.target is operator.iadd and addition.args[0] is other and not free:
            return False  # its change is seen elsewhere
        adds = "over" if free else "beside"
        activation = self._activation_after(addition)
        if activation != ACTIVATIONS[nn.ReLU]:
            activation = None  # oneDNN takes no other after an addition
        self._set(ours, FusedConvolution(self._module(ours), activation or NO_ACTIVATION, adds=adds))
        ours.args = (ours.args[0], other)
        if activation:
            self._replace(next(iter(addition.users)), addition)
        self._replace(addition, ours)
        return True

    def fuse_activations(self) -> None:
        """All other convolutions take the activation after them, if there is one."""
        for node in self._nodes():
            if is_convolution(self._module(node)) and self._can_change(node):
                activation = self._activation_after(node)
                self._set(node, FusedConvolution(self._module(node), activation or NO_ACTIVATION))
                if activation:
                    self._replace(next(iter(node.users)), node)

    def _activation_after(self, node: fx.Node) -> tuple[str, tuple] | None:
        """The activation that alone reads a node, if it is one that can be fused."""
        if len(node.users) != 1:
            return None
        user = next(iter(node.users))
        if user.op == "call_function" and user.target in (F.relu, torch.relu):
            return ACTIVATIONS[nn.ReLU]
        return ACTIVATIONS.get(type(self._module(user)))

    def _is_lone_convolution(self, node: object) -> bool:
        """A plain convolution whose output one step alone reads."""
        return (
            isinstance(node, fx.Node)
            and is_convolution(self._module(node))
            and len(node.users) == 1
            and self._can_change(node)
        )

    def _can_change(self, node: fx.Node) -> bool:
        """Whether a convolution is used once, plainly, padded by zeros in numbers, and may be replaced."""
        conv = self._module(node)
        if self.calls.get(node.target) != 1 or node.kwargs or conv._forward_hooks or conv._forward_pre_hooks:
            return False
        return conv.padding_mode == "zeros" and not isinstance(conv.padding, str)

    def _nodes(self) -> list[fx.Node]:
        return list(self.traced.graph.nodes)

    def _module(self, node: fx.Node) -> nn.Module | None:
        return self.traced.get_submodule(node.target) if node.op == "call_module" else None

    def _set(self, node: fx.Node, module: nn.Module) -> None:
        parent, _, name = node.target.rpartition(".")
        setattr(self.traced.get_submodule(parent), name, module)

    def _replace(self, gone: fx.Node, by: fx.Node) -> None:
        gone.replace_all_uses_with(by)
        self.traced.graph.erase_node(gone)
