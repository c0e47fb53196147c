"""What the trial of a backbone's pixels found, as a table and plain sentences, and as JSON takes it."""

import math
from collections.abc import Sequence

from gcf.explain.doctor.clips import LEAST_VIDEOS
from gcf.explain.doctor.evidence import Answers
from gcf.explain.doctor.pixels import PixelTrial, Reaction
from gcf.explain.doctor.verdict import BETTER, LABELS, UNCLEAR, WORSE, PairedVerdict

KIND = {
    LABELS: "the log probability of each video's true class",
    "agreement": "how well two clips of a video find each other by their classes, without labels",
}
CAUTION = {
    LABELS: "",
    "agreement": "Without labels the evidence is weaker: it sees answers that do not hold together, not wrong ones.",
}
UNJUDGED = (
    f"nothing was judged: that takes {LEAST_VIDEOS} videos of at least two clips each, or as many whose labels are "
    "among the network's classes"
)
MOTION = {
    "frames reversed": ("it tells forwards from backwards", "it does not need to know forwards from backwards"),
    "frames shuffled": ("it uses the order of the frames", "it does not need the order of the frames"),
    "frozen to one frame": ("it uses more than one frame", "one frame tells it as much as the clip"),
}


def describe_trial(trial: PixelTrial) -> str:
    """Table, verdict, and what could not be told."""
    clips = trial.clips
    known = int((clips.truth >= 0).sum())
    lines = [
        f"{trial.backbone}: {len(clips.video)} clips of {len(clips.ids)} videos, {known} of them with a label it knows",
        *_table([*trial.settings, *trial.orders], known),
    ]
    if trial.evidence:
        lines.append(f"Judged by {KIND[trial.evidence]}; confidence (top, entropy) misleads and is only shown.")
        lines += [CAUTION[trial.evidence]] if CAUTION[trial.evidence] else []
    lines += [f"failed  {video_id!r}: {reason}" for video_id, reason in clips.failed]
    return "\n".join([*lines, *motion_lines(trial), expectation(trial), verdict_line(trial)])


def verdict_line(trial: PixelTrial) -> str:
    """One line: wrong, right, or what cannot be told."""
    declared = trial.settings[0].setting
    if better := trial.better:
        return (
            f"fault   pixels      the declared recipe ({declared.describe()}) is clearly worse than "
            f"{better.setting.describe()} ({numbers(better.compared)}); correct the recipe, or name other weights"
        )
    if not trial.evidence:
        return f"warning pixels      {UNJUDGED}"
    unclear = [each.setting.name for each in trial.settings[1:] if each.compared.verdict == UNCLEAR]
    says = f"no setting is clearly better than the declared one ({declared.describe()})"
    state = "ok"
    if len(unclear) == len(trial.settings) - 1:
        state, says = "warning", f"{says}, and none is clearly worse: these videos cannot tell; take more, with labels"
    elif unclear:
        says += f"; not told apart from it: {', '.join(unclear)}"
    return f"{state:8}pixels      {says}"


def expectation(trial: PixelTrial) -> str:
    """What the weights seem to expect."""
    if not trial.evidence:
        return "What the weights expect cannot be told."
    by_name = {each.setting.name: each.setting for each in trial.settings}
    best, *alike = (by_name[name] for name in trial.alike)
    says = f"The weights seem to expect {best.describe()}"
    return f"{says}; as good on these videos: {'; '.join(each.describe() for each in alike)}." if alike else f"{says}."


def motion_lines(trial: PixelTrial) -> list[str]:
    """What the network makes of the order of frames."""
    lines = []
    for each in trial.orders if trial.passed else ():  # on pixels it was not made for, it says nothing of the network
        if each.compared:
            uses, ignores = MOTION[each.setting.name]
            means = {
                WORSE: uses,
                UNCLEAR: f"no difference seen: on these videos {ignores}",
                BETTER: "better than in order",
            }
            lines.append(f"{each.setting.name}: {means[each.compared.verdict]} ({numbers(each.compared)})")
    return lines


def numbers(compared: PairedVerdict) -> str:
    """A comparison in figures."""
    interval = f"{compared.low:+.2f} to {compared.high:+.2f}"
    in_words = f"higher in {compared.higher} of {compared.videos} videos"
    return f"{compared.delta:+.2f} nats, 95 % {interval}, {in_words}, p {compared.p:.2g}"


def trial_json(trial: PixelTrial) -> dict:
    """Plain JSON values; what is not known is null."""
    clips = trial.clips
    better = trial.better
    return {
        "backbone": trial.backbone,
        "clips": len(clips.video),
        "videos": list(clips.ids),
        "labelled": int((clips.truth >= 0).sum()),
        "failed": [list(pair) for pair in clips.failed],
        "evidence": trial.evidence or None,
        "settings": [_reaction_json(each, clips.truth >= 0) for each in trial.settings],
        "clip_orders": [_reaction_json(each, clips.truth >= 0) for each in trial.orders],
        "expected": [
            each.setting.pixels for name in trial.alike for each in trial.settings if each.setting.name == name
        ],
        "better": better.setting.name if better else None,
        "passed": trial.passed,
    }


def _table(reactions: Sequence[Reaction], known: int) -> list[str]:
    width = max(len(each.setting.name) for each in reactions)
    lines = [f"  {'':{width}}  {'top':>5} {'entropy':>7} {'right':>7} {'log p':>7} {'agree':>6}  against as declared"]
    for each in reactions:
        found, compared = each.answers, each.compared
        right = f"{int(found.right.sum())}/{known}" if known else "-"
        cells = f"{right:>7} {_mean(found.true_log_probability):>7} {_mean(found.agreement):>6}"
        judged = f"{compared.verdict} ({compared.delta:+.2f}, {compared.higher}/{compared.videos})" if compared else ""
        row = f"  {each.setting.name:{width}}  {found.top:5.3f} {found.entropy:7.2f} {cells}  {judged}"
        lines.append(row.rstrip())
    return lines


def _mean(values) -> str:
    mean = _known_mean(values)
    return "-" if mean is None else f"{mean:.2f}"


def _known_mean(values) -> float | None:
    known = [float(value) for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else None


def _reaction_json(each: Reaction, known) -> dict:
    answers: Answers = each.answers
    return {
        "name": each.setting.name,
        **each.setting.pixels,
        "top_probability": answers.top,
        "entropy": answers.entropy,
        "top1": _known_mean(answers.right[known]),
        "true_log_probability": _known_mean(answers.true_log_probability),
        "agreement": _known_mean(answers.agreement),
        "compared": vars(each.compared) if each.compared else None,
    }
