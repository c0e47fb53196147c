"""What networks and heads cost, counted, beside the figures that the paper's Table 3 prints."""

from dataclasses import dataclass

from gcf.extract.backbones.published import assumed_pixels
from gcf.extract.backbones.registry import SPECS, BackboneSpec
from gcf.extract.complexity import backbone_complexity
from gcf.head.models.complexity import head_complexity
from gcf.head.models.config import PRESETS

NUM_FRAMES, NUM_CLIPS, KINETICS_600 = 16, 10, 600
# Table 3 of the paper (doi 10.1007/978-3-030-68238-5_46): millions of parameters and of "FLOPs"
PAPER = {
    "mobilenetv2": (3.12, 446),
    "shufflenetv2": (6.64, 360),
    "r2plus1d_101": (50.91, 6831),
    "resnext101": (48.34, 6932),
}
PAPER_HEAD = (0.86, 15)
WHY = (
    "The paper's MFLOPs of backbones come from an old thop, which divided by the stride twice; MACs here are counted "
    "by torch's flop counter.",
    "Its 48.34 M for 3D-ResNeXt-101 is the count with 400 classes; with 600 it is 48.75 M.",
    "Its R(2+1)D is derived here from the text and the table (ResNet-101 bottlenecks, 1x3x3 then 3x1x1, mid = planes); "
    "no code was published.",
    "Its 15 MFLOPs of the head are 2 x MACs for 10 clips. The head's widths are reconstructed: the paper prints none; "
    "readings A (gcf-256), B and G0 fit its figures alike.",
)


@dataclass(frozen=True)
class ComplexityRow:
    """Parameters and MACs of a backbone on a clip of 16 frames, or of a head on 10 clips, D = 2048; and the paper's."""

    name: str
    kind: str
    classes: int
    size: int | None
    parameters: int
    macs: int
    paper_parameters_m: float | None = None
    paper_mflops: float | None = None


@dataclass(frozen=True)
class ComplexityTable:
    """All rows, why they differ from the paper's, and what the default head adds to ten clips of a backbone."""

    rows: list[ComplexityRow]
    why: tuple[str, ...]
    overhead: dict[str, float]

    def describe(self) -> str:
        """The table as text."""
        lines = [f"{'':20}{'classes':>8}{'params M':>11}{'MACs M':>12}{'paper: params M':>17}{'MFLOPs':>8}"]
        for row in self.rows:
            paper = f"{row.paper_parameters_m:>17}{row.paper_mflops:>8,}" if row.paper_mflops else ""
            numbers = f"{row.classes:>8}{row.parameters / 1e6:>11.3f}{row.macs / 1e6:>12,.2f}"
            lines.append(f"{row.name:20}{numbers}{paper}")
        lines += ["", "MACs: a clip of 16 frames for a backbone; a video of 10 clips, 2048 wide, for a head."]
        share = ", ".join(f"{100 * value:.2g} % of {name}'s" for name, value in self.overhead.items())
        lines.append(f"gcf-256 adds to the MACs of ten clips: {share}.")
        return "\n".join([*lines, *self.why])


def complexity_table() -> ComplexityTable:
    """Count every backbone and every preset of the head; shapes only, a few seconds."""
    rows = []
    for spec in SPECS:
        size = _side(spec)
        for classes in sorted({spec.num_classes, KINETICS_600} if spec.name in PAPER else {spec.num_classes}):
            counted = backbone_complexity(spec.name, num_classes=classes, num_frames=NUM_FRAMES, size=size)
            paper = PAPER.get(spec.name, (None, None)) if classes == spec.num_classes else (None, None)
            rows.append(ComplexityRow(spec.name, "backbone", classes, size, counted.params, counted.macs, *paper))
    macs = {row.name: row.macs for row in rows if row.classes == KINETICS_600}
    for name, config in PRESETS.items():
        counted = head_complexity(config, 2048, KINETICS_600, num_clips=NUM_CLIPS)
        paper = PAPER_HEAD if name == "gcf-256" else (None, None)
        rows.append(ComplexityRow(name, "head", KINETICS_600, None, counted.parameters, counted.macs, *paper))
    head_macs = {
        name: head_complexity(PRESETS["gcf-256"], width, KINETICS_600).macs for name, width in _widths().items()
    }
    overhead = {name: head_macs[name] / (NUM_CLIPS * macs[name]) for name in head_macs}
    return ComplexityTable(rows, WHY, overhead)


def _side(spec: BackboneSpec) -> int:
    """Pixels a side of a clip, as its weights were trained."""
    crop = assumed_pixels(spec.name, spec.num_classes).crop
    return crop if isinstance(crop, int) else crop[0]


def _widths() -> dict[str, int]:
    return {spec.name: spec.descriptor_width for spec in SPECS if spec.name in PAPER}
