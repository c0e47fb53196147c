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
from gcf.head.fitting.batches import Batch, ClipBatches
from gcf.head.fitting.metrics import binary_loss, is_right
from gcf.head.fitting.prediction import Prediction, predict
from gcf.head.fitting.schedule import Cosine, Plateau, most_passes, passes_per_validation
from gcf.head.fitting.stack import Stack
from gcf.head.fitting.threads import ThreadPool
from gcf.head.models.config import TrainConfig
from gcf.head.models.standard import Standardised

log = logging.getLogger(__name__)
# Streams of random numbers: the order of batches and training clips; the clips of an evaluation; the order in which a
# file is read that is larger than memory.
ORDER, DRAW, READING = 0, 1, 2
Listener = Callable[[str, int, dict], None]  # of validations: name of the training, member, history row


@dataclass(frozen=True)
class Trained:
    """How one head was trained: the record of its best validation, and one history row per validation."""

    record: dict[str, int | float]
    history: list[dict[str, int | float]]


@dataclass(eq=False)
class StackTraining:
    """A stack of heads while it is trained; after it, `trained` has one entry per head, in order.

    orders: the seed of the order of batches of each head. failure: why it was given up, None where all went
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
        self.gate_gradients: list[float] = []
        self.passes, self.cosine = 0, None

    def begin(self, steps: int) -> None:
        """Plan passes of so many steps."""
        schedule = self.settings.numbers.schedule
        self.passes = most_passes(steps, self.settings.epochs, schedule)
        self.cosine = Cosine(self.passes * steps) if schedule == "cosine" else None

    @property
    def alive(self) -> bool:
        """Whether a head of it is still trained."""
        return self.failure is None and bool(self.stack.active)

    @property
    def active_orders(self) -> list[int]:
        """The seed of the order of each head that is still trained, once where several share one."""
        return list(dict.fromkeys(self.orders[member] for member in self.stack.active))

    def step(self, batch: Batch, orders: Sequence[int]) -> None:
        """One step of all heads on a batch of these orders; a fault of theirs ends this training, and no other."""
        try:
            own = batch.of_orders([orders.index(seed) for seed in self.active_orders])
            if self.cosine is not None:
                self.stack.set_rates([self.settings.rate * self.cosine.next()] * len(self.stack.active))
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
            factor = 1.0 if self.cosine is not None else self.plateaus[member].observe(row["val_loss"])
            self.ended[member] = epoch
            if factor is not None and epoch < self.passes:
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
        trained = []
        for member, best in enumerate(self.best):
            end = self.ended[member]
            record = best | {"epochs": end, "steps": end * steps, "shortened_steps": shortened[member]} | self.facts
            if self.gate_gradients and math.isfinite(self.gate_gradients[member]):  # where nothing is left to learn
                record["gate_gradient"] = self.gate_gradients[member]
            trained.append(Trained(record, self.histories[member]))
        return trained


def fit(
    trainings: Sequence[StackTraining],
    batches: ClipBatches,
    split: Split,
    config: TrainConfig,
    *,
    bar: tqdm | None = None,
    listener: Listener | None = None,
    threads: ThreadPool | None = None,
) -> None:
    """Train all trainings on split.train in one pass: each batch is gathered once and every head takes a step on it.

    `config` says what they share (batches, clips, passes); what is their own is in their settings. Heads of several
    orders step on as many batches at once. Weights are chosen by the loss on split.val. Afterwards every stack has all
    its heads, with the weights of their best validation, in float32. `bar` counts steps of all that are planned; an
    early end is taken off its total.
    """
    reading = np.random.default_rng([config.seed, READING])
    rngs = {seed: np.random.default_rng([seed, ORDER]) for training in trainings for seed in training.orders}
    steps = math.ceil(len(split.train) / config.batch_size)  # in a pass
    for training in trainings:
        training.begin(steps)
    limit, interval = max(training.passes for training in trainings), passes_per_validation(steps)
    bar, threads = tqdm(disable=True) if bar is None else bar, threads or ThreadPool(1)
    trainings = sorted(trainings, key=lambda training: -training.stack.size)  # the longest steps begin first
    for epoch in range(1, limit + 1):
        alive = [training for training in trainings if training.alive]
        orders = sorted({seed for training in alive for seed in training.active_orders})
        passing = batches.shuffled(
            split.train,
            config.batch_size,
            rngs=[rngs[seed] for seed in orders],
            reading=reading,
            sampling=config.sampling,
        )
        train_one_pass(alive, passing, orders, bar, threads)
        due = [t for t in alive if t.alive and (epoch % interval == 0 or epoch == t.passes)]
        if due:
            labels = batches.labels.cpu().numpy()[split.val]
            predictions = predict_all(due, batches, split.val, config.seed, threads)
            for training, of_heads in zip(due, predictions, strict=True):
                if training.failure is None:
                    losses = [validation_metrics(p.log_probabilities, labels) for p in of_heads]
                    training.observe(epoch, steps, losses, listener)
        if not any(training.alive for training in trainings):
            break
    if bar.total is not None:
        bar.total -= (limit - epoch) * steps
    for training in trainings:
        training.stack.restore()
        training.stack.precision = "fp32"
    gated = [training for training in trainings if training.failure is None and training.stack.learns_gate]
    if gated:
        first = batches.load(split.train[: config.batch_size], rng=evaluation_rng(config.seed))
        for training in gated:
            training.gate_gradients = training.stack.gate_gradients(first)


def train_one_pass(
    trainings: Sequence[StackTraining],
    passing: Iterable[Batch],
    orders: Sequence[int],
    bar: tqdm,
    threads: ThreadPool,
) -> None:
    """One pass over the training batches, which are of these orders."""
    for training in trainings:
        training.losses = []
    for batch in passing:
        alive = [training for training in trainings if training.alive]
        threads.map(lambda training, batch=batch: training.step(batch, orders), alive)
        bar.update()


def predict_all(
    trainings: Sequence[StackTraining], batches: ClipBatches, videos: np.ndarray, seed: int, threads: ThreadPool
) -> list[list[Prediction]]:
    """Predictions of the heads of every training; one whose heads fault is given up, and predicts nothing."""
    try:
        stacks = [training.stack for training in trainings]
        return predict(stacks, batches, videos, rng=evaluation_rng(seed), threads=threads)
    except Exception as error:
        if len(trainings) == 1:
            trainings[0].failure = reason(error)
            return [[]]
        return [predict_all([training], batches, videos, seed, threads)[0] for training in trainings]


def reason(error: Exception) -> str:
    """Why a head was given up; where memory is all, or gcf itself says what to do, that is told as it is."""
    text = one_line(error)
    if isinstance(error, MemoryError) or "out of memory" in text or "DefaultCPUAllocator" in text:
        raise error
    return text if isinstance(error, GcfError) else f"{type(error).__name__}: {text}"


def validation_metrics(logs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
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
