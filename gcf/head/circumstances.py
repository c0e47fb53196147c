"""What has to be known about a run beside its figures: who took part, copies across splits, looks at the test set."""

from collections.abc import Sequence
from dataclasses import asdict

from gcf.data.leaks import audit_leaks
from gcf.data.looks import record_look
from gcf.data.splits import Split
from gcf.head.crossval import Trial
from gcf.head.labelled import LabelledFeatures, coverage, coverage_notes

MANY = 20  # looks after which the best figure is likely to be partly luck


def audit_splits(data: LabelledFeatures, splits: Sequence[Split]) -> tuple[dict, list[str]]:
    """The leak audit, for programs and in sentences."""
    found = audit_leaks(data.features, splits, groups=data.groups, labels=data.labels)
    return asdict(found), found.notes()


def circumstances(trial: Trial, what: str) -> tuple[dict, list[str]]:
    """Coverage, recipe, residency and the count of looks at these test videos (this one counts), and sentences."""
    data = trial.data
    found = {
        "coverage": coverage(data, trial.splits),
        "test_looks": _look_at_test(trial, what),
        "recipe": data.features.recipe,
        "features": data.features.path.name,
        "residency": trial.descriptors.residency.to_json(),
    }
    return found, [*data.notes, *coverage_notes(found["coverage"]), *_looks_note(found["test_looks"])]


def _look_at_test(trial: Trial, what: str) -> int | None:
    """None where no test videos are judged, or the count cannot be kept."""
    if trial.judged.subset != "test":
        return None
    features = trial.data.features
    return record_look(features.path, {features.ids[n] for n in trial.judged.videos.tolist()}, what=what)


def _looks_note(looks: int | None) -> list[str]:
    if looks is None or looks < 2:
        return []
    more = " With so many looks the best figure is partly luck: keep a last test set aside." if looks > MANY else ""
    return [f"These test videos have been judged on {looks} times by now.{more}"]
