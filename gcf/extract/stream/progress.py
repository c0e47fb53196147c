"""How far an extraction is: videos done, clips a second, time left, on standard error."""

import sys
import time

from tqdm import tqdm


class Progress:
    """A bar over videos that shows clips a second; silent unless `shown`."""

    def __init__(self, *, total: int, done: int, shown: bool):
        self.bar = tqdm(total=total, initial=done, unit="video", disable=not shown, file=sys.stderr, dynamic_ncols=True)
        self.begun, self.clips, self.failed = time.monotonic(), 0, 0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception) -> None:
        self.bar.close()

    def advance(self, *, clips: int) -> None:
        """One more video is settled, with this many clips; none means that it failed."""
        self.clips += clips
        self.failed += not clips
        rate = self.clips / max(1e-9, time.monotonic() - self.begun)
        failed = f", {self.failed} failed" if self.failed else ""
        self.bar.set_postfix_str(f"{rate:.1f} clips/s{failed}", refresh=False)
        self.bar.update()
