"""Results of earlier runs: what is there already is not trained again."""

import logging
from collections.abc import Sequence

import torch

from gcf.data.splits import Split
from gcf.head.fitting.labelled import LabelledFeatures
from gcf.head.fitting.precision import has_bfloat16
from gcf.head.fitting.residency import MAP, usable_device
from gcf.head.models.config import TrainConfig
from gcf.head.trials.arms import Arm
from gcf.head.trials.split_result import SplitResult
from gcf.head.trials.store import ResultStore, device_name, features_digest, result_key, split_digest

log = logging.getLogger(__name__)


class NoCache:
    """Keeps nothing."""

    def expect(self, _residency: str) -> None:
        """Nothing is expected."""

    def get(self, _arm: Arm, _seed: int, _number: int) -> SplitResult | None:
        """Nothing is ever there."""
        return None

    def put(self, _arm: Arm, _seed: int, _number: int, _result: SplitResult) -> None:
        """Forget it."""


class ResultCache(NoCache):
    """Gets and puts the results of arms on these splits of these data with these settings."""

    def __init__(self, store: ResultStore, data: LabelledFeatures, splits: Sequence[Split], train: TrainConfig):
        device = torch.device(usable_device(train.device))
        self.store, self.train = store, train
        self.features = features_digest(data.features)
        self.splits = [split_digest(data, split) for split in splits]
        self.device = device_name(device)
        self.precision = f"{train.precision}, {'with' if has_bfloat16(device) else 'without'} bfloat16"
        self.order = "shuffle"
        self.refused = False

    def expect(self, residency: str) -> None:
        """What is read from the file comes in another order."""
        self.order = "blocks" if residency == MAP else "shuffle"

    def get(self, arm: Arm, seed: int, number: int) -> SplitResult | None:
        """The result of an arm with a seed on split `number`, None where there is none."""
        stored = self.store.get(self._key(arm, seed, number))
        if stored is None:
            return None
        arrays, facts = stored
        return SplitResult(**facts, **arrays)

    def put(self, arm: Arm, seed: int, number: int, result: SplitResult) -> None:
        """Keep it."""
        if self.refused:
            return
        try:
            self.store.put(self._key(arm, seed, number), result.arrays, result.facts)
        except OSError as error:
            self.refused = True
            log.warning(
                "%s: cannot be written (%s); results are not kept any further", self.store.folder, error.strerror
            )

    def _key(self, arm: Arm, seed: int, number: int) -> str:
        of_split = self.splits[number]
        return result_key(
            arm,
            self.train,
            seed,
            features=self.features,
            split=of_split,
            device=self.device,
            precision=f"{self.precision}; {self.order}",
        )
