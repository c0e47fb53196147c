"""The command that shows what came of a run."""

import click

from gcf.commands.options import json_option, path_type
from gcf.terminal import show


@click.command()
@click.argument("run", type=path_type(), metavar="RUN_DIR")
@click.option(
    "-o", "--output", "out", type=path_type(), metavar="FILE", help="The page.  [default: report.html in RUN_DIR]"
)
@click.option("--overwrite", is_flag=True, help="Replace a file that is no report of gcf.")
@json_option
def report(run, out, overwrite, as_json):
    """Make one HTML page of RUN_DIR, a run of train-head or ablate: it needs nothing else, and can be sent and printed.

    Its plots (PNG) and tables (md, csv, tex) go into a folder beside it.

    \b
    gcf report table
    gcf report table -o table.html
    """
    from gcf.head.report.write import write_report

    page = write_report(run, out, overwrite=overwrite)
    show({"report": page}, str(page), as_json)
