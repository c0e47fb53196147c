"""Which arms a comparison has: C-Clip and D-Clips, then those of a preset or of a list of heads."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace

from gcf.errors import UsageError
from gcf.head.fitting.start import fit_to_clips
from gcf.head.models.build import head_config
from gcf.head.models.config import GATES, PRESETS, RESIDUALS, HeadConfig, TrainConfig
from gcf.head.models.kinds import KINDS

CENTRAL = "central"
CENTRAL_ARM = "c-clip"  # shares the training of D-Clips
REFERENCE = "d-clips"
OF_INPUT = {"components"}  # fields of any head that is trained on descriptors as they come
HEAD_FIELDS = frozenset(name for kind in KINDS.values() for name in kind.reads) | OF_INPUT
TRAIN_FIELDS = frozenset(f.name for f in fields(TrainConfig)) - {
    *("seed", "init", "head_file", "freeze", "device", "precision")
}

GATED = ("mean", "gated-fusion-only", "gated-gate-only", "gcf-gated")  # the same of the head whose gate works
MODULES = ("mean", "fusion-only", "attention-only", "gcf-256")  # the paper's Table 2, and the mean that it leaves out
WIDTHS = (64, 128, 256, 512, 1024, 2048)  # Fig. 3a
LAYERS = (1, 2, 3, 4, 5)  # Fig. 3b
COUNTS = (1, 2, 4, 6, 8, 10, 15, 20)  # clips a video; the paper's ten are always reached, more where the data have them
PAPER_CLIPS = 10
COUNTED_POLICIES = ("uniform", "first", "random")
LAMBDAS = (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
READINGS = ("gcf-256", "gcf-256-b", "gcf-256-g0")
HEADS = tuple(name for kind in KINDS.values() for name in kind.compared)


@dataclass(frozen=True)
class Arm:
    """One row of a comparison: a head, how it is trained, and the clips it is judged on.

    Without a head, the backbone's own clip classifier speaks, from the cached logits. policy: the clips to be judged
    on where they are not those of training, CENTRAL is the central one. changes: the fields of TrainConfig that differ
    from the run's, with their values.
    """

    name: str
    head: HeadConfig | None
    policy: str | None = None
    changes: tuple[tuple[str, object], ...] = ()

    def settings(self, train: TrainConfig) -> TrainConfig:
        """The run's settings with this arm's changes."""
        return replace(train, **dict(self.changes))


@dataclass(frozen=True)
class Comparison:
    """Arms in the order of the table, and where they lie on the axis of a sweep.

    axis: the field that is swept, None where arms differ in kind. values: {arm: its place on the axis}, lines: {arm:
    the curve that it is a point of}; an arm in neither is a level to compare the curves with.
    """

    arms: tuple[Arm, ...]
    axis: str | None = None
    values: dict[str, float] = field(default_factory=dict)
    lines: dict[str, str] = field(default_factory=dict)


def comparison(preset: str, train: TrainConfig, *, own_classifier: bool, max_clips: int = PAPER_CLIPS) -> Comparison:
    """The arms of a preset, C-Clip and D-Clips first; `own_classifier`: those two read the backbone's own logits.

    max_clips: what the longest video has, for sweeps of the number of clips. Raises UsageError for an unknown preset,
    and where the run's clips leave nothing to compare.

    >>> [arm.name for arm in comparison("readings", TrainConfig(), own_classifier=True).arms]
    ['c-clip', 'd-clips', 'gcf-256', 'gcf-256-b', 'gcf-256-g0']
    """
    if preset not in PRESETS_OF_ARMS:
        raise UsageError(f"unknown preset {preset!r}; known: {', '.join(PRESETS_OF_ARMS)}")
    found = PRESETS_OF_ARMS[preset](train, own_classifier, max_clips)
    return with_baselines(found, own_classifier=own_classifier)


def heads_comparison(heads: Iterable[str | HeadConfig], train: TrainConfig, *, own_classifier: bool) -> Comparison:
    """Any heads against C-Clip and D-Clips, by name, file or config."""
    return with_baselines(Comparison(heads_arms(heads, train)), own_classifier=own_classifier)


def heads_arms(heads: Iterable[str | HeadConfig], train: TrainConfig) -> tuple[Arm, ...]:
    """One arm a head, named as the head is."""
    return tuple(varied(head, train) for head in heads)


def with_baselines(found: Comparison, *, own_classifier: bool) -> Comparison:
    """The same with C-Clip and D-Clips in front; UsageError where two arms would be one and the same."""
    clip = _clip_classifier(own_classifier)
    arms = (Arm(CENTRAL_ARM, clip, policy=CENTRAL), Arm(REFERENCE, clip), *found.arms)
    names: set[str] = set()
    contents: dict[Arm, str] = {}
    for arm in arms:
        if arm.name in names:
            raise UsageError(f"two arms would be called {arm.name}; name each head and value once")
        names.add(arm.name)
    for arm in found.arms:
        content = replace(arm, name="", head=arm.head and replace(arm.head, name=""))
        if content in contents:
            raise UsageError(
                f"arms {contents[content]} and {arm.name} would be the same; leave one out, or choose other clips"
            )
        contents[content] = arm.name
    return replace(found, arms=arms)


def _clip_classifier(own_classifier: bool) -> HeadConfig | None:
    return None if own_classifier else PRESETS["clip"]


def fitting(head: HeadConfig, train: TrainConfig) -> HeadConfig:
    """A gate for a fixed number of clips gets as many slots as are chosen; with all clips it gives way to `token`."""
    if train.clip_policy == "all" and head.kind == "gcf" and head.gate == "clips":
        return head_config(head, gate="token")
    return fit_to_clips(head, train)


def varied(head: str | HeadConfig, train: TrainConfig, *, name: str | None = None, **changed) -> Arm:
    """An arm: the head with some fields of HeadConfig or TrainConfig changed, named after them unless `name` says.

    Where `width` changes, key_width keeps its share of it (d/8 in gcf-256) unless given; the residual `input` brings
    the projection that it needs. Raises UsageError for a field or value that cannot be.

    >>> arm = varied("gcf-256", TrainConfig(), width=64, num_clips=4)
    >>> arm.name, arm.head.key_width, arm.head.gate_clips, arm.changes
    ('gcf-256 width=64 num_clips=4', 8, 4, (('num_clips', 4),))
    """
    head = head_config(head)
    of_head = {key: value for key, value in changed.items() if key in HEAD_FIELDS}
    of_train = {key: value for key, value in changed.items() if key in TRAIN_FIELDS}
    if unknown := changed.keys() - of_head.keys() - of_train.keys():
        raise UsageError(f"{', '.join(sorted(unknown))}: no field to vary; {known_fields()}")
    shown = head_name(head.name, of_head)
    follows = {"name": name or shown} if of_head else {}
    if "width" in of_head:
        follows["key_width"] = max(1, of_head["width"] * head.key_width // head.width)
    if of_head.get("residual") == "input" and head.fusion != "none":
        follows["input_projection"] = True
    try:
        head = head_config(head, **follows | of_head)
    except ValueError as error:
        raise UsageError(f"head {shown}: {error}") from error
    if unread := of_head.keys() - fields_read(head):
        raise UsageError(f"head {shown}: it has no {', '.join(sorted(unread))} to vary")
    arm = Arm(name or head_name(head.name, of_train), head, changes=tuple(of_train.items()))
    return replace(arm, head=fitting(head, arm.settings(train)))


def fields_read(head: HeadConfig) -> set[str]:
    """The fields whose value makes another head of this one.

    >>> "layers" in fields_read(PRESETS["gcf-256"]), "layers" in fields_read(PRESETS["attention-only"])
    (True, False)
    """
    read = set(KINDS[head.kind].reads) | (set() if head.kind in ("clip", "logreg", "plugin") else OF_INPUT)
    if head.kind == "gcf" and head.fusion == "none":
        read -= {"key_width", "layers", "output_projection"} | (set() if head.input_projection else {"width"})
    if head.kind == "gcf" and head.gate == "none":
        read -= {"gate_reduction"}
    return read


def head_name(name: str, changed: dict) -> str:
    """The name with the changed fields behind it.

    >>> head_name("gcf-256", {"layers": 2, "sparsity": 1e-3})
    'gcf-256 layers=2 sparsity=0.001'
    """
    return " ".join([name, *(f"{key}={as_text(value)}" for key, value in changed.items())])


def as_text(value: object) -> str:
    """A value as people write it in a grid."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def known_fields() -> str:
    """The fields that can be varied, in words."""
    return f"known: {', '.join(sorted(HEAD_FIELDS | TRAIN_FIELDS))}"


def swept(axis: str, values: Sequence[float], arms: Sequence[Arm], line: str) -> Comparison:
    """Arms that are the points of one curve."""
    names = [arm.name for arm in arms]
    return Comparison(
        tuple(arms), axis=axis, values=dict(zip(names, values, strict=True)), lines=dict.fromkeys(names, line)
    )


Preset = Callable[[TrainConfig, bool, int], Comparison]


def _named(*names: str) -> Preset:
    def build(train: TrainConfig, *_) -> Comparison:
        return Comparison(heads_arms(names, train))

    return build


def _dims(train: TrainConfig, *_) -> Comparison:
    """gcf-1024 is a preset of its own, and the others are named like it."""
    arms = [varied("gcf-256", train, name=f"gcf-{width}", width=width) for width in WIDTHS]
    return swept("width", WIDTHS, arms, "gcf")


def _one_field(axis: str, values: Sequence[float]) -> Preset:
    def build(train: TrainConfig, *_) -> Comparison:
        return swept(axis, values, [varied("gcf-256", train, **{axis: value}) for value in values], "gcf-256")

    return build


def _kinds(name: str, values: Sequence[str]) -> Preset:
    def build(train: TrainConfig, *_) -> Comparison:
        return Comparison(tuple(varied("gcf-256", train, **{name: value}) for value in values))

    return build


def _clips(train: TrainConfig, own_classifier: bool, max_clips: int) -> Comparison:
    """Every count with every policy that counts, the paper's looped ten, and all clips as levels.

    The baselines choose clips like the head. The run's own padding is C-Clip's and D-Clips' alone.
    """
    heads = {"gcf-256": PRESETS["gcf-256"], "mean": PRESETS["mean"], REFERENCE: _clip_classifier(own_classifier)}
    counts = [count for count in COUNTS if count <= max(PAPER_CLIPS, max_clips)]
    arms, values, lines = [], {}, {}
    for label, head in heads.items():
        for policy in COUNTED_POLICIES:
            for count in counts:
                name = f"{label} {policy} {count}"
                chosen = {"num_clips": count, "clip_policy": policy, "padding": "mask"}
                arms.append(_on_clips(name, head, train, **chosen))
                values[name], lines[name] = count, f"{label}, {policy}"
        name = f"{label} uniform {PAPER_CLIPS} loop"
        chosen = {"num_clips": PAPER_CLIPS, "clip_policy": "uniform", "padding": "loop"}
        arms.append(_on_clips(name, head, train, **chosen))
        values[name], lines[name] = PAPER_CLIPS, f"{label}, uniform, loop"
        arms.append(_on_clips(f"{label} all", head, train, clip_policy="all", padding="mask"))
    return Comparison(tuple(arms), axis="num_clips", values=values, lines=lines)


def _on_clips(name: str, head: HeadConfig | None, train: TrainConfig, **changes) -> Arm:
    arm = Arm(name, head, changes=tuple(changes.items()))
    return arm if head is None else replace(arm, head=fitting(head, arm.settings(train)))


def _heads(train: TrainConfig, own_classifier: bool, _: int) -> Comparison:
    """All kinds; the linear clip classifier is D-Clips, unless D-Clips is the backbone's own."""
    names = ("clip", *HEADS) if own_classifier else HEADS
    return Comparison(heads_arms([name for name in names if name in PRESETS], train))


# Further comparisons are further entries.
PRESETS_OF_ARMS: dict[str, Preset] = {
    "modules": _named(*MODULES),
    "dims": _dims,
    "layers": _one_field("layers", LAYERS),
    "clips": _clips,
    "lambda": _one_field("sparsity", LAMBDAS),
    "gate": _kinds("gate", GATES),
    "residual": _kinds("residual", RESIDUALS),
    "readings": _named(*READINGS),
    "gated": _named(*GATED),
    "heads": _heads,
}
