"""Commands that train, compare and judge heads on a feature file."""

import click

from gcf.commands.options import (
    INCOMPLETE,
    annotations_option,
    head_file_option,
    joined_features,
    json_option,
    multi_label_option,
    output_option,
    path_type,
    run_folder,
    run_options,
    training_options,
)
from gcf.terminal import show


@click.command("train-head")
@click.argument("features", type=path_type(), metavar="FEATS.h5")
@output_option
@click.option(
    "--head",
    metavar="NAME|FILE.py",
    help="A preset: gcf-256, gcf-256-b, gcf-256-g0, gcf-1024, fusion-only, attention-only; gcf-gated (its gate chooses "
    "clips), gated-gate-only, gated-fusion-only; mean, clip, max, logreg, mil, stpn, topk, transformer, gru, nextvlad; "
    "or a plug-in file.",
)
@click.option("--gate", help="Another gate: clips (squeeze-excite across 10 clips), token (any number of clips), none.")
@click.option("--init", type=path_type(exists=True), metavar="HEAD", help="Start from a trained head.")
@head_file_option
@click.option("--freeze", default="none", help="With --init: none, or all-but-classifier.")
@training_options
@run_options
def train_head(features, out, joined, as_json, **options):
    """Train a head on the cached descriptors FEATS.h5 and judge it on the test videos, once, at the end.

    \b
    gcf train-head feats.h5 -o run
    gcf train-head feats.h5 -o run --annotations labels.csv --cv group
    gcf train-head ucf.h5 -o transfer --init kinetics_run --freeze all-but-classifier
    """
    from gcf.head.training import train_head

    run = train_head(joined_features(features, joined), out or run_folder(features, "head"), **options)
    show(run.metrics, run.describe(), as_json)


@click.command()
@click.argument("features", type=path_type(), metavar="FEATS.h5")
@output_option
@click.option(
    "--preset",
    help="modules (the paper's Table 2, and mean), dims and layers (its Fig. 3), clips, lambda, gate, residual, "
    "readings, heads, gated (gcf-gated and its parts).  [default: modules]",
)
@click.option("--head", "heads", multiple=True, metavar="NAME|FILE.py", help="Compare these heads; may be repeated.")
@click.option(
    "--grid",
    multiple=True,
    metavar="FIELD=A,B,...",
    help="Compare all combinations on one --head (gcf-256): width=64,256, layers, sparsity, num_clips, lr, ...",
)
@click.option("--reference", default="d-clips", metavar="ARM", help="The arm that the others are compared to.")
@click.option(
    "--reuse/--no-reuse",
    default=True,
    help="Use and keep results in FEATS.h5.results/; of a head of your own, its file counts, not what it imports.",
)
@training_options
@run_options
def ablate(features, out, joined, as_json, **options):
    """Compare heads on FEATS.h5 over the same videos, splits, clips and seeds; differences are paired.

    The same command again goes on where it was stopped. An arm that fails does not stop the others; it is named, and
    the exit code is 3.

    \b
    gcf ablate feats.h5 -o table
    gcf ablate feats.h5 -o table --cv group --seeds 5
    gcf ablate feats.h5 -o widths --preset dims
    gcf ablate feats.h5 -o own --head my_head.py --head gcf-256 --reference gcf-256
    gcf ablate feats.h5 -o grid --grid layers=1,2 --grid sparsity=0,1e-3
    """
    from gcf.head.ablation import ablate

    found = ablate(joined_features(features, joined), out or run_folder(features, "ablation"), **options)
    show(found.metrics, f"{found.markdown}\nin {found.path}", as_json)
    return INCOMPLETE if found.failed else 0


@click.command("eval")
@click.argument("head", type=path_type(), metavar="HEAD")
@click.argument("features", type=path_type(), metavar="FEATS.h5")
@annotations_option
@multi_label_option
@head_file_option
@click.option("--subset", help="train, val, test or all.  [default: test where there is one, else all]")
@json_option
def evaluate(head, features, as_json, multi_label, **options):
    """Judge the trained head HEAD (a run folder) on the labelled videos of FEATS.h5.

    A head that was trained with --multi-label is judged so without being told.
    """
    from gcf.head.evaluate import evaluate_head
    from gcf.head.tables.summary import describe

    metrics = evaluate_head(head, features, multi_label=multi_label or None, **options)
    show(metrics, describe(metrics), as_json)
