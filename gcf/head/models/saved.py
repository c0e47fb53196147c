"""A head on disk: a folder with head.safetensors and head.json, all that is needed to use it again. No pickle."""

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from gcf.data.atomic import atomic_file
from gcf.data.protocol import Features
from gcf.data.recipe import misfits, other_runtime
from gcf.data.schema import VideoFeatures
from gcf.errors import HeadError, RecipeError
from gcf.head.models.build import build_shape
from gcf.head.models.config import HeadConfig
from gcf.head.models.head_file import refuse_head_file, with_head_file
from gcf.head.models.head_json import FORMAT, SCHEMA, read_facts
from gcf.head.models.output import HeadOutput
from gcf.head.models.sampling import choose_clips

log = logging.getLogger("gcf")
WEIGHTS, FACTS = "head.safetensors", "head.json"


@dataclass(frozen=True, eq=False)
class SavedHead:
    """A trained head with what it needs to be used: its classes, and the recipe of the features it was trained on.

    Call it for a HeadOutput on the CPU: with descriptors (B, C, D) and mask (B, C), True on real clips; with the rows
    (C, D) of one video, all real unless a mask (C,) says otherwise; or with a VideoFeatures, of whose centre view the
    clips are chosen as in training. One video is a batch of one. `training` says how the head came about, among others
    `num_clips`, `clip_policy` and `padding`; with padding "loop" the answer for a short video has a
    row for every repeat of a clip.
    """

    module: nn.Module
    config: HeadConfig
    descriptor_width: int
    classes: tuple[str, ...]
    recipe: dict
    training: dict

    def __call__(
        self, descriptors: Tensor | np.ndarray | VideoFeatures, mask: Tensor | np.ndarray | None = None
    ) -> HeadOutput:
        """Raise HeadError where the shapes do not fit, and for three axes without a mask, which may be two things."""
        descriptors, mask = self._batch(descriptors, mask)
        clips = descriptors.shape[1]
        slots = self.config.fixed_clips
        if slots is not None and clips > slots:
            raise HeadError(f"this head takes {slots} clips at most, got {clips}: choose them (`choose`)")
        with torch.inference_mode():
            return self.module.eval()(descriptors, mask)

    def _batch(
        self, descriptors: Tensor | np.ndarray | VideoFeatures, mask: Tensor | np.ndarray | None
    ) -> tuple[Tensor, Tensor]:
        """What was given as descriptors (B, C, D) float32 and mask (B, C)."""
        if isinstance(descriptors, VideoFeatures):
            rows = descriptors.descriptors  # (C, V, D)
            descriptors = rows[self.choose(len(rows)), 0]
        if isinstance(descriptors, np.ndarray):
            descriptors = descriptors.astype(np.float32)  # a copy: torch warns of memory that cannot be written
        descriptors, width = torch.as_tensor(descriptors).float(), self.descriptor_width
        shape = tuple(descriptors.shape)
        if len(shape) not in (2, 3) or shape[-1] != width:
            raise HeadError(
                f"this head takes descriptors (B, C, {width}) with a mask, or rows (C, {width}) of one video, "
                f"got {shape}"
            )
        if mask is None and len(shape) == 3:
            raise HeadError(_two_readings(*shape))
        mask = torch.ones(shape[:-1], dtype=torch.bool) if mask is None else torch.as_tensor(mask)
        if mask.dtype != torch.bool or mask.shape != shape[:-1]:
            raise HeadError(f"the mask must be bool {shape[:-1]}, got {mask.dtype} {tuple(mask.shape)}")
        return (descriptors, mask) if len(shape) == 3 else (descriptors[None], mask[None])

    def probabilities(self, logits: Tensor) -> Tensor:
        """Of the classes, from logits (..., K): they sum to 1 where a video has one class, else each is by itself."""
        return logits.softmax(dim=-1) if self.config.exclusive else logits.sigmoid()

    @property
    def padding(self) -> str:
        """What fills the slots that a short video leaves; heads older than the choice mask them."""
        return self.training.get("padding", "mask")

    def choose(self, num_clips: int) -> np.ndarray:
        """Indices (C,) of the clips to use of a video that has `num_clips`, chosen as in training.

        They rise; but with padding "loop" a short video's begin again from 0, up to the number that
        training read.
        """
        indices, mask = choose_clips(
            np.array([num_clips]),
            self.training["num_clips"],
            self.training["clip_policy"],
            padding=self.padding,
            rng=np.random.default_rng(0),
        )
        return indices[0, mask[0]]

    def check_fits(self, features: Features) -> None:
        """Raise RecipeError or HeadError where features of another kind were about to be mixed with this head."""
        check_features(features, recipe=self.recipe, width=self.descriptor_width)


def _two_readings(first: int, second: int, width: int) -> str:
    """What three axes without a mask may mean, and how to say which."""
    return (
        f"descriptors {(first, second, width)} without a mask may be {first} videos of {second} clips, or {first} "
        f"clips of one video in {second} views: give videos with a mask {(first, second)}, True on real clips; give "
        f"one video as its rows ({first}, {width}), such as those of view 0, [:, 0], or as a VideoFeatures"
    )


def check_features(features: Features, *, recipe: dict, width: int) -> None:
    """Raise RecipeError or HeadError unless features are of the recipe and the width that a head was trained on."""
    found = misfits(recipe, features.recipe)
    if found:
        raise RecipeError(
            f"{features.path}: extracted by another recipe than this head was trained on: {'; '.join(found)}; "
            "extract again with the head's, or train a head on these features"
        )
    own = features.descriptors.shape[2]
    if own != width:
        raise HeadError(f"{features.path}: descriptors of {own} channels, this head takes {width}")
    if computed := other_runtime(recipe, features.recipe):
        log.info("%s: %s, the head's before the file's; in float32 they agree to 1e-5", features.path, computed[0])


def save_head(folder: str | os.PathLike, head: SavedHead) -> None:
    """Write head.safetensors and head.json into a folder, which is made if need be."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in head.module.state_dict().items()}
    weights = safetensors.torch.save(tensors)
    facts = {
        "format": FORMAT,
        "schema": SCHEMA,
        "config": dataclasses.asdict(head.config),
        "descriptor_width": head.descriptor_width,
        "classes": list(head.classes),
        "recipe": head.recipe,
        "training": head.training,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    text = json.dumps(facts, indent=1, allow_nan=False)
    for name, data in ((WEIGHTS, weights), (FACTS, text.encode())):
        with atomic_file(folder / name) as file:
            file.write(data)


def load_head(path: str | os.PathLike, *, head_file: str | os.PathLike | None = None) -> SavedHead:
    """Read a saved head from its folder (a run folder is one). Raises HeadError for anything damaged or unsuitable.

    head_file: the Python file of a plug-in head, which is run. The file that only the head names is
    not opened, and one with another sha256 than the head recorded is not run (HeadError).
    """
    folder = Path(path)
    if folder.name in (WEIGHTS, FACTS):
        folder = folder.parent
    facts = _read_facts(folder)
    config = _config(folder, facts["config"], head_file)
    weights = _read_weights(folder, facts["weights_sha256"])
    try:
        module = build_shape(
            config, facts["descriptor_width"], len(facts["classes"])
        )  # compared before it takes memory
        tensors = safetensors.torch.load(weights)
    except (TypeError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        raise HeadError(f"{folder}: not a head of this version: {error}; train it again") from error
    _check_tensors(folder, module, tensors)
    module.load_state_dict(tensors, assign=True)
    classes = tuple(facts["classes"])
    return SavedHead(module.eval(), config, facts["descriptor_width"], classes, facts["recipe"], facts["training"])


def given_or_loaded(
    head: SavedHead | str | os.PathLike,
    *,
    head_file: str | os.PathLike | None = None,
    load: Callable[..., SavedHead] = load_head,
) -> SavedHead:
    """A head as it is, or loaded from its path. UsageError for a head_file that nothing would read."""
    if not isinstance(head, SavedHead):
        return load(head, head_file=head_file)
    refuse_head_file(head_file, "a head in memory")
    return head


def _config(folder: Path, facts: dict, head_file: str | os.PathLike | None) -> HeadConfig:
    """The head's config; a plug-in's names the caller's file instead of the one that was recorded."""
    try:
        config = HeadConfig(**facts)
    except ValueError as error:
        raise HeadError(f"{folder / FACTS}: not a head of this version: {error}; train it again") from error
    if config.kind == "plugin":
        return with_head_file(config, head_file, folder=folder)
    refuse_head_file(head_file, f"{folder}, a head {config.name}")
    return config


def _read_facts(folder: Path) -> dict:
    try:
        return read_facts(folder / FACTS)
    except FileNotFoundError:
        inner = sorted(str(p.parent.relative_to(folder)) for p in folder.glob(f"*/{FACTS}"))
        hint = f"; it holds several heads: {', '.join(inner[:5])}" if inner else "; gcf train-head makes one"
        raise HeadError(f"{folder}: no {FACTS} here{hint}") from None


def _read_weights(folder: Path, sha256: str) -> bytes:
    """The bytes of the weights that head.json is of."""
    path = folder / WEIGHTS
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise HeadError(f"{path}: not a regular file; train the head again")
        weights = path.read_bytes()
    except OSError as error:
        raise HeadError(f"{path}: cannot be read ({error.strerror}); train the head again") from error
    if hashlib.sha256(weights).hexdigest() != sha256:
        raise HeadError(f"{path}: damaged or not of this {FACTS} (its sha256 differs); train the head again")
    return weights


def _check_tensors(folder: Path, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Names, shapes, types and values; says which keys, what was expected and what was found."""
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    wrong = [
        f"{name}: expected {expected.get(name, 'nothing')}, found {found.get(name, 'nothing')}"
        for name in sorted(expected.keys() | found.keys())
        if expected.get(name) != found.get(name)
    ]
    wrong += [
        f"{n}: not finite float32" for n, v in tensors.items() if v.dtype != torch.float32 or not v.isfinite().all()
    ]
    if wrong:
        raise HeadError(f"{folder / WEIGHTS}: does not fit {FACTS}: {'; '.join(wrong)}")
