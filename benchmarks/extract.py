"""How fast `gcf extract` is beside the plain way and beside what the machine allows, in one run on the same videos.

    python benchmarks/extract.py VIDEOS [--backbones resnext101 ...] [--count 24] [--seconds 15]

ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 before it holds a newer processor to what an older one has.

plain     the way public extractors work: a whole video decoded into memory, float32, one clip a forward pass, nothing
          side by side; decoder and network with all threads
bare      the network on ready pixels, as gcf runs it, at the best of several batch sizes
decoding  decoding and resizing alone, in one process
limit     the rate at which the processor time of `bare` and of `decoding` adds up, since both need the same cores
gcf       the extraction, from the start of the decoders to the last row, the same videos under many names

Weights are random: they change no time. Start-up (imports, weights, conversion, trial) is in none of them. Beside other
work there are no ratios: the slower side suffers more from it.
"""

import argparse
import logging
import math
from dataclasses import replace

import av
import joblib
import numpy as np
import torch
from rates import Company, Rate, local_copies, measured, median_frames

from gcf.extract.backbones import load_backbone
from gcf.extract.backbones.normalise import Normalise
from gcf.extract.decoding.clips import fill_indices
from gcf.extract.decoding.find import VideoPath
from gcf.extract.decoding.jobs import Clip, ClipJob, decode_clips
from gcf.extract.decoding.preprocess import Geometry, centre_view
from gcf.extract.network.clip_network import ClipNetwork
from gcf.extract.network.network_pool import NetworkPool
from gcf.extract.network.openvino_map import processor
from gcf.extract.network.precision import natural_precision
from gcf.extract.stream.config import ExtractConfig
from gcf.extract.stream.pipeline import load_network, stream_features

BACKBONES = ("shufflenetv2", "mobilenetv2", "x3d_s", "s3d", "resnext101", "r2plus1d_18", "r3d_18")
SIZES = (1, 2, 4, 8)  # of batches
CPU = torch.device("cpu")
BARE_SECONDS = 3.0


def plain(videos: list[VideoPath], backbone: torch.nn.Module, geometry: Geometry, num_frames: int) -> int:
    """Extract as it is usually written; gives the number of clips."""
    normalise, count, rows = Normalise(backbone.recipe), 0, []
    for video in videos:
        with av.open(video.path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            frames = np.stack([centre_view(f.to_ndarray(format="rgb24"), geometry) for f in container.decode(stream)])
        for start in range(0, len(frames), num_frames):
            real = frames[start : start + num_frames]
            clip = real[fill_indices(len(real), clip_len=num_frames, tail="loop")]
            with torch.inference_mode():
                rows.append(backbone.descriptor(backbone.feature_map(normalise(torch.from_numpy(clip[None])))).numpy())
            count += 1
    return count


def bare(network: ClipNetwork, shape: tuple[int, ...]) -> Rate:
    """The network alone on ready pixels, best of three."""
    pixels = np.random.default_rng(0).integers(0, 256, (network.batch_size, *shape), dtype=np.uint8)
    with NetworkPool([network]) as networks:

        def work(batches: int) -> int:
            futures = [networks.submit(pixels) for _ in range(batches)]
            return sum(len(future.result()[0]) for future in futures)

        work(networks.count)
        enough = max(networks.count, round(BARE_SECONDS * measured(lambda: work(networks.count)).a_second))
        batches = math.ceil(enough / network.batch_size)
        return max((measured(lambda: work(batches)) for _ in range(3)), key=lambda r: r.a_second)


def decoding(videos: list[VideoPath], job: ClipJob) -> Rate:
    """Decoding and resizing alone, in this process with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def work() -> int:
        return sum(isinstance(item, Clip) for v in videos for item in decode_clips(v.path, v.id, job))

    work()
    rate = measured(work)
    torch.set_num_threads(threads)
    return rate


def gcf(videos: list[VideoPath], network: ClipNetwork, recipe: dict, config: ExtractConfig) -> Rate:
    """The extraction without writing: from the start of the decoders to the last row."""

    def work() -> int:
        outcomes = list(stream_features(videos, network, recipe, config))
        return sum(len(rows.descriptors) for _, rows in outcomes)

    return measured(work)


def compare(name: str, videos: list[VideoPath], seconds: float, company: Company) -> None:
    """Print one backbone's rates and, where nothing else was at work, their ratios."""
    config = ExtractConfig()
    network, recipe = load_network(name, "random", config)
    job = ClipJob.from_recipe(recipe)
    geometry, num_frames = job.geometry, recipe["num_frames"]
    shape = (num_frames, *geometry.crop, 3)
    exact = load_backbone(name, "random")
    one = measured(lambda: plain(videos[:1], exact, geometry, num_frames))  # warm, and how long a video takes
    few = videos[: max(1, round(seconds / one.seconds))]
    usual = measured(lambda: plain(few, exact, geometry, num_frames))
    rates = {size: bare(load_network(name, "random", replace(config, batch_size=size))[0], shape) for size in SIZES}
    best = max(rates, key=lambda size: rates[size].a_second)
    decoded = decoding(videos, job)
    cores = joblib.cpu_count()
    core_seconds = rates[best].processor / rates[best].clips + decoded.processor / decoded.clips
    limit = cores / core_seconds
    many = [VideoPath(v.path, f"{n}/{v.id}") for n in range(math.ceil(seconds * limit / decoded.clips)) for v in videos]
    ours = [gcf(many, network, recipe, config) for _ in range(2)]
    rate = max(ours, key=lambda r: r.a_second)
    tried = recipe["precision_cosine"] and f", worst cosine to float32 {recipe['precision_cosine']}"
    print(f"\n{name}: {recipe['precision']} by {recipe['runtime']}{tried or ''}, random weights; {company}")
    print(f"  plain     {usual}")
    sizes = ", ".join(f"{size}: {r.a_second:.1f}" for size, r in rates.items())
    print(f"  bare      {rates[best]}   (clips/s by batch size: {sizes})")
    print(f"  decoding  {decoded}   (one process)")
    print(f"  limit     {limit:7.1f} clips/s {1e3 * core_seconds:7.1f} core-ms/clip   on {cores} cores")
    print(f"  gcf       {rate}   batches of {recipe['batch_size']}, {rate.clips} clips")
    if company.quiet:
        shares = [f"{rate.a_second / rates[best].a_second:.2f} of bare", f"{rate.a_second / limit:.2f} of limit"]
        print(f"  ratios: {rate.a_second / usual.a_second:.2f} x plain, {', '.join(shares)}", flush=True)
    else:
        print("  no ratios: other programs were at work", flush=True)


def main() -> None:
    """Compare the backbones one after another."""
    company = Company()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos")
    parser.add_argument("--backbones", nargs="+", default=BACKBONES)
    parser.add_argument("--count", type=int, default=24, help="videos, spread over those found")
    parser.add_argument("--seconds", type=float, default=15.0, help="how long each side works, about")
    args = parser.parse_args()
    logging.disable(logging.WARNING)  # that random weights mean nothing is said once, above
    with local_copies(args.videos, args.count) as copies:
        frames = median_frames(copies)
        units = f"{processor()}, bfloat16 {'multiplied' if natural_precision(CPU) == 'bf16' else 'not multiplied'}"
        print(f"{len(copies)} videos, {frames:.0f} frames in the median; torch {torch.__version__}; {units}")
        for backbone in args.backbones:
            compare(backbone, copies, args.seconds, company)


if __name__ == "__main__":
    main()
