"""The command that carries a head from one data set to another."""

import click

from gcf.commands.options import head_file_option, output_option, path_type, run_folder, training_options
from gcf.terminal import show


@click.command()
@click.argument("files", nargs=-1, required=True, type=path_type(), metavar="[SOURCE.h5] TARGET.h5")
@output_option
@click.option("--init", type=path_type(exists=True), metavar="HEAD", help="A trained head, instead of SOURCE.h5.")
@head_file_option
@click.option("--head", help="The head to train on SOURCE.h5, as for train-head.  [default: gcf-256]")
@click.option("--gate", help="Another gate for it, as for train-head.")
@click.option(
    "--source-annotations",
    type=path_type(exists=True),
    metavar="FILE",
    help="Annotations of SOURCE.h5; those of --annotations are TARGET.h5's.",
)
@training_options
def transfer(files, out, as_json, init, **options):
    """Train a head on SOURCE.h5, then its last layer alone on TARGET.h5 (the paper's protocol for UCF-101).

    The same head trained on TARGET.h5 from the start is set beside it, on the same videos; the difference is paired.
    --annotations, --cv and --seeds are TARGET.h5's. --lr is the rate of the trainings from the start; the last layer is
    trained at 0.01.

    \b
    gcf transfer kinetics.h5 ucf.h5 -o transfer --annotations ucfTrainTestlist/ --cv official
    gcf transfer ucf.h5 -o transfer --init kinetics_run --annotations ucfTrainTestlist/ --cv official
    """
    from gcf.head.transfer import transfer_head

    if len(files) != (1 if init else 2):
        raise click.UsageError("give SOURCE.h5 and TARGET.h5, or --init HEAD and TARGET.h5 alone")
    *source, target = files
    place = out or run_folder(target, "transfer")
    run = transfer_head(source[0] if source else None, target, place, init=init, **options)
    show(run.metrics, run.describe(), as_json)
