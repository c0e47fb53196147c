"""How a network reacts to its pixels: the declared recipe against altered ones, on the same decoded clips."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from gcf.explain.doctor.clips import TrialClips
from gcf.explain.doctor.evidence import Answers, answers
from gcf.explain.doctor.settings import CLIP_ORDERS, Setting, altered_settings, declared_setting
from gcf.explain.doctor.trial import Trial
from gcf.explain.doctor.verdict import BETTER, WORSE, PairedVerdict, choose_evidence, compare
from gcf.extract.network.clip_network import ClipNetwork

log = logging.getLogger("gcf")


@dataclass(frozen=True, eq=False)
class Reaction:
    """A network under one setting, and how it compares with the declared one; None where nothing can be compared."""

    setting: Setting
    answers: Answers
    compared: PairedVerdict | None


@dataclass(frozen=True, eq=False)
class PixelTrial:
    """What the trial of a backbone's pixels found.

    evidence: "labels", "agreement" or '' (nothing can be told). settings: the declared one first. orders: the declared
    setting with frames moved, compared with them in place. alike: names of the settings that are not clearly worse than
    the best one, the least altered first: what cannot be told apart is left as declared.
    """

    backbone: str
    clips: TrialClips
    evidence: str
    settings: Sequence[Reaction]
    orders: Sequence[Reaction]
    alike: Sequence[str]

    @property
    def better(self) -> Reaction | None:
        """The setting that is clearly better than the declared one, if any; of several the first of `alike`."""
        found = [each for each in self.settings[1:] if each.compared and each.compared.verdict == BETTER]
        place = {name: n for n, name in enumerate(self.alike)}
        return min(found, key=lambda each: place.get(each.setting.name, len(place)), default=None)

    @property
    def passed(self) -> bool:
        """Whether no altered setting is clearly better."""
        return self.better is None


def try_pixels(
    network: ClipNetwork,
    clips: TrialClips,
    *,
    settings: Sequence[Setting] | None = None,
    orders: Sequence[str] = tuple(CLIP_ORDERS),
    progress: bool = False,
) -> PixelTrial:
    """Feed the same clips in every way; settings: altered ones to try instead of all, orders: names of CLIP_ORDERS."""
    declared = declared_setting(network.backbone.recipe)
    altered = altered_settings(declared) if settings is None else settings
    ways, count = 1 + len(altered) + len(orders), len(clips.pixels)
    if progress:
        log.info(
            "%d clips of %d videos go through the network in %d ways (pixels %d, orders of frames %d): %d passes",
            *(count, len(clips.ids), ways, ways - len(orders), len(orders), ways * count),
        )
    with tqdm(total=ways * count, desc="pixels", unit="clip", disable=not progress, leave=False) as bar:
        trial = Trial(network, clips.pixels, bar)
        first = answers(trial.probabilities(declared), clips)
        evidence = choose_evidence(first)

        def react(setting: Setting, pixels: np.ndarray | None = None) -> Reaction:
            found = answers(trial.probabilities(setting, pixels), clips)
            return Reaction(setting, found, compare(found, first, evidence) if evidence else None)

        reactions = [Reaction(declared, first, None), *map(react, altered)]
        moved = [react(Setting(name, declared.pixels), CLIP_ORDERS[name](clips.pixels)) for name in orders]
    name = network.backbone.recipe["name"]
    return PixelTrial(name, clips, evidence, reactions, moved, _alike(reactions, evidence))


def _best(reactions: Sequence[Reaction]) -> Reaction:
    return max(reactions, key=lambda each: each.compared.delta if each.compared else 0.0)


def _alike(reactions: Sequence[Reaction], evidence: str) -> list[str]:
    """The best setting and those that are not clearly worse than it; the least altered first, of those the best."""
    if not evidence:
        return []
    best = _best(reactions)
    kept = [each for each in reactions if compare(each.answers, best.answers, evidence).verdict != WORSE]
    declared = reactions[0].setting.pixels

    def order(each: Reaction) -> tuple[int, float]:
        changed = sum(each.setting.pixels[key] != value for key, value in declared.items())
        return changed, -each.compared.delta if each.compared else 0.0

    return [each.setting.name for each in sorted(kept, key=order)]
