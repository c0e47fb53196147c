"""The heads of several seeds as one: the mean of their probabilities."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from gcf.errors import HeadError
from gcf.head.models.baselines import average_probabilities, average_sigmoids
from gcf.head.models.head_json import METRICS
from gcf.head.models.output import HeadOutput
from gcf.head.models.saved import FACTS, SavedHead, load_head


class MeanOfHeads(nn.Module):
    """Several heads of the same classes: descriptors (B, C, D), mask (B, C) -> logits, the log of their mean softmax.

    Where the classes are not `exclusive`, they are the logits of the mean sigmoids. The gate is the mean of theirs,
    where all have one. A mean of probabilities has no additive evidence behind it.
    """

    def __init__(self, heads: Sequence[nn.Module], *, exclusive: bool = True):
        super().__init__()
        self.heads = nn.ModuleList(heads)
        self.exclusive = exclusive

    def forward(self, descriptors: Tensor, mask: Tensor) -> HeadOutput:
        """Ask every head."""
        said = [head(descriptors, mask) for head in self.heads]
        logits = torch.stack([answer.logits for answer in said], dim=1)  # (B, S, K)
        every = torch.ones(logits.shape[:2], dtype=torch.bool, device=logits.device)
        mean = average_probabilities if self.exclusive else average_sigmoids
        gates = [answer.gate for answer in said if answer.gate is not None]
        gate = torch.stack(gates).mean(dim=0) if len(gates) == len(said) else None
        return HeadOutput(mean(logits, every), gate)


@dataclass(frozen=True, eq=False)
class SavedEnsemble(SavedHead):
    """Heads of one run that answer as one SavedHead; config, recipe and training are those of the first member."""

    members: tuple[SavedHead, ...]


def load_ensemble(run: str | os.PathLike, *, head_file: str | os.PathLike | None = None) -> SavedEnsemble:
    """The heads of a `train-head --seeds N` run. Raises HeadError where one is absent, damaged or of another kind.

    head_file: as for `load_head`.
    """
    folder = Path(run)
    places = _members(folder)
    if not places:
        raise HeadError(f"{folder}: no heads of several seeds here; gcf train-head --seeds N makes them")
    heads = tuple(load_head(folder / place, head_file=head_file) for place in places)
    first = heads[0]
    for place, head in zip(places, heads, strict=True):
        for what in ("config", "classes", "recipe", "descriptor_width", "padding"):
            if getattr(head, what) != getattr(first, what):
                raise HeadError(f"{folder / place}: its {what} is not that of {places[0]}; train the heads together")
        for what in ("num_clips", "clip_policy"):
            if head.training[what] != first.training[what]:
                raise HeadError(f"{folder / place}: its {what} is not that of {places[0]}; train the heads together")
    module = MeanOfHeads([head.module for head in heads], exclusive=first.config.exclusive).eval()
    return SavedEnsemble(
        module, first.config, first.descriptor_width, first.classes, first.recipe, first.training, heads
    )


def load_trained(path: str | os.PathLike, *, head_file: str | os.PathLike | None = None) -> SavedHead:
    """What a path holds: a head, or the heads of several seeds as one. Heads of folds are no ensemble (HeadError).

    head_file: as for `load_head`.
    """
    folder = Path(path)
    several = not (folder / FACTS).exists() and _members(folder)
    load = load_ensemble if several else load_head
    return load(folder, head_file=head_file)


def _members(folder: Path) -> list[str]:
    """The heads' folders by the run's own word, or as found; [] where they are not of seeds alone."""
    found = [p.parent.name for p in folder.glob(f"seed-*/{FACTS}")]
    try:
        seeds = json.loads((folder / METRICS).read_bytes())["seeds"]
        found = [str(place) for seed in seeds for place in seed["heads"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass  # only the heads were copied here
    seeds = [place.removeprefix("seed-") for place in found]
    return sorted(found, key=lambda place: int(place.removeprefix("seed-"))) if all(map(str.isdecimal, seeds)) else []
