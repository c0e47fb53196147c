"""Logistic regression on the mean descriptor: scikit-learn's, with its strength chosen on `val`."""

import logging
import threading
import warnings

import numpy as np
import torch
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from gcf.errors import UsageError
from gcf.head.fitting.metrics import is_right

log = logging.getLogger(__name__)
STRENGTHS = tuple(10.0**power for power in range(-3, 4))  # C, the inverse of the regularisation
NEVER_SEEN = -30.0  # logit of a class without a training video; the others have mean 0, so it is never the largest
MAX_STEPS = 1000
_WARNINGS = threading.Lock()


def fit_logreg(
    means: np.ndarray,
    labels: np.ndarray,
    val_means: np.ndarray,
    val_labels: np.ndarray,
    num_classes: int,
    *,
    balanced: bool = False,
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Fit on the mean descriptors (n, D) of the training videos and their labels (n,); C is chosen by the loss on val.

    Labels (n, K), 1 for each class of a video, make a regression of each class against the rest, all with the same C.
    balanced: rare classes weigh as much as common ones.

    Returns the state dict of a MeanHead (the standardisation folded into it) and {"C", "val_loss", "val_top1"}. A
    class without a training video gets the same low logit everywhere; its val videos have no say in C, but count in
    the figures. UsageError where fewer than two classes have training videos.
    """
    if labels.ndim == 2:
        return _fit_each(means, labels > 0, val_means, val_labels > 0, balanced=balanced)
    present = np.unique(labels)
    if len(present) < 2:
        raise UsageError(f"logistic regression needs training videos of two classes at least, got {len(present)}")
    scaler = StandardScaler().fit(np.asarray(means, dtype=np.float64))
    val_means = np.asarray(val_means, dtype=np.float64)
    known = np.isin(val_labels, present)
    judges = known if known.any() else np.ones_like(known)
    model = _model(balanced)  # each C goes on from the one before
    best, least = {}, np.inf
    for strength in STRENGTHS:
        _fit(model.set_params(C=strength), scaler.transform(means), labels)
        weight, bias = _folded(model, scaler, present, num_classes)
        logits = val_means @ weight.T + bias
        loss = _loss(logits[judges], val_labels[judges])
        log.debug("logreg: C %g, val loss %.4f", strength, loss)
        if loss < least:
            best, least = {"C": strength, "weight": weight, "bias": bias, "logits": logits}, loss
    state = {f"classifier.{name}": torch.from_numpy(best[name]).float() for name in ("weight", "bias")}
    top1 = float((best["logits"].argmax(axis=1) == val_labels).mean())
    return state, {"C": best["C"], "val_loss": _loss(best["logits"], val_labels), "val_top1": top1}


def _fit_each(
    means: np.ndarray, targets: np.ndarray, val_means: np.ndarray, val_targets: np.ndarray, *, balanced: bool
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The same for targets (n, K) bool. A class that all training videos show, or none, gets one logit everywhere."""
    share = targets.mean(axis=0)
    present = np.flatnonzero((share > 0) & (share < 1))
    if not len(present):
        raise UsageError("logistic regression needs a class that some training videos show and others do not")
    scaler = StandardScaler().fit(np.asarray(means, dtype=np.float64))
    scaled, val_means = scaler.transform(means), np.asarray(val_means, dtype=np.float64)
    models = [_model(balanced) for _ in present]
    weight, bias = np.zeros((len(share), means.shape[1])), np.where(share > 0, -NEVER_SEEN, NEVER_SEEN)
    best, least = {}, np.inf
    for strength in STRENGTHS:
        for k, model in zip(present, models, strict=True):
            _fit(model.set_params(C=strength), scaled, targets[:, k])
            weight[k] = model.coef_[0] / scaler.scale_
            bias[k] = model.intercept_[0] - weight[k] @ scaler.mean_
        logits = val_means @ weight.T + bias
        loss = _binary_loss(logits[:, present], val_targets[:, present])
        log.debug("logreg: C %g, val loss %.4f", strength, loss)
        if loss < least:
            best, least = {"C": strength, "weight": weight.copy(), "bias": bias.copy(), "logits": logits}, loss
    state = {f"classifier.{name}": torch.from_numpy(best[name]).float() for name in ("weight", "bias")}
    hits = float(is_right(best["logits"].argmax(axis=1), val_targets).mean())
    return state, {"C": best["C"], "val_loss": _binary_loss(best["logits"], val_targets), "val_top1": hits}


def _model(balanced: bool) -> LogisticRegression:
    return LogisticRegression(max_iter=MAX_STEPS, warm_start=True, class_weight="balanced" if balanced else None)


def _fit(model: LogisticRegression, means: np.ndarray, labels: np.ndarray) -> None:
    with _WARNINGS, warnings.catch_warnings():  # filters are the process's
        warnings.simplefilter("ignore", ConvergenceWarning)  # the weakest may stop early; val judges it as it is
        model.fit(means, labels)


def _folded(
    model: LogisticRegression, scaler: StandardScaler, present: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Weight (K, D) and bias (K,) that read descriptors as they are; logits of the classes present have mean 0."""
    coefficients, intercepts = model.coef_, model.intercept_
    if len(present) == 2:  # scikit-learn keeps one row: the second class's logit less the first one's
        coefficients, intercepts = (np.concatenate([-x, x]) / 2 for x in (coefficients, intercepts))
    coefficients, intercepts = (x - x.mean(axis=0) for x in (coefficients, intercepts))
    weight, bias = np.zeros((num_classes, coefficients.shape[1])), np.full(num_classes, NEVER_SEEN)
    weight[present] = coefficients / scaler.scale_
    bias[present] = intercepts - weight[present] @ scaler.mean_
    return weight, bias


def _binary_loss(logits: np.ndarray, targets: np.ndarray) -> float:
    """Binary cross-entropy of logits (n, K), summed over classes: log(1 + e^x), less x where the class is there."""
    return float((np.logaddexp(0, logits) - targets * logits).sum(axis=1).mean())


def _loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy of logits (n, K)."""
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())
