"""`gcf check-head`: does a head keep what every head promises? The contract of users' own heads, too."""

import math
import os
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from gcf.data.features import FeatureFile
from gcf.data.options import did_you_mean
from gcf.data.plugin_files import PLUGIN_SUFFIX, line_in, told
from gcf.data.protocol import Features
from gcf.errors import UsageError
from gcf.head.models.build import build_head, head_config
from gcf.head.models.config import PRESETS, HeadConfig
from gcf.head.models.head_file import refuse_head_file
from gcf.head.models.invariance import CHECKS, Check, Subject
from gcf.head.models.sampling import choose_clips
from gcf.head.models.saved import SavedHead, load_head

VIDEOS = 32
WIDTH, CLASSES = 64, 7  # of a head that no data gives its widths
SEED = 0


@dataclass(frozen=True)
class HeadChecks:
    """What was found of a head, on which clips."""

    head: str
    clips: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether all checks passed."""
        return all(check.passed for check in self.checks)

    def to_json(self) -> dict:
        """All of it as JSON takes it: a measure that is not finite is null."""
        checks = [asdict(check) for check in self.checks]
        for check in checks:
            if check["measured"] is not None and not math.isfinite(check["measured"]):
                check["measured"] = None
        return {"head": self.head, "clips": self.clips, "passed": self.passed, "checks": checks}

    def describe(self) -> str:
        """A table, one line a check."""
        lines = [f"{self.head} on {self.clips}", f"{'':6}{'check':13}{'measured':>10}{'limit':>9}"]
        for check in self.checks:
            verdict = "ok" if check.passed else "FAIL"
            numbers = f"{_short(check.measured):>10}{_short(check.limit):>9}"
            lines.append(f"{verdict:6}{check.name:13}{numbers}  {check.sentence}")
        failed = sum(not check.passed for check in self.checks)
        return "\n".join([*lines, f"{failed} of {len(lines) - 2} checks failed" if failed else "all checks passed"])


def check_head(
    head: SavedHead | HeadConfig | str | os.PathLike,
    *,
    features: FeatureFile | str | os.PathLike | None = None,
    num_clips: int = 10,
    head_file: str | os.PathLike | None = None,
) -> HeadChecks:
    """Try a head on videos of up to `num_clips` clips: padding, batch, order, precision, gradients and more.

    head: a trained one (its folder or itself), a preset's name, a plug-in's FILE.py or a config; the last three are
    built with fresh weights. features: real clips instead of random ones. No global random state is touched.
    head_file: the Python file of a trained plug-in head that is given by its path, as for `load_head`.

    Raises UsageError or HeadError for no such head, RecipeError where a trained head is not for these features.
    """
    if num_clips < 1:
        raise UsageError(f"num_clips must be at least 1, got {num_clips}")
    if isinstance(features, str | os.PathLike):
        features = FeatureFile(features)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(SEED)
        subject = _subject(_found(head, head_file), features, num_clips)
        checks = tuple(_checked(name, subject) for name in CHECKS)
    return HeadChecks(subject.config.name, "random clips" if features is None else f"clips of {features.path}", checks)


def _found(
    head: SavedHead | HeadConfig | str | os.PathLike, head_file: str | os.PathLike | None
) -> SavedHead | HeadConfig:
    if isinstance(head, SavedHead | HeadConfig):
        refuse_head_file(head_file, "a head in memory")
        return head
    text = os.fspath(head)
    known = text in PRESETS or text.endswith(PLUGIN_SUFFIX)
    if not known and not os.path.exists(text):
        fault = f"{text}: no folder of a trained head, no plug-in and no preset ({', '.join(PRESETS)})"
        raise UsageError("; ".join(filter(None, [fault, did_you_mean(text, PRESETS)])))
    if not known:
        return load_head(text, head_file=head_file)
    refuse_head_file(head_file, text)
    return head_config(text)


def _subject(head: SavedHead | HeadConfig, features: Features | None, num_clips: int) -> Subject:
    """The head with its videos; one that is not trained gets the widths of the features."""
    if isinstance(head, SavedHead):
        if features is not None:
            head.check_fits(features)
        module, config, width, classes = head.module, head.config, head.descriptor_width, len(head.classes)
    else:
        config = head
        width = WIDTH if features is None else features.descriptors.shape[2]
        classes = CLASSES if features is None else max(2, len(features.classes))
        module = build_head(config, width, classes, seed=SEED)
    clips = min(num_clips, config.fixed_clips or num_clips)
    if features is None:
        descriptors, counts = torch.randn(VIDEOS, clips, width), np.full(VIDEOS, clips)
    else:
        descriptors, counts = _real_clips(features, clips)
    wanted = 1 + (np.arange(len(counts)) - 1) % clips  # from all slots filled to one, so that there is padding
    mask = torch.arange(clips) < torch.from_numpy(np.minimum(wanted, counts)).unsqueeze(1)
    return Subject(module, config, classes, descriptors, mask)


def _real_clips(features: Features, clips: int) -> tuple[Tensor, np.ndarray]:
    """Descriptors (B, C, D) of videos from all over the file, centre view, and how many of the C are real (B,)."""
    if not features.num_videos:
        raise UsageError(f"{features.path}: holds no video to try a head on")
    videos = np.unique(np.linspace(0, features.num_videos - 1, VIDEOS).round().astype(int))
    counts = np.diff(features.offsets)[videos]
    indices, mask = choose_clips(counts, clips, "uniform")
    rows = features.offsets[videos][:, None] + indices
    found = torch.from_numpy(features.descriptors[rows, 0].astype(np.float32))
    missing = clips - found.shape[1]  # no video has as many clips
    return torch.nn.functional.pad(found, (0, 0, 0, missing)), mask.sum(axis=1)


def _checked(name: str, subject: Subject) -> Check:
    """One check; a head that raises has not passed it."""
    try:
        return CHECKS[name](subject.copy())
    except Exception as error:  # a user's own head may raise anything
        where = line_in(subject.config.source, error) if subject.config.source else ""
        return Check(name, False, None, None, f"raised {' '.join(told(error).split())}{where}")


def _short(number: float | None) -> str:
    if number is None or isinstance(number, int):
        return "" if number is None else str(number)
    return f"{number:.4f}" if 0.9 < number <= 1 else f"{number:.2g}"  # a cosine shows how near it is to 1
