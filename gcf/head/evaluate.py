"""`gcf eval`: judge a saved head on a feature file."""

import os
from collections.abc import Sequence

import numpy as np

from gcf.data.annotations import Annotations
from gcf.data.features import FeatureFile
from gcf.data.looks import looks_notes, record_look
from gcf.data.protocol import Features
from gcf.data.spellings import places_of
from gcf.errors import AnnotationError, UsageError
from gcf.head.fitting.batches import ClipBatches, Descriptors
from gcf.head.fitting.fit import evaluation_rng
from gcf.head.fitting.labelled import LabelledFeatures, label_features
from gcf.head.fitting.metrics import score
from gcf.head.fitting.prediction import Prediction, predict
from gcf.head.fitting.stack import Stack
from gcf.head.models.config import TrainConfig
from gcf.head.models.ensemble import SavedEnsemble, load_trained
from gcf.head.models.saved import SavedHead, given_or_loaded

SUBSETS = ("train", "val", "test", "all")


def evaluate_head(
    head: SavedHead | str | os.PathLike,
    features: FeatureFile | str | os.PathLike,
    *,
    annotations: Annotations | str | os.PathLike | None = None,
    subset: str | None = None,
    multi_label: bool | None = None,
    head_file: str | os.PathLike | None = None,
) -> dict:
    """Metrics of a saved head on labelled videos, as in metrics.json: top1, top5, mean_class, loss, k, n, gate.

    Where test videos are among those judged, that is a look at them (`record_look`): `test_looks`
    and the notes say how many there were with this one; None without test videos, or where no count
    can be kept. Where train and val are marked and test is not, or the head was trained with
    judge="val", val is the test set, as for `train_head`.

    multi_label: whether the annotations name several classes a video, which are judged by mAP and hit@1 (`score`); None
    is as the head was trained.

    The heads of several seeds, a `train-head --seeds N` run, are judged as one by the mean of their probabilities.

    subset: "train", "val", "test" or "all"; None is test where the file has test videos, else all, and `judged_on`
    says which. Classes are matched by name, those that differ in letter case or blanks only too (`places_of`, named in
    the notes); videos of a class that the head does not know are left out and counted.

    head_file: the Python file of a plug-in head that is given by its path, as for `load_head`.

    Raises RecipeError or HeadError where the features are not of the head's kind, AnnotationError where no video is
    left to judge.
    """
    if subset is not None and subset not in SUBSETS:
        raise UsageError(f"unknown subset {subset!r}; known: {', '.join(SUBSETS)}")
    head = given_or_loaded(head, head_file=head_file, load=load_trained)
    data = label_features(
        features, annotations, multi_label=not head.config.exclusive if multi_label is None else multi_label
    )
    head.check_fits(data.features)
    places = places_of(data.classes, head.classes)
    labels = _labels_of_head(places, head, data)
    subset = subset or ("test" if "test" in data.subsets else "all")
    known = labels >= 0 if labels.ndim == 1 else labels.any(axis=1)
    judged = known if subset == "all" else known & (np.asarray(data.subsets) == subset)
    videos = np.flatnonzero(judged)
    if not len(videos):
        raise AnnotationError(f"{data.features.path}: no {subset} video of a class that the head knows")
    notes = ["The videos judged may be among those that the head was trained on."] if subset in ("all", "train") else []
    known_as = [(name, head.classes[k]) for name, k in zip(data.classes, places, strict=True) if k >= 0]
    if respelled := [f"{name!r} as {own!r}" for name, own in known_as if name != own]:
        notes.append(f"Classes are judged as the head spells them: {', '.join(respelled)}.")
    if isinstance(head, SavedEnsemble):
        notes.append(f"The probabilities are the mean of {len(head.members)} heads'.")
    said = head_predictions(head, data.features, videos)
    test = data.test_videos(videos, judge=head.training.get("judge"))
    looks = record_look(data.features.path, data.classes_of(test.tolist()), what="gcf eval")
    return (
        {"judged_on": subset, "head": head.config.name}
        | score(said.log_probabilities, labels[videos])
        | {
            "gate": said.gate or None,
            "notes": notes + looks_notes(looks),
            "test_looks": looks,
            "unlabelled": int((data.labels < 0).sum()),
            "unknown_class": int(((data.labels >= 0) & ~known).sum()),
        }
    )


def head_predictions(head: SavedHead, features: Features, videos: np.ndarray) -> Prediction:
    """What a head says of videos (n,) of a file, on the clips that its training would choose."""
    training = head.training
    descriptors = Descriptors(features, once=True)
    shape = (features.num_videos,) if head.config.exclusive else (features.num_videos, len(head.classes))
    labels = np.zeros(shape)  # their shape alone counts: it says what the probabilities are of
    batches = ClipBatches(
        descriptors,
        labels,
        num_clips=training["num_clips"],
        policy=training["clip_policy"],
        padding=head.padding,
    )
    rng = evaluation_rng(training.get("order_seed", training.get("seed", 0)))  # heads of older versions have the latter
    return predict([Stack([head.module], TrainConfig())], batches, videos, rng=rng)[0][0]


def _labels_of_head(places: Sequence[int], head: SavedHead, data: LabelledFeatures) -> np.ndarray:
    """Labels (N,) as the head numbers its classes, -1 for classes that it does not have; or all of a video's (N, K).

    places: the number that each class of the data has there.
    """
    own = np.array([*places, -1])  # the last one answers label -1
    if data.targets is None:
        return own[data.labels]
    targets = np.zeros((len(data.targets), len(head.classes) + 1), dtype=bool)
    for place, shown in zip(places, data.targets.T, strict=True):
        targets[:, place] |= shown  # what the head does not know goes into the last column
    return targets[:, :-1]
