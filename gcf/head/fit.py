"""Training many heads in one pass over the batches: the paper's SGD, rates and weights led by `val` alone."""

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from gcf.data.splits import Split
from gcf.data.text import one_line
from gcf.errors import GcfError
from gcf.head.batches import Batch, ClipBatches
from gcf.head.config import TrainConfig
from gcf.head.metrics import binary_loss, is_right
from gcf.head.prediction import Prediction, predict
from gcf.head.schedule import Plateau, most_passes, passes_per_validation
from gcf.head.stack import Stack
from gcf.head.standard import Standardised
from gcf.head.threads import Team

log = logging.getLogger(__name__)
# Streams of random numbers: the order of batches and training clips; the clips of an evaluation; the order in which a
# file is read that is larger than memory.
ORDER, DRAW, READING = 0, 1, 2
Listener = Callable[[str, int, dict], None]  # of validations: name of the course, member, history row


@dataclass(frozen=True)
class Trained:
    """How one head was trained: the record of its best validation, and one history row per validation."""

    record: dict[str, int | float]
    history: list[dict[str, int | float]]


@dataclass(eq=False)
class Course:
    """One stack of heads on its way through training; after it, `trained` has one entry per head, in order.

    orders: the seed of the order of batches of each head. failure: why the course was given up, None where all went
    well.
    """

    name: str
    stack: Stack
    settings: TrainConfig
    orders: Sequence[int]
    facts: dict = field(default_factory=dict)  # what else its record is to say
    failure: str | None = None
    losses: list[Tensor] = field(default_factory=list)  # of the steps since the last pass began, (active,) each

    def __post_init__(self):
        size = len(self.stack.active)
        settings = self.settings
        self.plateaus = [Plateau(patience=settings.patience, drops=settings.drops) for _ in range(size)]
        self.histories: list[list[dict]] = [[] for _ in range(size)]
        self.best: list[dict] = [{} for _ in range(size)]
        self.ended = [0] * size  # the pass in which a head was finished

    @property
    def alive(self) -> bool:
        """Whether a head of it is still trained."""
        return self.failure is None and bool(self.stack.active)

    @property
    def active_orders(self) -> list[int]:
        """The seed of the order of each head that is still trained, once where several share one."""
        return list(dict.fromkeys(self.orders[member] for member in self.stack.active))

    def step(self, batch: Batch, orders: Sequence[int]) -> None:
        """One step of all heads on a batch of these orders; a fault of theirs ends this course, and no other."""
        try:
            own = batch.of_orders([orders.index(seed) for seed in self.active_orders])
            self.losses.append(self.stack.step(own))
        except Exception as error:
            self.failure = reason(error)

    def observe(self, epoch: int, steps: int, losses: Sequence[dict], listener: Listener | None) -> None:
        """Take in a validation of every active head: remember, lower rates, let finished heads go."""
        train = torch.stack(self.losses).mean(dim=0).tolist()
        rates, staying, better = self.stack.rates(), [], []
        for place, member in enumerate(self.stack.active):
            row = {"epoch": epoch, "step": epoch * steps, "lr": rates[place], "train_loss": train[place]}
            row |= losses[place]
            if self._diverged(row, member):
                return
            self.histories[member].append(row)
            if listener is not None:
                listener(self.name, member, row)
            if not self.best[member] or row["val_loss"] < self.best[member]["val_loss"]:
                self.best[member] = row
                better.append(place)
            factor = self.plateaus[member].observe(row["val_loss"])
            self.ended[member] = epoch
            if factor is not None:
                rates[place] = self.settings.rate * factor
                staying.append(place)
        self.stack.remember(better)
        self.stack.set_rates(rates)
        if len(staying) < len(self.stack.active):
            self.stack.keep(staying)

    def _diverged(self, row: dict[str, int | float], member: int) -> bool:
        told = (self.name, member, row["epoch"], row["train_loss"], row["val_loss"], row["lr"])
        log.debug("%s, head %d, epoch %d: train loss %.4f, val loss %.4f, lr %g", *told)
        if math.isfinite(row["train_loss"] + row["val_loss"]):
            return False
        other = "" if isinstance(self.stack.template, Standardised) else ", or standardise the descriptors"
        self.failure = (
            f"training diverged: loss {row['train_loss']} in epoch {row['epoch']}; lower the rate (now "
            f"{self.settings.rate}){other}"
        )
        return True

    def trained(self, steps: int) -> list[Trained]:
        """The record of every head, for passes of so many steps."""
        shortened = self.stack.shortened.int().tolist()
        return [
            Trained(best | {"epochs": end, "steps": end * steps, "shortened_steps": short} | self.facts, history)
            for best, end, short, history in zip(self.best, self.ended, shortened, self.histories, strict=True)
        ]


def fit(
    courses: Sequence[Course],
    batches: ClipBatches,
    split: Split,
    config: TrainConfig,
    *,
    bar: tqdm | None = None,
    listener: Listener | None = None,
    team: Team | None = None,
) -> None:
    """Train all courses on split.train in one pass: each batch is gathered once and every head takes a step on it.

    `config` says what they share (batches, clips, passes); what is their own is in their settings. Heads of several
    orders step on as many batches at once. Weights are chosen by the loss on split.val. Afterwards every stack has all
    its heads, with the weights of their best validation, in float32. `bar` counts steps of all that are planned; an
    early end is taken off its total.
    """
    reading = np.random.default_rng([config.seed, READING])
    rngs = {seed: np.random.default_rng([seed, ORDER]) for course in courses for seed in course.orders}
    steps = math.ceil(len(split.train) / config.batch_size)  # in a pass
    limit, interval = most_passes(steps, config.epochs), passes_per_validation(steps)
    bar, team = tqdm(disable=True) if bar is None else bar, team or Team(1)
    courses = sorted(courses, key=lambda course: -course.stack.size)  # the longest steps begin first
    for epoch in range(1, limit + 1):
        alive = [course for course in courses if course.alive]
        orders = sorted({seed for course in alive for seed in course.active_orders})
        passing = batches.shuffled(
            split.train,
            config.batch_size,
            rngs=[rngs[seed] for seed in orders],
            reading=reading,
            sampling=config.sampling,
        )
        one_pass(alive, passing, orders, bar, team)
        if epoch % interval and epoch < limit:
            continue
        alive = [course for course in courses if course.alive]
        labels = batches.labels.cpu().numpy()[split.val]
        for course, predictions in zip(alive, ask_all(alive, batches, split.val, config.seed, team), strict=True):
            if course.failure is None:
                course.observe(epoch, steps, [judge(p.log_probabilities, labels) for p in predictions], listener)
        if not any(course.alive for course in courses):
            break
    if bar.total is not None:
        bar.total -= (limit - epoch) * steps
    for course in courses:
        course.stack.restore()
        course.stack.precision = "fp32"


def one_pass(courses: Sequence[Course], passing: Iterable[Batch], orders: Sequence[int], bar: tqdm, team: Team) -> None:
    """One pass over the training batches, which are of these orders."""
    for course in courses:
        course.losses = []
    for batch in passing:
        team.map(lambda course, batch=batch: course.step(batch, orders), [course for course in courses if course.alive])
        bar.update()


def ask_all(
    courses: Sequence[Course], batches: ClipBatches, videos: np.ndarray, seed: int, team: Team
) -> list[list[Prediction]]:
    """What the heads of every course say; a course whose heads fault is given up, and says nothing."""
    try:
        return predict([course.stack for course in courses], batches, videos, rng=evaluation_rng(seed), team=team)
    except Exception as error:
        if len(courses) == 1:
            courses[0].failure = reason(error)
            return [[]]
        return [ask_all([course], batches, videos, seed, team)[0] for course in courses]


def reason(error: Exception) -> str:
    """Why a head was given up; where memory is all, or gcf itself says what to do, that is told as it is."""
    text = one_line(error)
    if isinstance(error, MemoryError) or "out of memory" in text or "DefaultCPUAllocator" in text:
        raise error
    return text if isinstance(error, GcfError) else f"{type(error).__name__}: {text}"


def judge(logs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """val_loss and val_top1 from log probabilities (n, K) and labels (n,), or (n, K) with 1 for each class of a video.

    In the second case top-1 is hit@1, the share of videos of which the most probable class is one.
    """
    top1 = float(is_right(logs.argmax(axis=1), labels).mean())
    if labels.ndim == 2:
        return {"val_loss": binary_loss(logs, labels > 0), "val_top1": top1}
    own = logs[np.arange(len(labels)), labels].astype(np.float64)
    return {"val_loss": float(-own.mean()), "val_top1": top1}


def evaluation_rng(seed: int) -> np.random.Generator:
    """The same random clips for every evaluation and every arm."""
    return np.random.default_rng([seed, DRAW])
