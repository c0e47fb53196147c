"""Whether the disk that the videos lie on is still there: without it, every one of them would be recorded as failed."""

import os
from collections.abc import Sequence

from gcf.errors import StoppedError


class InputDisk:
    """The deepest common folder of some videos, remembered by the device it lies on."""

    def __init__(self, paths: Sequence[str]):
        folders = {os.path.dirname(path) for path in paths}
        self.folder = os.path.commonpath(folders) if folders else os.curdir
        self.device = self._device()

    def require_present(self) -> None:
        """Raise StoppedError when the folder is gone, or one of another disk lies in its place."""
        if self.device is not None and self._device() != self.device:
            raise StoppedError(
                f"{self.folder}: this folder of videos is gone (a disk that was taken away?); bring it back and run "
                "the same command again, finished videos are kept"
            )

    def _device(self) -> int | None:
        try:
            return os.stat(self.folder).st_dev
        except OSError:
            return None
