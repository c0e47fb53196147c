"""A frozen 3D convolution as the processor does it fastest: norm folded in, activation and addition fused, packed.

Equal to the modules it replaces up to rounding. Stands on PyTorch's own oneDNN operators, those that torch.compile
calls on processors.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

GROUP_WIDTH = 32  # channels: a bfloat16 tile of AMX is 32 deep; 4 to 16 channels a group took 1.2 to 2 times as long
ACTIVATIONS = {nn.ReLU: ("relu", ()), nn.ReLU6: ("hardtanh", (0.0, 6.0)), nn.SiLU: ("swish", ())}
NO_ACTIVATION = ("none", ())


def is_convolution(module: object) -> bool:
    """Whether a module computes what nn.Conv3d does: one, or a subclass that has not changed its forward."""
    return isinstance(module, nn.Conv3d) and type(module).forward is nn.Conv3d.forward


def fold_norm(convolution: nn.Conv3d, norm: nn.BatchNorm3d) -> nn.Conv3d:
    """One convolution for a convolution and the norm after it, in eval mode; the given ones are left as they are."""
    statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
    weight, bias = fuse_conv_bn_weights(convolution.weight, convolution.bias, *statistics)
    return with_weights(convolution, weight, bias)


def with_weights(convolution: nn.Conv3d, weight: Tensor, bias: Tensor | None, **changed) -> nn.Conv3d:
    """A convolution like the given one, with these weights; changed: other stride, padding, dilation or groups."""
    settings = {name: getattr(convolution, name) for name in ("stride", "padding", "dilation", "groups")} | changed
    channels_in = weight.shape[1] * settings["groups"]
    with torch.device("meta"):
        made = nn.Conv3d(channels_in, len(weight), weight.shape[2:], bias=bias is not None, **settings)
    made.weight = nn.Parameter(weight.detach(), requires_grad=False)
    made.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
    return made


def widen_groups(convolution: nn.Conv3d, width: int = GROUP_WIDTH) -> nn.Conv3d:
    """The same function with fewer, wider groups, zeros between those that were apart; as it is where that is slower.

    Channelwise convolutions (one channel a group) have kernels of their own and stay.
    """
    each = convolution.in_channels // convolution.groups
    merged = min(max(1, width // each), convolution.groups)
    while convolution.groups % merged:
        merged -= 1
    if each == 1 or merged == 1:
        return convolution
    weight = convolution.weight
    wide = weight.new_zeros(len(weight), each * merged, *weight.shape[2:])
    rows = torch.arange(len(weight))
    place = rows // (len(weight) // convolution.groups) % merged  # which of the merged groups an output belongs to
    for n in range(merged):
        chosen = place == n
        wide[rows[chosen], n * each : (n + 1) * each] = weight[chosen]
    return with_weights(convolution, wide, convolution.bias, groups=convolution.groups // merged)


class FusedConvolution(nn.Module):
    """Convolution, an addition if asked, and an activation in one step: (B, C, T, H, W) -> (B, C', T', H', W').

    adds: forward takes a second input, which is added before the activation, ReLU or none; "over": into that input's
    own memory.
    Weights are packed for the first batch's shape, so that all batches must have it.
    """

    def __init__(self, convolution: nn.Conv3d, activation: tuple[str, tuple] = NO_ACTIVATION, *, adds: str = ""):
        super().__init__()
        self.convolution, self.activation, self.adds = widen_groups(convolution), activation, adds
        self.packed: Tensor | None = None

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """x, and other of the output's shape where it adds."""
        conv = self.convolution
        if self.packed is None:
            self.packed = torch._C._nn.mkldnn_reorder_conv3d_weight(
                conv.weight.to_mkldnn(), conv.padding, conv.stride, conv.dilation, conv.groups, list(x.shape)
            )
        name, scalars = self.activation
        where = (conv.padding, conv.stride, conv.dilation, conv.groups)
        if not self.adds:
            return torch.ops.mkldnn._convolution_pointwise(x, self.packed, conv.bias, *where, name, scalars, "")
        after = ("add", 1.0, None if name == "none" else name, scalars, "")
        if self.adds == "over":
            return torch.ops.mkldnn._convolution_pointwise_.binary(other, x, self.packed, conv.bias, *where, *after)
        return torch.ops.mkldnn._convolution_pointwise.binary(x, other, self.packed, conv.bias, *where, *after)
