"""Commands that judge feature files: one by itself, or two against each other."""

import click

from gcf.commands.options import json_option, path_type
from gcf.terminal import show

DIFFERENT, UNBELIEVABLE = 1, 4


@click.command()
@click.argument("file", type=path_type())
@json_option
def verify(file, as_json):
    """Read all of the feature file FILE and say what in it cannot be.

    Structure, counts, recipe hash; every descriptor and logit finite; frames and times of clips, names, labels and
    sizes possible. Zeros and videos that never change are warnings. What extraction would have written, too, is named
    as missing. FILE is not changed, and memory does not grow with it.

    The exit code is 0 where all is well, warnings included, and 4 where the file cannot be believed.

    \b
    gcf verify feats.h5
    gcf verify feats.h5 --json
    """
    from gcf.data.verify import verify_features

    found = verify_features(file, progress=True)
    show(found.to_json(), found.describe(), as_json)
    return 0 if found.sound else UNBELIEVABLE


@click.command()
@click.argument("a", type=path_type(), metavar="A.h5")
@click.argument("b", type=path_type(), metavar="B.h5")
@json_option
def diff(a, b, as_json):
    """Compare two feature files: recipes, videos, labels, clips, and descriptors and logits clip by clip.

    Says the largest absolute difference, the largest relative to the row's largest value, and the smallest cosine,
    each with its video, clip and view. Values are compared, not their types: float16 may equal float32.

    The exit code is 0 where both say the same and 1 where they differ. Recipe entries that do not change what a
    descriptor means (versions, device, batch size, type, the weights' name) and the videos' times of change on the
    disk are no difference.

    \b
    gcf diff feats.h5 again.h5
    gcf diff cpu.h5 gpu.h5 --json
    """
    from gcf.data.difference import diff_features

    found = diff_features(a, b, progress=True)
    show(found.to_json(), found.describe(), as_json)
    return 0 if found.same else DIFFERENT
