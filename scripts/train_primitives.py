"""Train the small backbone that comes with gcf, from scratch, on synthetic videos alone.

    python scripts/train_primitives.py WORK_DIR

makes trimmed videos of one primitive motion each (`gcf demo-videos --trimmed`), trains shufflenetv2_0.25x to name the
motion of a 16-frame clip, and writes WORK_DIR/shufflenetv2_0.25x_primitives.safetensors and .json, a report. Held-out
videos have another seed; they are judged once, at the end, by `gcf extract` with the finished file. The demo's videos
are of the other kind, drawn from other streams of random numbers, whatever their seed.
"""

import argparse
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

import gcf
from gcf.data.motions import MIRRORED, PRIMITIVES
from gcf.data.plans import TRIMMED_FRAMES
from gcf.data.synthetic import write_demo_videos
from gcf.errors import UsageError
from gcf.extract.backbones.loading import build_network
from gcf.extract.backbones.normalise import Normalise
from gcf.extract.backbones.published import find_weights
from gcf.extract.backbones.registry import find_backbone
from gcf.extract.decoding.preprocess import POSITIONS, SCALES, View, augmented_view, crop_square
from gcf.extract.decoding.video import Video
from gcf.terminal import guarded

SPEC = find_weights("shufflenetv2_0.25x", "primitives")
FRAMES, CROP = SPEC.pixels.num_frames, SPEC.pixels.crop
TRAIN_SEED, HELD_OUT_SEED = 1001, 2002
THREADS = 2  # their number decides the order of sums, and so the bits
KEPT = 0.8  # share of the sprite that an augmented crop must show, on average: what is not seen cannot be named


class Clips(Dataset):
    """One random clip of every video: pixels (T, H, W, 3) uint8, cropped and perhaps flipped, and its class.

    What is drawn for a video depends on the seed, the epoch and its number alone, whatever the number of loaders.
    """

    def __init__(self, folder: Path, *, seed: int):
        self.folder, self.seed = folder, seed
        self.truth = list(json.loads((folder / "truth.json").read_bytes())["database"].items())

    def __len__(self) -> int:
        return len(self.truth)

    def __getitem__(self, place: tuple[int, int]) -> tuple[torch.Tensor, int]:
        epoch, number = place
        rng = np.random.default_rng([self.seed, epoch, number])
        name, entry = self.truth[number]
        first = int(rng.integers(TRIMMED_FRAMES - FRAMES + 1))
        frames = [frame for frame, _, _ in Video(self.folder / name)][first : first + FRAMES]
        view = draw_view(rng, frames[0].shape[:2], entry["boxes"][first : first + FRAMES])
        pixels = np.stack([augmented_view(frame, view, (CROP, CROP)) for frame in frames])
        motion = entry["annotations"][0]["primitive"]
        shown = MIRRORED.get(motion, motion) if view.flip else motion
        return torch.from_numpy(pixels), PRIMITIVES.index(shown)


class Shuffled:
    """Batches of (epoch, number), each epoch in an order of its own."""

    def __init__(self, count: int, *, batch_size: int, epochs: int, seed: int):
        self.count, self.batch_size, self.epochs, self.seed = count, batch_size, epochs, seed

    def __len__(self) -> int:
        return self.epochs * (self.count // self.batch_size)

    def __iter__(self):
        for epoch in range(self.epochs):
            order = np.random.default_rng([self.seed, epoch]).permutation(self.count)
            for batch in range(self.count // self.batch_size):
                chosen = order[batch * self.batch_size : (batch + 1) * self.batch_size]
                yield [(epoch, int(number)) for number in chosen]


def draw_view(rng: np.random.Generator, size: tuple[int, int], boxes: list) -> View:
    """Multi-scale corner crop and flip; drawn again until the crop shows the sprite, the whole short side at worst."""
    flip = bool(rng.integers(2))
    for _ in range(10):
        view = View(SCALES[rng.integers(len(SCALES))], POSITIONS[rng.integers(len(POSITIONS))], flip)
        if shown_share(view, size, boxes) >= KEPT:
            return view
    return View(1.0, (0.5, 0.5), flip)


def shown_share(view: View, size: tuple[int, int], boxes: list) -> float:
    """Mean share of the sprite's boxes inside the crop; 1 where no frame has any."""
    left, top, side = crop_square(size, view)
    shares = []
    for box in filter(None, boxes):
        width = min(box[2], left + side) - max(box[0], left)
        height = min(box[3], top + side) - max(box[1], top)
        shares.append(max(0, width) * max(0, height) / ((box[2] - box[0]) * (box[3] - box[1])))
    return float(np.mean(shares)) if shares else 1.0


def train(folder: Path, *, epochs: int, batch_size: int, lr: float, loaders: int) -> nn.Module:
    """AdamW with one cycle of the rate, label smoothing 0.1, float32."""
    torch.manual_seed(TRAIN_SEED)
    torch.set_num_threads(THREADS)
    network = build_network(find_backbone(SPEC.backbone), num_classes=len(PRIMITIVES)).train()
    network = network.to(memory_format=torch.channels_last_3d)
    data = Clips(folder, seed=TRAIN_SEED)
    order = Shuffled(len(data), batch_size=batch_size, epochs=epochs, seed=TRAIN_SEED)
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=len(order))
    normalise = Normalise(SPEC.pixels.recipe())
    hits = seen = 0
    bar = tqdm(DataLoader(data, batch_sampler=order, num_workers=loaders), total=len(order), unit="batch")
    for pixels, labels in bar:
        clips = normalise(pixels).to(memory_format=torch.channels_last_3d)
        logits = network(clips)
        loss = nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        hits, seen = 0.98 * hits + (logits.argmax(1) == labels).sum().item(), 0.98 * seen + len(labels)
        bar.set_postfix_str(f"loss {loss.item():.3f}, top-1 of augmented training clips {hits / seen:.3f}")
    return network.eval()


def judge(weights: Path, folder: Path) -> dict:
    """Clip accuracy of the finished file on held-out videos, by the same road that users take."""
    out = folder.with_suffix(".h5")
    out.unlink(missing_ok=True)  # those of other weights
    gcf.extract_videos(folder, out, backbone=SPEC.backbone, weights=weights, annotations=folder / "labels.csv")
    features = gcf.FeatureFile(out)
    clips_of_videos = np.diff(features.offsets)
    wanted = np.repeat([features.classes[label] for label in features.labels], clips_of_videos)
    found = np.array(PRIMITIVES)[np.asarray(features.logits).argmax(1)]
    right = found == wanted
    per_class = {name: round(float(right[wanted == name].mean()), 4) for name in PRIMITIVES}
    mistakes = [f"{w} as {f}" for w, f in zip(wanted[~right], found[~right], strict=True)]
    common = {what: mistakes.count(what) for what in sorted(set(mistakes), key=mistakes.count, reverse=True)[:8]}
    counts = {"right": int(right.sum()), "clips": len(right), "videos": len(features.ids)}
    return counts | {"top1": float(right.mean()), "per_class": per_class, "common_mistakes": common}


def main() -> None:
    """Make the videos, train, write, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--videos", type=int, default=6000)
    parser.add_argument("--held-out-videos", type=int, default=1200)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--loaders", type=int, default=2, help="processes that decode; they do not change the result")
    options = parser.parse_args()
    if options.videos < options.batch_size:
        raise UsageError(f"fewer videos than a batch of {options.batch_size}")
    options.work.mkdir(parents=True, exist_ok=True)
    made, held_out = (
        write_demo_videos(options.work / name, videos=count, seed=seed, trimmed=True, progress=True)
        for name, count, seed in (
            ("train", options.videos, TRAIN_SEED),
            ("held-out", options.held_out_videos, HELD_OUT_SEED),
        )
    )
    begun = time.monotonic()
    network = train(
        made.folder, epochs=options.epochs, batch_size=options.batch_size, lr=options.lr, loaders=options.loaders
    )
    weights = options.work / SPEC.source.file
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, weights)
    report = {"command": " ".join(sys.argv[:1] + ["WORK_DIR"] + sys.argv[2:])}
    report |= {"minutes": round((time.monotonic() - begun) / 60, 1), "threads": THREADS}
    report |= {"train_seed": TRAIN_SEED, "held_out_seed": HELD_OUT_SEED}
    report |= {"versions": {name: version(name) for name in ("av", "numpy", "pillow", "torch")}}
    report |= judge(weights, held_out.folder)
    weights.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    sys.exit(guarded(main))
