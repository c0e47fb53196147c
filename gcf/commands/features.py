"""Commands that make and read feature files."""

import click

from gcf.commands.options import (
    BACKBONE,
    INCOMPLETE,
    Shard,
    annotations_option,
    devices_option,
    json_option,
    merge_labels_option,
    path_type,
)
from gcf.terminal import show


@click.command()
@click.argument("videos", nargs=-1, required=True)
@click.argument("out", type=path_type(), metavar="OUT.h5")
@click.option(
    "--backbone",
    "backbones",
    multiple=True,
    default=["resnext101"],
    metavar=BACKBONE,
    help="See `gcf backbones`; or a plug-in file; or a Hugging Face video model, hf:OWNER/NAME or hf:./FOLDER. Several "
    "times: every video is decoded once, and each backbone has a file of its own, OUT-NAME.h5.",
)
@click.option(
    "--weights",
    multiple=True,
    default=["default"],
    metavar="ID|PATH|random",
    help="See `gcf weights list`; or a checkpoint file; or the revision of an hf: repository; `random` is for trying "
    "the pipeline only. One for all backbones, or one for each, in their order.",
)
@annotations_option
@click.option(
    "--class-level",
    metavar="1|last",
    help="Without --annotations, the folder that names a video's class: 1, the first below VIDEOS and the subset's; "
    "last, the one directly above the file.  [default: last; refused where one name recurs below several folders]",
)
@merge_labels_option
@click.option("--views", default=1, help="Centre view plus VIEWS - 1 augmented ones (multi-scale crop, flip).")
@click.option("--views-seed", default=0, help="Seed of the augmented views.")
@devices_option
@click.option("--precision", default="auto", help="auto (half, where the device has it), fp32, bf16, fp16.")
@click.option(
    "--runtime",
    default="auto",
    help="Who computes the network: auto (OpenVINO for convolutional networks on processors), torch, openvino. "
    "--runtime torch --precision fp32 is the network as published, to the bit.",
)
@click.option("--workers", type=int, help="Decoder processes.  [default: processors]")
@click.option("--batch-size", type=int, help="Clips a forward pass; fixed for a file.  [default: 1, on GPUs 32]")
@click.option("--shard", type=Shard(), help="Only the i-th of n shares of the videos; then `gcf merge`.")
@click.option("--tail", default="loop", help="The last short clip: loop, repeat-last, drop.")
@click.option(
    "--clip-frames",
    type=int,
    help="Frames a clip.  [default: 16, fewer where trained with fewer; as trained for hf: and for any --sampling but "
    "native]",
)
@click.option(
    "--sampling",
    default="native",
    metavar="native|trained|FPS",
    help="native: every frame. trained: the frame rate, and by default the frames a clip, that the weights were "
    "trained with, chosen by the frames' times. A number: so many frames a second.",
)
@click.option("--dtype", default="float16", help="Of the stored descriptors: float16 or float32.")
@click.option(
    "--temporal-stride", default="trained", help="trained, or none: no strides along time, as the paper asks."
)
@click.option(
    "--deadline",
    default=60.0,
    help="Give a video up after so many seconds without progress. Those in which its decoder waits for a disk or a "
    "processor do not count, up to ten times as many in all. The first eight are tried once more at the end.",
)
@click.option("--max-frames", default=1_000_000, help="A video of more frames is recorded as failed.")
@click.option(
    "--max-gigapixels",
    default=1000.0,
    help="A video that decodes to more is recorded as failed, unless its file has a byte for every 100,000 pixels.",
)
@click.option(
    "--stay-inside",
    is_flag=True,
    help="Follow no link out of the folder of VIDEOS (of the files, of the list); what it leads to is recorded as "
    "failed. Without it, links are followed wherever they lead.",
)
@click.option("--repair", is_flag=True, help="Read all that is done already, and do again what is damaged.")
@click.option("--engine", default="local", help="local, or ray: the nodes of a Ray cluster (see docs/cluster.md).")
@click.option(
    "--worker-cpus", type=int, help="CPUs of each Ray worker.  [default: this machine's threads; a GPU's fair share]"
)
@click.option("--update", is_flag=True, help="Accept that videos were added or removed since OUT.h5 was made.")
@json_option
def extract(videos, out, backbones, weights, as_json, **options):
    """Cache the clip descriptors of VIDEOS (a folder, files, or a text/CSV list) in OUT.h5.

    Every non-overlapping clip goes once through the frozen backbone. The same command again resumes. Videos that
    cannot be read are recorded with the reason and the exit code is 3; of a damaged one the frames before the damage
    are taken. Interlaced frames and pixels that are not square are taken as they are stored.

    \b
    gcf extract videos/ feats.h5
    gcf extract videos/ feats.h5 --backbone mobilenetv2 --weights kinetics_mobilenetv2_1.0x_RGB_16_best.pth
    gcf extract videos/ feats.h5 --backbone my_network.py --annotations labels.csv
    gcf extract videos/ feats.h5 --backbone x3d_s --backbone r3d_18    feats-x3d_s.h5 and feats-r3d_18.h5, in one pass
    """
    from gcf.extract.extractor import extract_together, extract_videos

    if len(backbones) == len(weights) == 1:
        summaries = [extract_videos(videos, out, backbone=backbones[0], weights=weights[0], progress=True, **options)]
        facts = summaries[0]
    else:
        weights = weights[0] if len(weights) == 1 else weights
        summaries = extract_together(videos, out, backbones=backbones, weights=weights, progress=True, **options)
        facts = {"files": summaries}
    last = len(summaries) - 1  # labels belong to the videos, and are told of once
    show(facts, "\n".join(one.describe(labels=n == last) for n, one in enumerate(summaries)), as_json)
    return 0 if all(summary.complete for summary in summaries) else INCOMPLETE


@click.command()
@click.argument("parts", nargs=-1, required=True, type=path_type())
@click.argument("out", type=path_type(), metavar="OUT.h5")
@json_option
def merge(parts, out, as_json):
    """Merge feature files of one recipe, such as those of --shard, into OUT.h5."""
    from gcf.data.info import describe, summarise
    from gcf.data.merge import merge_features

    merged = merge_features(parts, out)
    show(summarise(merged), describe(merged), as_json)


@click.command()
@click.argument("file", type=path_type())
@json_option
def info(file, as_json):
    """Say in words what the feature file FILE holds."""
    from gcf.data.features import FeatureFile
    from gcf.data.info import describe, summarise

    features = FeatureFile(file)
    show(summarise(features), describe(features), as_json)


@click.command()
@click.argument("file", type=path_type())
@click.option("--npy", type=path_type(), metavar="DIR", help="One array (clips, views, D) a video, and index.csv.")
@click.option("--csv", type=path_type(), metavar="FILE", help="One line a clip: times, label, descriptor.")
@json_option
def export(file, as_json, **options):
    """Write the descriptors of the feature file FILE as plain arrays or text, for programs that read no HDF5.

    \b
    gcf export feats.h5 --npy arrays/
    gcf export feats.h5 --csv clips.csv
    """
    from gcf.data.export import export_features

    exported = export_features(file, **options)
    show(exported, exported.describe(), as_json)


@click.command("demo-videos")
@click.argument("folder", type=path_type(), metavar="DIR")
@click.option("--videos", default=600, help="How many.")
@click.option("--seed", default=0, help="The same seed gives the same videos.")
@click.option(
    "--task",
    default="pairs",
    help="What decides the class: pairs (which two actions), presence (which one), relation (of one kind or of two).",
)
@click.option("--trimmed", is_flag=True, help="One motion from end to end, instead of two actions among distractors.")
@json_option
def demo_videos(folder, as_json, **options):
    """Make synthetic videos with known truth in DIR: labels.csv for training, truth.json for localisation.

    Each shows two actions of a sprite (bounce, grow, orbit, spin) among distractors; its class is the pair of them.
    truth.json has the intervals in seconds and the sprite's box in every frame. The same command again resumes.
    """
    from gcf.data.synthetic import write_demo_videos

    made = write_demo_videos(folder, progress=True, **options)
    show(made, made.describe(), as_json)
