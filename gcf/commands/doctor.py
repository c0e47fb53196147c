"""The command that says whether gcf works here, and whether a network's weights get the pixels they expect."""

import click

from gcf.commands.options import BACKBONE, annotations_option, device_option, json_option, path_type, weights_option
from gcf.terminal import show

FAILED = 1


@click.command()
@click.option("--backbone", metavar=BACKBONE, help="Try this network's pixels, too; needs --videos.")
@weights_option
@click.option(
    "--videos",
    type=path_type(exists=True),
    metavar="DIR|LIST",
    help="Videos such as the weights were trained on; 16 or more, of several classes, tell most.",
)
@annotations_option
@device_option
@click.option(
    "--sampling",
    default="native",
    metavar="native|trained|FPS",
    help="Clips of every frame, at the frame rate of the weights' training, or of so many frames a second.",
)
@click.option("--num-clips", type=int, help="Clips to try it on; else two of each of up to 16 videos.")
@click.option("--folder", default=".", metavar="DIR", help="Where results are to go: its room and file locks.")
@json_option
def doctor(as_json, **options):
    """Check that gcf works here; with --backbone and --videos, that its weights get the pixels they expect.

    One line a check: ok, warning (gcf works, less well) or fault (something it needs does not), and what to do.

    With a backbone, the same clips go through the network as its recipe declares them and altered: RGB or BGR, 0..1
    or 0..255, each known mean and std. Where the labels of --annotations are among the network's classes (seven videos
    or more), settings are compared by the probability of the true class; else by whether two clips of one video get
    one answer and other videos another, which is weaker. A network's confidence is shown, and not believed: the surest
    answers come from pixels that are wrong. Then frames are reversed, shuffled and frozen: does it look at motion?

    The exit code is 1 where there is a fault, or where another setting is clearly better than the declared one.

    \b
    gcf doctor
    gcf doctor --folder /mnt/results
    gcf doctor --backbone my_network.py --videos kinetics/val --annotations labels.csv
    """
    from gcf.explain.doctor.run import diagnose

    found = diagnose(progress=True, **options)
    show(found.to_json(), found.describe(), as_json)
    return 0 if found.passed else FAILED
