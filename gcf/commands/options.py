"""Options that commands share. Letters mean the same in every command: -h help, -o output."""

from pathlib import Path

import click

INCOMPLETE = 3  # the exit code where all is done, and some videos failed


def path_type(**options) -> click.Path:
    """A path as pathlib has it."""
    return click.Path(path_type=Path, **options)


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
head_file_option = click.option(
    "--head-file",
    type=path_type(exists=True),
    metavar="FILE.py",
    help="The Python file of a trained plug-in head, the one that it was trained with: it is run, and none that only "
    "the head names.",
)
annotations_option = click.option(
    "--annotations",
    type=path_type(exists=True),
    metavar="FILE",
    help="Labels, subsets and groups: CSV (path,label[,subset][,group]), UCF-101 or HMDB-51 lists, Kinetics CSV, "
    "ActivityNet-style JSON; recognised by itself. Without it, sub-folders name the classes.",
)
multi_label_option = click.option(
    "--multi-label",
    is_flag=True,
    help="A video may have several classes: in a CSV file with | between them, in JSON those of all its segments. "
    "Judged by mAP and hit@1.",
)
merge_labels_option = click.option(
    "--merge-labels",
    is_flag=True,
    help="Take classes that differ in letter case or blanks only as one, by the commonest spelling.",
)
device_option = click.option("--device", default="auto", help="auto (a GPU where there is one), cpu, cuda, cuda:1, ...")
devices_option = click.option(
    "--device",
    default="auto",
    help="auto (a GPU where there is one), cpu, cuda, cuda:1, mps, xpu, or several: cuda:0,cuda:1.",
)
BACKBONE = "NAME|FILE.py|hf:REPO|hf:DIR"  # what names one
sampling_option = click.option(
    "--sampling",
    metavar="native|trained|FPS",
    help="With the word backbone as HEAD: every frame, the frame rate of the weights' training, or so many frames a "
    "second.  [default: native]",
)
weights_option = click.option(
    "--weights",
    default="default",
    metavar="ID|PATH|random",
    help="See `gcf weights list`; or a checkpoint file; or the revision of an hf: repository; `random` is for trying "
    "the pipeline only.",
)


output_option = click.option(
    "-o",
    "--output",
    "out",
    type=path_type(),
    metavar="RUN_DIR",
    help="Folder for metrics, predictions, plots, heads.  [default: FEATS-head, -ablation, -transfer, beside FEATS.h5]",
)


class Cv(click.ParamType):
    """group, official, or a number of folds."""

    name = "group|official|K"

    def convert(self, value, param, ctx):  # noqa: ARG002 - click's signature
        """An int where it is a number."""
        return int(value) if str(value).isdigit() else value


def joined_features(features: Path, joined: tuple[Path, ...]) -> Path | list[Path]:
    """FEATS.h5, or with those of --with."""
    return [features, *joined] if joined else features


def run_folder(features: Path, kind: str) -> Path:
    """Where a run goes that was given no folder: beside its features."""
    return features.with_name(f"{features.stem}-{kind}")


def training_options(command):
    """What all commands that train share."""
    options = [
        annotations_option,
        multi_label_option,
        merge_labels_option,
        click.option("--cv", type=Cv(), help="Cross-validate: leave one group out, published splits, K folds."),
        click.option(
            "--judge",
            type=click.Choice(["val", "test"]),
            help="Which subset judges, once, at the end. val: the published one, as for Kinetics; another val is "
            "carved from train to choose by.  [default: test; val where train and val are marked and test is not]",
        ),
        click.option(
            "--seeds", type=int, help="How many seeds, counted from --seed.  [default: 1 to train, 5 to compare]"
        ),
        click.option("--seed", default=0, help="Of initial values, batches and random clips."),
        click.option("--num-clips", default=10, help="Clips a video at most."),
        click.option(
            "--clip-policy",
            default="uniform",
            help="Which clips of a longer video: uniform, first, random, or all (for gates of any number: token).",
        ),
        click.option(
            "--padding",
            default="mask",
            help="What fills a shorter video: mask (nothing), or loop (its clips again, as in the paper).",
        ),
        click.option(
            "--epochs",
            type=int,
            help="Passes over the training videos at most.  [default: 100, or what makes 200 steps; adamw: 40, or 240]",
        ),
        click.option("--batch-size", default=128, help="Videos a batch."),
        click.option(
            "--recipe",
            help="How weights are moved: paper (SGD, its rate divided by 10 on plateaus), or adamw (AdamW, cosine).  "
            "[default: adamw for gcf-gated and its parts, paper for all others]",
        ),
        click.option("--lr", type=float, help="Initial rate.  [default: 0.1, 0.01 when frozen; adamw: 0.001]"),
        click.option("--weight-decay", type=float, help="[default: 0.001; adamw: 0.05, of matrices alone]"),
        click.option("--sparsity", type=float, help="Lambda of the gate's L1 term.  [default: 0.0001; adamw: 0.01]"),
        click.option("--sampling", default="shuffle", help="shuffle, or balanced: every class as likely."),
        click.option(
            "--batch-order",
            default="own",
            help="own: every seed shuffles the videos anew; shared: all seeds see the same batches, which is quicker.",
        ),
        click.option("--class-weights", default="none", help="none, or balanced: rare classes weigh more in the loss."),
        click.option(
            "--standardise/--no-standardise",
            default=None,
            help="Descriptors less their mean over one scale, both of the training clips.  [default: for all heads but "
            "gcf-256 and its like, which are printed without]",
        ),
        click.option("--precision", default="auto", help="auto (bf16 where it pays and changes nothing), fp32, bf16."),
        device_option,
        click.option("--overwrite", is_flag=True, help="Replace an earlier run in RUN_DIR; other files there stay."),
        json_option,
    ]
    for option in reversed(options):
        command = option(command)
    return command


def run_options(command):
    """What train-head and ablate share beyond that."""
    options = [
        click.option(
            "--with",
            "joined",
            multiple=True,
            type=path_type(),
            metavar="OTHER.h5",
            help="Further features of the same videos, joined to FEATS.h5 (two-stream style); may be repeated.",
        ),
        click.option("--audit/--no-audit", default=True, help="Look for copies of videos across the splits first."),
        click.option("--tensorboard", type=path_type(), metavar="DIR", help="Write the curves for TensorBoard."),
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
