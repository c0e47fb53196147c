"""Commands about the clip networks, their weights and what they cost."""

import json

import click

from gcf.commands.options import json_option
from gcf.terminal import columns, show

NOTES = """\
unstrided: can be used without stride in time. top-1: of the default weights, as their authors measured it, each their
own way: `gcf weights show` says how. docs/backbones.md has the clip sizes, costs and speeds.
Beside these, --backbone takes a plug-in (mine.py) and Hugging Face video models (hf:OWNER/NAME, hf:./FOLDER)."""


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
    rows = [("name", "descriptor", "parameters", "unstrided", "top-1 %", "data", "download", "weights (default first)")]
    rows += map(_backbone_row, found)
    show({"backbones": found}, f"{columns(rows)}\n\n{NOTES}", as_json)


def _backbone_row(backbone) -> tuple:
    weights = "its own" if backbone.plugin else ", ".join(backbone.weights) or "none published"
    unstrided = "no" if backbone.stride_stays or backbone.plugin else "yes"
    facts = (backbone.name, backbone.descriptor_width, backbone.parameters, unstrided)
    return (*facts, _percent(backbone.top1), backbone.dataset or "-", backbone.origin or "-", weights)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


@click.group()
def weights():
    """List, show and fetch published weights; they are kept in $GCF_HOME (default: the XDG cache folder)."""


@weights.command("list")
@json_option
def weights_list(as_json):
    """List the published weights and where they are here."""
    from gcf.extract.backbones.published import list_weights

    found = list_weights()
    rows = [("backbone", "id", "classes", "top-1 %", "download", "here")]
    rows += [(w.backbone, w.id, w.num_classes, _percent(w.top1), w.origin, w.cached or "no") for w in found]
    show({"weights": found}, columns(rows), as_json)


@weights.command("show")
@click.argument("backbone")
@click.argument("weights_id", metavar="ID")
@json_option
def weightsshow(backbone, weights_id, as_json):
    """Show everything that is known of weights: addresses, hash, classes, pixels, path."""
    from gcf.extract.backbones.published import describe_weights

    facts = describe_weights(backbone, weights_id)
    count = len(facts["classes"] or ())
    shown = facts | {"classes": f"{count} names" if count else "names unknown"}
    show(facts, columns((k, json.dumps(v) if v is not None else "-") for k, v in shown.items()), as_json)


@weights.command("pull")
@click.argument("backbone")
@click.argument("weights_id", metavar="ID", default="default")
@json_option
def weights_pull(backbone, weights_id, as_json):
    """Download weights into the cache, resuming what was begun, and check them."""
    from gcf.extract.backbones.published import pull_weights

    path = pull_weights(backbone, weights_id)
    show({"path": path}, str(path), as_json)
