"""What must not change a head's answer, measured: one function for each, which tries a head on some videos."""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from gcf.data.text import one_line
from gcf.head.models.config import HeadConfig
from gcf.head.models.output import HeadOutput, part_shapes

SAME = 1e-5  # of the largest logit: other shapes sum in another order, which moved no preset by more than 1e-6
COSINE = 0.99  # bfloat16 has 8 bits: sound heads stay above 0.999
GARBAGE = 1e6
STEP = 0.1
MORE_SLOTS = 7


@dataclass(frozen=True)
class Check:
    """One property of a head: whether it holds, what was measured against which limit, and what that means."""

    name: str
    passed: bool
    measured: float | None
    limit: float | None
    sentence: str


@dataclass(frozen=True, eq=False)
class Subject:
    """A head (float32, on the CPU) and the videos it is tried on: descriptors (B, C, D), mask (B, C), real clips first.

    Every check gets a copy of its own.
    """

    module: nn.Module
    config: HeadConfig
    num_classes: int
    descriptors: Tensor
    mask: Tensor

    def copy(self) -> "Subject":
        """The same with a head that may be altered."""
        return replace(self, module=copy.deepcopy(self.module))

    def run(
        self, descriptors: Tensor | None = None, mask: Tensor | None = None, *, training: bool = False
    ) -> HeadOutput:
        """What the head says of these videos, or of the subject's own."""
        descriptors, mask = (self.descriptors, self.mask) if descriptors is None else (descriptors, mask)
        with torch.no_grad():
            return self.module.train(training)(descriptors, mask)


def shapes(subject: Subject) -> Check:
    """Shapes and finite values of all parts, in training and evaluation; a gate in [0, 1]; 0 on padding."""
    faults = []
    for training in (False, True):
        faults += [fault for fault in _faults(subject, subject.run(training=training)) if fault not in faults]
    said = "; ".join(faults) if faults else "all parts have their shapes and are finite"
    return Check("shapes", not faults, len(faults), 0, said)


def evidence(subject: Subject) -> Check:
    """The evidence of the clips adds up to the logits, but for a constant of each class."""
    output = subject.run()
    if output.evidence is None:
        return Check("evidence", True, None, SAME, "the head claims no evidence of single clips")
    rest = output.logits - output.evidence.sum(dim=1)  # (B, K), the bias in every row
    apart = _apart(rest, rest.mean(dim=0).expand_as(rest), scale=output.logits)
    said = f"the clips' evidence {'adds' if apart <= SAME else 'does not add'} up to the logits less a bias"
    return Check("evidence", apart <= SAME, apart, SAME, said)


def padding(subject: Subject) -> Check:
    """Whatever stands in the padded slots, the answer is the same."""
    garbage = GARBAGE * torch.randn_like(subject.descriptors)
    dirty = torch.where(subject.mask.unsqueeze(-1), subject.descriptors, garbage)
    apart = _outputs_apart(subject.run(dirty, subject.mask), subject.run())
    said = "what stands in padded slots changes " + ("nothing" if apart <= SAME else "the answer: mask it first")
    return Check("padding", apart <= SAME, apart, SAME, said)


def slots(subject: Subject) -> Check:
    """A video gives the same with no, some and many padded slots."""
    whole, apart = subject.run().logits, 0.0
    for n, count in enumerate(subject.mask.sum(dim=1).tolist()):
        one = subject.descriptors[n : n + 1], subject.mask[n : n + 1]
        bare = subject.run(one[0][:, :count], one[1][:, :count])
        apart = max(apart, _apart(bare.logits, subject.run(*one).logits, scale=whole))
    if subject.config.fixed_clips is None:
        wider = F.pad(subject.descriptors, (0, 0, 0, MORE_SLOTS)), F.pad(subject.mask, (0, MORE_SLOTS))
        apart = max(apart, _apart(subject.run(*wider).logits, whole))
    said = "the number of padded slots changes " + ("nothing" if apart <= SAME else "the answer")
    return Check("slots", apart <= SAME, apart, SAME, said)


def batch(subject: Subject) -> Check:
    """A video gives the same alone and among others, in evaluation and (unless training is random) in training."""
    rows = range(len(subject.mask))
    apart = _batch_apart(subject, [[n] for n in rows], training=False)
    if not _draws(subject):  # dropout would differ anyhow; that is what `determinism` says
        apart = max(apart, _batch_apart(subject, [list(rows)[::2], list(rows)[1::2]], training=True))
    said = f"a video's neighbours in the batch change {'nothing' if apart <= SAME else 'its answer'}"
    return Check("batch", apart <= SAME, apart, SAME, said)


def order(subject: Subject) -> Check:
    """The order of the real clips changes nothing, or the head declares that it may."""
    counts = subject.mask.sum(dim=1)
    keys = torch.rand(subject.mask.shape).masked_fill(~subject.mask, 2)  # padding stays last
    backwards = torch.arange(subject.mask.shape[1]).expand_as(subject.mask)
    backwards = torch.where(subject.mask, counts.unsqueeze(1) - 1 - backwards, backwards)
    whole, apart = subject.run().logits, 0.0
    for index in (keys.argsort(dim=1), backwards):
        moved = subject.descriptors.gather(1, index.unsqueeze(-1).expand_as(subject.descriptors))
        apart = max(apart, _apart(subject.run(moved, subject.mask).logits, whole))
    if subject.config.order_aware:
        said = f"declared to know the order of clips, which changes the logits by {100 * apart:.2g} % of the largest"
        return Check("order", True, apart, None, said)
    said = "the order of clips changes " + ("nothing" if apart <= SAME else "the answer, and the head does not say so")
    return Check("order", apart <= SAME, apart, SAME, said)


def determinism(subject: Subject) -> Check:
    """The same input gives the same bits, in evaluation and in training, and training draws no random numbers."""
    apart = max(_outputs_apart(subject.run(training=mode), subject.run(training=mode)) for mode in (False, True))
    draws = _draws(subject)
    said = "the same input gives the same bits, in training too"
    if apart:
        said = "the same input gives different answers" + (", it draws random numbers" if draws else "")
    elif draws:
        said = "forward draws random numbers in training"
    return Check("determinism", not (apart or draws), apart, 0, said)


def gradient(subject: Subject) -> Check:
    """The training loss reaches every parameter that is to be trained, with a finite gradient.

    After the first step at the latest: behind a layer that starts at 0 nothing is reached before.
    """
    parameters = {name: p for name, p in subject.module.named_parameters() if p.requires_grad}
    lost = _not_reached(subject, parameters)
    if lost:
        with torch.no_grad():
            for parameter in parameters.values():
                if parameter.grad is not None:
                    parameter.sub_(STEP * parameter.grad)
        again = _not_reached(subject, parameters)
        lost = [name for name in lost if name in again]
    said = f"all {len(parameters)} parameters get a gradient"
    if lost:
        said = f"no gradient (or none that is finite) for {', '.join(lost[:5])}{', ...' if lost[5:] else ''}"
    return Check("gradient", not lost, len(lost), 0, said)


def _not_reached(subject: Subject, parameters: dict[str, nn.Parameter]) -> list[str]:
    """The parameters that have no finite gradient of the training loss."""
    subject.module.zero_grad()
    output = subject.module.train()(subject.descriptors, subject.mask)
    labels = torch.arange(len(subject.mask)) % subject.num_classes
    loss = F.cross_entropy(output.logits, labels) + (0 if output.gate is None else output.gate.sum(dim=1).mean())
    loss.backward()
    return [name for name, p in parameters.items() if p.grad is None or not p.grad.any() or not p.grad.isfinite().all()]


def precision(subject: Subject) -> Check:
    """Weights and descriptors in bfloat16 give much the same logits as in float32: the worst cosine of a video's."""
    exact = subject.run().logits
    subject.module.bfloat16()
    rough = subject.run(subject.descriptors.bfloat16(), subject.mask).logits.float()
    worst = F.cosine_similarity(rough, exact, dim=1).min().item()
    changed = (rough.argmax(dim=1) != exact.argmax(dim=1)).sum().item()
    said = f"in bfloat16 {changed} of {len(exact)} top-1 change"
    return Check("precision", worst >= COSINE, worst, COSINE, said)


def stacking(subject: Subject) -> Check:
    """Whether several seeds can be computed at once (vmap); it is no fault if not, but wrong numbers are."""
    heads = [subject.module.train(), copy.deepcopy(subject.module)]
    with torch.no_grad():
        for parameter in heads[1].parameters():
            parameter.mul_(1.1)
    inputs = (subject.descriptors, subject.mask)
    try:
        with warnings.catch_warnings(action="ignore"):
            stacked = vmap(lambda p, b: functional_call(heads[0], (p, b), inputs).logits)(*stack_module_state(heads))
    except Exception as error:  # torch raises many kinds, as does a stranger's forward
        reason = one_line(error)[:100]
        return Check("stacking", True, None, None, f"seeds are trained one after the other, vmap cannot ({reason})")
    each = torch.stack([head(*inputs).logits for head in heads])
    apart = _apart(stacked.detach(), each.detach())
    said = "several seeds can be trained at once" if apart <= SAME else "under vmap the answer is another"
    return Check("stacking", apart <= SAME, apart, SAME, said)


CHECKS: dict[str, Callable[[Subject], Check]] = {
    check.__name__: check
    for check in (shapes, evidence, padding, slots, batch, order, determinism, gradient, precision, stacking)
}


def _faults(subject: Subject, output: HeadOutput) -> list[str]:
    """What is wrong with an answer, in words."""
    faults = []
    for name, shape in part_shapes(len(subject.mask), subject.mask.shape[1], subject.num_classes).items():
        found = getattr(output, name)
        if found is None:
            continue
        if tuple(found.shape) != shape:
            faults.append(f"{name} has shape {tuple(found.shape)}, expected {shape}")
        elif not found.isfinite().all():
            faults.append(f"{name} is not finite")
        elif name != "logits" and found[~subject.mask].any():
            faults.append(f"{name} is not 0 on padding")
        elif name == "gate" and not ((found >= 0) & (found <= 1)).all():
            faults.append("the gate leaves 0 to 1")
    return faults


def _batch_apart(subject: Subject, groups: list[list[int]], *, training: bool) -> float:
    whole = subject.run(training=training).logits
    parts = [subject.run(subject.descriptors[g], subject.mask[g], training=training).logits for g in groups]
    return max(_apart(part, whole[group], scale=whole) for part, group in zip(parts, groups, strict=True))


def _draws(subject: Subject) -> bool:
    """Whether a forward pass in training moves torch's generator."""
    before = torch.get_rng_state()
    subject.run(training=True)
    return not torch.equal(before, torch.get_rng_state())


def _outputs_apart(one: HeadOutput, other: HeadOutput) -> float:
    """The largest difference in any part that both have."""
    pairs = [(getattr(one, name), getattr(other, name)) for name in vars(one)]
    return max(_apart(a, b) for a, b in pairs if a is not None and b is not None)


def _apart(one: Tensor, other: Tensor, *, scale: Tensor | None = None) -> float:
    """max |one - other| against the largest value of `scale` (None: of other); NaN in both is no difference."""
    if not torch.equal(one.isfinite(), other.isfinite()):
        return float("inf")
    largest = (other if scale is None else scale).nan_to_num(0, 0, 0).abs().max().item()
    difference = (one - other).nan_to_num(0, 0, 0).abs().max().item()
    return difference / largest if largest else difference
