"""What the tests of stage one share: a plug-in small enough to run hundreds of times, and its extraction."""

from pathlib import Path

from gcf import extract_videos

TINY = str(Path(__file__).with_name("tiny_backbone.py"))


def extract(source, out, **options):
    """`extract_videos` with the tiny plug-in, two decoders, small batches, by PyTorch in float32 on every machine."""
    settings = {"batch_size": 4, "workers": 2, "precision": "fp32", "runtime": "torch"} | options
    return extract_videos(source, out, backbone=TINY, **settings)
