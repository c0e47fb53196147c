"""What has to be known about a run beside its figures: who took part, copies across splits, looks at the test set."""

from collections.abc import Sequence
from dataclasses import asdict

from gcf.data.leaks import audit_leaks
from gcf.data.looks import looks_notes, record_look
from gcf.data.splits import Split
from gcf.head.fitting.labelled import LabelledFeatures, coverage, coverage_notes
from gcf.head.trials.experiment import Experiment


def audit_splits(data: LabelledFeatures, splits: Sequence[Split]) -> tuple[dict, list[str]]:
    """The leak audit, for programs and in sentences."""
    found = audit_leaks(data.features, splits, groups=data.groups, labels=data.labels)
    return asdict(found), found.notes()


def circumstances(experiment: Experiment, what: str) -> tuple[dict, list[str]]:
    """Coverage, recipe, residency and the count of looks at these test videos (this one counts), and sentences."""
    data = experiment.data
    found = {
        "coverage": coverage(data, experiment.splits),
        "test_looks": _look_at_test(experiment, what),
        "recipe": data.features.recipe,
        "features": data.features.path.name,
        "residency": experiment.descriptors.residency.to_json(),
    }
    notes = [*coverage_notes(found["coverage"]), *looks_notes(found["test_looks"])]
    return found, [*data.notes, *notes]


def _look_at_test(experiment: Experiment, what: str) -> int | None:
    """None where no test videos are judged, or the count cannot be kept."""
    if experiment.evaluation_set.subset != "test":
        return None
    classes = experiment.data.classes_of(experiment.evaluation_set.videos.tolist())
    return record_look(experiment.data.features.path, classes, what=what)
