"""Commands that hand what was trained on to other programs."""

import click

from gcf.commands.options import head_file_option, json_option, path_type
from gcf.terminal import show


@click.command("export-head")
@click.argument("head", type=path_type(), metavar="HEAD")
@click.argument("out", type=path_type(), metavar="OUT.onnx")
@click.option("--opset", type=int, help="Version of ONNX's operators.  [default: 18]")
@head_file_option
@json_option
def export_head(head, out, as_json, opset, head_file):
    """Write the trained head HEAD (a run folder) as ONNX, for any number of videos and clips.

    It is compared with the head in torch before it is kept. Descriptors (B, C, D) and the mask (B, C) of real clips go
    in; logits come out, with gate, evidence and attention where the head has them. The heads of several seeds become
    one that gives the mean of their probabilities.
    """
    from gcf.head.onnx_export import OPSET, describe, export_onnx

    result = export_onnx(head, out, opset=opset or OPSET, head_file=head_file)
    show(result, describe(result), as_json)
