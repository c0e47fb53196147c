"""gcf: cached clip descriptors and the GCF-Net head for video action recognition research.

The names below are the public interface; each is imported when it is first used, so `import gcf` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from gcf._version import __version__
from gcf.errors import GcfError

if TYPE_CHECKING:
    from gcf.data.difference import diff_features
    from gcf.data.export import export_features
    from gcf.data.features import FeatureFile
    from gcf.data.joined import join_features
    from gcf.data.merge import merge_features
    from gcf.data.synthetic import write_demo_videos
    from gcf.data.verify import verify_features
    from gcf.explain.demo import run_demo
    from gcf.explain.doctor.run import diagnose
    from gcf.explain.live import watch_predictions
    from gcf.explain.localize import localize_videos
    from gcf.explain.pages.write import write_pages
    from gcf.explain.predict import predict_videos, stream_predictions
    from gcf.extract.backbones import load_backbone
    from gcf.extract.extractor import extract_together, extract_videos
    from gcf.extract.stream.config import ExtractConfig
    from gcf.head.ablation import ablate
    from gcf.head.checks import check_head
    from gcf.head.compare import compare_features
    from gcf.head.estimator import GCFClassifier
    from gcf.head.evaluate import evaluate_head
    from gcf.head.models.config import HeadConfig, Protocol, TrainConfig
    from gcf.head.models.ensemble import load_ensemble
    from gcf.head.models.saved import load_head
    from gcf.head.onnx_export import export_onnx
    from gcf.head.report.write import write_report
    from gcf.head.training import train_head
    from gcf.head.transfer import transfer_head

_PLACES = {
    "TrainConfig": "gcf.head.models.config",
    "Protocol": "gcf.head.models.config",
    "HeadConfig": "gcf.head.models.config",
    "ExtractConfig": "gcf.extract.stream.config",
    "FeatureFile": "gcf.data.features",
    "GCFClassifier": "gcf.head.estimator",
    "ablate": "gcf.head.ablation",
    "check_head": "gcf.head.checks",
    "compare_features": "gcf.head.compare",
    "diagnose": "gcf.explain.doctor.run",
    "diff_features": "gcf.data.difference",
    "evaluate_head": "gcf.head.evaluate",
    "export_features": "gcf.data.export",
    "export_onnx": "gcf.head.onnx_export",
    "extract_together": "gcf.extract.extractor",
    "extract_videos": "gcf.extract.extractor",
    "join_features": "gcf.data.joined",
    "load_backbone": "gcf.extract.backbones",
    "load_ensemble": "gcf.head.models.ensemble",
    "load_head": "gcf.head.models.saved",
    "localize_videos": "gcf.explain.localize",
    "merge_features": "gcf.data.merge",
    "predict_videos": "gcf.explain.predict",
    "run_demo": "gcf.explain.demo",
    "stream_predictions": "gcf.explain.predict",
    "train_head": "gcf.head.training",
    "transfer_head": "gcf.head.transfer",
    "verify_features": "gcf.data.verify",
    "watch_predictions": "gcf.explain.live",
    "write_demo_videos": "gcf.data.synthetic",
    "write_pages": "gcf.explain.pages.write",
    "write_report": "gcf.head.report.write",
}

__all__ = [
    "ExtractConfig",
    "FeatureFile",
    "GCFClassifier",
    "GcfError",
    "HeadConfig",
    "Protocol",
    "TrainConfig",
    "__version__",
    "ablate",
    "check_head",
    "compare_features",
    "diagnose",
    "diff_features",
    "evaluate_head",
    "export_features",
    "export_onnx",
    "extract_together",
    "extract_videos",
    "join_features",
    "load_backbone",
    "load_ensemble",
    "load_head",
    "localize_videos",
    "merge_features",
    "predict_videos",
    "run_demo",
    "stream_predictions",
    "train_head",
    "transfer_head",
    "verify_features",
    "watch_predictions",
    "write_demo_videos",
    "write_pages",
    "write_report",
]


def __getattr__(name: str):
    if name not in _PLACES:
        raise AttributeError(f"module 'gcf' has no attribute {name!r}")
    value = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
