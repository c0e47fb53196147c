"""A folder that videos keep coming into: each is classified once it is complete, until somebody stops it."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing

from gcf.errors import GcfError, UsageError
from gcf.explain.predict import (
    Pictures,
    VideoPrediction,
    check_top,
    locked_pictures,
    predict_one,
)
from gcf.explain.reading.described import Source, source_of, trained
from gcf.extract.decoding.find import VideoPath, search_folder
from gcf.head.models.saved import SavedHead

log = logging.getLogger(__name__)

Stamp = tuple[int, int]  # bytes, mtime in nanoseconds


def watch_predictions(
    head: str | os.PathLike | SavedHead,
    folder: str | os.PathLike,
    *,
    every: float = 2.0,
    sleep: Callable[[float], object] = time.sleep,
    backbone: str | None = None,
    weights: str | None = None,
    head_file: str | os.PathLike | None = None,
    top: int = 5,
    pictures: str | os.PathLike | None = None,
    **options,
) -> Iterator[VideoPrediction]:
    """Classify the videos of a folder, then every one that appears or is replaced; never ends by itself.

    The folder is looked at, with its sub-folders, `every` seconds, which `sleep` waits. A video is taken once its size
    and time of change are the same in two looks that follow each other, so that one still being written is left alone;
    it is taken again when they change later. The oldest come first. It may be empty, and it may be away for a while:
    that is logged once. The network is loaded once. Closing the iterator ends the work.

    The other arguments and the errors are those of `stream_predictions`. Raises UsageError unless `folder` is one.
    """
    check_top(top)
    if not every > 0:
        raise UsageError(f"a folder is looked at every so many seconds, more than 0, not {every:g}")
    if not os.path.isdir(folder):
        raise UsageError(f"{os.fspath(folder)}: not a folder; name one folder to be watched")
    watched = WatchedFolder(folder)
    watched.look()  # the first look of two: what is complete now is known when the network is there
    drawing = None if pictures is None else Pictures.of(pictures, None, [])
    source = source_of(trained(head, head_file), [], backbone=backbone, weights=weights, **options)
    predictions = _watch(source, watched, lambda: sleep(every), top=top, drawing=drawing)
    return locked_pictures(drawing, predictions)


def _watch(
    source: Source, watched: "WatchedFolder", wait: Callable[[], object], *, top: int, drawing: Pictures | None
) -> Iterator[VideoPrediction]:
    while True:
        wait()
        ready = _look_again(watched)
        now = drawing and drawing.of_videos(ready)
        with closing(source.describe(ready)) as outcomes:
            for video_id, outcome in outcomes:
                yield predict_one(source.head, video_id, outcome, top=top, drawing=now)


class WatchedFolder:
    """What lies in a folder, and which of its videos are complete and new since the looks before."""

    def __init__(self, folder: str | os.PathLike):
        self.root = os.path.abspath(folder)
        self.before: dict[str, Stamp] = {}  # what the last look saw
        self.taken: dict[str, int] = {}  # hashes of the stamps that were given out: one number a video, for ever
        self.away = False

    def look(self) -> list[VideoPath]:
        """The videos that have not changed since the last look and were not given out as they are, oldest first.

        Raises GcfError where the folder, or one in it, cannot be read; what was known is kept.
        """
        if not os.path.isdir(self.root):
            raise GcfError(f"{self.root}: this folder is gone")
        videos = {v.id: v for v in search_folder(self.root)}
        now = {name: stamp for name, v in videos.items() if (stamp := _stamp(v.path))}
        complete = {name: stamp for name, stamp in now.items() if self.before.get(name) == stamp}
        ready = {name: stamp for name, stamp in complete.items() if self.taken.get(name) != hash(stamp)}
        self.before = now
        self.taken.update((name, hash(stamp)) for name, stamp in ready.items())
        return [videos[name] for name in sorted(ready, key=lambda name: (ready[name][1], name))]


def _look_again(watched: WatchedFolder) -> list[VideoPath]:
    """A look that fails is no look: a folder may be renamed under it, a network drive away for a while."""
    try:
        ready = watched.look()
    except GcfError as error:
        if not watched.away:
            log.warning("%s; waiting for it", error)
        watched.away = True
        return []
    if watched.away:
        log.info("%s: can be read again", watched.root)
    watched.away = False
    return ready


def _stamp(path: str) -> Stamp | None:
    """What changes when a file does; of a link that leads nowhere its own, None for a file that is gone."""
    for look in (os.stat, os.lstat):
        try:
            facts = look(path)
        except OSError:
            continue
        return facts.st_size, facts.st_mtime_ns
    return None
