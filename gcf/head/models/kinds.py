"""The kinds of heads: for each its class, the settings that it reads, and its presets. All else follows from here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any


def _never(_config: object) -> bool:
    return False


def _always(_config: object) -> bool:
    return True


@dataclass(frozen=True, eq=False)
class HeadKind:
    """What gcf knows of one kind of head.

    place: "module:Class" in gcf.head.models, imported when one is built: settings load no torch. The
    class is made with (config, D, K) where it reads fields, else with (D, K) and `keywords`.
    reads: the fields of HeadConfig that shape it, gate_clips apart, for sweeps and grids. keywords:
    further fields, as keywords. order_aware: whether the order of a video's clips may change its
    result. presets: by name, the fields that differ from HeadConfig's defaults. compared: the presets
    among the arms of `gcf ablate --preset heads`. recipe: how it is trained unless another is asked for (RECIPES).
    """

    place: str = ""
    reads: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    order_aware: Callable[[Any], bool] = _never
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    compared: tuple[str, ...] = ()
    recipe: str = "paper"

    @property
    def cls(self) -> type:
        """Its class."""
        module, name = self.place.split(":")
        return getattr(import_module(f"gcf.head.models.{module}"), name)


GATED = {"gate": "token", "key_width": 64, "components": 64}

KINDS = {  # in the order of `gcf ablate --preset heads`
    "mean": HeadKind("baselines:MeanHead", presets={"mean": {}}, compared=("mean",)),
    "clip": HeadKind("baselines:ClipHead", keywords=("exclusive",), presets={"clip": {}}),
    "max": HeadKind("pooling:MaxHead", presets={"max": {}}, compared=("max",)),
    "logreg": HeadKind("baselines:MeanHead", presets={"logreg": {}}, compared=("logreg",)),
    "mil": HeadKind(
        "pooling:GatedAttentionHead",
        reads=("width",),
        presets={"mil": {"width": 128}},
        compared=("mil",),
    ),
    "stpn": HeadKind(
        "pooling:SparseAttentionHead",
        reads=("width",),
        presets={"stpn": {"width": 256}},
        compared=("stpn",),
    ),
    "transformer": HeadKind(
        "transformer:TransformerHead",
        reads=("width", "heads", "positions"),
        order_aware=lambda config: config.positions != "none",
        presets={"transformer": {"width": 256}},
        compared=("transformer",),
    ),
    "nextvlad": HeadKind(
        "nextvlad:NextVladHead",
        reads=("width", "clusters", "groups", "gate_reduction"),
        presets={"nextvlad": {"width": 256, "gate_reduction": 8}},
        compared=("nextvlad",),
    ),
    "gru": HeadKind(
        "recurrent:RecurrentHead",
        reads=("width",),
        order_aware=_always,
        presets={"gru": {"width": 128}},
        compared=("gru",),
    ),
    "topk": HeadKind(
        "pooling:TopClipsHead",
        reads=("width", "top_k"),
        presets={"topk": {"width": 64}},
        compared=("topk",),
    ),
    "gcf": HeadKind(
        "gcf_net:GCFNet",
        reads=(
            *("width", "key_width", "input_projection", "output_projection", "layers"),
            *("fusion", "gate", "gate_reduction", "residual"),
        ),
        order_aware=lambda config: config.gate == "clips",
        # Reconstructed from the paper's prose and its Table 3 (0.86 M parameters, "15 MFLOPs"): readings A, B and G0
        # all fit.
        presets={
            "gcf-256": {},
            "gcf-256-b": {
                "input_projection": True,
                "key_width": 256,
                "output_projection": False,
                "residual": "input",
            },
            "gcf-256-g0": {
                "input_projection": True,
                "key_width": 64,
                "gate": "token",
                "gate_reduction": 4,
            },
            "gcf-1024": {"width": 1024, "key_width": 128},
            # v = mean of b_i, the gate skipped
            "fusion-only": {"gate": "none", "residual": "none"},
            # b_i := s_i, so the head is as wide as the descriptors
            "attention-only": {"fusion": "none"},
        },
        compared=("fusion-only", "attention-only", "gcf-256"),
    ),
    "gated": HeadKind(
        "gated:GatedClipFusion",
        reads=("width", "key_width", "layers", "fusion", "gate"),
        presets={
            "gcf-gated": GATED,
            "gated-gate-only": GATED | {"fusion": "none"},
            "gated-fusion-only": GATED | {"gate": "none"},
        },
        compared=("gcf-gated",),
        recipe="adamw",
    ),
    "plugin": HeadKind(order_aware=lambda config: config.knows_order),  # a user's own file
}
