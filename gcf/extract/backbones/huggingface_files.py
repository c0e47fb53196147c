"""The files of a Hugging Face model: where they are, of which revision, and the processor that they describe."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch

from gcf.errors import UsageError, WeightsError
from gcf.extract.backbones.huggingface_faults import NO_CONFIG
from gcf.extract.backbones.huggingface_names import ModelPlace
from gcf.extract.backbones.huggingface_pixels import Run

COMMIT = re.compile(r"[0-9a-f]{40}")
CONFIG, IMAGES, VIDEOS, BOTH = (
    "config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "processor_config.json",
)


@dataclass(frozen=True)
class Files:
    """The files of a place at one revision: a repository's commit, None for a folder."""

    library: ModuleType
    place: ModelPlace
    revision: str | None

    @property
    def options(self) -> dict:
        """What every `from_pretrained` is given; code that lies beside the files is never run."""
        return {"revision": self.revision, "trust_remote_code": False}

    def path(self, file: str, *, needed: bool = False) -> Path | None:
        """Where a file is on this machine, fetched where it must be; None where there is none.

        needed: an error of transformers' where it cannot be told, such as without a network.
        """
        if self.place.is_folder:
            path = Path(self.place.source, file)
            return path if path.is_file() else None
        found = self.library.utils.cached_file(
            self.place.source, file, revision=self.revision, _raise_exceptions_for_missing_entries=needed
        )
        return Path(found) if found else None

    def json(self, file: str) -> dict | None:
        """What a file says; None where there is none. Raises WeightsError where it is no JSON object."""
        path = self.path(file)
        said = json.loads(path.read_text("utf-8")) if path else None
        if path and not isinstance(said, dict):
            raise WeightsError(f"{self.place.name}: {file} holds no JSON object; it should begin with {{")
        return said


def transformers_library() -> ModuleType:
    """transformers, set to tell nobody what is loaded. Raises UsageError where it is not installed."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")  # else a thread asks the hub to convert old files
    try:
        import transformers
    except ImportError as error:
        raise UsageError("hf: networks need transformers: pip install 'gcf-net[hf]'") from error
    return transformers


def open_files(library: ModuleType, place: ModelPlace, weights: str) -> Files:
    """The files of the revision that `weights` means, pinned to its commit, so that all are of one state.

    Raises UsageError for a revision of a folder, WeightsError where there is no configuration.
    """
    if place.is_folder:
        if weights not in ("default", "random", Path(place.source).name):
            raise UsageError(f"{place.name}: a folder has one state: weights {weights!r} cannot be asked of it")
        return Files(library, place, None)
    revision = "main" if weights in ("default", "random") else weights
    path = Files(library, place, revision).path(CONFIG, needed=True)
    if path is None:
        raise WeightsError(f"{place.name}: {NO_CONFIG}")
    commit = path.parent.name  # the cache keeps each commit's files in a folder of its name
    return Files(library, place, commit if COMMIT.fullmatch(commit) else revision)


def processor_of(files: Files) -> tuple[object, Run]:
    """The model's own processor, and what sends frames (T, H, W, 3) uint8 through it: (T, 3, h, w).

    The one for videos, where there is one. Raises WeightsError where there is none.
    """
    library, place, source = files.library, files.place.name, files.place.source
    both = files.json(BOTH) or {}
    if files.path(VIDEOS) or "video_processor" in both:
        processor = library.AutoVideoProcessor.from_pretrained(source, **files.options)

        def run(frames):
            return _values(processor(frames, do_sample_frames=False, return_tensors="pt"))
    elif files.path(IMAGES) or "image_processor" in both:
        processor = library.AutoImageProcessor.from_pretrained(source, **files.options)

        def run(frames):
            return _values(processor(list(frames), return_tensors="pt"))
    else:
        raise WeightsError(
            f"{place}: has neither {IMAGES} nor {VIDEOS}: which pixels it wants is not known; "
            "save the processor that it was trained with beside it (processor.save_pretrained)"
        )
    return processor, run


def _values(batch: dict) -> torch.Tensor:
    """The pixels (T, 3, h, w) of the one video of a processor's output."""
    (values,) = (batch[name] for name in ("pixel_values", "pixel_values_videos") if name in batch)
    return values[0].float()
