"""A recurrent head: the clips of a video read one after the other, both ways."""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from gcf.head.models.config import HeadConfig
from gcf.head.models.output import HeadOutput, num_real, real_mean, spread


class RecurrentHead(nn.Module):
    """One bidirectional GRU over the real clips, the mean of its states, a linear classifier; it knows the order.

    Cho et al. 2014 (arXiv 1406.1078); recurrence over the clips of a video as in Yue-Hei Ng et al.: Beyond Short
    Snippets, CVPR 2015 (arXiv 1503.08909), which uses LSTMs. The mean of the states rather than the last one, because
    it splits into the clips' evidence. descriptors (B, C, D), mask (B, C) -> logits (B, K), evidence.
    torch's GRU cannot be run for several seeds at once (no vmap).
    """

    def __init__(self, config: HeadConfig, descriptor_width: int, num_classes: int):
        super().__init__()
        self.recurrence = nn.GRU(descriptor_width, config.width, batch_first=True, bidirectional=True)
        self.classifier = nn.Linear(2 * config.width, num_classes)

    def forward(self, descriptors: Tensor, mask: Tensor) -> HeadOutput:
        """The evidence of clip i is what the states at it bring, W_c h_i / C; it sums to the logits less the bias."""
        states = self._states(descriptors, mask)  # (B, C, 2 * width)
        logits = self.classifier(real_mean(states, mask))
        if self.training:
            return HeadOutput(logits)
        return HeadOutput(logits, evidence=F.linear(states / num_real(mask).unsqueeze(-1), self.classifier.weight))

    def _states(self, descriptors: Tensor, mask: Tensor) -> Tensor:
        """Both directions' states at each real clip, 0 elsewhere: (B, C, D), (B, C) -> (B, C, 2 * width)."""
        counts = num_real(mask).squeeze(1)  # a video without clips reads one of zeros, which is then left out
        front = mask.sort(dim=1, descending=True).values  # the real clips moved to the front, in their order
        moved = spread(descriptors[mask], front)
        packed = pack_padded_sequence(moved, counts.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.recurrence(packed)[0], batch_first=True, total_length=mask.shape[1])
        return spread(states[front], mask)
