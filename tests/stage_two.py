"""One head trained or asked by itself, for tests of what the comparison does with many."""

from types import SimpleNamespace

import numpy as np

from gcf.errors import GcfError
from gcf.head.fitting.batches import ClipBatches, Descriptors
from gcf.head.fitting.fit import StackTraining, evaluation_rng, fit
from gcf.head.fitting.prediction import Prediction, predict
from gcf.head.fitting.stack import Stack
from gcf.head.models.build import build_head
from gcf.head.models.config import TrainConfig


def clip_batches(features, labels=None, *, num_clips=10, once=False, **options) -> ClipBatches:
    labels = features.labels if labels is None else labels
    chosen = {"num_clips": num_clips, "policy": "uniform"} | options
    return ClipBatches(Descriptors(features, once=once), labels, **chosen)


def train_one(config, batches, split, **settings) -> SimpleNamespace:
    """head, record and history of one training."""
    settings = TrainConfig(**settings)
    head = build_head(config, batches.descriptors.width, int(batches.labels.max()) + 1, seed=settings.seed)
    stack = Stack([head], settings)
    stack.try_together(batches.descriptors.width, batches.labels[:2])
    training = StackTraining(config.name, stack, settings, [settings.seed])
    fit([training], batches, split, settings)
    if training.failure:
        raise GcfError(training.failure)
    (trained,) = training.trained(-(-len(split.train) // settings.batch_size))
    return SimpleNamespace(head=stack.head(0), record=trained.record, history=trained.history)


def ask_one(head, batches, videos, *, seed=0) -> Prediction:
    ((prediction,),) = predict([Stack([head], TrainConfig())], batches, np.asarray(videos), rng=evaluation_rng(seed))
    return prediction
