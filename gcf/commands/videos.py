"""Commands that use backbone and head together, on videos."""

from functools import partial

import click

from gcf.commands.options import (
    BACKBONE,
    INCOMPLETE,
    devices_option,
    head_file_option,
    json_option,
    path_type,
    sampling_option,
)
from gcf.terminal import show


@click.command()
@click.argument("head", type=path_type(), metavar="HEAD")
@click.argument("videos", nargs=-1, required=True, metavar="VIDEO...|FEATS.h5")
@click.option("--backbone", metavar=BACKBONE, help="The head's own, where it was a file or folder.")
@click.option("--weights", metavar="PATH|ID", help="The head's own, where they were a file.")
@head_file_option
@click.option("--top", default=5, help="How many classes to show; of several that a video may have, all over 50 %.")
@click.option(
    "--pictures",
    type=path_type(),
    metavar="DIR",
    help="Draw each video: a frame of every clip, its evidence, gate, attention.",
)
@click.option("--truth", type=path_type(exists=True), metavar="FILE", help="Intervals to draw, ActivityNet-style JSON.")
@sampling_option
@devices_option
@click.option("--workers", type=int, help="Decoder processes.  [default: processors]")
@click.option("-o", "--output", "out", type=path_type(), metavar="FILE.csv", help="Write a table, a row a video.")
@click.option("--watch", is_flag=True, help="Go on with every video that comes into the folder, until stopped.")
@click.option("--every", type=float, help="With --watch: seconds between two looks.  [default: 2]")
@click.option("--jsonl", is_flag=True, help="Print a line of JSON for each video as soon as it is done.")
@json_option
def predict(head, videos, as_json, **options):
    """Show the most probable classes of new videos, decoded and described as the trained head HEAD expects.

    HEAD is what train-head left, or the word backbone: the classifier that the network of --backbone brings along.
    VIDEO... is a folder, files, or a text/CSV list. Of a feature file FEATS.h5 the rows are read; it needs no labels
    and no network. --watch prints a video once its file has stayed as it is for two looks; Ctrl-C ends it, with 130.

    \b
    gcf predict run videos/ --jsonl -o table.csv
    gcf predict run incoming/ --watch --jsonl >> seen.jsonl
    gcf predict run feats.h5
    """
    from gcf.commands.predicting import run_predict

    return run_predict(head, videos, as_json=as_json, **options)


@click.command()
@click.argument("folder", type=path_type(), metavar="[DIR]", default="gcf-demo")
@click.option("--videos", type=int, help="How many to make.  [default: 300]")
@click.option("--seeds", type=int, help="How many to compare the heads with.  [default: 5]")
@click.option("--quick", is_flag=True, help="120 videos and 2 seeds: every step, too few to tell heads apart.")
@click.option("--seed", default=0, help="Of the videos.")
@json_option
def demo(folder, as_json, **options):
    """Show the whole road on synthetic videos in DIR (gcf-demo), each step with its command; needs no network.

    Shows a page of one video first, then makes more, extracts with the small backbone that comes with gcf, trains and
    compares heads, classifies the first video, draws pictures. The same command again uses what is there.
    """
    from gcf.explain.demo import run_demo

    say = partial(click.echo, err=True) if as_json else partial(show, None, as_json=False)
    found = run_demo(folder, say=say, progress=True, **options)
    if as_json:
        show(found, "", as_json)
    return 0 if found.complete else INCOMPLETE
