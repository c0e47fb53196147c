"""How well a head localises: temporal mAP, pointing game and faithfulness, each beside what it must be judged by."""

import os
from collections.abc import Iterable, Mapping, Sequence

from gcf.data.boxes import read_boxes, read_groups
from gcf.data.schema import VideoFeatures
from gcf.explain.measures.annotated_truth import read_truth
from gcf.explain.measures.faithfulness import KINDS, RANDOM, clip_scores, faithfulness
from gcf.explain.measures.pointing import GOOD_IOU, pointing
from gcf.explain.measures.temporal import Propose, temporal
from gcf.explain.reading.clip_reading import ClipReading, Localization
from gcf.head.models.saved import SavedHead

ROWS = {
    "localized": "localised",
    "uniform": "uniform intervals",
    "random": "random intervals",
    "ceiling": "ceiling of the clips",
}


def measure(
    localizations: Sequence[Localization],
    truth_path: str | os.PathLike,
    *,
    head: SavedHead | None = None,
    videos: Iterable[VideoFeatures] = (),
    subset: str | None = None,
    propose: Propose | None = None,
    seed: int = 0,
) -> dict:
    """All that can be measured of localisations against a truth file (ActivityNet-style JSON); plain JSON values.

    Judged are the videos among the localisations that the file names; those that failed count as missed. With `subset`
    ("train", "val", "test"), all that the file names in it, and those that were not localised count as missed, too.
    head, videos: the head and the features of the videos, for the faithfulness of its orders. propose: the intervals of
    given classes from a reading, for the mAP with the class known. Boxes are judged where the file has them and there
    are heat maps.

    Beside counts of videos, "temporal" has "map" at the `tious`, their "average", "activitynet" (the mean at 0.5, 0.55
    to 0.95) and "classes" of each kind of intervals; "known_class" the same for intervals of the annotated classes.
    "pointing" and "faithfulness" are as those functions give them, or None. Raises AnnotationError for a file that
    names none of the videos, or no class of the head.
    """
    judged = read_truth(truth_path, [one.id for one in localizations], subset)
    counted = sorted((one for one in localizations if one.id in judged.segments), key=lambda one: one.id)
    readings = {one.id: one.reading for one in counted if one.reading is not None}
    classes = _classes(readings, head)
    judged.check_classes(classes)
    intervals = {one.id: list(one.intervals) for one in counted if one.reading is not None}
    boxes, faded, unknown = {}, None, []
    if any(one.heat is not None for one in counted):
        boxes = read_boxes(truth_path, [one.id for one in counted])
    if classes:
        unknown = sorted(set(judged.labels) - set(classes))
    if head is not None:
        scores = {video: clip_scores(reading) for video, reading in readings.items()}
        groups = read_groups(truth_path, list(readings))
        faded = faithfulness(head, videos, scores, groups=groups, seed=seed)
    return {
        "truth": str(truth_path),
        "subset": subset,
        "videos": len(judged.segments),
        "segments": judged.num_segments,
        "classes": len(judged.labels),
        "unknown_classes": unknown,
        "failed": len(counted) - len(readings),
        "missed": judged.missed,
        "unannotated": judged.unannotated,
        "not_judged": judged.elsewhere,
        "temporal": temporal(readings, intervals, judged.segments, propose=propose, seed=seed),
        "pointing": pointing(counted, judged.segments, boxes),
        "faithfulness": faded,
    }


def _classes(readings: Mapping[str, ClipReading], head: SavedHead | None) -> Sequence[str]:
    """The head's; those of the readings, where it was not given."""
    return head.classes if head is not None else next((tuple(r.classes) for r in readings.values()), ())


def describe_measures(measures: Mapping) -> str:
    """The figures in words and one table, in percent; each beside what it must be judged by."""
    return "\n".join(
        [
            *_counts(measures),
            *_temporal_lines(measures["temporal"]),
            *_pointing_lines(measures["pointing"]),
            *_faithfulness_lines(measures["faithfulness"]),
            *measures.get("notes", ()),
        ]
    )


def _counts(found: Mapping) -> list[str]:
    subset = f" in {found['subset']}" if found["subset"] else ""
    lines = [
        f"{found['truth']}: {found['segments']:,} segments of {found['classes']} classes in {found['videos']:,} "
        f"videos{subset}"
    ]
    said = {
        "failed": "could not be read and count as missed",
        "missed": "were not localised and count as missed",
        "unannotated": "were localised, but are not annotated here and do not count",
        "not_judged": "are annotated, but were not localised and do not count",
    }
    lines += [f"  videos that {what}: {found[name]:,}" for name, what in said.items() if found[name]]
    if unknown := found["unknown_classes"]:
        shown = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        lines.append(f"  classes that the head does not know and that count as missed: {len(unknown)} ({shown})")
    return lines


def _temporal_lines(found: Mapping) -> list[str]:
    tious = found["tious"]
    lines = ["temporal mAP, %, at tIoU".ljust(34) + "".join(f"{t:7.1f}" for t in tious) + "   mean  0.5:0.95"]
    lines += [_row(name, found[key]) for key, name in ROWS.items()]
    known = found["known_class"]
    lines += [_row(f"{name}, class known", known[key]) for key, name in ROWS.items() if key in known]
    at = tious.index(found["at"])
    own, uniform, ceiling = (100 * found[key]["map"][at] for key in ("localized", "uniform", "ceiling"))
    lines.append(
        f"at tIoU {found['at']}: mAP {own:.1f} %, {_times(found['times_uniform'])} uniform intervals' {uniform:.1f} %"
        + ("" if found["of_ceiling"] is None else f", {100 * found['of_ceiling']:.1f} % of the ceiling's")
        + f" {ceiling:.1f} %; segments last {found['mean_segment']:.1f} s"
    )
    return lines


def _row(name: str, found: Mapping) -> str:
    figures = "".join(f"{100 * value:7.1f}" for value in found["map"])
    return f"  {name}".ljust(34) + f"{figures}{100 * found['average']:7.1f}{100 * found['activitynet']:10.1f}"


def _times(ratio: float | None) -> str:
    return "against" if ratio is None else f"{ratio:.1f} times"


def _pointing_lines(found: Mapping | None) -> list[str]:
    if found is None:
        return []
    interval = f"; 95 % {100 * found['low']:.1f} to {100 * found['high']:.1f}" if found["videos"] > 1 else ""
    other = f"; videos whose maps show another class: {found['other_class']:,}" if found["other_class"] else ""
    return [
        f"pointing game: {100 * found['accuracy']:.1f} % of {found['frames']:,} frames ({found['hits']:,}{interval}), "
        f"{100 * found['video_accuracy']:.1f} % on average over {_videos(found['videos'])}; the frame's centre "
        f"{100 * found['centre']:.1f} %, a random point "
        f"{100 * found['random']:.1f} %, the best point for each whole clip {100 * found['still']:.1f} %; "
        f"{found['blank']:,} frames without heat count as missed{other}",
        f"box of the heat: IoU {100 * found['iou']:.1f} % on average, {100 * found['iou_good']:.1f} % of the frames at "
        f"{GOOD_IOU} or more; a central box of the mean size {100 * found['central_box_iou']:.1f} %, "
        f"{100 * found['central_box_good']:.1f} %",
    ]


def _faithfulness_lines(found: Mapping | None) -> list[str]:
    if found is None:
        return []
    several = found["units"] > 1  # of one alone there is no telling how others would come out
    over = f" (95 % over {found['units']:,} units)" if several else ""
    lines = [
        f"faithfulness over {_videos(found['videos'])}: area under the probability of the predicted class, in %, and "
        f"its difference to {found['repeats']} random orders{over}"
    ]
    for kind, wish in zip(KINDS, ("lower", "higher"), strict=True):
        orders = found[kind]
        parts = [
            f"{name} {100 * one['area']:.1f}, {100 * one['difference']:+.1f}"
            + (f" ({100 * one['low']:+.1f} to {100 * one['high']:+.1f})" if several else "")
            for name, one in orders.items()
            if name != RANDOM
        ]
        lines.append(f"  {kind} ({wish} is better): {'; '.join(parts)}; random {100 * orders[RANDOM]['area']:.1f}")
    if found["single_clip"]:
        lines.append(f"  videos of one clip, which have no curve: {found['single_clip']:,}")
    return lines


def _videos(count: int) -> str:
    return "1 video" if count == 1 else f"{count:,} videos"
