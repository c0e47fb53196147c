"""Folders such as `gcf localize` leaves them, written by hand: what the pages are to show is known."""

import json
from pathlib import Path

import numpy as np
from videos import write_video

CLASSES = ["jump", "run", "sit", "walk", "wave", "zoom"]
CLIP, RATE = 16, 25


def values(num_clips: int, *, classes=CLASSES, seed: int = 0) -> dict[str, np.ndarray]:
    """What lies in an npz: clips of 16 frames that touch; the first class wins, by the clips in the middle."""
    rng = np.random.default_rng(seed)
    start = np.arange(num_clips) * CLIP / RATE
    evidence = rng.normal(0, 0.1 / num_clips, (num_clips, len(classes))).astype(np.float32)
    middle = slice(num_clips // 3, 2 * num_clips // 3 + 1)
    evidence[middle, 0] += 6 / num_clips
    gate = rng.uniform(0.05, 0.2, num_clips)
    gate[middle] = 0.9
    logits = evidence.sum(axis=0)
    return {
        "start": start,
        "end": start + CLIP / RATE,
        "num_frames": np.full(num_clips, CLIP),
        "gate": gate,
        "attention": gate / gate.sum(),
        "evidence": evidence,
        "logits": logits,
        "probabilities": np.exp(logits) / np.exp(logits).sum(),
    }


def add_video(folder: Path, video_id: str, *, num_clips: int = 6, codec: str | None = "mpeg4", **changes) -> dict:
    """Write a video's files; its entry of localization.json. codec None: no overlay, as from a feature file."""
    classes = changes.pop("classes", CLASSES)
    without = changes.pop("without", ())
    saved = {key: value for key, value in values(num_clips, classes=classes).items() if key not in without}
    (folder / video_id).parent.mkdir(parents=True, exist_ok=True)
    np.savez(folder / f"{video_id}.npz", **saved)
    if codec:
        options = {"g": 8} if codec == "mpeg4" else {"preset": "ultrafast", "g": 8}
        write_video(folder / f"{video_id}.mp4", num_clips * CLIP, codec=codec, **options)
    order = np.argsort(-saved["probabilities"])[:5]
    start, end = float(saved["start"][num_clips // 3]), float(saved["end"][2 * num_clips // 3])
    entry = {
        "id": video_id,
        "duration": num_clips * CLIP / RATE,
        "width": 64,
        "height": 48,
        "fps": float(RATE),
        "top": [[classes[k], float(saved["probabilities"][k])] for k in order],
        "intervals": [{"start": start, "end": end, "label": classes[0], "score": 0.75}],
        "files": {"clips": f"{video_id}.npz", "overlay": f"{video_id}.mp4" if codec else None, "sheet": None},
        "error": "",
        "note": "",
    }
    return entry | changes


def failed(video_id: str, error: str) -> dict:
    """The entry of a video that gave nothing."""
    return {"id": video_id, "duration": 0.0, "width": 0, "height": 0, "fps": 0.0, "top": [], "intervals": []} | {
        "files": {"clips": None, "overlay": None, "sheet": None},
        "error": error,
        "note": "",
    }


def write_localization(folder: Path, entries: list[dict], **changes) -> Path:
    """Write localization.json; None takes a key out."""
    found = {
        "format": "gcf-localization",
        "version": 1,
        "gcf": "0",
        "head": "heads/gcf-256",
        "classes": CLASSES,
        "settings": {"intervals": {"nms": 0.5}},
        "evidence_kind": "traced",
        "videos": entries,
        "metrics": None,
    } | changes
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "localization.json").write_text(json.dumps({k: v for k, v in found.items() if v is not None}))
    return folder
