"""Follow a command through the code: which files it enters, and which functions it calls.

    python scripts/walk.py ablate       # a training batch to the row of a table
    python scripts/walk.py extract      # the command to the feature file, the decoders' processes left out
    python scripts/walk.py localize     # the command to its files

Two counts, by functions of gcf and the files they stand in:

* called: every function that runs, at its first call. A stay is a row of such calls within one file.
* on the way: the functions that are open when the figure changes hands (MILESTONES), from the command down to there.
  These are what somebody reads who follows one figure. In `ablate`: a step of training, a prediction, the result of a
  seed on a split, the results of all splits, the row, its text.

Networks and heads (models, backbones) are left out: they are what is computed, not the way there.
"""

import os
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread: one order of calls, one stack
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import gcf

ROOT = Path(gcf.__file__).parent
NOT_THE_WAY = ("models", "backbones", "errors.py", "terminal.py", "signals.py")
MILESTONES = {
    "ablate": ("Stack.step", "predict", "SplitResult.of", "merge", "table_rows", "_in_markdown", "points_text"),
    "extract": ("Batcher.take", "ClipNetwork.__call__", "_Rows.complete", "ExtractionRun.take", "write_features"),
    "localize": ("read_video", "propose_intervals", "write_localization", "write_tables"),
}


class Walk:
    """The first calls of gcf's functions, in order, and those open at milestones: (file, function).

    start, end: the functions between whose first calls they count; the whole command without.
    """

    def __init__(self, milestones: tuple[str, ...], *, start: str | None = None, end: str | None = None):
        self.milestones, self.start, self.end = milestones, start, end
        self.is_open = start is None
        self.calls: dict[tuple[str, str], None] = {}
        self.on_the_way: dict[tuple[str, str], None] = {}

    def __call__(self, frame, event: str, _: object) -> None:
        """Take a call, as sys.setprofile tells it."""
        if event != "call":
            return
        name = frame.f_code.co_qualname
        if name == self.start:
            self.is_open = True
        elif name == self.end:
            self.is_open = False
        function = _function(frame)
        if function is None:
            return
        if self.is_open:
            self.calls[function] = None
        if name in self.milestones:
            while frame is not None:
                caller = _function(frame)
                if caller is not None:
                    self.on_the_way[caller] = None
                frame = frame.f_back

    def follow(self, command: Callable[[], object]) -> None:
        """Run a command and take its calls."""
        threading.setprofile(self)
        sys.setprofile(self)
        try:
            command()
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    def print(self) -> None:
        """Print the stays, and both counts."""
        stays: list[tuple[str, list[str]]] = []
        for file, function in self.calls:
            if not stays or stays[-1][0] != file:
                stays.append((file, []))
            stays[-1][1].append(function)
        for file, functions in stays:
            print(f"{file:40} {', '.join(functions)}")
        files = {file for file, _ in stays}
        lines = sum(len((ROOT / file).read_text().splitlines()) for file in files)
        print(f"\ncalled: {len(self.calls)} functions in {len(files)} files of {lines} lines, {len(stays)} stays")
        print(f"on the way: {len(self.on_the_way)} functions in {len({f for f, _ in self.on_the_way})} files")
        for file, function in sorted(self.on_the_way):
            print(f"    {file:40} {function}")


def _function(frame) -> tuple[str, str] | None:
    """A frame's file and function; None where they are not gcf's own or not on the way."""
    code = frame.f_code
    if not code.co_filename.startswith(str(ROOT)) or code.co_name.startswith("<"):
        return None
    file = Path(code.co_filename).relative_to(ROOT)
    if any(part in NOT_THE_WAY for part in file.parts):
        return None
    return str(file), code.co_qualname


def ablate(folder: Path, milestones: tuple[str, ...]) -> Walk:
    """A comparison on a small synthetic feature file."""
    from caches import easy_cache

    from gcf.head.ablation import ablate

    features = easy_cache(folder / "feats.h5")
    walk = Walk(milestones, start="ClipBatches.shuffled", end="markdown_table")
    walk.follow(lambda: ablate(features, folder / "run", heads=["gcf-256"], seeds=2, epochs=1).markdown)
    return walk


def extract(folder: Path, milestones: tuple[str, ...]) -> Walk:
    """An extraction of six small videos."""
    from videos import write_folder

    from gcf.extract.extractor import extract_videos

    videos = write_folder(folder / "videos")
    walk = Walk(milestones)
    options = {"backbone": "shufflenetv2_0.25x", "weights": "primitives", "precision": "fp32"}
    walk.follow(lambda: extract_videos(videos, folder / "feats.h5", **options))
    return walk


def localize(folder: Path, milestones: tuple[str, ...]) -> Walk:
    """Intervals from a small synthetic feature file."""
    from caches import easy_cache

    from gcf.explain.localize import localize_videos
    from gcf.head.training import train_head

    features = easy_cache(folder / "feats.h5")
    train_head(features, folder / "run", epochs=1)
    walk = Walk(milestones)
    walk.follow(lambda: localize_videos(folder / "run", features.path, folder / "localized"))
    return walk


WALKS = {"ablate": ablate, "extract": extract, "localize": localize}

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GCF_HOME"] = f"{folder}/home"
        WALKS[sys.argv[1]](Path(folder), MILESTONES[sys.argv[1]]).print()
