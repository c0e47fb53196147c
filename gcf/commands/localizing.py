"""The command that says when, where and why."""

import click

from gcf.commands.options import (
    BACKBONE,
    INCOMPLETE,
    devices_option,
    head_file_option,
    json_option,
    path_type,
    run_folder,
    sampling_option,
)
from gcf.terminal import show


@click.command()
@click.argument("head", type=path_type(), metavar="HEAD")
@click.argument("videos", nargs=-1, required=True, metavar="VIDEO...|FEATS.h5")
@click.option(
    "-o",
    "--output",
    "out",
    type=path_type(),
    metavar="DIR",
    help="Folder for videos, sheets and tables.  [default: HEAD-localized, beside HEAD]",
)
@click.option(
    "--backbone", metavar=BACKBONE, help="The head's own, where it was a file or folder; or whose classifier to take."
)
@click.option("--weights", metavar="PATH|ID", help="The head's own, where they were a file.")
@head_file_option
@click.option("--class", "label", metavar="NAME", help="The class to show.  [default: each video's most probable]")
@click.option("--gate-threshold", "threshold", default=0.5, help="Clips whose gate does not pass it get no heat map.")
@click.option("--heat/--no-heat", default=True, help="Heat maps: where in the picture.")
@click.option("--windows", default=1, help="Maps of a clip, from the clip moved in time, at so many times the cost.")
@click.option(
    "--channels",
    default="all",
    type=click.Choice(["all", "positive"]),
    help="Of the feature map: all is the paper's Grad-CAM; positive, only those that speak for the class.",
)
@click.option("--overlay/--no-overlay", default=True, help="A video of each, drawn over.")
@click.option("--sheet/--no-sheet", default=True, help="A contact sheet of each.")
@click.option(
    "--temporal-stride",
    type=click.Choice(["none"]),
    help="A map for every frame, from the same weights without strides in time.",
)
@click.option(
    "--truth",
    type=path_type(exists=True),
    metavar="FILE",
    help="Annotated intervals, ActivityNet-style JSON: drawn, and measured against.",
)
@click.option("--subset", metavar="train|val|test", help="Only the videos that the truth has in it.")
@sampling_option
@devices_option
@click.option("--workers", type=int, help="Decoder processes.  [default: processors]")
@click.option("--overwrite", is_flag=True, help="Replace a localisation by another head or with other settings.")
@json_option
def localize(head, videos, out, as_json, **options):
    """Say when, where and why the trained head HEAD sees its classes in videos.

    HEAD is what train-head left, or the word backbone: the classifier that the network of --backbone brings along.
    For each video an overlay with heat maps, a contact sheet, and intervals; for all of them intervals.csv,
    intervals.json (ActivityNet's form) and clips.csv. A feature file gives the intervals alone. The same command goes
    on where it was stopped. `gcf report DIR` makes a page of each.

    \b
    gcf localize run videos/ -o seen
    gcf report seen
    """
    from gcf.explain.localize import LocalizeConfig, localize_videos

    drawn = ("label", "threshold", "heat", "overlay", "sheet", "windows", "channels", "temporal_stride")
    config = LocalizeConfig(**{name: options.pop(name) for name in drawn})
    out = out or run_folder(head, "localized")
    found = localize_videos(head, videos, out, config=config, progress=True, **options)
    show(found.summary(), found.describe(), as_json)
    return 0 if found.complete else INCOMPLETE
