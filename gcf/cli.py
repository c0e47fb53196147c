"""The command line: `gcf` and its commands, which lie in `gcf.commands`; all that is done is done in the library."""

import sys
from collections.abc import Sequence

import click

from gcf._version import __version__
from gcf.commands import (
    checking,
    checks,
    compare,
    doctor,
    export,
    features,
    heads,
    localizing,
    networks,
    report,
    transfer,
    videos,
)
from gcf.terminal import guarded

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True}


@click.group(context_settings=HELP)
@click.version_option(__version__, prog_name="gcf")
def cli() -> None:
    """Video action recognition in two stages: cache clip descriptors once, compare heads on them in minutes.

    \b
    gcf extract videos/ feats.h5 --backbone resnext101    run a frozen 3D CNN over every clip
    gcf train-head feats.h5 -o run                        train GCF-Net's head on the cached descriptors
    gcf ablate feats.h5 -o table                          compare it with C-Clip, D-Clips and single modules

    Exit codes: 0 all well, 1 an error, 2 wrong usage, 3 finished but some videos failed, 4 refused before work,
    5 stopped early and can be resumed, 129, 130 and 143 stopped by a signal.
    """


def main(args: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code."""
    sys.exit(run(args))


def run(args: Sequence[str] | None = None) -> int:
    """Run a command; the exit code of `gcf`."""
    return guarded(lambda: cli.main(args, prog_name="gcf", standalone_mode=False))


for command in (
    *(features.extract, features.merge, features.info, checking.verify, checking.diff),
    *(features.export, features.demo_videos),
    *(heads.train_head, heads.ablate, compare.compare, heads.evaluate, checks.check_head, report.report),
    *(videos.predict, localizing.localize, videos.demo),
    *(transfer.transfer, export.export_head),
    *(networks.backbones, networks.weights, networks.complexity, doctor.doctor),
):
    cli.add_command(command)


if __name__ == "__main__":
    main()
