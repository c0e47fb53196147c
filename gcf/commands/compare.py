"""The command that compares backbones."""

import click

from gcf.commands.options import INCOMPLETE, path_type, training_options
from gcf.terminal import show


@click.command()
@click.argument("files", nargs=-1, required=True, type=path_type(), metavar="FEATS.h5...")
@click.option(
    "-o",
    "--output",
    "out",
    required=True,
    type=path_type(),
    metavar="DIR",
    help="Folder for the table, and the run of each file in a sub-folder.",
)
@click.option("--head", default="gcf-256", help="The head to compare beside c-clip, d-clips and mean.")
@training_options
def compare(files, out, as_json, **options):
    """Compare backbones: one row for each feature file, trained and judged alike on the same videos.

    The head is compared to D-Clips within a file, and to that of the first file where both hold the same videos. A
    file that cannot be used is named with the reason, and the exit code is 3 (1 where none could be used).

    \b
    gcf compare resnext101.h5 mobilenetv2.h5 -o backbones
    gcf compare resnext101.h5 mobilenetv2.h5 -o backbones --annotations labels.csv --cv group
    """
    from gcf.head.compare import compare_features

    found = compare_features(files, out, **options)
    show(found.metrics, f"{found.markdown}\nin {found.path}", as_json)
    if not found.failed:
        return 0
    return 1 if len(found.failed) == len(found.rows) else INCOMPLETE
