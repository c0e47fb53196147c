"""How long two backbones take in one pass, beside one after the other, in one run on the same videos.

    python benchmarks/together.py VIDEOS [--pairs x3d_s,x3d_xs ...] [--repeats 4] [--rounds 3]

alone     one extraction after the other, from the start of the decoders to the last row, summed
together  both in one pass
decoding  the share of the two single runs' processor time that decoding takes, resizing and the way to the extraction
          included: the decoder processes alone, their clips thrown away
least     the ratio that is left when one of the two decodings costs nothing any more: what the networks compute stays,
          so it is 1 - decoding / 2 where processors do both and both networks want the same pixels

Weights are random: they change no time. Start-up (imports, weights, the trial of the precision) is in none of them.
"""

import argparse
import logging
import statistics
from pathlib import Path

import joblib
from rates import Rate, measured

from gcf.extract.decoding.find import VideoPath, find_videos
from gcf.extract.decoding.jobs import Clip, ClipJob
from gcf.extract.decoding.pool import DecoderPool, Failed
from gcf.extract.stream.config import ExtractConfig
from gcf.extract.stream.pipeline import NetworkJob, load_network, stream_together

PAIRS = ("shufflenetv2_0.25x,shufflenetv2_0.5x", "mobilenetv2,shufflenetv2", "r3d_18,mobilenetv2", "x3d_xs,x3d_s")


def streamed(videos: list[VideoPath], network_jobs: list[NetworkJob], config: ExtractConfig) -> Rate:
    """One pass; its clips are those of all networks."""

    def work() -> int:
        outcomes = [outcome for _, (_, outcome) in stream_together(videos, network_jobs, config)]
        return sum(len(rows.descriptors) for rows in outcomes if not isinstance(rows, Failed))

    return measured(work)


def decoded(videos: list[VideoPath], network_job: NetworkJob, config: ExtractConfig) -> Rate:
    """Decoding alone, in the extraction's own decoder processes; its clips are thrown away."""
    job = ClipJob.from_recipe(network_job.recipe)
    workers = joblib.cpu_count()

    def work() -> int:
        items = DecoderPool(videos, [job], num_workers=workers, ahead=16, deadline=config.deadline)
        return sum(isinstance(item, Clip) for _, _, item in items)

    return measured(work)


def compare(names: list[str], videos: list[VideoPath], rounds: int) -> None:
    """Print one line for the backbones of `names`."""
    config, ids = ExtractConfig(), {video.id for video in videos}
    network_jobs = [NetworkJob(*load_network(name, "random", config), ids) for name in names]
    streamed(videos[:8], network_jobs, config)  # warm
    alone, together, decoding = [], [], []
    for _ in range(rounds):
        alone.append([streamed(videos, [network_job], config) for network_job in network_jobs])
        together.append(streamed(videos, network_jobs, config))
        decoding.append([decoded(videos, network_job, config) for network_job in network_jobs])
    ratios = [both.seconds / _sum(each, "seconds") for each, both in zip(alone, together, strict=True)]
    used = statistics.median(_sum(each, "processor") for each in alone)
    share = statistics.median(_sum(each, "processor") for each in decoding) / used
    one = statistics.median(min(rate.processor for rate in each) for each in decoding) / used
    seconds = statistics.median(_sum(each, "seconds") for each in alone), statistics.median(t.seconds for t in together)
    processor = statistics.median(both.processor for both in together) / used
    print(
        f"{' + '.join(names):40} alone {seconds[0]:6.1f} s  together {seconds[1]:6.1f} s  ratio "
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})  of processor time {processor:.2f}  "
        f"decoding {share:.2f}  least {1 - one:.2f}",
        flush=True,
    )


def _sum(rates: list[Rate], field: str) -> float:
    return sum(getattr(rate, field) for rate in rates)


def main() -> None:
    """Read the arguments and compare pair by pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--pairs", nargs="+", default=PAIRS)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    logging.getLogger("gcf").setLevel(logging.ERROR)
    videos = find_videos([args.videos])
    many = [VideoPath(v.path, f"{n}/{v.id}") for n in range(args.repeats) for v in videos]
    for pair in args.pairs:
        compare(pair.split(","), many, args.rounds)


if __name__ == "__main__":
    main()
