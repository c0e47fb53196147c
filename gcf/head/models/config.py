"""Settings: which head, how it is trained, and on which splits and seeds it is compared."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypedDict

from gcf.data.options import require_known
from gcf.errors import UsageError
from gcf.head.models.kinds import KINDS

if TYPE_CHECKING:
    from gcf.data.annotations import Annotations
    from gcf.head.models.saved import SavedHead

FUSIONS = ("softmax", "average", "none")
GATES = ("clips", "token", "none")
RESIDUALS = ("fused", "input", "linear", "none")
POSITIONS = ("none", "learned", "sine")
POLICIES = ("uniform", "first", "random", "all")
PADDINGS = ("mask", "loop")
MOST_LAYERS = 100  # a saved config that says more is damaged
FREEZES = ("none", "all-but-classifier")
PRECISIONS = ("auto", "fp32", "bf16")
CLASS_WEIGHTS = ("none", "balanced")
SAMPLINGS = ("shuffle", "balanced")
BATCH_ORDERS = ("own", "shared")


@dataclass(frozen=True)
class Recipe:
    """How weights are moved, and its numbers unless others are given.

    schedule: "plateau" divides the rate by 10 where the validation loss stops improving, "cosine" warms it up and
    lets it fall to 0 over a number of steps that follows from the data (`schedule.py`). sparse_clips: the sum of
    alpha of a longer video counts as that of so many clips; None: as it is.
    """

    optimiser: str
    schedule: str
    lr: float
    frozen_lr: float
    weight_decay: float
    sparsity: float
    sparse_clips: int | None = None


RECIPES = {
    # Section 3.3 of the paper. lambda of equation 9 is not printed there; STPN and BaS-Net publish 1e-4.
    "paper": Recipe("sgd", "plateau", lr=0.1, frozen_lr=0.01, weight_decay=1e-3, sparsity=1e-4),
    # Of experiments with "gated" on the demo's validation videos and planted descriptors; matrices alone decay.
    "adamw": Recipe("adamw", "cosine", 1e-3, frozen_lr=1e-3, weight_decay=0.05, sparsity=0.01, sparse_clips=10),
}


def _unknown(value: str, known: tuple[str, ...], what: str) -> str:
    return "" if value in known else f"unknown {what} {value!r}; known: {', '.join(known)}"


@dataclass(frozen=True)
class HeadConfig:
    """The shape of one head; the widths of the descriptors and classes come from the data.

    kind "gcf" is GCF-Net and its ablations, "mean" a linear classifier on the mean descriptor, "clip" one on every
    clip. Its fields:
    width d; key_width of W_q and W_k; input_projection puts a linear D -> d in front; output_projection is W_z;
    layers N of equations 11 and 12; fusion "softmax", "average" (1/C instead of softmax) or "none" (b_i := s_i);
    gate "clips" (squeeze-excite across exactly `gate_clips` slots), "token" (one MLP per clip, any number of clips)
    or "none"; gate_reduction r; residual of equation 6: "fused" b_i, "input" the (projected) s_i, "linear" W_r s_i.

    The further kinds, with the fields that they read (each says more in its class):
    "max" linear on the maximum over clips, "logreg" logistic regression on the mean descriptor: none.
    "mil" gated attention, "stpn" sparse attention: width of the layer that weighs the clips.
    "topk" the `top_k` most salient clips: width of the scorer.
    "transformer" one encoder layer: width, `heads` of its attention, `positions` "none", "learned" (for `gate_clips`
    clips at most) or "sine". "gru" a bidirectional one: width of each direction.
    "nextvlad": width of the video's descriptor, `clusters`, `groups`, gate_reduction of its context gating.
    "gated" is the head whose gate works: width d, key_width, layers, `components` principal components of the training
    clips that it reads (0: all channels), fusion "softmax" or "none", gate "token" or "none".
    "plugin" is a user's own Python file: source and source_sha256 say which, knows_order what it declares.

    standardised: it reads standardised descriptors (`gcf.head.models.standard`); training sets it. components of other
    kinds: they read so many principal components of the training clips in the place of the channels.
    exclusive says what the logits mean, whatever the kind: a softmax over classes of which a video has one, or a
    sigmoid for each of those of which it may have several. Training sets it after the labels.
    """

    name: str
    kind: str = "gcf"
    width: int = 256
    key_width: int = 32
    input_projection: bool = False
    output_projection: bool = True
    layers: int = 1
    fusion: str = "softmax"
    gate: str = "clips"
    gate_clips: int = 10
    gate_reduction: int = 2
    residual: str = "fused"
    heads: int = 4
    positions: str = "none"
    clusters: int = 32
    groups: int = 8
    top_k: int = 3
    components: int = 0
    source: str | None = None
    source_sha256: str | None = None
    knows_order: bool = False
    standardised: bool = False
    exclusive: bool = True

    def __post_init__(self):
        for value, known, what in (
            (self.kind, tuple(KINDS), "kind"),
            (self.fusion, FUSIONS, "fusion"),
            (self.gate, GATES, "gate"),
            (self.residual, RESIDUALS, "residual"),
            (self.positions, POSITIONS, "positions"),
        ):
            if message := _unknown(value, known, what):
                raise ValueError(message)
        sizes = (self.width, self.key_width, self.layers, self.gate_clips, self.gate_reduction)
        if min(*sizes, self.heads, self.clusters, self.groups, self.top_k) < 1:
            raise ValueError(f"need positive sizes: {self}")
        if self.components < 0:
            raise ValueError(f"components must not be below 0, got {self.components}")
        if self.layers > MOST_LAYERS:
            raise ValueError(f"at most {MOST_LAYERS} layers, got {self.layers}")
        if self.kind == "plugin" and self.source is None:
            raise ValueError("a plug-in head needs its source: give the path of its file to head_config")

    @property
    def fixed_clips(self) -> int | None:
        """The number of clip slots that the gate (or the positions) is built for, None where any number will do."""
        gated = self.kind == "gcf" and self.gate == "clips"
        placed = self.kind == "transformer" and self.positions == "learned"
        return self.gate_clips if gated or placed else None

    @property
    def order_aware(self) -> bool:
        """Whether the order of a video's clips may change the result."""
        return KINDS[self.kind].order_aware(self)


_KINDS_LISTED = sorted(KINDS.items(), key=lambda item: item[0] != "gcf")  # GCF-Net's first
PRESETS = {
    name: replace(HeadConfig(name, kind=kind), **changes)
    for kind, known in _KINDS_LISTED
    for name, changes in known.presets.items()
}


@dataclass(frozen=True)
class TrainConfig:
    """How a head is trained; the defaults are the paper's recipe (section 3.3).

    recipe: "paper" (SGD) or "adamw", see RECIPES; None: the head's own, which is the paper's for all but the kind
    "gated". lr, weight_decay, sparsity None: the recipe's; momentum and dampening are SGD's.
    epochs: passes over the training videos at most, None: as in `schedule.py`.
    patience: validations without improvement before the rate is divided by 10; after `drops` of them training ends.
    num_clips and clip_policy choose the clips of a video, for training and evaluation alike. Where the features have
    several views, training draws one for each video and pass; evaluation keeps to the centre one.
    padding: "mask" leaves out the slots that a short video does not fill; "loop" fills them with
    its clips again, in order from the first, as real as any, which is what the paper does.
    sampling: "shuffle" shows each video once a pass, "balanced" draws as many so that every class is as likely.
    batch_order: "own" shuffles the videos for every seed anew, so that seeds differ as trainings do; "shared" shows all
    seeds the same batches, which takes less time.
    class_weights: "balanced" weighs the loss of a video by 1 / (number of its class), with a mean of 1; where it may
    have several classes, the loss of each class that it shows.
    standardise: heads that learn by gradient read (s - mean) / scale, both of the training clips. None: all but those
    of kind "gcf", which are printed with descriptors as they are, and "logreg", which has steps of its own.
    init: a saved head to start from; freeze "all-but-classifier" trains its last layer alone. head_file: the Python
    file of that head, where it is a plug-in given by its path.
    device: "auto" (a GPU where there is one), or a torch device. precision of the products in linear layers: "auto" is
    bf16 where steps are large, the hardware has it, and a trial shows that it changes nothing that matters.
    """

    recipe: str | None = None
    epochs: int | None = None
    batch_size: int = 128
    lr: float | None = None
    momentum: float = 0.9
    dampening: float = 0.9  # with it the effective rate is lr; without it, ten times lr
    weight_decay: float | None = None
    sparsity: float | None = None  # lambda of equation 9
    patience: int = 5
    drops: int = 3
    num_clips: int = 10
    clip_policy: str = "uniform"
    padding: str = "mask"
    sampling: str = "shuffle"
    batch_order: str = "own"
    class_weights: str = "none"
    standardise: bool | None = None
    seed: int = 0
    init: "str | os.PathLike | SavedHead | None" = None
    head_file: str | os.PathLike | None = None
    freeze: str = "none"
    device: str = "auto"
    precision: str = "auto"

    def __post_init__(self):
        choices = (
            (self.clip_policy, POLICIES, "clip policy"),
            (self.padding, PADDINGS, "padding"),
            (self.freeze, FREEZES, "freeze"),
            (self.sampling, SAMPLINGS, "sampling"),
            (self.batch_order, BATCH_ORDERS, "batch order"),
            (self.class_weights, CLASS_WEIGHTS, "class weights"),
            (self.precision, PRECISIONS, "precision"),
            *([] if self.recipe is None else [(self.recipe, tuple(RECIPES), "recipe")]),
        )
        message = next((found for choice in choices if (found := _unknown(*choice))), "")
        counts = {name: getattr(self, name) for name in ("batch_size", "patience", "drops", "num_clips")}
        counts["epochs"] = 1 if self.epochs is None else self.epochs
        if self.seed < 0:
            raise UsageError(f"the seed must not be negative, got {self.seed}")
        names = ("momentum", "dampening", "weight_decay", "sparsity")
        amounts = {name: value for name in names if (value := getattr(self, name)) is not None}
        message = message or "; ".join(
            [f"{name} must be at least 1, got {value}" for name, value in counts.items() if value < 1]
            + [f"{name} must not be below 0, got {value}" for name, value in amounts.items() if not value >= 0]
            + ([] if self.rate > 0 else [f"lr must be above 0, got {self.rate}"])
        )
        if message:
            raise UsageError(message)
        if (self.padding, self.clip_policy) == ("loop", "all"):
            raise UsageError(
                "padding loop fills up to num_clips, and the clip policy all has no such number; "
                "choose padding mask, or another clip policy"
            )
        if self.freeze != "none" and self.init is None:
            raise UsageError("freeze needs a head to start from: give init as well")
        if self.head_file is not None and self.init is None:
            raise UsageError("head_file is the file of a head to start from: give init as well")

    @property
    def rate(self) -> float:
        """The initial learning rate; in a cosine schedule the highest one."""
        if self.lr is not None:
            return self.lr
        return self.numbers.lr if self.freeze == "none" else self.numbers.frozen_lr

    @property
    def numbers(self) -> Recipe:
        """The recipe that is named; the paper's where none is."""
        return RECIPES[self.recipe or "paper"]

    def of_head(self, head: HeadConfig | None) -> "TrainConfig":
        """With the recipe of a head where none is named, and its numbers where none are given.

        >>> TrainConfig(lr=0.003).of_head(PRESETS["gcf-gated"]).recipe
        'adamw'
        """
        own = "paper" if head is None else KINDS[head.kind].recipe
        named = replace(self, recipe=self.recipe or own)
        decay = named.numbers.weight_decay if named.weight_decay is None else named.weight_decay
        sparsity = named.numbers.sparsity if named.sparsity is None else named.sparsity
        return replace(named, lr=named.rate, weight_decay=decay, sparsity=sparsity)

    def standardises(self, head: HeadConfig) -> bool:
        """Whether a head that is trained anew reads standardised descriptors."""
        by_default = head.kind != "gcf" or head.components > 0
        by_default = by_default if self.standardise is None else self.standardise
        return by_default and head.kind != "logreg"

    def to_json(self, head: HeadConfig | None = None) -> dict:
        """The settings as JSON takes them, with the numbers of the head's recipe; where a file lies is none of them."""
        init, resolved = self.init, self.of_head(head)
        settings = {f.name: getattr(resolved, f.name) for f in fields(self)}
        settings["init"] = None if init is None else str(getattr(init, "config", init))
        del settings["head_file"]
        return settings


JUDGES = ("val", "test")  # subsets that may judge


@dataclass(frozen=True)
class Protocol:
    """Which videos teach and which judge.

    annotations: labels to use instead of the feature file's, a path or what `read_annotations` gives.
    multi_label: a video may have several classes, which `annotations` name; heads learn each by itself.
    merge_labels: classes that differ in letter case or blanks only are one, by the commonest spelling.
    cv: None (the subsets, or val carved from train), "group" (leave one group out), "official" (the published splits
    of the annotations) or a number of folds. judge: "val", the published one judges, as for Kinetics (another val is
    then carved from train, and test takes no part); "test", val chooses whatever there is; None: "val" where train and
    val are marked and test is not, else "test". seeds: runs of each head, counted from TrainConfig.seed; None: one for
    training, five for a comparison. The splits are the same for all of them.
    """

    annotations: "str | os.PathLike | Annotations | None" = None
    cv: str | int | None = None
    seeds: int | None = None
    multi_label: bool = False
    judge: str | None = None
    merge_labels: bool = False

    def __post_init__(self):
        if self.judge not in (None, *JUDGES):
            raise UsageError(f"unknown judge {self.judge!r}; known: {', '.join(JUDGES)}")
        if self.judge is not None and self.cv is not None:
            raise UsageError("cv judges every video in turn; leave out judge, or cv")
        if isinstance(self.cv, str) and self.cv not in ("group", "official"):
            raise UsageError(f"unknown cv {self.cv!r}; known: group, official, or a number of folds")
        if isinstance(self.cv, int) and self.cv < 2:
            raise UsageError(f"cv needs at least two folds, got {self.cv}")
        if self.seeds is not None and self.seeds < 1:
            raise UsageError(f"need at least one seed, got {self.seeds}")

    @property
    def labels(self) -> dict[str, bool]:
        """How the labels are read."""
        return {"multi_label": self.multi_label, "merge_labels": self.merge_labels}

    def to_json(self) -> dict:
        """The protocol as JSON takes it."""
        source = self.annotations
        name = None if source is None else str(getattr(source, "source", source))
        return {f.name: getattr(self, f.name) for f in fields(self)} | {"annotations": name}


class TrainOptions(TypedDict, total=False):
    """Keywords of `train_head`, `ablate` and their like: the fields of Protocol and TrainConfig."""

    annotations: "str | os.PathLike | Annotations | None"
    cv: str | int | None
    seeds: int | None
    multi_label: bool
    judge: str | None
    merge_labels: bool
    recipe: str | None
    epochs: int | None
    batch_size: int
    lr: float | None
    momentum: float
    dampening: float
    weight_decay: float | None
    sparsity: float | None
    patience: int
    drops: int
    num_clips: int
    clip_policy: str
    padding: str
    sampling: str
    batch_order: str
    class_weights: str
    standardise: bool | None
    seed: int
    init: "str | os.PathLike | SavedHead | None"
    head_file: str | os.PathLike | None
    freeze: str
    device: str
    precision: str


def split_options(options: Mapping[str, object]) -> tuple[Protocol, TrainConfig]:
    """Keyword options of `train_head` and `ablate`, sorted into the two things that they set.

    Raises UsageError for an option that is neither's.
    """
    names = {f.name for f in fields(Protocol)}
    require_known(options, [*names, *(f.name for f in fields(TrainConfig))])
    given: dict[str, Any] = dict(options)
    protocol = Protocol(**{name: value for name, value in given.items() if name in names})
    return protocol, TrainConfig(**{name: value for name, value in given.items() if name not in names})
