"""The command that tries whether a head keeps its promises."""

import click

from gcf.commands.options import head_file_option, json_option, path_type
from gcf.terminal import show

FAILED = 1


@click.command("check-head")
@click.argument("head", metavar="HEAD|NAME|FILE.py")
@click.option("--features", type=path_type(exists=True), metavar="FEATS.h5", help="Real clips instead of random ones.")
@head_file_option
@click.option("--num-clips", default=10, help="Clips a video at most.")
@json_option
def check_head(head, as_json, **options):
    """Check that a head ignores padding, batch and (unless it says otherwise) order, and can be trained.

    HEAD is a trained head's folder, a preset, or a plug-in file. The exit code is 1 where a check fails.

    \b
    gcf check-head run
    gcf check-head my_head.py --features feats.h5
    """
    from gcf.head.checks import check_head

    found = check_head(head, **options)
    show(found.to_json(), found.describe(), as_json)
    return 0 if found.passed else FAILED
