"""What a report says in sentences: the verdict, what has to be known to read it, and how to run it again."""

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import fields

from scipy.stats import binomtest

from gcf.head.models.config import RECIPES, Protocol, TrainConfig
from gcf.head.models.kinds import KINDS
from gcf.head.report.run import ReportedRun
from gcf.head.tables.arm_table import has_map
from gcf.head.tables.column import p_text
from gcf.head.trials.arms import REFERENCE

PERCENT = "\u00a0%"  # which never begins a line
MINUS = "\u2212"
LEVEL = 0.05  # of the tests; the intervals are of 95 %
NAMED = {"heads": "head"}  # options that are called otherwise
LONGEST = 300  # characters of a setting's value
# What gcf train-head and gcf ablate take as options; other settings are given in Python.
OPTIONS = frozenset(
    "annotations multi_label cv seeds seed recipe num_clips clip_policy padding epochs batch_size".split()
    + "lr weight_decay sparsity sampling batch_order class_weights standardise precision device init freeze".split()
)


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction in percent, without the sign; "" where it is not known.

    >>> percent(0.9333)
    '93.3'
    """
    return "" if fraction is None else f"{100 * fraction:.{digits}f}"


def points(fraction: float | None) -> str:
    """A difference of fractions in percentage points, with a true minus.

    >>> points(0.0833), points(-0.0833).replace(MINUS, "-"), points(0.0)
    ('+8.3', '-8.3', '0.0')
    """
    if fraction is None:
        return ""
    text = f"{100 * fraction:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", MINUS)


def p_value(p: float | None) -> str:
    """A p value to three places; the smallest are only bounded.

    >>> p_value(0.00001), p_value(0.125)
    ('< 0.001', '0.125')
    """
    return "" if p is None else p_text(p)


def verdict(run: ReportedRun) -> tuple[str, str]:
    """The outcome in a sentence, the best arm and whether a difference to the reference is shown; and its evidence."""
    if run.multi_label:
        return _map_verdict(run)
    best, reference = run.best, run.reference
    share = f"{percent(best['mean'])}{PERCENT} of the {run.metrics.get('judged_on', 'judged')} videos"
    if reference is None:
        return f"{best['name']} gets {share} right.", _spread(best)
    if best is not reference:
        before = f"the reference, {reference['name']}"
        return f"{best['name']} is best: it gets {share} right, {_apart(best)} {before}; {_claim(best)}.", evidence(
            best
        )
    headline = f"No arm is above the reference, {best['name']}, which gets {share} right."
    compared = [row for row in run.judged_rows if row.get("p") is not None]
    if not compared:
        return headline, ""
    nearest = max(compared, key=lambda row: row["mean"])
    return headline, f"{nearest['name']} is {_apart(nearest)} it; {_claim(nearest)}. {evidence(nearest)}"


def _map_verdict(run: ReportedRun) -> tuple[str, str]:
    """The same where a video may have several classes: by mAP, of whose difference there is an interval and no p."""
    best, reference = run.best, run.reference
    on = f"on the {run.metrics.get('judged_on', 'judged')} videos"
    figures = f"mAP {percent(best['map'])}{PERCENT} {on}, hit@1 {percent(best['mean'])}{PERCENT}"
    if reference is None:
        return f"{best['name']} reaches {figures}.", _spread(best)
    if best is not reference:
        before = f"{_apart(best, 'map_delta')} the reference, {reference['name']}"
        return f"{best['name']} is best: {figures}; {before}; {_map_claim(best)}.", _map_evidence(best)
    headline = f"No arm is above the reference, {best['name']}: {figures}."
    compared = [row for row in run.judged_rows if row.get("map_low") is not None]
    if not compared:
        return headline, ""
    nearest = max(compared, key=run.figure)
    found = f"{nearest['name']} is {_apart(nearest, 'map_delta')} it; {_map_claim(nearest)}."
    return headline, f"{found} {_map_evidence(nearest)}"


def _map_claim(row: Mapping) -> str:
    if row.get("map_low") is None:
        return "the two are not compared"
    return "the difference is shown" if row["map_low"] * row["map_high"] > 0 else "no difference is shown"


def _map_evidence(row: Mapping) -> str:
    if row.get("map_low") is None:
        return ""
    interval = f"95{PERCENT} interval {points(row['map_low'])} to {points(row['map_high'])}"
    return f"Difference in mAP {points(row['map_delta'])} points, {interval}, not corrected for the number of arms."


def _claim(row: Mapping) -> str:
    """What may be said of a row's difference to the reference."""
    if row.get("missing"):
        return "what chance does is not known"
    if row.get("p") is None:
        return "the two are not compared"
    return "the difference is shown" if is_shown(row) else "no difference is shown"


def _apart(row: Mapping, key: str = "delta") -> str:
    delta = row.get(key)
    if not delta:
        return "above" if delta is None else "level with"
    return f"{points(abs(delta))[1:]} points {'above' if delta > 0 else 'below'}"


def _spread(row: Mapping) -> str:
    """What is known of how far the figure may be off; the interval of one seed takes videos as independent."""
    k, n = row.get("k"), row.get("n")
    if not n or k is None:
        return ""
    found = f"{k} of {n}" if row.get("map") is None else f"Hits {k} of {n}"
    if row.get("std") is not None:
        return f"{found} over {row['seeds']} seeds; their standard deviation is {percent(row['std'])} points."
    ends = binomtest(k, n).proportion_ci(method="wilson")
    return f"{found}; 95{PERCENT} interval {percent(ends.low)} to {percent(ends.high)}{PERCENT} (Wilson)."


def is_shown(row: Mapping) -> bool:
    """Whether a difference to the reference may be claimed: by the test, corrected where it is, and by the interval."""
    p = row["p_holm"] if row.get("p_holm") is not None else row["p"]
    return p < LEVEL and row["low"] * row["high"] > 0


def evidence(row: Mapping) -> str:
    """Difference, interval and p of a compared row in words, or why there is none; "" where it was not compared."""
    if row.get("p") is None:
        return row.get("missing") or ""
    corrected = row.get("p_holm") is not None
    p = p_value(row["p_holm"] if corrected else row["p"])
    which = "Holm-corrected p" if corrected else "p, not corrected for the number of arms,"
    interval = f"95{PERCENT} interval {points(row['low'])} to {points(row['high'])}"
    return f"Difference {points(row['delta'])} points, {interval}; {which} {p if '<' in p else f'= {p}'}."


def looks(metrics: Mapping) -> str:
    """How often the test set was looked at; "" where it is not known."""
    count = metrics.get("test_looks")
    if count is None:
        return ""
    often = "once, by this run" if count == 1 else f"{count} times, this run included"
    more = "" if count <= 1 else ": the more looks, the likelier a lucky figure"
    return f"The test videos were looked at {often}{more}."


def sensitivity(rows: Iterable[Mapping]) -> str:
    """What a test on as many videos can find; "" where nobody has worked it out."""
    rows = list(rows)
    found = [percent(row["detectable"]) for row in rows if row.get("detectable") is not None]
    if not found:
        return ""
    low, high = min(found, key=float), max(found, key=float)
    size = low if low == high else f"{low} to {high}"
    of_hits = " in hit@1" if has_map(rows) else ""
    return f"A true difference of {size} points{of_hits} would be found in four of five cases like this one."


def settings(found: object) -> list[tuple[str, str]]:
    """A dict as (name, value) lines, dicts inside it flattened; a sentence as one line without a name."""
    if not isinstance(found, Mapping):
        return [] if found is None else [("", str(found))]
    lines = []
    for name, value in found.items():
        if isinstance(value, Mapping):
            lines += [(f"{name} {inner}".strip(), text) for inner, text in settings(value)]
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            lines.append((str(name), text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."))
    return lines


def command(run: ReportedRun) -> str:
    """The command that makes the run again, or the Python call where a setting is no option of the command."""
    changed = _changed(run)
    features = run.metrics.get("features") or run.config.get("features") or "FEATS.h5"
    single = run.kind == "train-head"
    first = {} if single else _compared(run)
    if single and "head" in run.config and "init" not in changed:
        first = {"head": run.config["head"]["name"]}
    options = {name: value for name, value in first.items() if value is not None} | changed
    if changed.keys() <= OPTIONS:
        words = [_option(name, value) for name, given in options.items() for value in _as_options(name, given)]
        return " ".join(["gcf", run.kind, shlex.quote(str(features)), "-o RUN_DIR", *words])
    given = "".join(f", {name}={value!r}" for name, value in options.items())
    return f"gcf.{run.kind.replace('-', '_')}({str(features)!r}, 'RUN_DIR'{given})"


def _compared(run: ReportedRun) -> dict:
    """What a comparison was asked to compare; older runs knew presets alone."""
    asked = {name: run.config.get(name) or None for name in ("preset", "heads", "grid", "reference")}
    if asked["reference"] == REFERENCE:
        del asked["reference"]
    return asked


def _as_options(name: str, value: object) -> list:
    """The values of an option that may be repeated, as its texts."""
    if name == "grid":
        return [f"{field}={','.join(map(str, values))}" for field, values in value.items()]
    return value if isinstance(value, list) else [value]


def _option(name: str, value: object) -> str:
    """One option of a command; a flag has no value."""
    flag = f"--{NAMED.get(name, name.replace('_', '-'))}"
    if isinstance(value, bool):
        return flag if value else flag.replace("--", "--no-", 1)
    return f"{flag} {shlex.quote(str(value))}"


def _changed(run: ReportedRun) -> dict:
    """The settings that are not the default ones."""
    train = run.config.get("train", {})
    frozen = train.get("freeze", "none") != "none"
    own = KINDS[run.config["head"]["kind"]].recipe if run.kind == "train-head" and "head" in run.config else "paper"
    recipe = train.get("recipe") or own
    usual = TrainConfig(recipe=recipe, lr=RECIPES[recipe].frozen_lr if frozen else None).to_json()
    usual |= {f.name: f.default for f in fields(Protocol)} | {"recipe": own}
    names = [f.name for f in fields(Protocol)]
    given = train | run.config.get("protocol", {name: run.config[name] for name in names if name in run.config})
    return {name: value for name, value in given.items() if value != usual.get(name)}


def listed(names: Iterable) -> str:
    """Things in a row, as text; a list among them by its own items.

    >>> listed(["g1", ["a", "b"]])
    'g1, a and b'
    """
    return ", ".join(" and ".join(map(str, n)) if isinstance(n, list | tuple) else str(n) for n in names)
