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


SECTIONS = {  # each command with what it does in a line of at most 64 characters
    "Extract": (
        (features.extract, "Cache the clip descriptors of videos in one HDF5 file."),
        (networks.backbones, "List the clip networks and their published weights."),
        (networks.weights, "List, show and fetch published weights."),
    ),
    "Train and compare": (
        (heads.train_head, "Train a head on cached descriptors, judge it once at the end."),
        (heads.ablate, "Compare heads over the same videos, splits, clips and seeds."),
        (compare.compare, "Compare backbones: one row for each feature file."),
        (transfer.transfer, "Train on one data set, then the last layer on another."),
        (heads.evaluate, "Judge a trained head on labelled videos."),
        (checks.check_head, "Check a head of your own before you rely on it."),
        (networks.complexity, "Count parameters and MACs of backbones and heads."),
    ),
    "Look": (
        (report.report, "Make pages of a run: tables, pictures, players."),
        (localizing.localize, "Say when, where and why a head sees its classes."),
        (videos.predict, "Show the most probable classes of new videos."),
    ),
    "Files": (
        (features.info, "Say in words what a feature file holds."),
        (checking.verify, "Read all of a feature file, and say what cannot be."),
        (checking.diff, "Say what differs between two feature files."),
        (features.merge, "Merge the feature files of several machines."),
        (features.export, "Write descriptors as plain arrays or text."),
        (export.export_head, "Write a trained head as ONNX."),
    ),
    "Help": (
        (videos.demo, "Show the whole road on synthetic videos, without a network."),
        (features.demo_videos, "Make synthetic videos whose truth is known."),
        (doctor.doctor, "Check that gcf works here, and that weights fit their pixels."),
    ),
}


class SectionedGroup(click.Group):
    """A group whose help lists its commands in sections."""

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections."""
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(str(command.name), text) for command, text in commands])


@click.group(cls=SectionedGroup, context_settings=HELP)
@click.version_option(__version__, prog_name="gcf")
def cli() -> None:
    """Video action recognition in two stages: cache clip descriptors once, compare heads on them in minutes.

    \b
    gcf extract videos/ feats.h5 --backbone x3d_s    once
    gcf ablate feats.h5 -o table                     as often as you like
    gcf train-head feats.h5 -o run                   a head to keep
    gcf predict run new/                             what new videos show

    Every command explains itself: gcf COMMAND -h. Exit codes: 0 all well, 1 an error, 2 wrong usage, 3 finished but
    some videos failed, 4 refused before work, 5 stopped early and can be resumed, 129, 130 and 143 stopped by a signal.
    """


def main(args: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code."""
    sys.exit(run(args))


def run(args: Sequence[str] | None = None) -> int:
    """Run a command; the exit code of `gcf`."""
    return guarded(lambda: cli.main(args, prog_name="gcf", standalone_mode=False))


for command, text in (entry for commands in SECTIONS.values() for entry in commands):
    command.short_help = text
    cli.add_command(command)


if __name__ == "__main__":
    main()
