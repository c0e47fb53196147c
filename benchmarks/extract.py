"""How fast `gcf extract` is beside the plain way and beside what the machine allows, in one run on the same videos.

    python benchmarks/extract.py VIDEOS [--backbones resnext101 ...] [--count 24] [--repeats 4]

plain     the way public extractors work: a whole video decoded into memory, float32, one clip a forward pass, nothing
          side by side; decoder and network with all threads
bare      the network on ready pixels, as gcf runs it, at the best of several batch sizes
decoding  decoding and resizing alone, in one process
limit     the rate at which the processor time of `bare` and of `decoding` adds up, since both need the same cores
gcf       the extraction, from the start of the decoders to the last row, on `repeats` names for each video

Weights are random: they change no time. Start-up (imports, weights, the trial of the precision) is in none of them.
"""

import argparse
import logging
import os

import av
import numpy as np
import torch
from rates import Rate, local_copies, measured, median_frames

from gcf.extract.backbones import load_backbone
from gcf.extract.clips import fill_indices
from gcf.extract.config import ExtractConfig
from gcf.extract.decoding import Clip, ClipJob, decode_clips
from gcf.extract.find import VideoPath
from gcf.extract.lanes import Lanes
from gcf.extract.network import ClipNetwork
from gcf.extract.normalise import Normalise
from gcf.extract.pipeline import load_network, stream_features
from gcf.extract.preprocess import Geometry, centre_view

BACKBONES = ("resnext101", "mobilenetv2", "shufflenetv2", "r3d_18", "r2plus1d_18")
BATCH_SIZES = (2, 4, 8, 16)
BARE_CLIPS = 64


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


def bare(network: ClipNetwork, batch_size: int, shape: tuple[int, ...]) -> Rate:
    """The network alone on ready pixels, best of three."""
    ready = ClipNetwork(network.backbone, device=network.device, precision=network.precision, batch_size=batch_size)
    pixels = np.random.default_rng(0).integers(0, 256, (batch_size, *shape), dtype=np.uint8)
    with Lanes([ready]) as lanes:

        def work() -> int:
            futures = [lanes.submit(pixels) for _ in range(max(lanes.count, BARE_CLIPS // batch_size))]
            return sum(len(future.result()[0]) for future in futures)

        work()
        return max((measured(work) for _ in range(3)), key=lambda rate: rate.a_second)


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


def gcf(videos: list[VideoPath], repeats: int, network: ClipNetwork, recipe: dict, config: ExtractConfig) -> Rate:
    """The extraction without writing: from the start of the decoders to the last row."""
    many = [VideoPath(v.path, f"{n}/{v.id}") for n in range(repeats) for v in videos]

    def work() -> int:
        outcomes = list(stream_features(many, network, recipe, config))
        return sum(len(rows.descriptors) for _, rows in outcomes)

    return measured(work)


def compare(name: str, videos: list[VideoPath], repeats: int) -> None:
    """Print one backbone's rates and ratios."""
    config = ExtractConfig()
    network, recipe = load_network(name, "random", config)
    job = ClipJob.from_recipe(recipe)
    geometry = job.geometry
    shape = (recipe["num_frames"], *geometry.crop, 3)
    exact = load_backbone(name, "random")
    plain(videos[:1], exact, geometry, recipe["num_frames"])  # warm
    usual = measured(lambda: plain(videos, exact, geometry, recipe["num_frames"]))
    rates = {size: bare(network, size, shape) for size in BATCH_SIZES}
    best = max(rates, key=lambda size: rates[size].a_second)
    decoded = decoding(videos, job)
    cores = len(os.sched_getaffinity(0))
    core_seconds = rates[best].processor / rates[best].clips + decoded.processor / decoded.clips
    limit = cores / core_seconds
    ours = [gcf(videos, repeats, network, recipe, config) for _ in range(2)]
    rate = max(ours, key=lambda r: r.a_second)
    print(f"\n{name}: {recipe['precision']}, worst cosine to float32 {recipe['precision_cosine']}, random weights")
    print(f"  plain     {usual}")
    sizes = ", ".join(f"{size}: {r.a_second:.1f}" for size, r in rates.items())
    print(f"  bare      {rates[best]}   (clips/s by batch size: {sizes})")
    print(f"  decoding  {decoded}   (one process)")
    print(f"  limit     {limit:7.1f} clips/s {1e3 * core_seconds:7.1f} core-ms/clip   on {cores} cores")
    print(f"  gcf       {rate}   batches of {recipe['batch_size']}, {rate.clips} clips")
    print(
        f"  ratios: {rate.a_second / usual.a_second:.1f} x plain, {rate.a_second / rates[best].a_second:.2f} of bare, "
        f"{rate.a_second / limit:.2f} of limit",
        flush=True,
    )


def main() -> None:
    """Compare the backbones one after another."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos")
    parser.add_argument("--backbones", nargs="+", default=BACKBONES)
    parser.add_argument("--count", type=int, default=24, help="videos, spread over those found")
    parser.add_argument("--repeats", type=int, default=4, help="times that gcf is given each video")
    args = parser.parse_args()
    logging.disable(logging.WARNING)  # that random weights mean nothing is said once, above
    with local_copies(args.videos, args.count) as copies:
        frames = median_frames(copies)
        print(f"{len(copies)} videos, {frames:.0f} frames in the median; torch {torch.__version__}")
        for backbone in args.backbones:
            compare(backbone, copies, args.repeats)


if __name__ == "__main__":
    main()
