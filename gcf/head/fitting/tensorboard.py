"""The course of trainings for TensorBoard, one run for each arm, seed and split, so that their curves overlay."""

import os
import threading
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from gcf.errors import RefusedError, UsageError

CURVES = {"lr": "lr", "train_loss": "loss/train", "val_loss": "loss/val", "val_top1": "top1/val"}  # row key: tag


class TensorBoardLog:
    """Writes history rows under `folder`, one sub-folder a run, each row on the disk as soon as it is added.

    Torch's SummaryWriter keeps a thread and an open file for each run, and a comparison has hundreds: here each row is
    appended and the file closed. Trainings that run side by side may share a log. Raises UsageError where the
    package is absent, RefusedError for a folder that cannot be made.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        self._event, self._summary, self._record_writer = _tensorboard()
        self._file = f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"  # an earlier log's files stay beside it
        self._lock = threading.Lock()
        self._make(self.folder)

    def add(self, arm: str, seed: int, split: str, row: Mapping[str, int | float]) -> None:
        """Take in one history row: its rate, losses and top-1 at its `step`."""
        values = [self._summary.Value(tag=tag, simple_value=row[key]) for key, tag in CURVES.items() if key in row]
        run = self.folder / run_name(arm, seed, split)
        with self._lock:
            path = run / self._file
            fresh = not path.exists()
            self._make(run)
            with path.open("ab") as file:
                records = self._record_writer(file)
                if fresh:
                    head = self._event(wall_time=time.time(), file_version="brain.Event:2")
                    records.write(head.SerializeToString())
                event = self._event(wall_time=time.time(), step=row["step"], summary=self._summary(value=values))
                records.write(event.SerializeToString())

    def close(self) -> None:
        """Nothing is left open between rows; this is for callers that end what they began."""

    def __enter__(self) -> "TensorBoardLog":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @staticmethod
    def _make(folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RefusedError(f"{folder}: cannot be made ({error.strerror}); name another folder") from error


def run_name(arm: str, seed: int, split: str) -> str:
    """A folder's name that only these three give, whatever is in them.

    >>> run_name("gcf-256", 0, "1 of 5"), run_name("mean", 3, "a/b")
    ('gcf-256, seed 0, 1 of 5', 'mean, seed 3, a%2Fb')
    """
    return f"{quote(arm, safe=' ')}, seed {seed}, {quote(split, safe=' ')}"


def _tensorboard() -> tuple[type, type, type]:
    """The package's Event, Summary and RecordWriter."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the package's own imports
            from tensorboard.compat.proto.event_pb2 import Event
            from tensorboard.compat.proto.summary_pb2 import Summary
            from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError as error:
        raise UsageError(f"curves need tensorboard ({error}): pip install gcf-net[tensorboard]") from error
    return Event, Summary, RecordWriter
