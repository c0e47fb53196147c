"""Training one head on one split: the paper's SGD, the rate and the choice of weights led by `val` alone."""

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from gcf.data.splits import Split
from gcf.errors import GcfError
from gcf.head.batches import Batch, ClipBatches
from gcf.head.config import TrainConfig
from gcf.head.loss import training_loss
from gcf.head.prediction import predict
from gcf.head.schedule import Plateau, most_passes, passes_per_validation

log = logging.getLogger(__name__)
ORDER, DRAW = 0, 1  # streams of random numbers: the order of batches and training clips; the clips of an evaluation


@dataclass(frozen=True, eq=False)
class Trained:
    """A head with the weights of its best validation, the record of that, and one history row per validation.

    `head` is None once it has been let go.
    """

    head: nn.Module | None
    record: dict[str, int | float]
    history: list[dict[str, int | float]]


def fit(
    head: nn.Module,
    batches: ClipBatches,
    split: Split,
    config: TrainConfig,
    *,
    bar: tqdm | None = None,
    name: str = "",
) -> Trained:
    """Train a freshly built (or loaded) head on split.train; weights are chosen by the loss on split.val.

    Only parameters that require a gradient are trained. `bar` shows the steps; `name` tells one training of many.
    Raises GcfError where the loss stops being a number.
    """
    head = head.to(batches.device).train()
    optimiser = sgd(head, config)
    rng = np.random.default_rng([config.seed, ORDER])
    steps = math.ceil(len(split.train) / config.batch_size)  # in a pass
    limit, interval = most_passes(steps, config.epochs), passes_per_validation(steps)
    plateau, history, best, kept = Plateau(patience=config.patience, drops=config.drops), [], {}, {}
    bar = tqdm(disable=True) if bar is None else bar
    bar.reset(total=limit * steps)
    for epoch in range(1, limit + 1):
        loss = one_pass(head, optimiser, batches.shuffled(split.train, config.batch_size, rng=rng), config, bar)
        if epoch % interval and epoch < limit:
            continue
        row = {"epoch": epoch, "step": epoch * steps, "lr": optimiser.param_groups[0]["lr"], "train_loss": loss.item()}
        row |= validate(head, batches, split.val, config.seed)
        _refuse_divergence(row, config, name)
        history.append(row)
        if not best or row["val_loss"] < best["val_loss"]:
            best, kept = row, {name: value.clone() for name, value in head.state_dict().items()}
        factor = plateau.observe(row["val_loss"])
        if factor is None:
            break
        for group in optimiser.param_groups:
            group["lr"] = config.rate * factor
    head.load_state_dict(kept)
    optimiser.zero_grad()  # gradients are as large as the weights, and trained heads are kept
    return Trained(head.eval(), best | {"epochs": epoch, "steps": epoch * steps}, history)


def sgd(head: nn.Module, config: TrainConfig) -> torch.optim.SGD:
    """The paper's optimiser over what is to be trained."""
    return torch.optim.SGD(
        [p for p in head.parameters() if p.requires_grad],
        lr=config.rate,
        momentum=config.momentum,
        dampening=config.dampening,
        weight_decay=config.weight_decay,
    )


def one_pass(
    head: nn.Module, optimiser: torch.optim.Optimizer, batches: Iterable[Batch], config: TrainConfig, bar: tqdm
) -> Tensor:
    """One pass over the training batches; returns the mean of their losses, without waiting for a GPU."""
    losses = []
    for batch in batches:
        loss = training_loss(head, batch.descriptors, batch.mask, batch.labels, sparsity=config.sparsity)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
        bar.update()
    return torch.stack(losses).mean()


def _refuse_divergence(row: dict[str, int | float], config: TrainConfig, name: str) -> None:
    level = logging.DEBUG if name else logging.INFO  # one training is followed, hundreds only counted
    told = (row["epoch"], row["train_loss"], row["val_loss"], row["lr"])
    log.log(level, "%sepoch %d: train loss %.4f, val loss %.4f, lr %g", name and f"{name}, ", *told)
    if not math.isfinite(row["train_loss"] + row["val_loss"]):
        which = f" ({name})" if name else ""
        raise GcfError(
            f"training diverged{which}: loss {row['train_loss']} in epoch {row['epoch']}; lower the rate "
            f"(now {config.rate})"
        )


def validate(head: nn.Module, batches: ClipBatches, videos: np.ndarray, seed: int) -> dict[str, float]:
    """Mean cross-entropy and top-1 on videos."""
    logs = predict(head, batches, videos, rng=evaluation_rng(seed)).log_probabilities
    labels = batches.labels.cpu().numpy()[videos]
    own = logs[np.arange(len(videos)), labels].astype(np.float64)
    return {"val_loss": float(-own.mean()), "val_top1": float((logs.argmax(axis=1) == labels).mean())}


def evaluation_rng(seed: int) -> np.random.Generator:
    """The same random clips for every evaluation and every arm of one seed."""
    return np.random.default_rng([seed, DRAW])
