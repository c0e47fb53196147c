"""Results that were paid for once: each under a digest of all that decides it, so a comparison resumes and reuses.

A result is that of one arm on one split with one seed. Its key holds everything that decides it; a change of any part
is another key, and nothing is ever invalidated. Left out are what moves no number (names of arms and heads, the other
arms, the folder) and the kind of processor and its threads, which may move last bits.
"""

import hashlib
import io
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import scipy
import sklearn
import torch

from gcf._version import __version__
from gcf.data.atomic import atomic_file, clear_left_behind
from gcf.data.protocol import Features
from gcf.data.recipe import canonical_json
from gcf.data.splits import Split
from gcf.head.fitting.labelled import LabelledFeatures
from gcf.head.models.config import HeadConfig, TrainConfig
from gcf.head.trials.arms import Arm

FORMAT = "gcf-result"
RESULTS_VERSION = 3  # raise it with every change that moves a result: training, judging, or what a result holds
SAMPLED_ROWS = 256
RECORD = "record"
# What reading a damaged or foreign file may raise; numpy, zipfile and json each have their own.
DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def features_digest(features: Features) -> str:
    """A cheap fingerprint of the numbers in a feature file, without reading all of them.

    The recipe, the ids and what was known of each video file (size and time of change: a video that was extracted
    again shows here), the clips of each, shape and type of the rows, and 256 evenly spread rows of descriptors and
    logits in full. Rows that were edited by hand in between would go unnoticed.
    """
    digest = hashlib.sha256()
    rows = np.unique(np.linspace(0, features.num_clips - 1, SAMPLED_ROWS).astype(np.int64))
    facts = {"recipe": features.recipe_sha256, "ids": features.ids, "backbone_classes": features.backbone_classes}
    digest.update(canonical_json(facts).encode())
    for array in (features.offsets, features.videos.size, features.videos.mtime_ns):
        _add(digest, np.asarray(array))
    for array, read in ((features.descriptors, features.gather), (features.logits, lambda r: features.logits[r])):
        digest.update(b"absent" if array is None else repr((array.shape, str(array.dtype))).encode())
        if array is not None:
            _add(digest, read(rows))
    return digest.hexdigest()


def split_digest(data: LabelledFeatures, split: Split) -> str:
    """A digest of who teaches and who judges, by id, with their labels, groups and the names of all classes."""
    parts = {}
    for part in ("train", "val", "test"):
        videos = getattr(split, part)
        parts[part] = [[data.features.ids[n], _label(data, n), data.groups[n]] for n in videos]
    return hashlib.sha256(canonical_json(parts | {"classes": list(data.classes)}).encode()).hexdigest()


def _label(data: LabelledFeatures, n: int) -> int | list[int]:
    """The class of a video, or the list of its classes where there may be several."""
    return data.labels[n].tolist() if data.targets is None else np.flatnonzero(data.targets[n]).tolist()


def result_key(
    arm: Arm, train: TrainConfig, seed: int, *, features: str, split: str, device: str, precision: str = "fp32"
) -> str:
    """The sha256 under which the result of an arm on one split with one seed is kept.

    train: the run's settings, which the arm's changes are applied to; its seed is the run's first, which the batches
    may follow, and `seed` is the head's. features and split: their digests. device and precision: what "auto" came to,
    the device as `device_name` says it: on another kind the last bits differ. Raises ValueError for a training that
    starts from a saved head: comparisons do not.
    """
    if train.init is not None:
        raise ValueError("results of a training that starts from a saved head are not kept")
    settings = arm.settings(train).to_json(arm.head) | {"device": device, "precision": precision}
    content = {
        "results_version": RESULTS_VERSION,
        "versions": {"gcf": __version__}
        | {module.__name__: module.__version__ for module in (torch, np, scipy, sklearn)},
        "features": features,
        "split": split,
        "head": None if arm.head is None else _head(arm.head),
        "train": settings,
        "policy": arm.policy,
        "seed": seed,
    }
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def _head(head: HeadConfig) -> dict:
    """A head without what moves no number: its name, and where the file of a plug-in lies."""
    return {name: value for name, value in asdict(head).items() if name not in ("name", "source")}


def device_name(device: torch.device) -> str:
    """What decides the last bits of a device: "cpu", or the kind of GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


class ResultStore:
    """Results in a folder that exists, one file each, complete or absent; many processes may use it at once."""

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)

    def get(self, key: str) -> tuple[dict[str, np.ndarray], dict] | None:
        """Arrays and facts under this key; None where there are none, and where the file is damaged or foreign."""
        try:
            content = io.BytesIO(self._place(key).read_bytes())
            with zipfile.ZipFile(content) as container:
                if container.testzip() is not None:  # a wrong checksum; numpy would begin with a damaged header
                    return None
            content.seek(0)
            with np.load(content, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            envelope = json.loads(arrays.pop(RECORD).tobytes())
            if (envelope["format"], envelope["key"]) != (FORMAT, key):
                return None
            return arrays, envelope["record"]
        except DAMAGE:
            return None

    def put(self, key: str, arrays: Mapping[str, np.ndarray], facts: Mapping) -> None:
        """Keep a result: arrays by name, and facts that JSON takes.

        Raises ValueError where it holds NaN or objects, OSError where the disk is full.
        """
        for name, array in arrays.items():
            if array.dtype.hasobject or (array.dtype.kind == "f" and np.isnan(array).any()):
                raise ValueError(f"{name} holds NaN or objects; such a result is not kept")
        envelope = json.dumps({"format": FORMAT, "key": key, "record": dict(facts)}, allow_nan=False).encode()
        with atomic_file(self._place(key)) as file:
            np.savez(file, **arrays, **{RECORD: np.frombuffer(envelope, dtype=np.uint8)})

    def _place(self, key: str) -> Path:
        return self.folder / f"{key}.npz"


def open_store(features: str | os.PathLike) -> tuple[ResultStore | None, str | None]:
    """The store beside a feature file, `FEATS.h5.results/`, and a note: where nothing can be written there is none."""
    path = Path(features)
    folder = path.with_name(f"{path.name}.results")
    try:
        folder.mkdir(exist_ok=True)
        clear_left_behind(folder)
        with tempfile.TemporaryFile(dir=folder):
            return ResultStore(folder), None
    except OSError as error:
        return None, f"{folder}: cannot be written ({error.strerror}), so results are not kept; every arm is trained."


def _add(digest, array: np.ndarray) -> None:
    """Take in the shape and the bytes of an array."""
    digest.update(repr((array.shape, array.dtype.str)).encode())
    digest.update(np.ascontiguousarray(array).tobytes())
