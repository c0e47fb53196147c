"""Several feature files of one recipe into one, such as those of `gcf extract --shard i/n`."""

import os
from collections.abc import Sequence
from pathlib import Path

from gcf.data.features import FeatureFile
from gcf.data.parts import GatheredVideos, check_recipe, gather
from gcf.data.schema import FeatureContent, id_key
from gcf.data.writer import require_output, write_features
from gcf.errors import RefusedError, UsageError


def merge_features(sources: Sequence[str | os.PathLike], out: str | os.PathLike) -> FeatureFile:
    """Merge feature files into `out`, videos in the order of their ids; labels keep their class by name.

    Classes keep their order where all files agree on it, and are sorted where they do not. Raises RecipeError where
    recipes differ, RefusedError where `out` exists or a video is in two files, with nothing written.
    """
    if not sources:
        raise UsageError("no feature files given")
    require_output(Path(out))
    if Path(out).exists():
        raise RefusedError(f"{out}: exists already; the last name is the output, name one that is not there yet")
    files = [FeatureFile(path) for path in sources]
    owner: dict[str, FeatureFile] = {}
    for file in files:
        check_recipe(file.path, file.recipe, files[0].recipe)
        for video_id in file.ids:
            if video_id in owner:
                raise RefusedError(
                    f"{video_id!r} is in {owner[video_id].path} and in {file.path}; merge disjoint files"
                )
            owner[video_id] = file
    places = gather(files)
    agree = all(file.classes == files[0].classes for file in files)
    classes = files[0].classes if agree else sorted({name for file in files for name in file.classes})
    rows = [places[video_id] for video_id in sorted(places, key=id_key)]
    labels = [file.labels[n] for file, n in rows]
    content = FeatureContent(
        recipe=files[0].recipe,
        videos=GatheredVideos(places),
        failures=sorted((f for file in files for f in file.failures), key=lambda f: id_key(f[0])),
        backbone_classes=files[0].backbone_classes,
        classes=classes,
        labels=[
            classes.index(file.classes[label]) if label >= 0 else -1
            for (file, _), label in zip(rows, labels, strict=True)
        ],
        subsets=[file.subsets[n] for file, n in rows],
        groups=[file.groups[n] for file, n in rows],
    )
    write_features(out, content)
    return FeatureFile(out)
