"""How far OpenVINO's descriptors are from the published network's, and how long an extraction takes to start.

    python benchmarks/runtimes.py [--backbones x3d_s ...] [--weights random]

For each network, in a process of its own: the largest difference of a descriptor in float32, of the largest value; the
worst cosine in bfloat16 where this processor multiplies in it; and the seconds from loaded weights to a network that is
ready and tried: the first time, converting included, later times, and with PyTorch alone. The clips are drawn ones.
"""

import argparse
import logging
import multiprocessing
import os
import tempfile
import time

import torch
from rates import Company

from gcf.extract.backbones import load_backbone
from gcf.extract.backbones.registry import BACKBONES
from gcf.extract.network.agreement import drawn_clips, largest_difference, one_thread
from gcf.extract.network.clip_network import ClipNetwork
from gcf.extract.network.conversion import ModelNames
from gcf.extract.network.folding import is_convolutional
from gcf.extract.network.openvino_map import processor
from gcf.extract.network.precision import precise_network

CPU = torch.device("cpu")
CLIPS = 4


def measure(name: str, weights: str) -> None:
    """Print one network's line."""
    logging.disable(logging.WARNING)
    backbone = load_backbone(name, weights)
    recipe = backbone.recipe
    if not is_convolutional(backbone):
        return
    settings = {"device": CPU, "batch_size": None, "num_frames": recipe["num_frames"]}
    settings["names"] = ModelNames(name, weights, "trained")

    def start(precision: str, runtime: str = "auto") -> tuple[ClipNetwork, dict, float]:
        begun = time.perf_counter()
        network, entries = precise_network(backbone, precision=precision, runtime=runtime, **settings)
        return network, entries, time.perf_counter() - begun

    *_, first = start("auto")
    _, entries, later = start("auto")
    *_, torch_alone = start("fp32", "torch")
    network, exact_entries, _ = start("fp32")
    clips = drawn_clips(recipe["num_frames"], recipe["crop"], CLIPS)
    with one_thread():
        published = ClipNetwork(backbone, device=CPU, precision="fp32", batch_size=1)
        differs = largest_difference(network, published, clips)
    cosine = entries["precision_cosine"]
    figures = [f"{exact_entries['runtime']} {differs:.1e}", str(cosine or "-"), f"{entries['precision']}"]
    figures += [f"{seconds:.1f}" for seconds in (first, later, torch_alone)]
    print(f"| {' | '.join([name, *figures])} |", flush=True)


def main() -> None:
    """Measure the networks one after another."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=tuple(BACKBONES))
    parser.add_argument("--weights", default="random")
    args = parser.parse_args()
    company = Company()
    print(f"torch {torch.__version__}; {processor()}; weights {args.weights}; {CLIPS} drawn clips")
    print("| network | float32 by, differs | bf16 cosine | auto | first start s | later s | torch s |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as home:
        os.environ["GCF_HOME"] = home
        for name in args.backbones:
            child = multiprocessing.get_context("spawn").Process(target=measure, args=(name, args.weights))
            child.start()
            child.join()
    print(company)


if __name__ == "__main__":
    main()
