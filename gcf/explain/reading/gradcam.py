"""Grad-CAM for a head on a frozen network (equations 13 and 14), without a backward pass through the network.

R. R. Selvaraju et al.: Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization, ICCV 2017
(arXiv 1610.02391). The class's logit depends on a clip's feature map through the clip's descriptor alone. So the chain
rule needs two short steps: the head's gradient with respect to every descriptor, and `descriptor`'s with respect to
the map. The network before the map is only run forward.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from gcf.errors import HeadError
from gcf.explain.reading.clip_reading import ClipReading
from gcf.head.models.ensemble import SavedEnsemble
from gcf.head.models.saved import SavedHead

THRESHOLD = 0.5  # "the clips whose alpha passes a threshold (0.5)": section 3.4 of the GCF-Net paper
RELATIVE = 0.5  # share of the largest gate that must be reached where no gate passes


def passing_clips(reading: ClipReading, threshold: float = THRESHOLD) -> tuple[np.ndarray, str]:
    """Which clips a head looks at: mask (C,) True where the gate passes, and a note where that had to be softened.

    A head without a gate looks at all of them. Where no gate passes, the clips count that have at least half of the
    largest gate: the L1 term pushes every gate towards 0, and a threshold that none reaches would show nothing.
    """
    gate = reading.gate
    if gate is None:
        return np.ones(len(reading.evidence), bool), ""
    passing = np.asarray(gate > threshold)
    if passing.any():
        return passing, ""
    largest = float(gate.max())
    note = f"no clip's gate passes {threshold:g}: those of at least half of the largest, {largest:.3g}, were taken"
    return np.asarray(gate >= RELATIVE * largest), note


def descriptor_gradients(
    head: SavedHead, descriptors: Tensor | np.ndarray, class_index: int, rounds: Sequence[np.ndarray]
) -> Tensor:
    """How the class's logit changes with every clip's descriptor: (C, D) -> (C, D), on the CPU.

    rounds: indices of the clips that one pass of the head reads; each clip's gradient is that of its own round's logit,
    in which all clips of the round take part, with their repeats where there are any. Of several
    heads it is the mean logit's, as their evidence is: theirs as one is the logarithm of a mean
    probability, which hardly changes where they are sure, and then tells what the other classes lose
    rather than what this one has. Raises HeadError for a head that cannot be differentiated.
    """
    values = torch.as_tensor(descriptors)
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    gradients = torch.zeros_like(values)
    modules = [member.module.eval() for member in (head.members if isinstance(head, SavedEnsemble) else [head])]
    for chosen in rounds:
        clips = values[chosen][None].clone().requires_grad_()  # (1, C', D)
        with torch.enable_grad():
            mask = torch.ones(clips.shape[:2], dtype=torch.bool)
            logits = sum(module(clips, mask).logits for module in modules) / len(modules)
        if not logits.requires_grad:
            raise HeadError("no heat map: this head's logits cannot be differentiated with respect to the descriptors")
        (found,) = torch.autograd.grad(logits[0, class_index], clips, materialize_grads=True)
        gradients.index_add_(0, torch.from_numpy(chosen), found[0])  # a clip's repeats add up
    return gradients


def channel_weights(backbone: nn.Module, feature_map: Tensor, gradients: Tensor) -> Tensor:
    """w_k of equation 13, the mean over positions of dy / dA_k: maps (B, M, T', h, w), gradients (B, D) -> (B, M).

    gradients: dy with respect to each clip's descriptor. `descriptor` may be any differentiable function of the map.
    """
    with torch.enable_grad():
        leaf = _precise(feature_map).detach().clone().requires_grad_()  # a clone: maps may come from inference mode
        descriptors = backbone.descriptor(leaf)  # (B, D)
    (found,) = torch.autograd.grad(descriptors, leaf, gradients.to(descriptors), materialize_grads=True)
    return found.mean(dim=(2, 3, 4))


@torch.no_grad()
def grad_cam(backbone: nn.Module, feature_map: Tensor, gradients: Tensor, *, positive: bool = False) -> Tensor:
    """relu(sum_k w_k A_k) of equation 14: maps (B, M, T', h, w), gradients (B, D) -> heat (B, T', h, w), 0 or more.

    The clips of a batch do not depend on each other. Where the descriptor is the mean over positions, the sum of
    the heat before relu is the gradient times the descriptor: the clip's share of the logit to first order.
    positive: only the channels that speak for the class, relu(w_k) for w_k. Not in the paper; Grad-CAM++ leaves
    negative gradients out in the same way (Chattopadhay et al., WACV 2018, arXiv 1710.11063, equation 6).
    """
    weights = channel_weights(backbone, feature_map, gradients)
    weights = weights.relu() if positive else weights
    return torch.einsum("bm,bmthw->bthw", weights, _precise(feature_map)).relu()


def _precise(values: Tensor) -> Tensor:
    """At least float32, whatever the network computed in."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
