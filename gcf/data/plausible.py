"""What the facts of a feature file must fulfil beyond types and counts: order, ranges; each fault in plain words.

Only what is in memory once a file is open; the descriptors and logits are read by `gcf.data.verify`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from gcf.data.datasets import DATASETS
from gcf.data.features import FeatureFile
from gcf.data.recipe import DESCRIBING
from gcf.data.schema import OPTIONAL, STATUSES, SUBSETS, id_key

FEW = 3  # names in a sentence


def missing_parts(features: FeatureFile) -> list[str]:
    """What extraction writes and this file, which may be somebody else's, does not have, with what follows from it."""
    found = [f"{name}: {consequence}" for name, consequence in OPTIONAL.items() if name in features.absent]
    unsaid = [name for name in DESCRIBING if name not in features.recipe]
    if unsaid:
        found.append(f"in the recipe {', '.join(unsaid)}: other videos cannot be described as these were")
    return found


def recipe_faults(features: FeatureFile) -> Iterator[str]:
    """Where the stored rows are not what the recipe says."""
    recipe, (clips, views, width), dtype = features.recipe, features.descriptors.shape, features.descriptors.dtype
    if recipe.get("dtype", dtype.name) != dtype.name:
        yield f"descriptors are {dtype}, the recipe says {recipe['dtype']!r}"
    if recipe.get("views", views) != views:
        yield f"descriptors have {views} views, the recipe says {recipe['views']!r}"
    if clips and not (views and width):
        yield f"descriptors are empty: {_plural(views, 'view')}, {width} wide"
    frames = recipe.get("num_frames", 1)
    if type(frames) is not int or frames < 1:
        yield f"the recipe's num_frames is {frames!r}, not a number of frames"


def clip_faults(features: FeatureFile) -> Iterator[str]:
    """Where the frames and times of clips cannot be."""
    clips, offsets = features.clips, features.offsets
    first = np.zeros(features.num_clips, bool)
    first[offsets[:-1]] = True
    frames, longest = clips.num_frames, features.recipe.get("num_frames")
    longest = longest if type(longest) is int else np.iinfo(frames.dtype).max
    by_times = "sampling_fps" in features.recipe
    length = np.repeat(features.videos.num_frames, np.diff(offsets))  # (T,) frames of the clip's video
    masks = {
        "a time that is not finite": (
            _outside("clips/start_time", clips.start_time) | _outside("clips/end_time", clips.end_time)
        ),
        "an end before its start": clips.end_time < clips.start_time,
        "a start or an end before that of the clip before it": (
            _steps(clips.start_time, np.less, first) | _steps(clips.end_time, np.less, first)
        ),
        f"a number of frames that is not 1 to {longest}": (_outside("clips/num_frames", frames) | (frames > longest)),
        "a start_frame that does not ascend from 0": (
            _steps(clips.start_frame, np.less_equal, first) | _outside("clips/start_frame", clips.start_frame)
        ),
        # a clip sampled by times shows a slow video's frames twice: it may have more frames than the video
        "frames beyond the last one of its video": clips.start_frame > length - (1 if by_times else frames),
    }
    for what, mask in masks.items():
        if mask.any():
            yield f"{what} in {where(features, np.flatnonzero(mask))}"


def video_faults(features: FeatureFile) -> Iterator[str]:
    """Where names, facts or annotations of videos cannot be."""
    videos, failed = features.videos, {name for name, _ in features.failures}

    def cannot_be(*fields: str) -> np.ndarray:
        masks = [_outside(f"videos/{name}", getattr(videos, name)) for name in fields]
        return np.any(masks, axis=0)

    masks = {
        "an empty name": [not name for name in features.ids],
        "an entry among the failures, too": [name in failed for name in features.ids],
        "no width or no height": (cannot_be("width", "height") | (videos.width == 0) | (videos.height == 0)),
        "a number of frames below 1": cannot_be("num_frames") | (videos.num_frames == 0),
        "a rate, duration or size that cannot be": cannot_be("fps", "duration", "size"),
        "a time of change that cannot be": cannot_be("mtime_ns"),
        f"a status other than {', '.join(STATUSES)}": [status not in STATUSES for status in videos.status],
        f"a subset other than {', '.join(filter(None, SUBSETS))}": [name not in SUBSETS for name in features.subsets],
    }
    for what, mask in masks.items():
        if np.any(mask):
            names = [features.ids[n] for n in np.flatnonzero(mask)]
            yield f"{what}: {counted(names)}"


def name_faults(features: FeatureFile) -> Iterator[str]:
    """Where lists of names are out of order or have one twice."""
    keys = [id_key(name) for name in features.ids]
    late = [n for n in range(1, len(keys)) if keys[n] < keys[n - 1]]
    if late:
        before, after = features.ids[late[0] - 1], features.ids[late[0]]
        yield f"videos are not sorted by the bytes of their names: {before!r} stands before {after!r}"
    lists = {"failures": [name for name, _ in features.failures], "classes": features.classes}
    for what, names in lists.items():
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            yield f"{what} have a name twice: {', '.join(map(repr, twice[:FEW]))}"


def straddling(features: FeatureFile) -> Iterator[str]:
    """A warning where a group lies in several subsets: it cannot be split as it stands."""
    subsets = defaultdict(set)
    for group, subset in zip(features.groups, features.subsets, strict=True):
        if group and subset:
            subsets[group].add(subset)
    torn = [group for group, found in subsets.items() if len(found) > 1]
    if torn:
        yield f"{_plural(len(torn), 'group')} in several subsets: {_some([repr(group) for group in torn])}"


def where(features: FeatureFile, rows: np.ndarray) -> str:
    """Which clips these rows are, counted from 0 in their video: 2 clips of 1 video: 'a.mp4' (0, 3)."""
    videos = np.searchsorted(features.offsets, rows, side="right") - 1
    named = np.unique(videos)
    places = []
    for n in named[:FEW]:
        clips_of_video = rows[videos == n] - features.offsets[n]
        places.append(f"{features.ids[n]!r} ({_some(list(map(str, clips_of_video)))})")
    clips, more = _plural(len(rows), "clip"), len(named) - FEW
    return f"{clips} of {_plural(len(named), 'video')}: {', '.join(places)}{f' and {more:,} more' * (more > 0)}"


def counted(names: Sequence[str]) -> str:
    """How many videos, and the first few.

    >>> counted(["a", "b", "c", "d"])
    "4 videos: 'a', 'b', 'c' and 1 more"
    """
    return f"{_plural(len(names), 'video')}: {_some([repr(name) for name in names])}"


def _some(texts: Sequence[str]) -> str:
    more = len(texts) - FEW
    return ", ".join(texts[:FEW]) + (f" and {more:,} more" if more > 0 else "")


def _plural(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _outside(name: str, values: np.ndarray) -> np.ndarray:
    return DATASETS[name].outside(values)


def _steps(values: np.ndarray, backward: np.ufunc, first: np.ndarray) -> np.ndarray:
    """Which rows (T,) stand `backward` to the row before them, in the same video."""
    found = np.zeros(len(values), bool)
    found[1:] = backward(values[1:], values[:-1])
    return found & ~first
