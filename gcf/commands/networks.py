"""Commands about the clip networks, their weights and what they cost."""

import json

import click

from gcf.commands.options import json_option
from gcf.terminal import columns, show


@click.command()
@json_option
def complexity(as_json):
    """Count parameters and MACs of backbones and heads, beside the paper's Table 3."""
    from gcf.explain.complexity import complexity_table

    table = complexity_table()
    show(table, table.describe(), as_json)


@click.command()
@json_option
def backbones(as_json):
    """List the clip networks and their published weights."""
    from gcf.extract.backbones import list_backbones

    found = list_backbones()
    rows = [("name", "descriptor", "parameters", "without stride in time", "weights (default first)")]
    rows += [
        (b.name, b.descriptor_width, b.parameters, "no" if b.stride_stays or b.plugin else "yes", _weights_of(b))
        for b in found
    ]
    show({"backbones": found}, columns(rows), as_json)


def _weights_of(backbone) -> str:
    return "its own" if backbone.plugin else ", ".join(backbone.weights) or "none published"


@click.group()
def weights():
    """List, show and fetch published weights; they are kept in $GCF_HOME (default: the XDG cache folder)."""


@weights.command("list")
@json_option
def weights_list(as_json):
    """List the published weights and where they are here."""
    from gcf.extract.weights import list_weights

    found = list_weights()
    rows = [("backbone", "id", "classes", "download", "here")]
    rows += [(w.backbone, w.id, w.num_classes, w.origin, w.cached or "no") for w in found]
    show({"weights": found}, columns(rows), as_json)


@weights.command("show")
@click.argument("backbone")
@click.argument("weights_id", metavar="ID")
@json_option
def weightsshow(backbone, weights_id, as_json):
    """Show everything that is known of weights: addresses, hash, classes, pixels, path."""
    from gcf.extract.weights import describe_weights

    facts = describe_weights(backbone, weights_id)
    shown = {k: v if k != "classes" else f"{len(v)} names" if v else "names unknown" for k, v in facts.items()}
    show(facts, columns((k, json.dumps(v) if v is not None else "-") for k, v in shown.items()), as_json)


@weights.command("pull")
@click.argument("backbone")
@click.argument("weights_id", metavar="ID", default="default")
@json_option
def weights_pull(backbone, weights_id, as_json):
    """Download weights into the cache, resuming what was begun, and check them."""
    from gcf.extract.weights import pull_weights

    path = pull_weights(backbone, weights_id)
    show({"path": path}, str(path), as_json)
