"""Copies of one head that learn side by side: every product of theirs is one large one."""

import copy
import itertools
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gcf.errors import UsageError
from gcf.head.fitting.batches import Batch
from gcf.head.fitting.loss import training_loss
from gcf.head.fitting.products import Products
from gcf.head.models.config import TrainConfig
from gcf.head.models.output import HeadOutput

log = logging.getLogger(__name__)
FUSED = ("cpu", "cuda")  # devices for which torch has the optimiser as one kernel
TRIAL_VIDEOS, TRIAL_CLIPS = 2, 3  # of the batch on which vmap is tried
AGREEMENT = 1e-3  # relative; rounding alone stays two orders of magnitude below
# Longer gradients of a head are shortened to this. On descriptors of usual length hardly any is: on UT-Interaction and
# the planted set gradients stayed below 7.4, but for one step of transformer and one of nextvlad (11). Those of
# descriptors fifty times as long would end in NaN.
LONGEST_GRADIENT = 10.0


class Stack:
    """S heads of one shape, each with its own weights and rate, that do not see each other.

    They see the same batches, or each its own, as a `Batch` has them. Their weights are stacked (S, ...) and run
    through torch.func.vmap; a head that vmap cannot take (a GRU) is run one after the other, with the same results up
    to rounding. `active` says which of the S are still trained.
    """

    def __init__(
        self,
        heads: Sequence[nn.Module],
        settings: TrainConfig,
        *,
        precision: str = "fp32",
        class_weights: Tensor | None = None,
        foreign: bool = False,
    ):
        self.foreign = foreign  # somebody else's code, which may write into what it is given
        self.template, self.settings, self.precision = heads[0], settings, precision
        self.class_weights = class_weights
        self.active = list(range(len(heads)))
        self.shortened = torch.zeros(len(heads), device=next(heads[0].parameters()).device)  # steps, of each head
        trained = {name for name, p in heads[0].named_parameters() if p.requires_grad}
        of_heads = [dict(head.named_parameters()) | dict(head.named_buffers()) for head in heads]
        # Buffers that all heads have in common stay one tensor: what it is applied to is still computed once for all.
        self.common = {}
        for name, value in heads[0].named_buffers():
            if all(torch.equal(values[name], value) for values in of_heads):
                self.common[name] = value
        self.fixed: dict[str, Tensor] = {}
        self.weights: dict[str, Tensor] = {}
        for name in of_heads[0]:
            if name in self.common:
                continue
            stacked = torch.stack([values[name].detach() for values in of_heads])
            kind = self.weights if name in trained else self.fixed
            kind[name] = stacked
        self.best = {name: value.clone() for name, value in self.weights.items()}
        self._all_fixed = self.fixed
        self.each = self._one_by_one
        self.optimiser = self._optimiser([settings.rate] * len(heads))

    def try_together(self, descriptor_width: int, labels: Tensor) -> None:
        """Run the heads through vmap from now on, if it can take them and gives what they give one by one.

        labels: of some videos. Tried are a batch for all heads and, where training has them, one for each.
        """
        untrained = self.fixed | self.common
        batches, before = self._trial_batches(descriptor_width, labels), {n: v.clone() for n, v in untrained.items()}
        expected = [self._trial(batch) for batch in batches]
        if any(not torch.equal(value, untrained[name]) for name, value in before.items()):
            raise UsageError("the head gathers statistics of batches (batch norm); use layer norm, or none")
        self.each = self._together
        close = partial(torch.allclose, rtol=AGREEMENT, atol=AGREEMENT, equal_nan=True)
        try:
            found = [self._trial(batch) for batch in batches]
            agree = all(map(close, itertools.chain(*found), itertools.chain(*expected)))
        except Exception as error:  # whatever vmap, or the head under it, says of what it cannot
            log.debug("%s is run one by one: %s", type(self.template).__name__, str(error).partition("\n")[0])
            agree = False
        if not agree:
            self.each = self._one_by_one

    def _trial_batches(self, descriptor_width: int, labels: Tensor) -> list[Batch]:
        """Random descriptors, the last video with one clip."""
        device, generator = next(iter(self.weights.values())).device, torch.Generator().manual_seed(0)
        labels = labels[:TRIAL_VIDEOS]
        shape = (len(labels), min(TRIAL_CLIPS, self.settings.num_clips))  # a gate may have fewer slots
        several = len(self.active) > 1 and self.settings.batch_order == "own"
        found = []
        for heads in [(), (len(self.active),)][: 1 + several]:
            mask = torch.ones(*heads, *shape, dtype=torch.bool, device=device)
            mask[..., -1, 1:] = False
            descriptors = torch.randn(*heads, *shape, descriptor_width, generator=generator).to(device)
            found.append(Batch(descriptors, mask, labels.expand(*heads, *labels.shape)))
        return found

    def _trial(self, batch: Batch) -> list[Tensor]:
        return [self._losses(batch), self.outputs(batch)[0]]

    @property
    def size(self) -> int:
        """Trained numbers of all active heads together."""
        return sum(value.numel() for value in self.weights.values())

    def step(self, batch: Batch) -> Tensor:
        """One optimisation step of every active head; their losses (active,), without waiting for a GPU."""
        losses = self._losses(batch)
        gradients = torch.autograd.grad(losses.sum(), list(self.weights.values()), allow_unused=True)
        gradients = [None if g is None else g.contiguous() for g in gradients]  # the fused kernel needs it
        self._shorten([gradient for gradient in gradients if gradient is not None])
        for views, gradient in zip(self._views.values(), gradients, strict=True):
            rows = itertools.repeat(None) if gradient is None else gradient
            for view, row in zip(views, rows, strict=False):
                view.grad = row
        self.optimiser.step()
        return losses.detach()

    def _shorten(self, gradients: Sequence[Tensor]) -> None:
        """Bring the gradients (active, ...) of each head to a length of `LONGEST_GRADIENT` together, in place, where
        they are longer.
        """
        squares = sum(gradient.flatten(1).square().sum(dim=1) for gradient in gradients)
        share = LONGEST_GRADIENT / squares.sqrt()
        self.shortened[self.active] += share < 1
        for gradient in gradients:
            gradient.mul_(share.clamp(max=1).view(-1, *[1] * (gradient.ndim - 1)))

    def outputs(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """What every active head says: logits (active, B, K), gate (active, B, C) or None.

        In gcf's own heads training mode decides one thing: evidence, which nobody asks for here, is left out;
        it costs as much as all else. Others speak in eval mode.
        """
        training = self.template.training
        self.template.train(not self.foreign)
        try:
            with torch.inference_mode(), Products(self.precision):
                logits, *gate = self.each(self._answer, batch.num_orders > 1, batch.descriptors, batch.mask)
        finally:
            self.template.train(training)
        return logits.float(), gate[0] if gate else None

    def remember(self, places: Iterable[int]) -> None:
        """Keep the weights that the heads at these places among the active ones have now."""
        places = list(places)
        members = [self.active[place] for place in places]
        for name, value in self.weights.items():
            self.best[name][members] = value.detach()[places]

    def set_rates(self, rates: Sequence[float]) -> None:
        """The rate of each active head from now on."""
        for group, rate in zip(self.optimiser.param_groups, rates, strict=True):
            group["lr"] = rate

    def rates(self) -> list[float]:
        """The rate of each active head."""
        return [group["lr"] for group in self.optimiser.param_groups]

    def keep(self, places: Sequence[int]) -> None:
        """Train only the heads at these places among the active ones any further; with none, `restore` goes on."""
        if not places:
            self.active = []
            return
        momenta = {name: list(map(self._momentum, views)) for name, views in self._views.items()}
        rates = self.rates()
        self.active = [self.active[place] for place in places]
        self.weights = {name: value.detach()[list(places)] for name, value in self.weights.items()}
        self.fixed = {name: value[list(places)] for name, value in self.fixed.items()}
        self.optimiser = self._optimiser([rates[place] for place in places])
        for name, views in self._views.items():
            for view, place in zip(views, places, strict=True):
                self.optimiser.state[view].update(momenta[name][place])

    def _momentum(self, view: Tensor) -> dict:
        """What the optimiser remembers of a weight."""
        return self.optimiser.state.get(view, {})

    def restore(self) -> None:
        """All S heads again, with the weights that were remembered."""
        self.active = list(range(len(next(iter(self.best.values())))))
        self.weights = {name: value.clone() for name, value in self.best.items()}
        self.fixed = self._all_fixed
        self.optimiser = self._optimiser([self.settings.rate] * len(self.active))

    def head(self, member: int) -> nn.Module:
        """Head number `member` of all S with its remembered weights, in eval mode."""
        head = copy.deepcopy(self.template)
        own = dict(head.named_parameters()) | dict(head.named_buffers())
        with torch.no_grad():
            for name, values in (self.best | self._all_fixed).items():
                own[name].copy_(values[member])
        return head.eval()

    def _optimiser(self, rates: Sequence[float]) -> torch.optim.SGD:
        """The paper's optimiser, a parameter group per head: views of the stacked weights, so that it works on them."""
        self.weights = {name: value.requires_grad_() for name, value in self.weights.items()}
        self._views = {name: list(value.detach().unbind()) for name, value in self.weights.items()}
        settings = self.settings
        groups = []
        for place, rate in enumerate(rates):
            weights = [views[place] for views in self._views.values()]
            groups.append({"params": weights, "lr": rate})
        return torch.optim.SGD(
            groups,
            lr=settings.rate,
            momentum=settings.momentum,
            dampening=settings.dampening,
            weight_decay=settings.weight_decay,
            fused=next(iter(self.weights.values())).device.type in FUSED,
        )

    def _losses(self, batch: Batch) -> Tensor:
        with Products(self.precision):
            return self.each(self._loss, batch.num_orders > 1, batch.descriptors, batch.mask, batch.labels)

    def _together(self, function: Callable, own: bool, *batch: Tensor):
        """own: whether each head has its own part of the batch."""
        values = self.weights | self.fixed
        in_dims = (dict.fromkeys(values, 0) | dict.fromkeys(self.common), *[0 if own else None] * len(batch))
        return torch.vmap(function, in_dims=in_dims)(values | self.common, *batch)

    def _one_by_one(self, function: Callable, own: bool, *batch: Tensor):
        values, said = self.weights | self.fixed, []
        for n in range(len(self.active)):
            part = [tensor[n] for tensor in batch] if own else batch
            said.append(function({name: v[n] for name, v in values.items()} | self.common, *part))
        return torch.stack(said) if isinstance(said[0], Tensor) else [torch.stack(x) for x in zip(*said, strict=True)]

    def _call(self, values: dict[str, Tensor], descriptors: Tensor, mask: Tensor) -> HeadOutput:
        if self.foreign:
            descriptors, mask = descriptors.clone(), mask.clone()
        return functional_call(self.template, values, (descriptors, mask))

    def _loss(self, values: dict[str, Tensor], descriptors: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        output = self._call(values, descriptors, mask)
        sparsity = self.settings.sparsity
        return training_loss(output, mask, labels, sparsity=sparsity, class_weights=self.class_weights)

    def _answer(self, values: dict[str, Tensor], descriptors: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        output = self._call(values, descriptors, mask)
        return (output.logits,) if output.gate is None else (output.logits, output.gate)
