"""The backbones by name: one dict of specs. Knows their facts, builds nothing, imports no torch."""

from dataclasses import dataclass

from gcf.data.options import did_you_mean
from gcf.errors import UsageError

S3D_POOL = "its last pool spans two frames, without padding"
FIXED_GRID = "its position codes are made for the strided grid"
PATCHES = "its patches are two frames long"
SLOW_FRAMES = "its slow pathway is made of every fourth frame"


@dataclass(frozen=True)
class BackboneSpec:
    """Facts of one network, as published.

    `module` has `build(name, num_classes=, width=)`. `classifier` and `width_layer` are state-dict keys whose rows
    tell the classes and the width multiplier. `stride_stays` says why temporal_stride="none" is impossible; '' where
    it is possible.
    """

    name: str
    module: str
    descriptor_width: int
    classifier: str
    num_classes: int
    parameters: int
    family: str = ""  # the bare name that stands for every width
    width: float | None = None
    width_layer: str = ""
    width_rows: int = 0
    stride_stays: str = ""


def _resnet(name: str, num_classes: int, parameters: int) -> BackboneSpec:
    return BackboneSpec(name, "resnet", 2048, "fc.weight", num_classes, parameters)


def _mobilenet(width: float, width_rows: int, parameters: int) -> BackboneSpec:
    return BackboneSpec(
        name="mobilenetv2" if width == 1.0 else f"mobilenetv2_{width}x",
        module="mobilenetv2",
        descriptor_width=1280,
        classifier="classifier.1.weight",
        num_classes=600,
        parameters=parameters,
        family="mobilenetv2",
        width=width,
        width_layer="features.0.0.weight",
        width_rows=width_rows,
    )


def _shufflenet(width: float, width_rows: int, parameters: int) -> BackboneSpec:
    name, descriptor_width = f"shufflenetv2_{width}x", 1024
    if width == 2.0:
        name, descriptor_width = "shufflenetv2", 2048
    return BackboneSpec(
        name=name,
        module="shufflenetv2",
        descriptor_width=descriptor_width,
        classifier="classifier.1.weight",
        num_classes=600,
        parameters=parameters,
        family="shufflenetv2",
        width=width,
        width_layer="features.0.banch2.5.weight",
        width_rows=width_rows,
    )


def _x3d(size: str, parameters: int) -> BackboneSpec:
    return BackboneSpec(f"x3d_{size}", "x3d", 2048, "blocks.5.proj.weight", 400, parameters)


def _pathway(name: str, parameters: int) -> BackboneSpec:
    return BackboneSpec(name, "pathway", 2048, "blocks.5.proj.weight", 400, parameters)


def _torchvision(name: str, width: int, classifier: str, parameters: int, stride_stays: str = "") -> BackboneSpec:
    return BackboneSpec(name, "torchvision_models", width, classifier, 400, parameters, stride_stays=stride_stays)


SPECS = (
    _resnet("resnext101", 400, 48_340_816),
    _mobilenet(1.0, 32, 3_122_648),
    _mobilenet(0.7, 22, 2_049_942),
    _mobilenet(0.45, 14, 1_399_834),
    _mobilenet(0.2, 6, 964_110),
    _shufflenet(2.0, 112, 6_639_816),
    _shufflenet(1.5, 88, 3_161_880),
    _shufflenet(1.0, 58, 1_914_180),
    _shufflenet(0.5, 24, 976_664),
    _shufflenet(0.25, 16, 829_656),
    _resnet("r2plus1d_101", 600, 50_917_016),
    _resnet("r2plus1d_50", 700, 47_650_082),
    _resnet("r2plus1d_101_hara", 700, 86_715_810),
    _resnet("r3d_50", 700, 47_633_276),
    _resnet("r3d_101", 700, 86_679_420),
    _x3d("xs", 3_794_274),  # XS, S and M are one network: their weights and clips differ
    _x3d("s", 3_794_274),
    _x3d("m", 3_794_274),
    _x3d("l", 6_153_384),
    _pathway("slow_r50", 32_454_096),
    BackboneSpec("slowfast_r50", "slowfast", 2304, "blocks.6.proj.weight", 400, 34_566_488, stride_stays=SLOW_FRAMES),
    _pathway("r2plus1d_r50", 28_107_600),
    _torchvision("r3d_18", 512, "fc.weight", 33_371_472),
    _torchvision("mc3_18", 512, "fc.weight", 11_695_440),
    _torchvision("r2plus1d_18", 512, "fc.weight", 31_505_325),
    _torchvision("s3d", 1024, "classifier.1.weight", 8_320_048, S3D_POOL),
    _torchvision("mvit_v1_b", 768, "head.1.weight", 36_610_672, FIXED_GRID),
    _torchvision("mvit_v2_s", 768, "head.1.weight", 34_537_744, FIXED_GRID),
    _torchvision("swin3d_t", 768, "head.weight", 28_158_070, PATCHES),
    _torchvision("swin3d_s", 768, "head.weight", 49_816_678, PATCHES),
    _torchvision("swin3d_b", 1024, "head.weight", 88_048_984, PATCHES),
)
BACKBONES = {spec.name: spec for spec in SPECS}
FULL_NAMES = {f"{spec.family}_{spec.width}x": spec.name for spec in SPECS if spec.name == spec.family}


def find_backbone(name: str) -> BackboneSpec:
    """The spec of a name; `mobilenetv2_1.0x` and `shufflenetv2_2.0x` are `mobilenetv2` and `shufflenetv2`.

    >>> find_backbone("mobilenetv2_0.45x").width
    0.45

    Raises UsageError, with the nearest names, for a name that is not there.
    """
    spec = BACKBONES.get(FULL_NAMES.get(name, name))
    if spec is None:
        hint = did_you_mean(name, BACKBONES)
        known = (
            f"known: {', '.join(BACKBONES)}; or the path of a plug-in, FILE.py; or hf: and a Hugging Face repository"
        )
        raise UsageError(" ".join(filter(None, [f"unknown backbone {name!r};", hint, f"{known} or folder"])))
    return spec


def widths_of(name: str) -> tuple[BackboneSpec, ...]:
    """The specs that a name may turn out to be once its weights are seen: all widths for a bare family name."""
    return tuple(spec for spec in SPECS if spec.family == name) or (find_backbone(name),)
