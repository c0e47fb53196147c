"""What a head reads: videos through the network of its recipe, or rows that a feature file has already."""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gcf.data.features import FeatureFile
from gcf.data.joined import JoinedFeatures, open_features
from gcf.data.recipe import JOINED, misfits, other_runtime
from gcf.data.schema import Clips, VideoFeatures, VideoInfo
from gcf.errors import HeadError, RecipeError, UsageError
from gcf.explain.reading.own_classifier import OWN, own_classifier
from gcf.explain.reading.recorded import check_plugin, recorded_commit, recorded_name, recorded_weights
from gcf.extract.backbones.huggingface_names import is_huggingface
from gcf.extract.backbones.loading import TEMPORAL_STRIDES
from gcf.extract.decoding.find import VideoPath, find_videos
from gcf.extract.decoding.pool import Failed
from gcf.extract.stream.config import ExtractConfig, extract_config
from gcf.extract.stream.pipeline import SAFETENSORS, load_network, stream_features
from gcf.head.models.ensemble import load_trained
from gcf.head.models.head_file import refuse_head_file
from gcf.head.models.saved import SavedHead, check_features, given_or_loaded

if TYPE_CHECKING:
    from gcf.extract.network.clip_network import ClipNetwork

log = logging.getLogger(__name__)
FEATURE_SUFFIXES = (".h5", ".hdf5")
HDF5_START = b"\x89HDF\r\n\x1a\n"  # HDF5 file format specification, section II.A
SETTINGS = (
    "temporal_stride",
    "sampling",
    "precision",
    "tail",
    "dtype",
    "batch_size",
)  # of a recipe that are ExtractConfig's

PathLike = str | os.PathLike
Found = FeatureFile | JoinedFeatures | Sequence[VideoPath]


@dataclass(frozen=True, eq=False)
class Source:
    """Videos, ready to be described as `head` expects: iterate for (id, VideoFeatures | Failed) as they are done.

    found: the videos, () where the rows come from a feature file, which is then `features`. network, config: what
    describes them, None with a feature file. recipe: that of the rows. `len` is how many outcomes there will be.
    """

    head: SavedHead
    found: Sequence[VideoPath]
    recipe: dict
    features: FeatureFile | JoinedFeatures | None = None
    network: "ClipNetwork | None" = None
    config: ExtractConfig | None = None

    def __len__(self) -> int:
        if self.features is None:
            return len(self.found)
        return self.features.num_videos + len(self.features.failures)

    def __iter__(self) -> Iterator[tuple[str, VideoFeatures | Failed]]:
        return self.describe(self.found) if self.features is None else _rows(self.features)

    def describe(self, videos: Sequence[VideoPath]) -> Iterator[tuple[str, VideoFeatures | Failed]]:
        """The same for other videos, with the network that is loaded already; needs one."""
        if not videos:
            return
        with closing(stream_features(videos, self.network, self.recipe, self.config)) as stream:
            yield from stream


def open_source(
    head: PathLike | SavedHead,
    sources: PathLike | Sequence[PathLike],
    *,
    backbone: str | None = None,
    weights: str | None = None,
    head_file: PathLike | None = None,
    **options,
) -> Source:
    """Videos (a folder, files, a list) or one feature file, checked to be what the head was trained on.

    The backbone and its weights are those of the head's recipe; a plug-in's file, the folder of an hf: network or a
    checkpoint must be named again, or UsageError or HeadError is raised.
    head_file: the Python file of a plug-in head that is given by its path, as for `load_head`.
    head "backbone" stands for the network's own classifier, on the mean of all clips. A feature file needs no network,
    no labels and none of the options; a head of joined files takes as many of them.
    options: `device`, `workers`, `deadline` of ExtractConfig, and with "backbone" its `sampling`. Where this machine
    has not the half precision of the head's features, float32 takes its place, with a warning. Raises RecipeError or
    HeadError where backbone, weights, preprocessing or descriptors would not be those that the head was trained on.
    """
    return source_of(trained(head, head_file), find_sources(sources), backbone=backbone, weights=weights, **options)


def trained(head: PathLike | SavedHead, head_file: PathLike | None = None) -> SavedHead | str:
    """A head, or the heads of several seeds as one, from its folder or as it is; "backbone" stays that word."""
    named = not isinstance(head, SavedHead) and os.fspath(head) == OWN
    if named and not os.path.exists(OWN):
        refuse_head_file(head_file, f"the word {OWN} in the place of a head")
        return OWN
    return given_or_loaded(head, head_file=head_file, load=load_trained)


def find_sources(sources: PathLike | FeatureFile | JoinedFeatures | Sequence[PathLike]) -> Found:
    """The feature file that `sources` name, opened, or the videos, found. Raises GcfError where there is neither."""
    if isinstance(sources, FeatureFile | JoinedFeatures):
        return sources
    sources = [sources] if isinstance(sources, PathLike) else list(sources)
    files = [source for source in sources if _is_feature_file(Path(source))]
    if not files:
        return find_videos(sources)
    if len(files) < len(sources):
        raise UsageError(f"{files[0]}: give videos or a feature file, not both")
    return open_features(files)


def source_of(
    head: SavedHead | str, found: Found, *, backbone: str | None = None, weights: str | None = None, **options
) -> Source:
    """`open_source` of what `find_sources` gave: here the network is loaded, so that all other checks can come first.

    found may be empty, for videos that come later. head "backbone": the classifier that the network brings along.
    """
    options = {name: value for name, value in options.items() if value is not None}
    if head == OWN:
        return _with_own_classifier(found, backbone, weights, options)
    if "sampling" in options:
        raise UsageError("this head takes frames as it was trained to; sampling is for the word backbone in its place")
    if isinstance(found, FeatureFile | JoinedFeatures):
        return _of_features(head, found)
    if JOINED in head.recipe:
        raise RecipeError(
            f"this head reads the descriptors of {len(head.recipe[JOINED])} networks side by side; extract the videos "
            "with each of them and name their feature files, in the order of its training"
        )
    config = _config(head.recipe, options)
    names = {"backbone": backbone, "weights": weights}
    try:
        network, recipe = network_of(head.recipe, config, **names)
    except UsageError as error:
        if config.runtime != "openvino":
            raise
        log.warning("%s; float32 takes its place", error)
        config = replace(config, runtime="auto", precision="fp32", batch_size=None)
        network, recipe = network_of(head.recipe, config, **names)
    exact = {"precision", "runtime"} if recipe["precision"] == "fp32" else set()  # what half precision was held against
    if wrong := misfits(recipe, head.recipe, ignore=exact):
        raise RecipeError(f"not what this head was trained on: {'; '.join(wrong)}; name its --backbone and --weights")
    if head.recipe["precision"] == "fp32" and (computed := other_runtime(recipe, head.recipe)):
        log.info("%s, these videos before the head's; in float32 they agree to 1e-5", computed[0])
    return Source(head, tuple(found), recipe, network=network, config=config)


def network_of(
    recipe: dict, config: ExtractConfig, *, backbone: str | None, weights: str | None
) -> "tuple[ClipNetwork, dict]":
    """The network that a recipe names, with the recipe of what it will make now, which may be another.

    backbone, weights: where they were files, their places now. A head may be a stranger's: no file or folder that only
    its recipe names is ever opened or run, and a plug-in that is named only if it is the recipe's. Raises
    UsageError or HeadError where the recipe names one, RecipeError for another plug-in.
    """
    if backbone is not None:
        check_plugin(recipe, backbone)
        return load_network(backbone, weights or "default", config)
    name = recorded_name(recipe)
    if not is_huggingface(name):
        return load_network(name, weights or recorded_weights(recipe), config)
    commit = weights or recorded_commit(recipe)
    told = "this head's network is %s at %s: what the cache lacks of it is fetched from the Hugging Face hub"
    log.info(told, name, commit)
    return load_network(name, commit, config, SAFETENSORS)


def _with_own_classifier(found: Found, backbone: str | None, weights: str | None, options: dict) -> Source:
    if isinstance(found, FeatureFile | JoinedFeatures):
        raise UsageError(
            f"{found.path}: the backbone's own classifier needs videos; with features, name a trained head"
        )
    if backbone is None:
        raise UsageError("which backbone? name it with --backbone; or name the folder of a trained head")
    config = extract_config(options)
    network, recipe = load_network(backbone, weights or "default", config)
    return Source(own_classifier(network, recipe), tuple(found), recipe, network=network, config=config)


def _config(recipe: dict, options: dict) -> ExtractConfig:
    """The settings that made the head's features, with the centre view alone."""
    silent = [name for name in (*SETTINGS, "num_frames", "backbone", "weights") if name not in recipe]
    if silent:
        raise RecipeError(
            f"the recipe of this head's features does not say {', '.join(silent)}: gcf extract has not made them; "
            "name a feature file made as they were"
        )
    config = replace(_recorded_config(recipe), **options)
    return config if recipe["precision"] != "fp32" else _in_float32(recipe, config)


def _recorded_config(recipe: dict) -> ExtractConfig:
    """The settings that the recipe names. Raises HeadError for what none can be."""
    settings = {name: recipe[name] for name in SETTINGS}
    runtime, num_frames = recipe.get("runtime", "torch"), recipe["num_frames"]
    try:
        if (stride := settings["temporal_stride"]) not in TEMPORAL_STRIDES:
            known = " or ".join(TEMPORAL_STRIDES)
            raise ValueError(f"temporal_stride is {known}, not {stride!r}")
        return ExtractConfig(**settings, runtime=runtime, clip_frames=num_frames)
    except (ValueError, TypeError) as error:  # a UsageError, too: the fault is the head's
        fault = f"the recipe of this head's features is damaged: {error}"
        raise HeadError(f"{fault}; train the head again") from error


def _in_float32(recipe: dict, config: ExtractConfig) -> ExtractConfig:
    """The runtime and batch size that repeat the features to the bit where that can be, the fastest ones elsewhere."""
    from gcf.extract.network.clip_network import choose_device  # late: torch

    same_kind = recipe.get("device") == choose_device(config.devices[0]).type
    if same_kind and recipe.get("runtime") == "torch":
        return config
    batch_size = config.batch_size if same_kind and "runtime" in recipe else None
    return replace(config, runtime="auto", batch_size=batch_size)


def _of_features(head: SavedHead, features: FeatureFile | JoinedFeatures) -> Source:
    wanted, given = len(head.recipe.get(JOINED, [None])), len(features.parts)
    if wanted != given:
        files = "1 feature file" if wanted == 1 else f"{wanted} feature files"
        were_given = "1 was" if given == 1 else f"{given} were"
        raise RecipeError(
            f"{features.path}: this head reads {files} at a time, {were_given} given; name as many, in the order of "
            "its training"
        )
    # a file in which every video failed has rows of no width; its failures are worth naming
    width = head.descriptor_width if features.num_clips else features.descriptors.shape[2]
    check_features(features, recipe=head.recipe, width=width)
    if features.left_out:
        log.warning("%d videos are not in all of these feature files and are left out", features.left_out)
    return Source(head, (), features.recipe, features=features)


def _is_feature_file(path: Path) -> bool:
    """By its name, else by its first bytes; a pipe is not read from."""
    if path.is_dir() or path.suffix.lower() in FEATURE_SUFFIXES:
        return not path.is_dir()
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(HDF5_START)) == HDF5_START
    except OSError:  # not ours to report: it is looked for as a video
        return False


def _rows(features: FeatureFile | JoinedFeatures) -> Iterator[tuple[str, VideoFeatures | Failed]]:
    """Every video of a feature file, one at a time, then those that had failed."""
    one = _joined_video if isinstance(features, JoinedFeatures) else FeatureFile.video
    for n, video_id in enumerate(features.ids):
        yield video_id, one(features, n)
    yield from _failed(features.failures)


def _failed(failures: Iterable[tuple[str, str]]) -> Iterator[tuple[str, Failed]]:
    for video_id, error in failures:
        yield video_id, Failed(error)


def _joined_video(features: JoinedFeatures, n: int) -> VideoFeatures:
    """The rows and facts of video n of joined files."""
    rows = slice(int(features.offsets[n]), int(features.offsets[n + 1]))
    return VideoFeatures(
        id=features.ids[n],
        descriptors=features.gather(rows),
        logits=None,
        clips=Clips(**{name: values[rows] for name, values in vars(features.clips).items()}),
        info=VideoInfo(**{name: values[n] for name, values in vars(features.videos).items()}),
    )
