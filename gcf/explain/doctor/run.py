"""`gcf.diagnose`: the environment, and where a backbone is named, how its weights react to their pixels."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from gcf.errors import UsageError
from gcf.explain.doctor.environment import check_environment, environment_checks
from gcf.explain.doctor.finding import FAULT, Finding
from gcf.extract.stream.config import ExtractConfig

if TYPE_CHECKING:
    from gcf.explain.doctor.pixels import PixelTrial

STANDS_ON = ("torch", "torchvision", "PyAV", "decoding")  # without these no network can be tried


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What was found: a finding a check, and the trial of a backbone's pixels, where one was asked for."""

    findings: Sequence[Finding]
    pixels: "PixelTrial | None" = None
    pixels_skipped: bool = False

    @property
    def passed(self) -> bool:
        """Whether all that gcf needs works, and no other pixels suit the weights clearly better."""
        works = all(finding.state != FAULT for finding in self.findings)
        return works and (self.pixels is None or self.pixels.passed)

    def describe(self) -> str:
        """One line a check, then the trial, its verdict last."""
        lines = [finding.describe() for finding in self.findings]
        if self.pixels:
            from gcf.explain.doctor.words import describe_trial

            lines += ["", describe_trial(self.pixels)]
        if self.pixels_skipped:
            lines.append("the backbone was not tried: put the faults above right first")
        return "\n".join(lines)

    def to_json(self) -> dict:
        """All of it as plain JSON values."""
        trial = None
        if self.pixels:
            from gcf.explain.doctor.words import trial_json

            trial = trial_json(self.pixels)
        return {"passed": self.passed, "checks": [asdict(finding) for finding in self.findings], "pixels": trial}


def diagnose(
    *,
    backbone: str | os.PathLike | None = None,
    weights: str | os.PathLike = "default",
    videos: str | os.PathLike | Sequence[str | os.PathLike] | None = None,
    annotations: str | os.PathLike | None = None,
    device: str = "auto",
    sampling: str = "native",
    num_clips: int | None = None,
    folder: str | os.PathLike = ".",
    progress: bool = False,
) -> Diagnosis:
    """Check what gcf needs of this machine; with `backbone` and `videos`, what pixels its weights seem to expect.

    folder: where results are to be written. videos: as for `extract_videos`; num_clips of them, spread evenly, are
    decoded once and go through the network in every setting; None: two of each of up to 16 videos. annotations: labels,
    the better evidence where they are among the network's classes; without them folders name classes. sampling: of the
    clips, as `extract_videos` has it. See `doctor.verdict` for the rule.

    Raises UsageError for arguments that do not go together, and what loading the backbone or the labels raises.
    """
    if (backbone is None) != (videos is None):
        raise UsageError("name both a backbone and videos to try its pixels, or neither to check this machine")
    if num_clips is not None and num_clips < 2:
        raise UsageError(f"num_clips must be at least 2, not {num_clips}")
    config = ExtractConfig(device=device, sampling=sampling)
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; name the one where results are to be written")
    total = len(environment_checks(folder))
    checks = check_environment(folder)
    findings = list(tqdm(checks, total=total, desc="machine", unit="check", disable=not progress, leave=False))
    if backbone is None:
        return Diagnosis(findings)
    if any(finding.state == FAULT and finding.check in STANDS_ON for finding in findings):
        return Diagnosis(findings, pixels_skipped=True)
    trial = _pixels(backbone, weights, videos, annotations, config=config, num_clips=num_clips, progress=progress)
    return Diagnosis(findings, trial)


def _pixels(backbone, weights, videos, annotations, *, config, num_clips: int | None, progress: bool) -> "PixelTrial":
    from gcf.data.annotations import label_videos, read_annotations
    from gcf.explain.doctor.clips import decode_trial, true_classes
    from gcf.explain.doctor.pixels import try_pixels
    from gcf.extract.decoding.find import find_videos
    from gcf.extract.decoding.jobs import ClipJob
    from gcf.extract.stream.pipeline import load_network

    found = find_videos([videos] if isinstance(videos, str | os.PathLike) else videos)
    annotations = read_annotations(annotations) if annotations else None
    level = None if annotations else "last"  # a trial needs only labels that are among the network's classes
    labelling = label_videos([v.id for v in found], annotations, class_level=level)
    network, recipe = load_network(os.fspath(backbone), os.fspath(weights), config)
    truth = true_classes(labelling, network.backbone.recipe["classes"])
    job = ClipJob.from_recipe(recipe)
    clips = decode_trial(found, truth, job, num_clips=num_clips, progress=progress)
    return try_pixels(network, clips, progress=progress)
