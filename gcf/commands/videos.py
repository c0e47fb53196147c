"""Commands that use backbone and head together, on videos."""

from functools import partial

import click

from gcf.commands.options import INCOMPLETE, device_option, json_option, path_type
from gcf.terminal import show


@click.command()
@click.argument("head", type=path_type(), metavar="HEAD")
@click.argument("videos", nargs=-1, required=True, metavar="VIDEO...")
@click.option("--backbone", metavar="FILE.py|NAME", help="The head's own, where it was a plug-in.")
@click.option("--weights", metavar="PATH|ID", help="The head's own, where they were a file.")
@click.option("--top", default=5, help="How many classes to show.")
@click.option(
    "--pictures",
    type=path_type(),
    metavar="DIR",
    help="Draw each video: a frame of every clip, its evidence, gate, attention.",
)
@click.option("--truth", type=path_type(exists=True), metavar="FILE", help="Intervals to draw, ActivityNet-style JSON.")
@device_option
@click.option("--workers", type=int, help="Decoder processes.  [default: processors - 1]")
@json_option
def predict(head, videos, as_json, **options):
    """Show the most probable classes of new videos, decoded and described as the trained head HEAD expects."""
    from gcf.explain.predict import describe, predict_videos

    found = predict_videos(head, videos, progress=True, **options)
    show({"videos": found}, describe(found), as_json)
    return INCOMPLETE if any(p.error or p.note for p in found) else 0


@click.command()
@click.argument("folder", type=path_type(), metavar="[DIR]", default="gcf-demo")
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
