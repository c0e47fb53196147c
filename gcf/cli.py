"""The command line: options, help, a late import and one call each; all that is done is done in the library.

Letters mean the same in every command: -h help, -o output.
"""

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click

from gcf._version import __version__
from gcf.terminal import columns, guarded, show

INCOMPLETE = 3  # finished, and some videos failed
HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True}


@click.group(context_settings=HELP)
@click.version_option(__version__, prog_name="gcf")
def cli() -> None:
    """Video action recognition in two stages: cache clip descriptors once, compare heads on them in minutes.

    \b
    gcf extract videos/ feats.h5 --backbone resnext101    run a frozen 3D CNN over every clip
    gcf train-head feats.h5 -o run                        train GCF-Net's head on the cached descriptors
    gcf ablate feats.h5 -o table                          compare it with C-Clip, D-Clips and single modules

    Exit codes: 0 all well, 1 an error, 2 wrong usage, 3 finished but some videos failed, 4 refused before work,
    5 stopped early and can be resumed, 130 and 143 stopped by a signal.
    """


def main(args: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code."""
    sys.exit(run(args))


def run(args: Sequence[str] | None = None) -> int:
    """Run a command; the exit code of `gcf`."""
    return guarded(lambda: cli.main(args, prog_name="gcf", standalone_mode=False))


def _path(**options) -> click.Path:
    return click.Path(path_type=Path, **options)


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
annotations_option = click.option(
    "--annotations",
    type=_path(exists=True),
    metavar="FILE",
    help="Labels, subsets and groups: CSV (path,label[,subset][,group]), UCF-101 or HMDB-51 lists, Kinetics CSV, "
    "ActivityNet-style JSON; recognised by itself. Without it, sub-folders name the classes.",
)
device_option = click.option("--device", default="auto", help="auto (a GPU where there is one), cpu, cuda, cuda:1, ...")
backbone_option = click.option(
    "--backbone", default="resnext101", metavar="NAME|FILE.py", help="See `gcf backbones`; or a plug-in file."
)
weights_option = click.option(
    "--weights",
    default="default",
    metavar="ID|PATH|random",
    help="See `gcf weights list`; or a checkpoint file; `random` is for trying the pipeline only.",
)


output_option = click.option(
    "-o",
    "--output",
    "out",
    type=_path(),
    metavar="RUN_DIR",
    help="Folder for metrics, predictions, plots, heads.  [default: FEATS-head or FEATS-ablation, beside FEATS.h5]",
)


class Cv(click.ParamType):
    """group, official, or a number of folds."""

    name = "group|official|K"

    def convert(self, value, param, ctx):  # noqa: ARG002 - click's signature
        """An int where it is a number."""
        return int(value) if str(value).isdigit() else value


def _run_folder(features: Path, kind: str) -> Path:
    """Where a run goes that was given no folder: beside its features."""
    return features.with_name(f"{features.stem}-{kind}")


def training_options(command):
    """What train-head and ablate share."""
    options = [
        annotations_option,
        click.option("--cv", type=Cv(), help="Cross-validate: leave one group out, published splits, K folds."),
        click.option(
            "--seeds", type=int, help="How many seeds, counted from --seed.  [default: 1 to train, 5 to compare]"
        ),
        click.option("--seed", default=0, help="Of initial values, batches and random clips."),
        click.option("--num-clips", default=10, help="Clips a video at most."),
        click.option(
            "--clip-policy",
            default="uniform",
            help="Which clips of a longer video: uniform, first, random, all (--gate token).",
        ),
        click.option(
            "--epochs",
            type=int,
            help="Passes over the training videos at most.  [default: 100, or what makes 200 steps]",
        ),
        click.option("--batch-size", default=128, help="Videos a batch."),
        click.option("--lr", type=float, help="Initial rate.  [default: 0.1; 0.01 when frozen]"),
        click.option("--weight-decay", default=1e-3, help="Of SGD."),
        click.option("--sparsity", default=1e-4, help="Lambda of the gate's L1 term."),
        device_option,
        click.option("--overwrite", is_flag=True, help="Replace an earlier run in RUN_DIR."),
        json_option,
    ]
    for option in reversed(options):
        command = option(command)
    return command


class Shard(click.ParamType):
    """i/n, the i-th of n shares, from 1."""

    name = "i/n"

    def convert(self, value, param, ctx):
        """(i, n)."""
        if isinstance(value, tuple):
            return value
        i, slash, n = value.partition("/")
        if not (slash and i.isdigit() and n.isdigit()):
            self.fail(f"{value!r} is not of the form i/n, such as 1/4", param, ctx)
        return int(i), int(n)


@cli.command()
@click.argument("videos", nargs=-1, required=True)
@click.argument("out", type=_path(), metavar="OUT.h5")
@backbone_option
@weights_option
@annotations_option
@click.option("--views", default=1, help="Centre view plus VIEWS - 1 augmented ones (multi-scale crop, flip).")
@click.option("--views-seed", default=0, help="Seed of the augmented views.")
@device_option
@click.option("--precision", default="auto", help="auto (fp32), fp32, bf16, fp16; recorded in the file.")
@click.option("--workers", type=int, help="Decoder processes.  [default: processors - 1]")
@click.option("--batch-size", default=8, help="Clips a forward pass; fixed for a file.")
@click.option("--shard", type=Shard(), help="Only the i-th of n shares of the videos; then `gcf merge`.")
@click.option("--tail", default="loop", help="The last short clip: loop, repeat-last, drop.")
@click.option("--clip-frames", type=int, help="Frames a clip.  [default: 16, fewer where trained with fewer]")
@click.option("--dtype", default="float16", help="Of the stored descriptors: float16 or float32.")
@click.option(
    "--temporal-stride", default="trained", help="trained, or none: no strides along time, as the paper asks."
)
@click.option("--update", is_flag=True, help="Accept that videos were added or removed since OUT.h5 was made.")
@json_option
def extract(videos, out, as_json, **options):
    """Cache the clip descriptors of VIDEOS (a folder, files, or a text/CSV list) in OUT.h5.

    Every non-overlapping clip goes once through the frozen backbone. The same command again resumes. Videos that
    cannot be read are recorded with the reason and the exit code is 3.

    \b
    gcf extract videos/ feats.h5
    gcf extract videos/ feats.h5 --backbone mobilenetv2 --weights kinetics_mobilenetv2_1.0x_RGB_16_best.pth
    gcf extract videos/ feats.h5 --backbone my_network.py --annotations labels.csv
    """
    from gcf.extract.extractor import extract_videos

    summary = extract_videos(videos, out, progress=True, **options)
    show(summary, summary.describe(), as_json)
    return 0 if summary.complete else INCOMPLETE


@cli.command("train-head")
@click.argument("features", type=_path(), metavar="FEATS.h5")
@output_option
@click.option(
    "--head", help="A preset: gcf-256, gcf-256-b, gcf-256-g0, gcf-1024, fusion-only, attention-only, mean, clip."
)
@click.option("--gate", help="Another gate: clips (squeeze-excite across 10 clips), token (any number of clips), none.")
@click.option("--init", type=_path(exists=True), metavar="HEAD", help="Start from a trained head.")
@click.option("--freeze", default="none", help="With --init: none, or all-but-classifier.")
@training_options
def train_head(features, out, as_json, **options):
    """Train a head on the cached descriptors FEATS.h5 and judge it on the test videos, once, at the end.

    \b
    gcf train-head feats.h5 -o run
    gcf train-head feats.h5 -o run --annotations labels.csv --cv group
    gcf train-head ucf.h5 -o transfer --init kinetics_run --freeze all-but-classifier
    """
    from gcf.head.training import train_head

    run = train_head(features, out or _run_folder(features, "head"), **options)
    show(run.metrics, run.describe(), as_json)


@cli.command()
@click.argument("features", type=_path(), metavar="FEATS.h5")
@output_option
@click.option("--preset", default="modules", help="Which comparison: modules (the paper's Table 2, and mean).")
@training_options
def ablate(features, out, as_json, **options):
    """Compare heads on FEATS.h5 over the same videos, splits, clips and seeds; differences are paired.

    \b
    gcf ablate feats.h5 -o table
    gcf ablate feats.h5 -o table --cv group --seeds 5
    """
    from gcf.head.ablation import ablate

    found = ablate(features, out or _run_folder(features, "ablation"), **options)
    show(found.metrics, f"{found.markdown}\nin {found.path}", as_json)


@cli.command("eval")
@click.argument("head", type=_path(), metavar="HEAD")
@click.argument("features", type=_path(), metavar="FEATS.h5")
@annotations_option
@click.option("--subset", help="train, val, test or all.  [default: test where there is one, else all]")
@json_option
def evaluate(head, features, as_json, **options):
    """Judge the trained head HEAD (a run folder) on the labelled videos of FEATS.h5."""
    from gcf.head.evaluate import evaluate_head
    from gcf.head.summary import describe

    metrics = evaluate_head(head, features, **options)
    show(metrics, describe(metrics), as_json)


@cli.command()
@click.argument("head", type=_path(), metavar="HEAD")
@click.argument("videos", nargs=-1, required=True, metavar="VIDEO...")
@click.option("--backbone", metavar="FILE.py|NAME", help="The head's own, where it was a plug-in.")
@click.option("--weights", metavar="PATH|ID", help="The head's own, where they were a file.")
@click.option("--top", default=5, help="How many classes to show.")
@click.option(
    "--pictures",
    type=_path(),
    metavar="DIR",
    help="Draw each video: a frame of every clip, its evidence, gate, attention.",
)
@click.option("--truth", type=_path(exists=True), metavar="FILE", help="Intervals to draw, ActivityNet-style JSON.")
@device_option
@click.option("--workers", type=int, help="Decoder processes.  [default: processors - 1]")
@json_option
def predict(head, videos, as_json, **options):
    """Show the most probable classes of new videos, decoded and described as the trained head HEAD expects."""
    from gcf.explain.predict import describe, predict_videos

    found = predict_videos(head, videos, progress=True, **options)
    show({"videos": found}, describe(found), as_json)
    return INCOMPLETE if any(p.error or p.note for p in found) else 0


@cli.command("demo-videos")
@click.argument("folder", type=_path(), metavar="DIR")
@click.option("--videos", default=600, help="How many.")
@click.option("--seed", default=0, help="The same seed gives the same videos.")
@click.option("--trimmed", is_flag=True, help="One motion from end to end, instead of two actions among distractors.")
@json_option
def demo_videos(folder, as_json, **options):
    """Make synthetic videos with known truth in DIR: labels.csv for training, truth.json for localisation.

    Each shows two actions of a sprite (bounce, grow, orbit, spin) among distractors; its class is the pair of them.
    truth.json has the intervals in seconds and the sprite's box in every frame. The same command again resumes.
    """
    from gcf.data.synthetic import write_demo_videos

    made = write_demo_videos(folder, progress=True, **options)
    show(made, made.describe(), as_json)


@cli.command()
@click.argument("folder", type=_path(), metavar="[DIR]", default="gcf-demo")
@click.option("--videos", default=600, help="How many to make.")
@click.option("--seeds", default=5, help="How many to compare the heads with.")
@click.option("--seed", default=0, help="Of the videos.")
@json_option
def demo(folder, as_json, **options):
    """Show the whole road on synthetic videos in DIR (gcf-demo), each step with its command; needs no network.

    Makes videos, extracts with the small backbone that comes with gcf, trains and compares heads, classifies a new
    video, draws pictures. Minutes on two cores; the same command again uses what is there.
    """
    from gcf.explain.demo import run_demo

    say = partial(click.echo, err=True) if as_json else partial(show, None, as_json=False)
    found = run_demo(folder, say=say, progress=True, **options)
    if as_json:
        show(found, "", as_json)
    return 0 if found.complete else INCOMPLETE


@cli.command()
@json_option
def complexity(as_json):
    """Count parameters and MACs of backbones and heads, beside the paper's Table 3."""
    from gcf.explain.complexity import complexity_table

    table = complexity_table()
    show(table, table.describe(), as_json)


@cli.command()
@click.argument("parts", nargs=-1, required=True, type=_path())
@click.argument("out", type=_path(), metavar="OUT.h5")
@json_option
def merge(parts, out, as_json):
    """Merge feature files of one recipe, such as those of --shard, into OUT.h5."""
    from gcf.data.info import describe, summarise
    from gcf.data.merge import merge_features

    merged = merge_features(parts, out)
    show(summarise(merged), describe(merged), as_json)


@cli.command()
@click.argument("file", type=_path())
@json_option
def info(file, as_json):
    """Say in words what the feature file FILE holds."""
    from gcf.data.features import FeatureFile
    from gcf.data.info import describe, summarise

    features = FeatureFile(file)
    show(summarise(features), describe(features), as_json)


@cli.command()
@json_option
def backbones(as_json):
    """List the clip networks and their published weights."""
    from gcf.extract.backbones import list_backbones

    found = list_backbones()
    rows = [("name", "descriptor", "parameters", "without stride in time", "weights (default first)")]
    rows += [
        (b.name, b.descriptor_width, b.parameters, "no" if b.stride_stays or b.plugin else "yes", _weights_of(b))
        for b in found
    ]
    show({"backbones": found}, columns(rows), as_json)


def _weights_of(backbone) -> str:
    return "its own" if backbone.plugin else ", ".join(backbone.weights) or "none published"


@cli.group()
def weights():
    """List, show and fetch published weights; they are kept in $GCF_HOME (default: the XDG cache folder)."""


@weights.command("list")
@json_option
def weights_list(as_json):
    """List the published weights and where they are here."""
    from gcf.extract.weights import list_weights

    found = list_weights()
    rows = [("backbone", "id", "classes", "download", "here")]
    rows += [(w.backbone, w.id, w.num_classes, w.origin, w.cached or "no") for w in found]
    show({"weights": found}, columns(rows), as_json)


@weights.command("show")
@click.argument("backbone")
@click.argument("weights_id", metavar="ID")
@json_option
def weightsshow(backbone, weights_id, as_json):
    """Show everything that is known of weights: addresses, hash, classes, pixels, path."""
    from gcf.extract.weights import describe_weights

    facts = describe_weights(backbone, weights_id)
    shown = {k: v if k != "classes" else f"{len(v)} names" if v else "names unknown" for k, v in facts.items()}
    show(facts, columns((k, json.dumps(v) if v is not None else "-") for k, v in shown.items()), as_json)


@weights.command("pull")
@click.argument("backbone")
@click.argument("weights_id", metavar="ID", default="default")
@json_option
def weights_pull(backbone, weights_id, as_json):
    """Download weights into the cache, resuming what was begun, and check them."""
    from gcf.extract.weights import pull_weights

    path = pull_weights(backbone, weights_id)
    show({"path": path}, str(path), as_json)


if __name__ == "__main__":
    main()
