"""The command that shows what came of a run or a localisation."""

import click

from gcf.commands.options import json_option, path_type
from gcf.terminal import show


@click.command()
@click.argument("folder", type=path_type(), metavar="DIR")
@click.option(
    "-o",
    "--output",
    "out",
    type=path_type(),
    metavar="FILE",
    help="The page of a run.  [default: report.html in DIR]",
)
@click.option("--overwrite", is_flag=True, help="Replace a file that is no page of gcf.")
@json_option
def report(folder, out, overwrite, as_json):
    """Make HTML pages of DIR that need nothing else, and can be sent and printed.

    DIR is a run of train-head or ablate: one page, its plots (PNG) and tables (md, csv, tex) in a folder beside it. Or
    DIR is what localize wrote: a page per video, with its player and a time line of evidence and gate to move through,
    and index.html, a gallery.

    \b
    gcf report table
    gcf report table -o table.html
    gcf report localized
    """
    from gcf.explain.pages.write import report_folder

    pages = report_folder(folder, out, overwrite=overwrite)
    show({"report": pages[0]} | ({"pages": pages[1:]} if pages[1:] else {}), str(pages[0]), as_json)
