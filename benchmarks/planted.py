"""Which heads solve what: planted feature files whose truth is known, through the trainer that `gcf ablate` uses.

    python benchmarks/planted.py --task relation --seeds 5
    python benchmarks/planted.py --task pairs --videos 60 600 6000 60000 --heads gcf-gated

Each clip of a video shows one concept, a random direction in D channels, with noise. Two clips (one in *presence*)
show what decides, the others distract:

* presence: one of the actions decides alone; the class is which.
* pairs: the class is which two actions a video shows; their sum over the clips tells it.
* relation: two roles with as many concepts each; half of each role's concepts are of one kind, half of another, and
  the class is whether the two kinds are alike. Every concept occurs in both classes alike, so that no sum over the
  clips can tell them apart.

Printed are the figures of the table, and alpha on the clips that decide and on those that distract.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from caches import write_cache

import gcf
from gcf.data.features import FeatureFile

TASKS = ("presence", "pairs", "relation")
SHARES = (0.6, 0.1)  # of the videos that train and choose; the others judge
PAIRED = 4  # actions of the pairs: ten classes


def planted(
    path: Path,
    task: str,
    *,
    videos: int = 2400,
    seed: int = 0,
    width: int = 1024,
    clips: int = 10,
    concepts: int = 4,
    distractors: int = 16,
    noise: float = 0.045,
) -> tuple[FeatureFile, np.ndarray]:
    """The feature file, and which clips decide (videos, clips) bool.

    concepts: of each role, and as many classes of presence. noise: standard deviation a channel, where the directions
    have 1 / sqrt(width).
    """
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((2 * concepts + distractors, width)) / np.sqrt(width)
    shown = rng.integers(2 * concepts, 2 * concepts + distractors, (videos, clips))
    places, rows = rng.random((videos, clips)).argsort(axis=1), np.arange(videos)
    first, second = rng.integers(concepts, size=videos), rng.integers(concepts, size=videos)
    deciding = np.zeros((videos, clips), bool)
    if task == "presence":
        labels, acting = first, [first]
    elif task == "pairs":
        first, second = rng.integers(PAIRED, size=videos), rng.integers(PAIRED, size=videos)
        numbers = np.zeros((PAIRED, PAIRED), int)
        numbers[np.triu_indices(PAIRED)] = np.arange(PAIRED * (PAIRED + 1) // 2)
        labels, acting = numbers[np.minimum(first, second), np.maximum(first, second)], [first, second]
    else:
        labels, acting = (first % 2 == second % 2).astype(int), [first, concepts + second]
    for n, actions in enumerate(acting):
        shown[rows, places[:, n]] = actions
        deciding[rows, places[:, n]] = True
    train, val = (round(share * videos) for share in SHARES)
    subsets = ["train"] * train + ["val"] * val + ["test"] * (videos - train - val)
    arrays = []
    for concepts_shown in shown:
        clip_noise = noise * rng.standard_normal((clips, width))
        arrays.append((directions[concepts_shown] + clip_noise).astype(np.float32))
    classes = [f"class {k}" for k in range(labels.max() + 1)]
    return write_cache(path, arrays, labels.tolist(), classes, subsets=subsets), deciding


def alpha_of(features: FeatureFile, deciding: np.ndarray, head: str, folder: Path) -> str:
    """Mean alpha of one training on the test videos' clips that decide, and on the others."""
    run = gcf.train_head(features, folder / "run", head=head, overwrite=True)
    saved = gcf.load_head(run.path)
    test = np.flatnonzero(np.asarray(features.subsets) == "test")
    said = [saved(features.video(int(n))).gate for n in test]
    if said[0] is None:
        return ""
    gates = np.concatenate([gate.numpy() for gate in said])
    return f"alpha {gates[deciding[test]].mean():.2f} / {gates[~deciding[test]].mean():.2f}"


def main() -> None:
    """Print a line for each head."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS, default="relation")
    parser.add_argument("--heads", nargs="+", default=["gcf-gated", "gated-gate-only", "gated-fusion-only", "gcf-256"])
    parser.add_argument("--videos", nargs="+", type=int, default=[2400])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the generator")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--concepts", type=int, default=4)
    parser.add_argument("--reference", default=None, help="the head that the others are compared with: the first")
    options = parser.parse_args()
    for videos in options.videos:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            features, deciding = planted(
                folder / "planted.h5",
                options.task,
                videos=videos,
                seed=options.seed,
                width=options.width,
                concepts=options.concepts,
            )
            found = gcf.ablate(
                features,
                heads=options.heads,
                seeds=options.seeds,
                reference=options.reference or options.heads[0],
                audit=False,
                reuse=False,
            )
            print(f"\n{options.task}, {videos} videos\n\n{found.markdown.partition(chr(10) * 2)[0]}", flush=True)
            for head in options.heads:
                print(f"{head}: {alpha_of(features, deciding, head, folder)}", flush=True)


if __name__ == "__main__":
    main()
