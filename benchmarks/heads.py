"""All arms and seeds in one pass against the usual way: a file per video, a DataLoader, a run per arm and seed.

python benchmarks/heads.py WORK_DIR [--epochs 6] [--seeds 5] [--videos 13320] [--full] [--kinetics] [--larger]

Everything is synthetic: 13,320 videos of about 11 clips, 2048 wide, 101 classes, as UCF-101 would give. `--full` adds
30 passes of the one-pass way alone, `--orders` what an order of batches of each seed's own costs, `--kinetics` a slice
of a Kinetics-600-sized file and what follows for the whole.
"""

import argparse
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from synthetic_cache import write_cache
from torch.utils.data import DataLoader, Dataset

import gcf
from gcf.data.features import FeatureFile
from gcf.data.splits import Split
from gcf.head.fitting import residency
from gcf.head.fitting.batches import ClipBatches, Descriptors
from gcf.head.fitting.fit import ORDER
from gcf.head.fitting.labelled import label_features, make_splits
from gcf.head.fitting.loss import training_loss
from gcf.head.models.build import build_head
from gcf.head.models.config import PRESETS, Protocol, TrainConfig
from gcf.head.models.sampling import choose_clips

ARMS = {"d-clips": "clip", "mean": "mean", "fusion-only": "fusion-only", "attention-only": "attention-only"}
ARMS |= {"gcf-256": "gcf-256"}  # c-clip reads the classifier of d-clips
KINETICS_VIDEOS, KINETICS_CLIPS = 390_000, 18.0
SLICE, LARGER = 12_000, 60_000
WORKERS = 2


class VideoFiles(Dataset):
    """One .pt file per video, as descriptors are usually kept."""

    def __init__(self, folder: Path, videos: np.ndarray, labels: np.ndarray, num_clips: int):
        self.folder, self.videos, self.labels, self.num_clips = folder, videos, labels, num_clips

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        n = self.videos[i]
        rows = torch.load(self.folder / f"{n}.pt", weights_only=True)
        chosen, mask = choose_clips(np.array([len(rows)]), self.num_clips, "uniform")
        clips = rows[torch.from_numpy(chosen[0])].float()
        descriptors = clips.new_zeros(self.num_clips, clips.shape[1])
        descriptors[: len(clips)] = clips
        real = torch.zeros(self.num_clips, dtype=torch.bool)
        real[: len(clips)] = torch.from_numpy(mask[0])
        return descriptors, real, int(self.labels[n])


def write_video_files(folder: Path, features: FeatureFile) -> None:
    """Write one file per video, unless they are there."""
    folder.mkdir(exist_ok=True)
    if len(list(folder.iterdir())) == features.num_videos:
        return
    for n, (start, end) in enumerate(zip(features.offsets, features.offsets[1:], strict=False)):
        torch.save(torch.from_numpy(np.array(features.descriptors[start:end, 0])), folder / f"{n}.pt")


def usual_run(head: str, seed: int, files: Path, labels: np.ndarray, split: Split, config: TrainConfig) -> float:
    """One training run as it is usually written; returns the accuracy on test with the best weights of val."""
    module = build_head(PRESETS[head], 2048, int(labels.max()) + 1, seed=seed)
    optimiser = torch.optim.SGD(
        module.parameters(), config.rate, config.momentum, config.dampening, config.weight_decay
    )
    torch.manual_seed(seed)

    def loader(videos: np.ndarray, *, shuffle: bool) -> DataLoader:
        data = VideoFiles(files, videos, labels, config.num_clips)
        return DataLoader(data, config.batch_size, shuffle=shuffle, num_workers=WORKERS, persistent_workers=True)

    train, val = loader(split.train, shuffle=True), loader(split.val, shuffle=False)
    best, kept = np.inf, {}
    for _ in range(config.epochs):
        module.train()
        for descriptors, mask, y in train:
            optimiser.zero_grad()
            training_loss(module(descriptors, mask), mask, y, sparsity=config.sparsity).backward()
            optimiser.step()
        loss, _ = judged(module, val)
        if loss < best:
            best, kept = loss, {name: value.clone() for name, value in module.state_dict().items()}
    module.load_state_dict(kept)
    return judged(module, loader(split.test, shuffle=False))[1]


def judged(module: torch.nn.Module, batches: Iterable[tuple]) -> tuple[float, float]:
    """Mean cross-entropy and top-1."""
    module.eval()
    loss, right, count = 0.0, 0, 0
    with torch.inference_mode():
        for descriptors, mask, y in batches:
            logits = module(descriptors, mask).logits
            loss += torch.nn.functional.cross_entropy(logits, y, reduction="sum").item()
            right += int((logits.argmax(dim=1) == y).sum())
            count += len(y)
    return loss / count, right / count


def reading(features: FeatureFile, split: Split) -> None:
    """One pass of training batches against gathering the same rows from a memory map."""
    counts = np.diff(features.offsets)
    flat = features.descriptors.reshape(-1, features.descriptors.shape[2])

    def plain() -> None:
        order = np.random.default_rng(0).permutation(split.train)
        for start in range(0, len(order), 128):
            part = order[start : start + 128]
            rows = features.offsets[:-1][part][:, None] + choose_clips(counts[part], 10, "uniform")[0]
            torch.from_numpy(flat[rows]).float()

    def ours(batches: ClipBatches) -> None:
        for _ in batches.shuffled(split.train, 128, rngs=[np.random.default_rng(0)]):
            pass

    ways = {"memory map, plain gather": plain}
    for name, once in (("gcf, in memory", False), ("gcf, from the file in blocks", True)):
        descriptors = Descriptors(features, once=once)
        batches = ClipBatches(descriptors, features.labels, num_clips=10, policy="uniform")
        ways[name] = lambda batches=batches: ours(batches)
    seconds = {name: min(timed(way) for _ in range(3)) for name, way in ways.items()}
    base = seconds["memory map, plain gather"]
    print("\nreading alone, one pass over the training videos, best of 3")
    for name, value in seconds.items():
        print(f"  {name:32}{value:8.2f} s  ratio {value / base:5.2f}")


def timed(way) -> float:
    """Seconds that it takes."""
    begun = time.perf_counter()
    way()
    return time.perf_counter() - begun


def against_the_usual_way(features: FeatureFile, files: Path, split: Split, *, epochs: int, seeds: int) -> None:
    """The same Table 2 both ways, seconds and accuracies side by side."""
    config = TrainConfig(epochs=epochs)
    found: dict = {}

    def one_pass() -> None:
        found["ours"] = gcf.ablate(features, seeds=seeds, epochs=epochs, reuse=False)

    ours = timed(one_pass)
    rows = {row["name"]: row for row in found["ours"].rows}
    print(f"\nTable 2, {seeds} seeds, {epochs} passes: one pass for all {ours:.0f} s")
    usual, accuracies = 0.0, {}
    for name, head in ARMS.items():
        before = time.perf_counter()
        accuracies[name] = [usual_run(head, seed, files, features.labels, split, config) for seed in range(seeds)]
        usual += time.perf_counter() - before
        print(f"  usual way, {name}: {time.perf_counter() - before:.0f} s", flush=True)
    print(f"  usual way, all: {usual:.0f} s, ratio {usual / ours:.1f}")
    print(f"  {'arm':16}{'one pass top-1':>20}{'usual way top-1':>20}")
    for name in ARMS:
        row, other = rows[name], accuracies[name]
        spread = row["std"] or 0
        one = f"{100 * row['mean']:.2f} ± {100 * spread:.2f} %"
        print(f"  {name:16}{one:>20}{f'{100 * np.mean(other):.2f} ± {100 * np.std(other, ddof=1):.2f} %':>20}")
    for note in found["ours"].metrics["notes"][-6:]:
        print(f"  {note}")


def orders(features: FeatureFile, *, epochs: int, seeds: int, rounds: int = 3) -> None:
    """An order of batches of each seed's own against one for all: seconds, and the spread of accuracies.

    Counted are seconds of all processors together, which other work on the machine moves least.
    """
    seconds: dict[str, list[float]] = {"own": [], "shared": []}
    rows = {}
    for _ in range(rounds):
        for order, taken in seconds.items():
            begun = time.process_time()
            table = gcf.ablate(features, seeds=seeds, epochs=epochs, batch_order=order, reuse=False, audit=False)
            taken.append(time.process_time() - begun)
            rows[order] = {row["name"]: row for row in table.rows}
    print(f"\nTable 2, {seeds} seeds, {epochs} passes, best of {rounds}")
    for order, taken in seconds.items():
        said = [f"{name} {100 * row['mean']:.2f} ± {100 * row['std']:.2f}" for name, row in rows[order].items()]
        print(f"  order {order:8}{min(taken):7.1f} s   top-1 %: {', '.join(said)}")
    print(f"  own takes {min(seconds['own']) / min(seconds['shared']):.2f} times as long as shared")


def same_order(features: FeatureFile, split: Split, *, epochs: int) -> None:
    """gcf in both precisions, and a plain float32 loop over the very same batches: accuracy and loss on test."""
    batches = ClipBatches(Descriptors(features), features.labels, num_clips=10, policy="uniform")
    print(f"\nthe same order of batches, one seed, {epochs} passes: top-1, loss")
    for head in ("mean", "gcf-256"):
        for precision in ("fp32", "bf16"):
            found = gcf.train_head(features, head=head, epochs=epochs, precision=precision, audit=False).metrics
            print(f"  {head:10}gcf, {precision:12}{found['top1']:.5f}  {found['loss']:.6f}")
        config, rng = TrainConfig(epochs=epochs), np.random.default_rng([0, ORDER])
        module = build_head(PRESETS[head], 2048, len(features.classes))
        optimiser = torch.optim.SGD(
            module.parameters(), config.rate, config.momentum, config.dampening, config.weight_decay
        )
        best, kept = np.inf, {}
        for _ in range(epochs):
            module.train()
            for batch in batches.shuffled(split.train, config.batch_size, rngs=[rng]):
                optimiser.zero_grad()
                said = module(batch.descriptors, batch.mask)
                training_loss(said, batch.mask, batch.labels, sparsity=config.sparsity).backward()
                optimiser.step()
            loss, _ = judged(module, _as_tuples(batches, split.val))
            if loss < best:
                best, kept = loss, {name: value.clone() for name, value in module.state_dict().items()}
        module.load_state_dict(kept)
        loss, right = judged(module, _as_tuples(batches, split.test))
        print(f"  {head:10}plain loop        {right:.5f}  {loss:.6f}")


def _as_tuples(batches: ClipBatches, videos: np.ndarray) -> Iterator[tuple]:
    for batch in batches.in_order(videos, 128, rng=np.random.default_rng(0)):
        yield batch.descriptors, batch.mask, batch.labels


def full(features: FeatureFile) -> None:
    """Thirty passes of the one-pass way alone."""
    seconds = timed(lambda: gcf.ablate(features, seeds=5, epochs=30, reuse=False))
    print(f"\nTable 2, 5 seeds, 30 passes: {seconds:.0f} s")


def larger(folder: Path) -> None:
    """One arm and seed on a file of 4.4 GB, pass by pass: run it where there is less memory (a control group)."""
    features = write_cache(folder / "larger.h5", videos=LARGER, classes=600, clips=KINETICS_CLIPS)
    labelled = label_features(features)
    batches = ClipBatches(Descriptors(features), labelled.labels, num_clips=10, policy="uniform")
    print(f"\n{batches.descriptors.residency.describe()}")
    rng, train = np.random.default_rng(0), make_splits(labelled, Protocol())[0].train
    module = build_head(PRESETS["gcf-256"], 2048, len(features.classes))
    for number in range(1, 5):

        def one_pass() -> None:
            for batch in batches.shuffled(train, 128, rngs=[rng]):
                said = module(batch.descriptors, batch.mask)
                training_loss(said, batch.mask, batch.labels, sparsity=1e-4).backward()

        read = _bytes_from_disk()
        seconds = timed(one_pass)
        gib = (_bytes_from_disk() - read) / 2**30
        print(f"  pass {number}: {seconds:5.1f} s, {len(train) / seconds:7,.0f} videos/s, {gib:.1f} GiB from disk")


def _bytes_from_disk() -> int:
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["read_bytes"])


def kinetics(folder: Path) -> None:
    """A slice of a Kinetics-600-sized file, kept in the file as the whole would be; two passes, extrapolated."""
    features = write_cache(folder / "slice.h5", videos=SLICE, classes=600, clips=KINETICS_CLIPS)
    residency.SHARE = 0.0  # no room: what a file larger than memory meets
    seconds = [timed(lambda e=e: gcf.ablate(features, seeds=5, epochs=e, reuse=False)) for e in (1, 2)]
    more = seconds[1] - seconds[0]
    whole = 30 * more * KINETICS_VIDEOS / SLICE
    print(f"\nKinetics-600: a slice of {SLICE:,} videos, from the file: a further pass takes {more:.1f} s")
    print(f"  extrapolated: 30 passes over {KINETICS_VIDEOS:,} videos, six arms, five seeds: {whole / 3600:.1f} h")


def main() -> None:
    """Read the command line and run what it asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--videos", type=int, default=13_320)
    parser.add_argument("--reading", action="store_true", help="reading alone")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--kinetics", action="store_true")
    parser.add_argument("--larger", action="store_true", help="a file larger than memory, pass by pass")
    parser.add_argument("--orders", action="store_true", help="an order for every seed against one for all")
    parser.add_argument("--same-order", action="store_true", help="against a plain loop over the very same batches")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    features = write_cache(chosen.folder / "ucf.h5", videos=chosen.videos, classes=101, clips=11.0)
    split = make_splits(label_features(features), Protocol())[0]
    print(f"{features.num_videos:,} videos, {features.num_clips:,} clips; train {len(split.train):,}, ", end="")
    print(f"val {len(split.val):,}, test {len(split.test):,}; {torch.get_num_threads()} threads")
    reading(features, split)
    if chosen.full:
        full(features)
    if chosen.kinetics:
        kinetics(chosen.folder)
    if chosen.larger:
        larger(chosen.folder)
    if chosen.orders:
        orders(features, epochs=chosen.epochs, seeds=chosen.seeds)
    if chosen.same_order:
        same_order(features, split, epochs=chosen.epochs)
    if not any((chosen.reading, chosen.full, chosen.kinetics, chosen.larger, chosen.orders, chosen.same_order)):
        write_video_files(chosen.folder / "files", features)
        against_the_usual_way(features, chosen.folder / "files", split, epochs=chosen.epochs, seeds=chosen.seeds)


if __name__ == "__main__":
    main()
