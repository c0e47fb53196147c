"""Several feature files of one recipe into one, such as those of `gcf extract --shard i/n`."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gcf.data.features import FeatureFile
from gcf.data.gathered import gather
from gcf.data.parts import PartFolder, check_recipe
from gcf.data.recipe import MEASURED
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
    out = Path(out)
    require_output(out)
    with PartFolder(out).locked() as folder:  # which takes away what a killed merge has left
        if out.exists():
            raise RefusedError(f"{out}: exists already; the last name is the output, name one that is not there yet")
        files = [FeatureFile(path) for path in sources]
        _require_disjoint(files)
        with folder.room_needed(sum(file.path.stat().st_size for file in files)):
            write_features(out, _content(files))
    return FeatureFile(out)


def _require_disjoint(files: Sequence[FeatureFile]) -> None:
    """Raise RecipeError where recipes differ, RefusedError where two files have the same video."""
    owner: dict[str, FeatureFile] = {}
    for file in files:
        check_recipe(file.path, file.recipe, files[0].recipe)
        for video_id in file.ids:
            if video_id in owner:
                raise RefusedError(
                    f"{video_id!r} is in {owner[video_id].path} and in {file.path}; merge disjoint files"
                )
            owner[video_id] = file


def _recipe(files: Sequence[FeatureFile]) -> dict:
    """The recipe that all have; of what each machine measured for itself, the worst."""
    worst = {}
    for key in MEASURED:
        values = [file.recipe[key] for file in files if file.recipe.get(key) is not None]
        if values:
            worst[key] = min(values)
    return files[0].recipe | worst


def _content(files: Sequence[FeatureFile]) -> FeatureContent:
    """What the merged file holds."""
    videos = gather(files)
    agree = all(file.classes == files[0].classes for file in files)
    classes = files[0].classes if agree else sorted({name for file in files for name in file.classes})
    number = {name: n for n, name in enumerate(classes)}

    def labels(file: FeatureFile) -> np.ndarray:
        own = np.array([*(number[name] for name in file.classes), -1], "<i4")  # -1, unknown, finds the last
        return own[file.labels]

    return FeatureContent(
        recipe=_recipe(files),
        videos=videos,
        failures=sorted((f for file in files for f in file.failures), key=lambda f: id_key(f[0])),
        backbone_classes=files[0].backbone_classes,
        classes=classes,
        labels=videos.of_each(labels).tolist(),
        subsets=videos.texts(lambda file: file.subsets),
        groups=videos.texts(lambda file: file.groups),
    )
