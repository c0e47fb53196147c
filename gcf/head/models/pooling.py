"""Heads that pool the clips and classify the video: by the maximum, by attention, by the most salient few.

None knows the order of the clips, and each takes any number of them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gcf.head.models.config import HeadConfig
from gcf.head.models.output import HeadOutput, classify_weighted, num_real, real_softmax, without_padding


class MaxHead(nn.Module):
    """Linear on the maximum over the real clips, channel by channel: descriptors (B, C, D), mask (B, C) -> (B, K)."""

    def __init__(self, descriptor_width: int, num_classes: int):
        super().__init__()
        self.classifier = nn.Linear(descriptor_width, num_classes)

    def forward(self, descriptors: Tensor, mask: Tensor) -> HeadOutput:
        """The evidence of a clip is that of the channels in which it is the largest; clips that tie share it."""
        padding = ~mask.unsqueeze(-1)
        largest = descriptors.masked_fill(padding, -torch.inf).amax(dim=1)  # (B, D)
        largest = largest.masked_fill(~mask.any(dim=1, keepdim=True), 0)  # a video without any clip: 0, not -inf
        logits = self.classifier(largest)
        if self.training:
            return HeadOutput(logits)
        holds = ((descriptors == largest.unsqueeze(1)) & ~padding).to(largest.dtype)  # (B, C, D)
        shares = holds / holds.sum(dim=1, keepdim=True).clamp(min=1) * largest.unsqueeze(1)
        return HeadOutput(logits, evidence=F.linear(shares, self.classifier.weight))


class GatedAttentionHead(nn.Module):
    """Gated attention pooling of multiple-instance learning: a linear classifier on a weighted mean of the clips.

    a = softmax over the clips of w . (tanh(V s_i) * sigmoid(U s_i)), video = sum_i a_i s_i: equations 7 and 9 of
    Ilse, Tomczak, Welling: Attention-based Deep Multiple Instance Learning, ICML 2018 (arXiv 1802.04712). As printed,
    w, V and U have no bias. The paper's bags have one binary label; here K classes share one attention.
    """

    def __init__(self, config: HeadConfig, descriptor_width: int, num_classes: int):
        super().__init__()
        self.content = nn.Linear(descriptor_width, config.width, bias=False)  # V
        self.gating = nn.Linear(descriptor_width, config.width, bias=False)  # U
        self.score = nn.Linear(config.width, 1, bias=False)  # w
        self.classifier = nn.Linear(descriptor_width, num_classes)

    def forward(self, descriptors: Tensor, mask: Tensor) -> HeadOutput:
        """Logits, a as `weights` (B, C), and the exact evidence a_i W_c s_i."""
        clean = without_padding(descriptors, mask)
        hidden = self.content(clean).tanh() * self.gating(clean).sigmoid()  # (B, C, width)
        weights = real_softmax(self.score(hidden).squeeze(-1), mask)
        logits, evidence = classify_weighted(self.classifier, clean, weights, evidence=not self.training)
        return HeadOutput(logits, evidence=evidence, weights=weights)


class SparseAttentionHead(nn.Module):
    """STPN's class-agnostic attention: lambda_i = sigmoid(two layers with a ReLU between), one number a clip.

    Nguyen, Liu, Prasad, Han: Weakly Supervised Action Localization by Sparse Temporal Pooling Network, CVPR 2018
    (arXiv 1712.05080). lambda is the `gate`, so the training loss adds their L1 term to it. They pool
    sum_i lambda_i s_i over a fixed number of segments; here the sum is divided by the number of real clips, so that
    long and short videos are alike. (Divided by the sum of lambda instead, the L1 term would select nothing: all
    lambda could shrink together at no cost.)
    """

    def __init__(self, config: HeadConfig, descriptor_width: int, num_classes: int):
        super().__init__()
        self.hidden = nn.Linear(descriptor_width, config.width)
        self.score = nn.Linear(config.width, 1)
        self.classifier = nn.Linear(descriptor_width, num_classes)

    def forward(self, descriptors: Tensor, mask: Tensor) -> HeadOutput:
        """Logits, lambda as `gate` (B, C), and the exact evidence lambda_i W_c s_i / C."""
        clean = without_padding(descriptors, mask)
        scores = self.score(F.relu(self.hidden(clean))).squeeze(-1)  # (B, C)
        gate = scores.sigmoid().masked_fill(~mask, 0)
        weights = gate / num_real(mask)
        logits, evidence = classify_weighted(self.classifier, clean, weights, evidence=not self.training)
        return HeadOutput(logits, gate, evidence)


class TopClipsHead(nn.Module):
    """A small scorer picks the `top_k` most salient clips; the mean of their logits decides.

    In the spirit of Korbar, Tran, Torresani: SCSampler: Sampling Salient Clips from Video for Efficient Action
    Recognition, ICCV 2019 (arXiv 1904.04289), with these differences. Theirs saves time: it scores cheap features of
    the compressed video and runs the network on the chosen clips alone; here all descriptors are cached, and what is
    asked is whether fewer clips decide better. Theirs is trained apart, to rank clips as a frozen clip classifier
    does; here scorer and classifier learn together, from the labels of videos. They average the classifier's scores;
    here logits, so that the evidence of the clips adds up.

    The choice itself has no gradient: forward uses the hard choice in training as in evaluation, and the gradient is
    that of the softmax over all real clips (straight-through). So what is trained is what is judged, and a clip that
    was not chosen can still earn its place. Clips that tie with the last one chosen are taken, too.
    """

    def __init__(self, config: HeadConfig, descriptor_width: int, num_classes: int):
        super().__init__()
        self.top_k = config.top_k
        self.hidden = nn.Linear(descriptor_width, config.width)
        self.score = nn.Linear(config.width, 1, bias=False)  # a bias would cancel in the softmax
        self.classifier = nn.Linear(descriptor_width, num_classes)

    def forward(self, descriptors: Tensor, mask: Tensor) -> HeadOutput:
        """Logits, `weights` (B, C) of 1 / k on the chosen clips, and their exact evidence."""
        clean = without_padding(descriptors, mask)
        scores = self.score(F.relu(self.hidden(clean))).squeeze(-1)  # (B, C)
        weights = self._chosen(scores, mask)
        if self.training:
            soft = real_softmax(scores, mask)
            weights = weights + (soft - soft.detach())
        logits, evidence = classify_weighted(self.classifier, clean, weights, evidence=not self.training)
        return HeadOutput(logits, evidence=evidence, weights=weights)

    def _chosen(self, scores: Tensor, mask: Tensor) -> Tensor:
        """1 / k on the k best real clips, on all of them where there are fewer: (B, C), (B, C) -> (B, C)."""
        scores = scores.detach().masked_fill(~mask, -torch.inf)
        last = scores.topk(min(self.top_k, scores.shape[1])).values[:, -1:]
        chosen = ((scores >= last) & mask).to(scores.dtype)
        return chosen / chosen.sum(dim=1, keepdim=True).clamp(min=1)
