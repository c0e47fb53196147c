"""`gcf demo`: the whole road on synthetic videos; each step shows the command that does the same for anybody's own."""

import json
import os
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gcf._version import __version__
from gcf.data.atomic import atomic_file, clear_left_behind
from gcf.data.features import FeatureFile
from gcf.data.folder import entries, locked_folder
from gcf.data.info import describe as describe_features
from gcf.data.synthetic import write_demo_videos
from gcf.errors import RecipeError, RefusedError, UsageError
from gcf.explain.localize import localize_videos
from gcf.explain.pages.write import write_pages
from gcf.explain.predict import VideoPrediction, describe, predict_videos
from gcf.extract.extractor import ExtractSummary, extract_videos
from gcf.extract.weights.download import file_sha256
from gcf.head.ablation import ablate
from gcf.head.runs import clear_run
from gcf.head.tables.summary import describe as describe_metrics
from gcf.head.training import train_head

BACKBONE, WEIGHTS = "shufflenetv2_0.25x", "primitives"
LEAST_VIDEOS = 60
WHOLE, QUICK = {"videos": 300, "seeds": 5}, {"videos": 120, "seeds": 2}
QUICK_HEADS = ["mean", "gcf-256"]
ORDER = ("c-clip", "d-clips", "gcf-256")  # of the paper's Table 2
SIGNIFICANT = 0.01
OPTION_NAMES = {"output": "-o", "heads": "--head"}
FORMAT, STAMPS = "gcf-demo", "demo.json"


@dataclass(frozen=True, eq=False)
class Demo:
    """What a demo found: the comparison's rows, whether the paper's ordering holds, the prediction, and seconds.

    complete: no video failed.
    """

    folder: Path
    rows: list[dict]
    ordering: str
    prediction: list[VideoPrediction]
    complete: bool
    seconds: float


def run_demo(
    folder: str | os.PathLike = "gcf-demo",
    *,
    videos: int | None = None,
    seeds: int | None = None,
    seed: int = 0,
    quick: bool = False,
    say: Callable[[str], object] = str,  # str: silence
    progress: bool = False,
) -> Demo:
    """Look at a new synthetic video, make more, extract, train, compare, and classify it; all in `folder`.

    videos, seeds: how many; 300 and 5 unless given, 120 and 2 with `quick`, which shows every step on fewer heads and
    cannot tell them apart. What an earlier run in the same folder has finished is used again. `say` gets the text of
    every step. Nothing is fetched: the backbone comes with gcf. Raises UsageError for fewer than 60 videos (each class
    is to have some in every subset that matters), RefusedError for a folder with something else in it.
    """
    usual = QUICK if quick else WHOLE
    videos = usual["videos"] if videos is None else videos
    seeds = usual["seeds"] if seeds is None else seeds
    if videos < LEAST_VIDEOS or seeds < 1 or seed < 0:
        wanted = f"at least {LEAST_VIDEOS} videos, one seed, and a seed of 0 or more"
        raise UsageError(f"the demo needs {wanted}; got {videos = }, {seeds = }, {seed = }")
    with locked_folder(folder):
        heads = QUICK_HEADS if quick else None
        return _demo(folder, videos=videos, seeds=seeds, seed=seed, heads=heads, say=say, progress=progress)


def _demo(
    folder: str | os.PathLike,
    *,
    videos: int,
    seeds: int,
    seed: int,
    heads: list[str] | None,
    say: Callable[[str], object],
    progress: bool,
) -> Demo:
    begun, demo = time.monotonic(), _Steps.begin(Path(folder), say)
    made, features, run, table = (demo.folder / name for name in ("videos", "feats.h5", "run", "table"))

    new, first = demo.folder / "new", demo.folder / "first"
    demo.step("A synthetic video, whose truth is known", "demo-videos", new, videos=1, seed=seed + 1)
    unseen = write_demo_videos(new, videos=1, seed=seed + 1)
    say(unseen.describe())
    known: dict = {"backbone": BACKBONE, "weights": WEIGHTS, "overwrite": True}
    demo.step("What the backbone alone sees in it: 11 motions", "localize", "backbone", new, output=first, **known)
    glimpse = localize_videos("backbone", new, first, **known)
    say(glimpse.describe())
    demo.step("A page to look at while the rest is made", "report", first)
    say(str(write_pages(first)[0]))

    demo.step(
        "More of them, in ten classes: which two actions a video shows", "demo-videos", made, videos=videos, seed=seed
    )
    found = write_demo_videos(made, videos=videos, seed=seed, progress=progress)
    say(found.describe())

    chosen = {"backbone": BACKBONE, "weights": WEIGHTS, "annotations": found.labels}
    chosen["precision"] = "fp32"  # so that the figures do not depend on what a processor can multiply
    demo.step("Stage one: the frozen backbone once over every clip", "extract", made, features, **chosen)
    summary = _extract(made, features, chosen, progress=progress)
    say(f"{summary.describe()}\n{describe_features(FeatureFile(features))}")

    trained = _Work(run, features, {}, ("head.safetensors", "head.json", "training.png"))
    demo.step_or_reuse("Stage two: train GCF-Net's head on the cached descriptors", "train-head", trained)
    metrics = demo.metrics_of(trained, lambda **kw: train_head(features, run, **kw).metrics)
    say(f"{describe_metrics(metrics)}\nin {run}")

    compared = _Work(table, features, {"seeds": seeds} | ({"heads": heads} if heads else {}), ("table.md", "arms.png"))
    demo.step_or_reuse("Compare it with the baselines and its parts", "ablate", compared)
    rows = demo.metrics_of(compared, lambda **kw: ablate(features, table, **kw).metrics)["rows"]
    ordering = paper_ordering(rows)
    say(f"{(table / 'table.md').read_text('utf-8')}\n{ordering}\nin {table}")

    pictures = demo.folder / "pictures"
    drawn = {"pictures": pictures, "truth": unseen.truth}
    demo.step(
        "Classify the first video, which the head has not seen, and draw what it saw", "predict", run, new, **drawn
    )
    prediction = predict_videos(run, new, **drawn)
    say(describe(prediction))

    seen = demo.folder / "seen"
    shown = {"truth": unseen.truth, "overwrite": True}
    demo.step("When, where and why it sees that", "localize", run, new, output=seen, **shown)
    localized = localize_videos(run, new, seen, **shown)
    say(localized.describe())
    demo.step("A page to look at", "report", seen)
    say(str(write_pages(seen)[0]))

    seconds = time.monotonic() - begun
    say(_next(demo.folder, seconds))
    seen_whole = glimpse.complete and localized.complete
    complete = summary.complete and seen_whole and not any(p.error or p.note for p in prediction)
    return Demo(demo.folder, rows, ordering, prediction, complete, seconds)


def paper_ordering(rows: Sequence[dict]) -> str:
    """Does C-Clip < D-Clips < full GCF-Net hold, each step with p < 0.01? One sentence with the figures."""
    by_name = {row["name"]: row for row in rows}
    central, clips, full = (by_name[name] for name in ORDER)
    shown = " < ".join(f"{name} {100 * by_name[name]['mean']:.1f} %" for name in ORDER)
    ordered = central["mean"] < clips["mean"] < full["mean"]
    if central["p"] is None:
        kept = "holds" if ordered else "does not hold"
        return f"The ordering of the paper's Table 2 {kept}: {shown}. {central['missing']}"
    sure = max(central["p"], full["p"]) < SIGNIFICANT
    if ordered and sure:
        return f"The ordering of the paper's Table 2 holds, each step with p < {SIGNIFICANT}: {shown}."
    why = "a step is not significant" if ordered else "the accuracies are not in this order"
    return (
        f"The ordering of the paper's Table 2 is not shown ({why}): {shown}, p {central['p']:.3f} and {full['p']:.3f}."
    )


def _extract(videos: Path, features: Path, chosen: dict, *, progress: bool) -> ExtractSummary:
    try:
        return extract_videos(videos, features, progress=progress, **chosen)
    except RecipeError as error:  # made by other versions, or on another device
        raise RecipeError(f"{error}; or name another folder for the demo") from error


@dataclass(frozen=True)
class _Work:
    """A run folder to be made from features with settings, and files that it must hold beside metrics.json."""

    run: Path
    features: Path
    settings: dict
    files: tuple[str, ...]

    @property
    def metrics(self) -> Path:
        return self.run / "metrics.json"


@dataclass
class _Steps:
    """Numbered headlines with their commands, and what of an earlier demo in the folder still holds.

    `stamps` says of each run folder from what it was made and what it was then.
    """

    folder: Path
    say: Callable[[str], object]
    stamps: dict
    count: int = 0

    @classmethod
    def begin(cls, folder: Path, say: Callable[[str], object]) -> "_Steps":
        """Take a new or empty folder, or one that a demo began: what lies there under the names of runs is replaced."""
        if str(folder).startswith("-"):
            folder = Path(os.curdir).absolute() / folder  # no option, in the commands that are shown
        if folder.exists() and not folder.is_dir():
            raise RefusedError(f"{folder}: is a file; name a folder for the demo")
        if not folder.exists() or not entries(folder):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                clear_left_behind(folder)
                steps = cls(folder, say, {})
                steps.save()
            except OSError as error:
                raise RefusedError(f"{folder}: cannot be written ({error.strerror}); name another folder") from error
            return steps
        try:
            known = json.loads((folder / STAMPS).read_bytes())
            if known["format"] == FORMAT:
                return cls(folder, say, dict(known["stamps"]))
        except (OSError, ValueError, TypeError, KeyError):
            pass
        raise RefusedError(f"{folder}: not empty, and no demo of gcf; name another folder")

    def save(self) -> None:
        """Write the stamps down."""
        with atomic_file(self.folder / STAMPS) as file:
            file.write(json.dumps({"format": FORMAT, "stamps": self.stamps}, indent=1).encode())

    def step(self, title: str, command: str, *places: str | Path, **options) -> None:
        """Announce a step and show the command line that does it."""
        self.count += 1
        words = ["gcf", command, *map(str, places)]
        for name, value in options.items():
            option = OPTION_NAMES.get(name, f"--{name}")
            for each in value if isinstance(value, list) else [value]:
                words += [option] if each is True else [option, str(each)]
        self.say(f"\n[{self.count}] {title}\n$ {shlex.join(words)}")

    def step_or_reuse(self, title: str, command: str, work: _Work) -> None:
        """Announce work on a run folder, which is replaced where it is there and no longer holds."""
        again = {"overwrite": True} if work.run.exists() and not self._holds(work) else {}
        self.step(title, command, work.features, output=work.run, **work.settings, **again)

    def metrics_of(self, work: _Work, do: Callable[..., dict]) -> dict:
        """The metrics of a run folder that still holds, else those of doing the work again."""
        if self._holds(work):
            self.say("there already")
            return json.loads(work.metrics.read_bytes())
        if work.run.name in self.stamps and not work.metrics.exists():
            # A run of ours that lost its metrics is no run any more.
            clear_run(work.run, {"run": "train-head", "table": "ablate"}[work.run.name])
        metrics = do(overwrite=True, **work.settings)
        self.stamps[work.run.name] = self._stamp(work)
        self.save()
        return metrics

    def _holds(self, work: _Work) -> bool:
        return all((work.run / name).exists() for name in (work.metrics.name, *work.files)) and self.stamps.get(
            work.run.name
        ) == self._stamp(work)

    def _stamp(self, work: _Work) -> dict:
        digests = {"features": file_sha256(work.features), "metrics": file_sha256(work.metrics)}
        return digests | {"settings": work.settings, "gcf": __version__}


def _next(folder: Path, seconds: float) -> str:
    looks = [
        (folder / "table" / "arms.png", "every arm's accuracy, and its difference to D-Clips with the interval"),
        (
            folder / "pictures",
            "the new video: a frame of every clip over its evidence, gate and attention, and the truth",
        ),
        (folder / "seen" / "index.html", "the new video as a page: player, heat map, and a time line to move through"),
        (folder / "run" / "training.png", "the losses while the head was trained"),
        (folder / "videos" / "truth.json", "when each action happens, and the sprite's box in every frame"),
    ]
    width = max(len(str(path)) for path, _ in looks)
    return "\n".join(
        [
            f"\nDone in {seconds:.0f} s. All of it is synthetic: it shows how gcf works, not how well on real videos.",
            "Look at",
            *(f"  {str(path).ljust(width)}  {what}" for path, what in looks),
            "Then take your own videos, a sub-folder per class, and a backbone of `gcf backbones`:",
            "  gcf extract my_videos/ my.h5 --backbone r3d_18",
            "  gcf ablate my.h5 -o my_table",
        ]
    )
