"""The heads as a scikit-learn classifier, for descriptors that lie in memory."""

import os
from collections.abc import Sequence

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, column_or_1d, validate_data

from gcf.data.arrays import ArrayFeatures
from gcf.data.splits import VAL_FRACTION, holdout
from gcf.errors import UsageError
from gcf.head.evaluate import head_predictions
from gcf.head.models.config import HeadConfig
from gcf.head.models.head_file import refuse_head_file
from gcf.head.models.saved import SavedHead, given_or_loaded
from gcf.head.training import train_head

KINDS = [np.float32, np.float16]  # what descriptors may be; anything else becomes the first
NOT_TRAINING = ("head", "gate", "val_fraction", "head_file")  # parameters that the training is not given


class GCFClassifier(ClassifierMixin, BaseEstimator):
    """Train a head on arrays as `gcf.train_head` does on a file: fit, predict, predict_proba, score.

    X, the clip descriptors of n videos, is a list (or an object array) of arrays (C_i, D), one array (n, C, D), a
    masked one whose masked clips are padding, or (n, D), one clip each. y holds any labels. About `val_fraction` of the
    training videos, the same ones for every seed, choose the weights and lead the rate.

    The parameters are `head` (a preset's name or a HeadConfig), `gate` and the fields of TrainConfig that concern one
    seed. Arrays do not say what made them: that those for `init` come from the head's own backbone is for the caller to
    see.

    Fitted: classes_ (K,), n_features_in_ = D, and head_, the SavedHead, which `save_head` of
    gcf.head.models.saved puts on disk.
    """

    def __init__(
        self,
        head: str | HeadConfig | None = None,
        *,
        gate: str | None = None,
        val_fraction: float = VAL_FRACTION,
        recipe: str | None = None,
        epochs: int | None = None,
        batch_size: int = 128,
        lr: float | None = None,
        momentum: float = 0.9,
        dampening: float = 0.9,
        weight_decay: float | None = None,
        sparsity: float | None = None,
        patience: int = 5,
        drops: int = 3,
        num_clips: int = 10,
        clip_policy: str = "uniform",
        padding: str = "mask",
        sampling: str = "shuffle",
        class_weights: str = "none",
        standardise: bool | None = None,
        seed: int = 0,
        init: str | os.PathLike | SavedHead | None = None,
        head_file: str | os.PathLike | None = None,
        freeze: str = "none",
        device: str = "auto",
        precision: str = "auto",
    ):
        self.head = head
        self.gate = gate
        self.val_fraction = val_fraction
        self.recipe = recipe
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.momentum = momentum
        self.dampening = dampening
        self.weight_decay = weight_decay
        self.sparsity = sparsity
        self.patience = patience
        self.drops = drops
        self.num_clips = num_clips
        self.clip_policy = clip_policy
        self.padding = padding
        self.sampling = sampling
        self.class_weights = class_weights
        self.standardise = standardise
        self.seed = seed
        self.init = init
        self.head_file = head_file
        self.freeze = freeze
        self.device = device
        self.precision = precision

    def fit(self, X, y, groups: Sequence | None = None) -> "GCFClassifier":  # noqa: N803 - scikit-learn's name
        """Train on n videos. Those with the same value in groups (n,) stay together when val is set aside.

        Raises UsageError (a ValueError) for what cannot be trained on, AnnotationError where no val can be set aside.
        """
        if y is None:
            raise UsageError("GCFClassifier requires y to be passed, but the target y is None")
        rows, counts = self._rows(X, reset=True)
        y = column_or_1d(check_array(y, ensure_2d=False, dtype=None, input_name="y"), warn=True)
        check_consistent_length(counts, y, groups)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise UsageError(f"y has 1 class in {len(y)} sample{'s' * (len(y) != 1)}; two classes are the least")
        init = self._start()
        group_names = [""] * len(y) if groups is None else [str(group) for group in groups]
        features = ArrayFeatures(
            rows,
            counts,
            labels=labels,
            classes=[str(name) for name in self.classes_],
            subsets=self._subsets(labels, group_names),
            recipe=None if init is None else init.recipe,
        )
        params = {name: value for name, value in self.get_params(deep=False).items() if name not in NOT_TRAINING}
        chosen = {"head": self.head, "gate": self.gate, "judge": "test"}  # val chooses; nothing judges
        self.head_ = train_head(features, audit=False, **chosen, **params | {"init": init}).head
        return self

    def _start(self) -> SavedHead | None:
        """The head to start from, loaded."""
        if self.init is not None:
            return given_or_loaded(self.init, head_file=self.head_file)
        refuse_head_file(self.head_file, "a head that starts from none")
        return None

    def _subsets(self, labels: np.ndarray, groups: list[str]) -> list[str]:
        """Which of the training videos (n,) are set aside as val: those that `train_head` would take from a file."""
        split = holdout(labels, [""] * len(labels), groups, val_fraction=self.val_fraction)
        return np.where(np.isin(np.arange(len(labels)), split.val), "val", "train").tolist()

    def predict_proba(self, X) -> np.ndarray:  # noqa: N803
        """Probabilities of n videos, (n, K), in the order of classes_."""
        check_is_fitted(self)
        rows, counts = self._rows(X, reset=False)
        features = ArrayFeatures(rows, counts, recipe=self.head_.recipe)
        said = head_predictions(self.head_, features, np.arange(len(counts)))
        return np.exp(said.log_probabilities)

    def predict(self, X) -> np.ndarray:  # noqa: N803
        """The most probable class of n videos, (n,)."""
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def _rows(self, X, *, reset: bool) -> tuple[np.ndarray, np.ndarray]:  # noqa: N803
        """The clips of all videos (T, D), checked by scikit-learn, and how many each video has (n,)."""
        table, counts = clip_table(X)
        if counts is not None and len(counts) and counts.min() < 1:
            raise UsageError(f"video {counts.argmin()} has no clip; leave it out")
        rows = validate_data(self, table, reset=reset, dtype=KINDS)
        return rows, np.ones(len(rows), dtype=np.int64) if counts is None else counts

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


def clip_table(X) -> tuple:  # noqa: N803
    """Any X as the clips of its videos one after the other (T, D), and their numbers (n,), None for one clip each.

    >>> clip_table(np.zeros((2, 3, 4)))[0].shape, clip_table(np.zeros((2, 3, 4)))[1].tolist()
    ((6, 4), [3, 3])
    """
    if isinstance(X, np.ma.MaskedArray):
        return _unmasked(X)
    if isinstance(X, np.ndarray) and X.ndim == 3:
        return X.reshape(-1, X.shape[2]), np.full(len(X), X.shape[1])
    listed = isinstance(X, list | tuple) or (isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1)
    if not listed or not len(X) or all(np.ndim(video) < 2 for video in X):
        return X, None
    videos = [np.asarray(video) for video in X]
    shapes = {video.shape[1:] for video in videos}
    if len(shapes) > 1 or videos[0].ndim != 2:
        raise UsageError(f"each video must be clips x channels, as many channels in all; got {sorted(shapes, key=str)}")
    return np.concatenate(videos), np.array([len(video) for video in videos])


def _unmasked(X: np.ma.MaskedArray) -> tuple[np.ndarray, np.ndarray]:  # noqa: N803
    """The clips of a masked array (n, C, D) that are not masked."""
    masked = np.ma.getmaskarray(X)
    if X.ndim != 3 or (masked.any(axis=2) != masked.all(axis=2)).any():
        raise UsageError("a masked array must be (n, C, D) with whole clips masked")
    keep = ~masked.all(axis=2)
    return X.data[keep], keep.sum(axis=1)
