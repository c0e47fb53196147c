"""Copies of one head that learn side by side: every product of theirs is one large one."""

import copy
import itertools
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gcf.errors import UsageError
from gcf.head.fitting.batches import Batch
from gcf.head.fitting.loss import training_loss
from gcf.head.fitting.products import Products
from gcf.head.models.config import TrainConfig
from gcf.head.models.output import HeadOutput
from gcf.head.models.standard import draws_noise

log = logging.getLogger(__name__)
FUSED = ("cpu", "cuda")  # devices for which torch has the optimiser as one kernel
TRIAL_VIDEOS, TRIAL_CLIPS = 2, 3  # of the batch on which vmap is tried
AGREEMENT = 1e-3  # relative; rounding alone stays two orders of magnitude below
# Longer gradients of a head are shortened to this. On descriptors of usual length hardly any is: on UT-Interaction and
# the planted set gradients stayed below 7.4, but for one step of transformer and one of nextvlad (11). Those of
# descriptors fifty times as long would end in NaN.
LONGEST_GRADIENT = 10.0
BETAS = (0.9, 0.99)  # of AdamW


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
        seeds: Sequence[int] = (),
    ):
        self.foreign = foreign  # somebody else's code, which may write into what it is given
        self.template, self.settings, self.precision = heads[0], settings.of_head(None), precision
        self.class_weights = class_weights
        self.active = list(range(len(heads)))
        self.draws = draws_noise(heads[0])
        self.noise = [torch.Generator().manual_seed(seed) for seed in seeds or self.active]
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
        self.optimiser = self._optimiser([self.settings.rate] * len(heads))

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
        losses = self._losses(batch, self._draw(batch))
        gradients = torch.autograd.grad(losses.sum(), list(self.weights.values()), allow_unused=True)
        dense = [None if g is None else g.contiguous() for g in gradients]  # the fused kernel needs it
        self._shorten([gradient for gradient in dense if gradient is not None])
        for views, gradient in zip(self._views.values(), dense, strict=True):
            rows = itertools.repeat(None) if gradient is None else gradient
            for view, row in zip(views, rows, strict=False):
                view.grad = row
        self.optimiser.step()
        return losses.detach()

    @property
    def learns_gate(self) -> bool:
        """Whether a gate and a classifier of gcf's own are trained."""
        return not self.foreign and bool(self._names_of("gate") and self._names_of("classifier"))

    def _names_of(self, part: str) -> list[str]:
        """The trained weights of a part of the head."""
        return [name for name in self.weights if f".{part}." in f".{name}"]

    def gate_gradients(self, batch: Batch) -> list[float]:
        """How large each head's gradient is in its gate against that in its classifier, relative to their weights."""
        losses = self._losses(batch)
        gradients = torch.autograd.grad(losses.sum(), list(self.weights.values()), allow_unused=True)
        of_name = dict(zip(self.weights, gradients, strict=True))

        def relative(part: str) -> Tensor:
            names = self._names_of(part)
            grown = [_squares(of_name[name]) for name in names if of_name[name] is not None]
            weights = [_squares(self.weights[name].detach()) for name in names]
            return (torch.stack(grown).sum(dim=0) / torch.stack(weights).sum(dim=0)).sqrt()

        return (relative("gate") / relative("classifier")).tolist()

    def _draw(self, batch: Batch) -> list[Tensor]:
        """What heads draw at random for a step, (active, B, ...) each: every head from a generator of its own."""
        if not self.draws:
            return []
        shape, device = batch.mask.shape[-2:], batch.mask.device
        drawn = [cast(Any, self.template).draw(shape, self.noise[member]) for member in self.active]
        return [torch.stack(parts).to(device) for parts in zip(*drawn, strict=True)]

    def _shorten(self, gradients: Sequence[Tensor]) -> None:
        """Bring the gradients (active, ...) of each head to a length of `LONGEST_GRADIENT` together, in place, where
        they are longer.
        """
        squares = cast(Tensor, sum(map(_squares, gradients)))
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
                logits, *gate = self.each(self._answer, batch.num_orders > 1, (batch.descriptors, batch.mask))
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
        for group, rate in zip(self.optimiser.param_groups, _twice(rates), strict=True):
            group["lr"] = rate

    def rates(self) -> list[float]:
        """The rate of each active head."""
        return [group["lr"] for group in self.optimiser.param_groups[::2]]

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

    def _optimiser(self, rates: Sequence[float]) -> torch.optim.Optimizer:
        """The recipe's optimiser on views of the stacked weights: two groups a head, matrices and the rest."""
        self.weights = {name: value.requires_grad_() for name, value in self.weights.items()}
        self._views = {name: list(value.detach().unbind()) for name, value in self.weights.items()}
        settings = self.settings
        groups: list[dict] = []
        for place, rate in enumerate(rates):
            own = [views[place] for views in self._views.values()]
            groups.append({"params": [view for view in own if view.ndim > 1], "lr": rate})
            groups.append({"params": [view for view in own if view.ndim <= 1], "lr": rate})
        shared: dict[str, Any] = {"lr": settings.rate, "weight_decay": settings.weight_decay}
        shared["fused"] = next(iter(self.weights.values())).device.type in FUSED
        if settings.numbers.optimiser == "sgd":
            return torch.optim.SGD(groups, momentum=settings.momentum, dampening=settings.dampening, **shared)
        for group in groups[1::2]:
            group["weight_decay"] = 0.0
        return torch.optim.AdamW(groups, betas=BETAS, **shared)

    def _losses(self, batch: Batch, noise: Sequence[Tensor] = ()) -> Tensor:
        with Products(self.precision):
            return self.each(self._loss, batch.num_orders > 1, (batch.descriptors, batch.mask, batch.labels), noise)

    def _together(self, function: Callable, own: bool, batch: Sequence[Tensor], noise: Sequence[Tensor] = ()):
        """own: whether each head has its own part of the batch; of the noise it always has."""
        values = self.weights | self.fixed
        of_batch = [0 if own else None] * len(batch)
        in_dims = (dict.fromkeys(values, 0) | dict.fromkeys(self.common), *of_batch, *[0] * len(noise))
        return torch.vmap(function, in_dims=in_dims)(values | self.common, *batch, *noise)

    def _one_by_one(self, function: Callable, own: bool, batch: Sequence[Tensor], noise: Sequence[Tensor] = ()):
        values, said = self.weights | self.fixed, []
        for n in range(len(self.active)):
            part = [tensor[n] for tensor in batch] if own else batch
            drawn = [tensor[n] for tensor in noise]
            said.append(function({name: v[n] for name, v in values.items()} | self.common, *part, *drawn))
        return torch.stack(said) if isinstance(said[0], Tensor) else [torch.stack(x) for x in zip(*said, strict=True)]

    def _call(self, values: dict[str, Tensor], descriptors: Tensor, mask: Tensor, *noise: Tensor) -> HeadOutput:
        if self.foreign:
            descriptors, mask = descriptors.clone(), mask.clone()
        return functional_call(self.template, values, (descriptors, mask, *noise))

    def _loss(
        self, values: dict[str, Tensor], descriptors: Tensor, mask: Tensor, labels: Tensor, *noise: Tensor
    ) -> Tensor:
        settings = self.settings
        return training_loss(
            self._call(values, descriptors, mask, *noise),
            mask,
            labels,
            sparsity=cast(float, settings.sparsity),
            sparse_clips=settings.numbers.sparse_clips,
            class_weights=self.class_weights,
        )

    def _answer(self, values: dict[str, Tensor], descriptors: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        output = self._call(values, descriptors, mask)
        return (output.logits,) if output.gate is None else (output.logits, output.gate)


def _squares(values: Tensor) -> Tensor:
    """Sums of squares of each head: (S, ...) -> (S,)."""
    return values.flatten(1).square().sum(dim=1)


def _twice(values: Sequence[float]) -> list[float]:
    return [value for value in values for _ in range(2)]
