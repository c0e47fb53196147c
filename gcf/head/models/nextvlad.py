"""NeXtVLAD: how the clips of a video differ from learned cluster centres, summed up in groups of channels."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gcf.head.models.config import HeadConfig
from gcf.head.models.output import HeadOutput, without_padding

EXPANSION = 2  # lambda of the paper


class NextVladHead(nn.Module):
    """descriptors (B, C, D), mask (B, C) -> logits (B, K); no order, any number of clips, no evidence of single clips.

    Lin, Xiao, Fan: NeXtVLAD: An Efficient Neural Network to Aggregate Frame-level Features for Large-scale Video
    Classification, ECCV Workshops 2018 (arXiv 1811.05014), sections 3.2 and 3.3. A clip is expanded to x and cut into
    G groups; each group is weighed by sigmoid(w_g . x), assigned to clusters by softmax_k(w_gk . x), and
    V_k = sum over clips and groups of weight * assignment * (x_g - c_k), of length 1 for each k. A hidden layer, then
    the squeeze-excite context gating, then the classifier.

    Different from the paper: no batch norm (a video's answer must not depend on its neighbours), LayerNorm on the
    hidden layer instead, and no dropout; x has 2 * width channels rather than 2 * D, which keeps the head small;
    softmax over the classes rather than a logistic each.
    """

    def __init__(self, config: HeadConfig, descriptor_width: int, num_classes: int):
        super().__init__()
        expanded, groups, clusters = EXPANSION * config.width, config.groups, config.clusters
        if expanded % groups:
            raise ValueError(f"{expanded} channels (twice the width) cannot be cut into {groups} equal groups")
        self.groups = groups
        self.expand = nn.Linear(descriptor_width, expanded)
        self.attention = nn.Linear(expanded, groups)
        self.assignment = nn.Linear(expanded, groups * clusters, bias=False)
        self.centres = nn.Parameter(torch.empty(clusters, expanded // groups))
        self.hidden = nn.Linear(clusters * expanded // groups, config.width)
        self.norm = nn.LayerNorm(config.width)
        self.gating = ContextGating(config.width, reduction=config.gate_reduction)
        self.classifier = nn.Linear(config.width, num_classes)

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the centres as the authors' code does: normal with a deviation of 1 / sqrt(channels of a group)."""
        self.centres.normal_(0, self.centres.shape[1] ** -0.5, generator=generator)

    def forward(self, descriptors: Tensor, mask: Tensor) -> HeadOutput:
        """Logits alone: after the length is set to 1 no clip's share can be told from the others'."""
        expanded = self.expand(without_padding(descriptors, mask))  # (B, C, 2d)
        attention = self.attention(expanded).sigmoid().masked_fill(~mask.unsqueeze(-1), 0)  # (B, C, G)
        assignment = self.assignment(expanded).unflatten(-1, (self.groups, -1)).softmax(dim=-1)  # (B, C, G, k)
        weights = attention.unsqueeze(-1) * assignment
        parts = expanded.unflatten(-1, (self.groups, -1))  # (B, C, G, 2d / G)
        sums = torch.einsum("bcgk,bcgj->bkj", weights, parts)
        residuals = sums - weights.sum(dim=(1, 2)).unsqueeze(-1) * self.centres  # V (B, k, 2d / G)
        video = self.norm(self.hidden(F.normalize(residuals, dim=-1).flatten(1)))  # (B, d)
        return HeadOutput(self.classifier(self.gating(video)))


class ContextGating(nn.Module):
    """Each channel of a video's descriptor times a sigmoid of all of them: (B, width) -> (B, width)."""

    def __init__(self, width: int, *, reduction: int):
        super().__init__()
        self.reduce = nn.Linear(width, max(1, width // reduction))
        self.expand = nn.Linear(max(1, width // reduction), width)

    def forward(self, video: Tensor) -> Tensor:
        """Return the gated descriptor."""
        return video * self.expand(F.relu(self.reduce(video))).sigmoid()
