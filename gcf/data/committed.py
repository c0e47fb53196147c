"""What of an extraction is done: rows in parts and finished files whose videos are wanted, unchanged and undamaged."""

import logging
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gcf.data.checksums import is_intact
from gcf.data.features import FeatureFile
from gcf.data.gathered import GatheredVideos, damaged_videos, gather
from gcf.data.recipe import MEASURED, differences
from gcf.data.schema import FeatureContent

log = logging.getLogger("gcf")


class Committed:
    """Finds the rows that need not be made again; paths: id -> path of each video that is wanted.

    With `repair` the first look reads every row, and leaves out those that do not fit their checksums. Without it they
    are an error where they come up: here among the rows that are passed over, since damage may be why, and when the
    others are copied.
    """

    def __init__(self, paths: Mapping[str, str], *, repair: bool):
        self.paths, self.repair, self.suspect_all = paths, repair, repair
        self.damaged: dict[Path, set[int]] = defaultdict(set)

    def gather(self, sources: Sequence[FeatureFile]) -> GatheredVideos:
        """Where the videos are that are done; of several rows those of the first source. Raises FeatureFileError."""
        known = {path: set(rows) for path, rows in self.damaged.items()}
        found = gather(sources, keep=self._test())
        self.suspect_all = False
        for source in sources:
            rows = self.damaged[source.path] - known.get(source.path, set())
            if rows:
                error = damaged_videos(source, [source.ids[n] for n in sorted(rows)])
                if not self.repair:
                    raise error
                log.warning("%s", str(error).rpartition(";")[0])
        return found

    def _test(self):
        """A test of one row; each video's file is asked once for its size and time."""
        stats: dict[str, tuple[int, int] | None] = {}

        def usable(source: FeatureFile, n: int) -> bool:
            damaged, video_id = self.damaged[source.path], source.ids[n]
            if n in damaged:
                return False
            if video_id not in stats:
                stats[video_id] = self._stat(video_id)
            current = stats[video_id] == (source.videos.size[n], source.videos.mtime_ns[n])
            if (self.suspect_all or not current) and not is_intact(source, n):
                damaged.add(n)
                return False
            return current

        return usable

    def _stat(self, video_id: str) -> tuple[int, int] | None:
        try:
            found = os.stat(self.paths[video_id])
        except (KeyError, OSError, ValueError):
            return None
        return found.st_size, found.st_mtime_ns


def holds(features: FeatureFile, content: FeatureContent) -> bool:
    """Whether a feature file is what writing `content` would give, as far as that shows without reading its rows."""
    videos = content.videos
    return (
        isinstance(videos, GatheredVideos)
        and videos.used in ([], [features])
        and len(videos) == features.num_videos
        and np.array_equal(videos.row, np.arange(len(videos)))
        and not differences(features.recipe, content.recipe, ignore=MEASURED)
        and features.failures == list(content.failures)
        and features.backbone_classes == (content.backbone_classes and list(content.backbone_classes))
        and features.classes == list(content.classes)
        and features.labels.tolist() == list(content.labels or ())
        and features.subsets == list(content.subsets or ())
        and features.groups == list(content.groups or ())
    )
