"""The published weights: one table of where they are and of the pixels and classes they were trained with.

The pixel recipe belongs to the weights, not to the network: the Kinetics-600 files were trained on OpenCV's BGR.
"""

from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from gcf.data.motions import PRIMITIVES
from gcf.errors import UsageError
from gcf.extract.backbones.registry import BACKBONES, find_backbone
from gcf.extract.weights.cache import cached_path, obtain, seen_digests
from gcf.extract.weights.download import DownloadSource


@dataclass(frozen=True)
class Pixels:
    """How frames become network input; sizes in pixels, an int for the short side or a square, else (H, W).

    `pixel_max`: values run from 0 to it before mean and std. `num_frames` per clip as trained; `frame_rate` in frames
    per second as trained, None for the video's own.
    """

    channel_order: str
    pixel_max: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: int | tuple[int, int] = 112
    crop: int | tuple[int, int] = 112
    resize_rule: str = "pillow"
    num_frames: int = 16
    frame_rate: float | None = None

    def recipe(self) -> dict:
        """The part of a backbone's recipe that these settings are, JSON-able."""
        return {
            "num_frames": self.num_frames,
            "resize": _plain(self.resize),
            "resize_rule": self.resize_rule,
            "crop": _plain(self.crop),
            "channel_order": self.channel_order,
            "pixel_max": self.pixel_max,
            "mean": list(self.mean),
            "std": list(self.std),
        }


@dataclass(frozen=True)
class WeightsSpec:
    """One published file of weights.

    `class_list`: "kinetics400" | "kinetics600" | "primitives", '' where the order is unknown. `top1` as its authors
    print it, a fraction of videos or of clips, None where no text of theirs was found that prints it. `top1_source`:
    where it was read and how it was measured, or why there is none. Figures of different sources are not comparable.
    """

    backbone: str
    id: str
    source: DownloadSource
    num_classes: int
    class_list: str
    pixels: Pixels
    top1: float | None = None
    top1_source: str = ""

    def class_names(self) -> list[str] | None:
        """Name of every logit, or None where their order was never published."""
        return class_names(self.class_list) if self.class_list else None


@dataclass(frozen=True)
class WeightsInfo:
    """One line of `gcf weights list`; `cached` is the file's path where it is there already.

    origin: "direct" (it downloads by itself), "by hand", or "packaged" (it comes with gcf). dataset: what it was
    trained on. top1, top1_source: as in WeightsSpec.
    """

    backbone: str
    id: str
    num_classes: int
    names_known: bool
    origin: str
    file: str
    cached: Path | None
    dataset: str
    top1: float | None
    top1_source: str


KINETICS_MEAN = (114.7748, 107.7354, 99.4750)  # RGB: kenshohara/3D-ResNets-PyTorch, branch CVPR2018, mean.py
HARA_2018 = Pixels("RGB", 255.0, KINETICS_MEAN, (1.0, 1.0, 1.0))
# Efficient-3DCNNs subtracts the RGB means from OpenCV's BGR frames (its issues 24 and 25): so were these trained
EFFICIENT = Pixels("BGR", 255.0, KINETICS_MEAN, (1.0, 1.0, 1.0))
# kenshohara/3D-ResNets-PyTorch master, main.py get_mean_std("kinetics")
HARA = Pixels("RGB", 1.0, (0.4345, 0.4051, 0.3775), (0.2768, 0.2713, 0.2737))
DRIVE = "https://drive.google.com/drive/folders/"
HARA_2018_FOLDER = DRIVE + "1zvl89AgFAApbH0At-gMuZSeQB_LpNP-M"
EFFICIENT_FOLDER = DRIVE + "1eggpkmy_zjb62Xra6kQviLa67vzP_FR8"
HARA_FOLDER = DRIVE + "1xbYbZ7rpyjftI_KCk6YuL-XrfQDz7Yd4"
# Read: okankop/Efficient-3DCNNs README.md at f8debe0, kenshohara/3D-ResNets-PyTorch README.md at 042b98c (2018) and at
# 540a0ea (2020). The papers were not at hand; 65.1 is quoted, and with its top-5, 85.7, has the README's mean, 75.4.
EFFICIENT_TOP1 = (
    "not found: the README of okankop/Efficient-3DCNNs shows its results in a picture alone; the paper is "
    "arXiv 1904.02422"
)
HARA_2018_TOP1 = (
    0.651,
    "arXiv 1711.09577, as quoted in thaolmk54/hcrn-videoqa issue 13: videos",
)
HARA_TOP1 = "not found: the README of kenshohara/3D-ResNets-PyTorch (2020) prints none; the paper is arXiv 2004.04968"
YOWO = "https://github.com/yjh0410/PyTorch_YOWO/releases/download/yowo-weight/"


def _efficient(backbone: str, model: str, *, direct: bool = False) -> WeightsSpec:
    file = f"kinetics_{model}_RGB_16_best.pth"  # "RGB" is the modality, not the channel order
    source = DownloadSource(file, (YOWO + file,) if direct else (), EFFICIENT_FOLDER)
    return WeightsSpec(backbone, "kinetics600", source, 600, "kinetics600", EFFICIENT, None, EFFICIENT_TOP1)


def _hara(backbone: str, file: str) -> WeightsSpec:
    return WeightsSpec(
        backbone, "kinetics700-hara", DownloadSource(file, (), HARA_FOLDER), 700, "", HARA, None, HARA_TOP1
    )


PYTORCHVIDEO_TOP1 = "pytorchvideo docs/source/model_zoo.md: videos, 10 clips x 3 crops"
PYTORCHVIDEO = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/"


def _pytorchvideo(
    backbone: str, model: str, *, sides: tuple[int, int] = (256, 224), clip: tuple[int, int], top1: float
) -> WeightsSpec:
    """sides: short side and crop; clip: frames and the stride between them at 30 frames a second.

    facebookresearch/SlowFast configs/Kinetics/pytorchvideo/*.yaml: the least short side of training, which tests take
    too, and the crop of training, which X3D's tests with one crop take; there the networks pool their whole map. Clips
    last frames x stride / 30 s; SlowFast's are the fast pathway's. Resized without antialiasing: pytorchvideo
    transforms/functional.py short_side_scale. Top-1: pytorchvideo docs/source/model_zoo.md, 10 clips x 3 crops, each as
    large as the short side.
    """
    file = f"{model}.pyth"
    grey = ((0.45, 0.45, 0.45), (0.225, 0.225, 0.225))
    pixels = Pixels("RGB", 1.0, *grey, *sides, resize_rule="torchvision", num_frames=clip[0], frame_rate=30 / clip[1])
    source = DownloadSource(file, (PYTORCHVIDEO + file,))
    return WeightsSpec(backbone, "kinetics400", source, 400, "kinetics400", pixels, top1, PYTORCHVIDEO_TOP1)


RESNEXT_MIRROR = "https://www.rocq.inria.fr/cluster-willow/amiech/howto100m/models/resnext101.pth"  # a bare state dict
RESNEXT_HARA = DownloadSource(
    "resnext-101-kinetics.pth", (YOWO + "resnext-101-kinetics.pth", RESNEXT_MIRROR), HARA_2018_FOLDER
)
# Trained on synthetic videos alone: the card is backbones/packaged/shufflenetv2_0.25x_primitives.md
PACKAGED_FILE = DownloadSource(
    "shufflenetv2_0.25x_primitives.safetensors", sha256="f06974ba8d3072251f97acfab7160b26", packaged=True
)
PACKAGED = WeightsSpec(
    backbone="shufflenetv2_0.25x",
    id="primitives",
    source=PACKAGED_FILE,
    num_classes=len(PRIMITIVES),
    class_list="primitives",
    pixels=Pixels("RGB", 1.0, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
    top1=2347 / 2400,
    top1_source="its card: clips of held-out synthetic videos, by gcf",
)
PUBLISHED = (
    WeightsSpec("resnext101", "kinetics400-hara", RESNEXT_HARA, 400, "kinetics400", HARA_2018, *HARA_2018_TOP1),
    _efficient("resnext101", "resnext_101"),
    _efficient("mobilenetv2", "mobilenetv2_1.0x"),
    _efficient("mobilenetv2_0.7x", "mobilenetv2_0.7x"),
    _efficient("mobilenetv2_0.45x", "mobilenetv2_0.45x"),
    _efficient("mobilenetv2_0.2x", "mobilenetv2_0.2x"),
    _efficient("shufflenetv2", "shufflenetv2_2.0x", direct=True),
    _efficient("shufflenetv2_1.5x", "shufflenetv2_1.5x", direct=True),
    _efficient("shufflenetv2_1.0x", "shufflenetv2_1.0x", direct=True),
    _efficient("shufflenetv2_0.25x", "shufflenetv2_0.25x", direct=True),
    PACKAGED,
    _hara("r2plus1d_50", "r2p1d50_K_200ep.pth"),
    _hara("r3d_50", "r3d50_K_200ep.pth"),
    _hara("r3d_101", "r3d101_K_200ep.pth"),
    _pytorchvideo("x3d_xs", "X3D_XS", sides=(182, 160), clip=(4, 12), top1=0.6912),
    _pytorchvideo("x3d_s", "X3D_S", sides=(182, 160), clip=(13, 6), top1=0.7333),
    _pytorchvideo("x3d_m", "X3D_M", sides=(256, 224), clip=(16, 5), top1=0.7594),
    _pytorchvideo("x3d_l", "X3D_L", sides=(356, 312), clip=(16, 5), top1=0.7744),
    _pytorchvideo("slow_r50", "SLOW_8x8_R50", clip=(8, 8), top1=0.7458),
    _pytorchvideo("slowfast_r50", "SLOWFAST_8x8_R50", clip=(32, 2), top1=0.7694),
    _pytorchvideo("r2plus1d_r50", "R2PLUS1D_16x4_R50", clip=(16, 4), top1=0.7601),
)
TORCHVISION_URL = "https://download.pytorch.org/models/"
# torchvision's: (backbone, id) -> file and top-1, so that a listing need not import torchvision; a test holds them to
# its enums, of which all else is asked
TORCHVISION = {
    ("r3d_18", "kinetics400-v1"): ("r3d_18-b3b3357e.pth", 0.632),
    ("mc3_18", "kinetics400-v1"): ("mc3_18-a90a0ba3.pth", 0.6396),
    ("r2plus1d_18", "kinetics400-v1"): ("r2plus1d_18-91a641e6.pth", 0.67463),
    ("s3d", "kinetics400-v1"): ("s3d-d76dad2f.pth", 0.68368),
    ("mvit_v1_b", "kinetics400-v1"): ("mvit_v1_b-dbeb1030.pth", 0.78477),
    ("mvit_v2_s", "kinetics400-v1"): ("mvit_v2_s-ae3be167.pth", 0.80757),
    ("swin3d_t", "kinetics400-v1"): ("swin3d_t-7615ae03.pth", 0.77715),
    ("swin3d_s", "kinetics400-v1"): ("swin3d_s-da41c237.pth", 0.79521),
    ("swin3d_b", "kinetics400-v1"): ("swin3d_b_1k-24f7c7c6.pth", 0.79427),
    ("swin3d_b", "kinetics400-imagenet22k-v1"): ("swin3d_b_22k-7c6ae6fa.pth", 0.81643),
}
# frames per clip and frames per second of training, and clips of a video that its top-1 is the mean of (1: top-1 of
# clips): the `_docs` of torchvision's enums
TORCHVISION_CLIPS = {"s3d": (128, 15.0, 1), "mvit": (16, 7.5, 5), "swin3d": (32, 15.0, 12), "": (16, 15.0, 5)}


def weights_ids(backbone: str) -> tuple[str, ...]:
    """Ids of the published weights of a backbone, the default first where one can be fetched directly."""
    ours = [spec.id for spec in PUBLISHED if spec.backbone == backbone]
    return (*ours, *(weights_id for name, weights_id in TORCHVISION if name == backbone))


def find_weights(backbone: str, weights_id: str) -> WeightsSpec:
    """The spec of published weights.

    Raises UsageError for a backbone or an id that is not in the table.
    """
    name = find_backbone(backbone).name
    for spec in PUBLISHED:
        if (spec.backbone, spec.id) == (name, weights_id):
            return spec
    if (name, weights_id) in TORCHVISION:
        return _from_torchvision(name, weights_id)
    known = ", ".join(weights_ids(name)) or "none are public"
    raise UsageError(f"unknown weights {weights_id!r} of {name}; known: {known}")


def default_weights(backbone: str) -> WeightsSpec:
    """What weights="default" means: the first that can be fetched directly, else the first.

    Raises UsageError where none are public.
    """
    name = find_backbone(backbone).name
    specs = [find_weights(name, weights_id) for weights_id in weights_ids(name)]
    if not specs:
        raise UsageError(f"no weights of {name} are public; name a file of them, or weights=random to try things out")
    return next((spec for spec in specs if spec.source.urls), specs[0])


def weights_of_file(backbone: str, file: str) -> WeightsSpec | None:
    """The published weights that a file of that name is, or None."""
    specs = [find_weights(backbone, weights_id) for weights_id in weights_ids(backbone)]
    return next((spec for spec in specs if spec.source.file == file), None)


def assumed_pixels(backbone: str, num_classes: int) -> Pixels:
    """The pixels of weights of unknown origin: those of published ones with as many classes, else of the default ones.

    Where none are public: those of Efficient-3DCNNs, with which the paper's networks were trained.
    """
    specs = [find_weights(backbone, weights_id) for weights_id in weights_ids(backbone)]
    specs = [spec for spec in specs if not spec.source.packaged]  # no network of a user's was trained like those
    alike = [spec for spec in specs if spec.num_classes == num_classes]
    return (alike or [default_weights(backbone)])[0].pixels if specs else EFFICIENT


@cache
def class_names(class_list: str) -> list[str]:
    """The class names in the order of the logits, alphabetical, byte by byte.

    Kinetics-400: torchvision's weights. Kinetics-600: tensorflow/models official/projects/movinet/files/
    kinetics_600_labels.txt, the order in which okankop/Efficient-3DCNNs annotation_Kinetics/kinetics-600_val.csv
    brings them, from which that repository numbers its classes (utils/kinetics_json.py).
    """
    if class_list == "primitives":
        return list(PRIMITIVES)
    if class_list == "kinetics400":
        from torchvision.models import get_model_weights

        return list(get_model_weights("r3d_18").KINETICS400_V1.meta["categories"])
    text = resources.files("gcf.extract.backbones").joinpath(f"classes/{class_list}.txt").read_text("utf-8")
    return text.splitlines()


def list_weights() -> list[WeightsInfo]:
    """Everything in the table, in its order."""
    theirs = (
        (name, weights_id, BACKBONES[name].num_classes, True, DownloadSource(file, (f"{TORCHVISION_URL}{file}",)), top1)
        for (name, weights_id), (file, top1) in TORCHVISION.items()
    )
    return [
        *(
            _listed(s.backbone, s.id, s.num_classes, bool(s.class_list), s.source, (s.top1, s.top1_source))
            for s in PUBLISHED
        ),
        *(_listed(*facts, (top1, _torchvision_top1_source(facts[0]))) for *facts, top1 in theirs),
    ]


def default_listed() -> dict[str, WeightsInfo]:
    """Backbone -> the line of its default weights, as in default_weights; without those that have none."""
    found: dict[str, WeightsInfo] = {}
    for info in list_weights():
        first = found.setdefault(info.backbone, info)
        if info.origin == "direct" != first.origin:
            found[info.backbone] = info
    return found


def dataset_of(weights_id: str) -> str:
    """What weights of that id were trained on.

    >>> dataset_of("kinetics400-imagenet22k-v1")
    'Kinetics-400'
    """
    return weights_id.split("-")[0].replace("kinetics", "Kinetics-")


def _listed(
    backbone: str,
    weights_id: str,
    num_classes: int,
    names_known: bool,
    source: DownloadSource,
    top1: tuple[float | None, str],
) -> WeightsInfo:
    path = cached_path(source)
    origin = "direct" if source.urls else "by hand"
    if source.packaged:
        origin = "packaged"
    cached = path if path.exists() else None
    known = (backbone, weights_id, num_classes, names_known, origin, source.file, cached)
    return WeightsInfo(*known, dataset_of(weights_id), *top1)


def describe_weights(backbone: str, weights_id: str) -> dict:
    """All that is known of published weights, JSON-able; `cached` is the path of the file or None."""
    spec = find_weights(backbone, weights_id)
    path = cached_path(spec.source)
    source = asdict(spec.source) | {"urls": list(spec.source.urls)}
    return {
        "backbone": spec.backbone,
        "id": spec.id,
        **source,
        "num_classes": spec.num_classes,
        "classes": spec.class_names(),
        **spec.pixels.recipe(),
        "frame_rate": spec.pixels.frame_rate,
        "dataset": dataset_of(spec.id),
        "top1": spec.top1,
        "top1_source": spec.top1_source,
        "path": str(path),
        "cached": str(path) if path.exists() else None,
        "sha256_seen": seen_digests(path),
    }


def pull_weights(backbone: str, weights_id: str = "default") -> Path:
    """Fetch published weights into the cache, if they are not there yet, and check them; the file's path."""
    spec = default_weights(backbone) if weights_id == "default" else find_weights(backbone, weights_id)
    return obtain(spec.source)[0]


def _from_torchvision(name: str, weights_id: str) -> WeightsSpec:
    from torchvision.models import get_model_weights

    weights = get_model_weights(name)[weights_id.upper().replace("-", "_")]
    transforms = weights.transforms()
    resize = transforms.resize_size
    num_frames, frame_rate, _ = _torchvision_clips(name)
    pixels = Pixels(
        "RGB",
        1.0,
        tuple(transforms.mean),
        tuple(transforms.std),
        resize=resize[0] if len(resize) == 1 else tuple(resize),
        crop=tuple(transforms.crop_size),
        resize_rule="torchvision",
        num_frames=num_frames,
        frame_rate=frame_rate,
    )
    file = weights.url.rsplit("/", 1)[-1]
    source = DownloadSource(
        file, (weights.url,), sha256=file.rsplit("-", 1)[-1].removesuffix(".pth")
    )  # names end in 8 digits
    top1 = round(weights.meta["_metrics"]["Kinetics-400"]["acc@1"] / 100, 5)
    judged = (top1, _torchvision_top1_source(name))
    return WeightsSpec(name, weights_id, source, len(weights.meta["categories"]), "kinetics400", pixels, *judged)


def _torchvision_clips(name: str) -> tuple[int, float, int]:
    return next(clips for prefix, clips in TORCHVISION_CLIPS.items() if name.startswith(prefix))


def _torchvision_top1_source(name: str) -> str:
    num_frames, frame_rate, num_clips = _torchvision_clips(name)
    what = f"videos, {num_clips} clips" if num_clips > 1 else "clips"
    return f"torchvision's enum: {what} of {num_frames} frames at {frame_rate:g} a second"


def _plain(size: int | tuple[int, int]) -> int | list[int]:
    return size if isinstance(size, int) else list(size)
