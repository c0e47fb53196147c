"""`gcf demo-videos`: synthetic videos whose truth is known to the frame, as real encoded files.

A sprite performs primitive motions before a textured, moving background. Two kinds of sets:

* actions (default): every video has two actions, each one of the KEYS, among distractors (other sprites that do other
  motions, or no sprite at all). By task the class is the unordered *pair* of the two, which may be twice the same: no
  single clip can tell it, and both kinds of class hold the same amount of action; or their *relation*, whether both are
  of one kind (MOVING, or not), which no sum over the clips can tell; or, of *presence*, the one action that there is.
* trimmed: every video is one primitive from end to end, which is its class.
"""

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import joblib
import numpy as np
from av import VideoStream
from tqdm import tqdm

from gcf.data.atomic import FULL, atomic_file, clear_left_behind
from gcf.data.folder import entries, locked_folder, named
from gcf.data.formats.common import subset_of
from gcf.data.motions import MOTIONS
from gcf.data.plans import TASKS, Act, VideoPlan, plan_videos
from gcf.data.scenes import draw_frames, draw_scene
from gcf.errors import RefusedError, StoppedError, UsageError

# FFmpeg's own MPEG-4 encoder at a fixed quantiser. x264 gave other bytes for the same frames in 1 of 100 videos, by
# what was in memory before (seen with MALLOC_PERTURB_).
CODEC, QUALITY = "mpeg4", {"qmin": "3", "qmax": "3"}
MANIFEST, TRUTH, LABELS = "synthetic.json", "truth.json", "labels.csv"
ENTRY = ".truth"  # suffix of a finished video's own truth, until all are done


@dataclass(frozen=True)
class SyntheticVideos:
    """What was made: the folder, its label file (CSV), its truth (ActivityNet-style JSON), and how many were there."""

    folder: Path
    labels: Path
    truth: Path
    num_videos: int
    num_reused: int

    def describe(self) -> str:
        """One line."""
        how = (
            f"{self.num_videos - self.num_reused} of them made now"
            if self.num_reused < self.num_videos
            else "all there"
        )
        files = f"labels in {self.labels.name}, truth in {self.truth.name}"
        return f"{self.folder}: {self.num_videos} synthetic videos, {how}; {files}"


def write_demo_videos(
    folder: str | os.PathLike,
    *,
    videos: int = 600,
    seed: int = 0,
    trimmed: bool = False,
    task: str = "pairs",
    progress: bool = False,
) -> SyntheticVideos:
    """Make synthetic videos in a folder, with labels.csv and truth.json; what an earlier call has finished is kept.

    The same arguments give the same videos, and with the same libraries the same bytes. labels.csv has path, label,
    subset, group. truth.json follows ActivityNet: per video subset, duration, annotations with segment (seconds),
    label, and beside them primitive, rate, distractors, and the sprite's box in every frame ([left, top, right, bottom]
    in pixels, right and bottom exclusive, or null).

    Raises UsageError for a count or seed out of range, RefusedError for a folder that holds something else,
    StoppedError for a full disk.
    """
    if videos < 1 or seed < 0:
        raise UsageError(f"need at least one video and a seed of 0 or more, got {videos = }, {seed = }")
    if task not in TASKS:
        raise UsageError(f"unknown task {task!r}; known: {', '.join(TASKS)}")
    if trimmed and task != "pairs":
        raise UsageError("trimmed videos show one motion, which is their class; leave out the task")
    folder = Path(folder)
    manifest = {"format": "gcf-synthetic", "version": 1, "trimmed": trimmed, "videos": videos, "seed": seed}
    manifest |= {"task": task} if task != "pairs" else {}
    plans = plan_videos(videos, seed=seed, trimmed=trimmed, task=task)
    with locked_folder(folder), _disk_faults(folder):
        _require_ours(folder, manifest)
        clear_left_behind(folder)
        _write(folder / MANIFEST, json.dumps(manifest) + "\n")
        for name in {plan.label for plan in plans}:
            (folder / name).mkdir(exist_ok=True)
            clear_left_behind(folder / name)
        truth = _finished(folder, plans)
        made = SyntheticVideos(folder, folder / LABELS, folder / TRUTH, videos, num_reused=len(truth))
        truth |= _make(folder, [plan for plan in plans if plan.id not in truth], progress=progress)
        _write(made.labels, _labels(plans))
        database = {plan.id: truth[plan.id] for plan in plans}
        _write(made.truth, json.dumps({"version": "gcf-synthetic-1", "taxonomy": [], "database": database}) + "\n")
        for plan in plans:
            _entry(folder, plan).unlink(missing_ok=True)
    return made


def render(plan: VideoPlan) -> tuple[np.ndarray, list[tuple[int, int, int, int] | None]]:
    """Frames (n, H, W, 3) uint8 RGB of a plan, and the sprite's box in each."""
    rng = np.random.default_rng(plan.seed)
    acts = [(act.sprite, MOTIONS[act.primitive](act.frames, rng)) for act in plan.acts]
    return draw_frames(draw_scene(plan.size, np.random.default_rng(plan.scene_seed)), acts, rng)


def _require_ours(folder: Path, manifest: dict) -> None:
    """Raise RefusedError where something else than a part of this very set is."""
    if folder.exists() and not folder.is_dir():
        raise RefusedError(f"{folder}: is a file; name a folder for the videos")
    there = entries(folder) if folder.exists() else []
    if not there:
        return
    try:
        found = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        raise RefusedError(
            f"{folder}: not empty, and not made by gcf demo-videos (it holds {named(there)}); name another folder"
        ) from None
    if found != manifest:
        raise RefusedError(f"{folder}: holds other synthetic videos ({found}); name another folder")


@contextmanager
def _disk_faults(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        if error.errno in FULL:
            raise StoppedError(f"{where}: {error.strerror}; make room, and the same command goes on") from error
        raise RefusedError(f"{where}: cannot be written ({error.strerror}); name another folder") from error


def _finished(folder: Path, plans: Sequence[VideoPlan]) -> dict[str, dict]:
    """The truth of the videos that are there already, by id."""
    try:
        known = json.loads((folder / TRUTH).read_bytes())["database"]
    except (OSError, ValueError, KeyError):
        known = {}
    for plan in plans:
        try:
            known[plan.id] = json.loads(_entry(folder, plan).read_bytes())
        except (OSError, ValueError):
            continue
    return {plan.id: known[plan.id] for plan in plans if plan.id in known and (folder / plan.id).exists()}


def _make(folder: Path, plans: Sequence[VideoPlan], *, progress: bool) -> dict[str, dict]:
    """Render and encode plans; id -> truth."""
    made = {}
    hidden = not (progress and plans)
    with ThreadPoolExecutor(joblib.cpu_count()) as pool:  # Pillow and FFmpeg work outside Python's lock
        jobs = {pool.submit(_write_video, folder, plan): plan for plan in plans}
        try:
            for job in tqdm(as_completed(jobs), total=len(plans), unit="video", disable=hidden, dynamic_ncols=True):
                made[jobs[job].id] = job.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return made


def _write_video(folder: Path, plan: VideoPlan) -> dict:
    """The video, then its truth: where the second is, both are."""
    frames, boxes = render(plan)
    with atomic_file(folder / plan.id) as file:
        file.write(_encode(frames, plan.rate))
    truth = _truth(plan, boxes)
    _write(_entry(folder, plan), json.dumps(truth))
    return truth


def _entry(folder: Path, plan: VideoPlan) -> Path:
    return folder / f"{plan.id}{ENTRY}"


def _encode(frames: np.ndarray, rate: Fraction) -> bytes:
    """An MP4 file of frames (n, H, W, 3), from time 0 on."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = cast(VideoStream, container.add_stream(CODEC, rate=rate, options=dict(QUALITY)))
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.codec_context.thread_count = 1
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def _truth(plan: VideoPlan, boxes: Sequence[tuple[int, int, int, int] | None]) -> dict:
    """A video's entry of truth.json; every box and second follows from what was drawn."""
    actions, distractors, first = [], [], 0
    for act in plan.acts:
        entry = _act_truth(act, first, plan.rate)
        if act.action:
            actions.append({"label": plan.label} | entry)
        elif act.primitive != "none":
            distractors.append(entry)
        first += act.frames
    return {
        "subset": plan.subset,
        "group": plan.group,
        "duration": _seconds(first, plan.rate),
        "resolution": f"{plan.size[1]}x{plan.size[0]}",
        "rate": str(plan.rate),
        "annotations": actions,
        "distractors": distractors,
        "boxes": boxes,
    }


def _act_truth(act: Act, first: int, rate: Fraction) -> dict:
    segment = [_seconds(frame, rate) for frame in (first, first + act.frames)]
    sprite = None if act.primitive == "none" else asdict(act.sprite)
    return {"segment": segment, "primitive": act.primitive, "sprite": sprite}


def _seconds(frame: int, rate: Fraction) -> float:
    return float(round(frame / rate, 6))


def _labels(plans: Sequence[VideoPlan]) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["path", "label", "subset", "group"])
    rows.writerows([plan.id, plan.label, subset_of(plan.subset, plan.id), plan.group] for plan in plans)
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    """Write a text, complete or not at all; a file that says it already keeps its time."""
    if path.exists() and path.read_bytes() == text.encode():
        return
    with atomic_file(path) as file:
        file.write(text.encode())
