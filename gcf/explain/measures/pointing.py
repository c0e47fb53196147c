"""Where in the picture: does the heat point into the annotated box, and how well does it cover it?

The pointing game of Zhang et al. (Top-down Neural Attention by Excitation Backprop, ECCV 2016): a frame is a hit if the
hottest point lies in the box, here without their tolerance of 15 pixels. Of several points that are equally hot, the
one nearest to their middle counts: a heat map is flat beyond the outermost points of its grid, and the first of such
points would always be at a corner.

The box of a heat map, as Zhou et al. have it (Learning Deep Features for Discriminative Localization, CVPR 2016), is
that around the connected points above a share of the hottest one of the frame, here 0.85 (they take a fifth, and the
largest component), that hang together with the hottest point.

Judged are the frames inside segments of the class that the maps show, where there is a box and the clip was looked at.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects, label

from gcf.data.boxes import Box
from gcf.data.segments import Segment
from gcf.explain.measures.bootstrap import mean_interval
from gcf.explain.reading.clip_reading import ClipReading, Localization

# Of the frame's hottest point: what belongs to the heat's box. A grid of 4 x 4 has wide peaks: on the demo's validation
# videos a half gave a mean IoU of 0.15, 0.7 0.26, 0.85 0.38, 0.9 0.37.
SHARE = 0.85
GOOD_IOU = 0.5  # Pascal VOC's: a box that overlaps so much is a find


@dataclass(frozen=True)
class FramePointing:
    """One frame: whether the heat's hottest point and the frame's centre are in the box, and IoUs with it.

    area: the box's share of the picture, which is the chance of a random point. blank: no heat at all, so a miss.
    box: its place and size as shares of the picture's, (left, top, right, bottom). clip: the frame's.
    """

    hit: bool
    centre: bool
    area: float
    iou: float
    blank: bool
    box: Box
    clip: int


def pointing(
    localizations: Iterable[Localization],
    truth: Mapping[str, Sequence[Segment]],
    boxes: Mapping[str, Sequence[Box | None]],
    *,
    share: float = SHARE,
) -> dict | None:
    """The pointing game and the boxes' IoU, over frames and as the mean over videos; None where no frame can be judged.

    Plain JSON values: shares as fractions, and the counts they come from. Videos whose maps show a class that is not
    annotated there are counted as `other_class`. share: of a frame's hottest point, of what belongs to the heat's box.
    """
    videos, other = [], 0
    for one in localizations:
        if one.reading is None or one.heat is None or one.id not in boxes:
            continue
        segments = [s for s in truth.get(one.id, ()) if s.label == one.heat.label]
        other += bool(truth.get(one.id)) and not segments
        found = judge_frames(one, segments, boxes[one.id], share=share)
        if found:
            videos.append(found)
    return summarise(videos) | {"other_class": other, "heat_share": share} if videos else None


def judge_frames(
    one: Localization, segments: Sequence[Segment], boxes: Sequence[Box | None], *, share: float = SHARE
) -> list[FramePointing]:
    """Every frame of a video's looked-at clips that lies in a segment and has a box."""
    reading = one.reading
    size = (reading.info.height, reading.info.width)
    return [
        judge(one.heat.frame(clip, place, size), boxes[frame], clip=clip, share=share)
        for clip, place, frame in frames_inside(reading, one.heat.shown, segments)
        if frame < len(boxes) and boxes[frame] is not None
    ]


def frames_inside(
    reading: ClipReading, shown: np.ndarray, segments: Sequence[Segment]
) -> Iterable[tuple[int, int, int]]:
    """(clip, place in the clip, number in the video) of the frames of shown clips whose middle lies in a segment."""
    starts, ends = reading.starts, reading.ends
    for clip in np.flatnonzero(shown):
        count = int(reading.clips.num_frames[clip])
        middles = starts[clip] + (np.arange(count) + 0.5) / count * (ends[clip] - starts[clip])
        for place in range(count):
            if any(s.start <= middles[place] < s.end for s in segments):
                yield int(clip), place, _number(reading, clip, place)


def _number(reading: ClipReading, clip: int, place: int) -> int:
    """Which frame of the video a place in a clip shows; from the video's rate where it was chosen by its time."""
    start, fps = int(reading.clips.start_frame[clip]), reading.sampling_fps
    if fps is None:
        return start + place
    return min(start + round(place / fps * reading.info.fps), reading.info.num_frames - 1)


def judge(heat: np.ndarray, box: Box, *, clip: int = 0, share: float = SHARE) -> FramePointing:
    """One frame of a clip: heat (H, W), 0 or more."""
    height, width = heat.shape
    left, top, right, bottom = box
    centre = _inside(((height - 1) / 2, (width - 1) / 2), box)
    area = (right - left) * (bottom - top) / (height * width)
    place = (left / width, top / height, right / width, bottom / height)
    if heat.max() <= 0:
        return FramePointing(False, centre, area, 0.0, True, place, clip)
    point = hottest(heat)
    own = heat_box(heat, point, share)
    return FramePointing(_inside(point, box), centre, area, iou(own, box), False, place, clip)


def hottest(heat: np.ndarray) -> tuple[int, int]:
    """(row, column) of the largest value; of several, the one nearest to their middle.

    >>> hottest(np.array([[0, 0, 0, 0], [2, 2, 2, 1]]))
    (1, 1)
    """
    points = np.argwhere(heat == heat.max())
    return tuple(points[np.square(points - points.mean(axis=0)).sum(axis=1).argmin()].tolist())


def heat_box(heat: np.ndarray, point: tuple[int, int], share: float = SHARE) -> Box:
    """The box around the points of at least `share` of the heat at `point` that touch it, by sides, one by one."""
    parts, _ = label(heat >= share * heat[point])
    rows, columns = find_objects(parts)[parts[point] - 1]
    return columns.start, rows.start, columns.stop, rows.stop


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes.

    >>> iou((0, 0, 2, 2), (1, 0, 3, 2))
    0.3333333333333333
    """
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0, width) * max(0, height)
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in (a, b)]
    return shared / (sum(areas) - shared)


def _inside(point: tuple[float, float], box: Box) -> bool:
    """Whether the middle of the pixel at (row, column) lies in the box."""
    row, column = point
    left, top, right, bottom = box
    return left <= column + 0.5 < right and top <= row + 0.5 < bottom


def summarise(videos: Sequence[Sequence[FramePointing]]) -> dict:
    """Shares over all frames, and the mean over the videos of each video's share.

    low, high: the 95 % bootstrap interval of `accuracy`, which draws whole videos. still: the best accuracy of points
    that stay where they are for a whole clip, as those of a network do that keeps one step in time per clip.
    """
    every = [frame for frames in videos for frame in frames]
    centred = _central_box([frame.box for frame in every])
    ious = np.array([frame.iou for frame in every])
    central = np.array([iou(centred, frame.box) for frame in every])
    low, high = mean_interval([frame.hit for frame in every], np.repeat(np.arange(len(videos)), list(map(len, videos))))
    return {
        "videos": len(videos),
        "frames": len(every),
        "blank": sum(frame.blank for frame in every),
        "hits": sum(frame.hit for frame in every),
        "accuracy": _share(every, "hit"),
        "low": low,
        "high": high,
        "video_accuracy": float(np.mean([_share(frames, "hit") for frames in videos])),
        "centre": _share(every, "centre"),
        "random": _share(every, "area"),
        "still": sum(_most_in_one_point(frames) for frames in videos) / len(every),
        "iou": float(ious.mean()),
        "iou_good": float((ious >= GOOD_IOU).mean()),
        "central_box_iou": float(central.mean()),
        "central_box_good": float((central >= GOOD_IOU).mean()),
    }


def _share(frames: Sequence[FramePointing], name: str) -> float:
    return float(np.mean([getattr(frame, name) for frame in frames]))


def _central_box(boxes: Sequence[Box]) -> Box:
    """Of the mean width and height of boxes, in the middle of the picture; all as shares of its sides."""
    left, top, right, bottom = np.mean(boxes, axis=0)
    width, height = right - left, bottom - top
    return (1 - width) / 2, (1 - height) / 2, (1 + width) / 2, (1 + height) / 2


def _most_in_one_point(frames: Sequence[FramePointing]) -> int:
    """How many frames of a video have their box hit when each clip has a single point, the best there is."""
    boxes: dict[int, list] = {}
    for frame in frames:
        boxes.setdefault(frame.clip, []).append(frame.box)
    return sum(most_shared(np.array(of_clip)) for of_clip in boxes.values())


def most_shared(boxes: np.ndarray) -> int:
    """The largest number of boxes (n, 4) with a point in common: one lies at some box's left and some box's top.

    >>> most_shared(np.array([[0, 0, 3, 3], [2, 2, 5, 5], [4, 0, 6, 9]]))
    2
    """
    left, top, right, bottom = boxes.T
    across = (left <= left[:, None]) & (left[:, None] < right)  # (x, box)
    down = (top <= top[:, None]) & (top[:, None] < bottom)  # (y, box)
    return int((across.astype(int) @ down.astype(int).T).max())
