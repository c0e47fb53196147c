import json
import sys

import numpy as np
import pytest
import torch
from caches import RECIPE
from compare import FLOAT32_FORWARD, relative_error
from small_heads import TRAINING, some_head

import gcf.cli
from gcf.data.recipe import recipe_sha256
from gcf.errors import RefusedError, UsageError
from gcf.head.models.build import build_head, head_config
from gcf.head.models.config import PRESETS, HeadConfig
from gcf.head.models.dense import DenseHead, example
from gcf.head.models.ensemble import MeanOfHeads
from gcf.head.models.saved import SavedHead, save_head
from gcf.head.onnx_export import export_onnx

pytestmark = pytest.mark.slow

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

SMALL = {"width": 16, "key_width": 8}
CONFIGS = [head_config(name, **SMALL) for name in PRESETS] + [
    HeadConfig("deep", layers=3, fusion="average", residual="none", gate="none", **SMALL),
    HeadConfig("linear", input_projection=True, residual="linear", gate="token", **SMALL),
    HeadConfig("bare", fusion="none", residual="none", gate="token", **SMALL),
    HeadConfig("input", input_projection=True, residual="input", gate="none", **SMALL),
]
PARTS = ("logits", "gate", "evidence", "attention")


def ask(path, descriptors, mask):
    """What the file says, by name."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"descriptors": descriptors, "mask": mask}), strict=True))


def inputs(videos, clips, seed=7):
    rng = np.random.default_rng(seed)
    mask = np.arange(clips) < rng.integers(1, clips + 1, (videos, 1))
    descriptors = rng.standard_normal((videos, clips, 12)) + 1e3 * ~mask[:, :, None]  # loud padding
    return descriptors.astype(np.float32), mask


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_all_slots_alike_give_what_the_real_clips_give(config):
    head = build_head(config, 12, 3).eval()
    for clips, seed in ((1, 0), (4, 1), (10, 2)):
        descriptors, mask = example(clips, 12, num_videos=5, seed=seed)
        expected, found = head(descriptors, mask), DenseHead(head)(descriptors, mask)
        for part in PARTS:
            one, other = getattr(found, part), getattr(expected, part)
            assert (one is None) == (other is None), part
            if one is not None:
                assert relative_error(one.detach(), other.detach()) < FLOAT32_FORWARD, part


def test_the_example_has_a_full_video_and_padding():
    descriptors, mask = example(9, 4, num_videos=6, seed=1)
    assert mask[0].all()
    assert mask.any(dim=1).all()
    assert not mask.all()
    assert descriptors[~mask].abs().mean() > 1e3


@pytest.mark.parametrize("name", ["gcf-256", "gcf-256-g0", "mean", "clip"])
def test_onnxruntime_gives_what_the_head_gives_for_any_batch_and_clips(tmp_path, name):
    head = some_head(name)
    result = export_onnx(head, tmp_path / "head.onnx")
    assert 0 <= result["worst_relative_difference"] < 1e-5
    assert result["max_clips"] == (10 if name == "gcf-256" else None)
    sizes = [(1, 1), (7, 10), (2, 3)] + ([] if result["max_clips"] else [(3, 64)])
    for videos, clips in sizes:
        descriptors, mask = inputs(videos, clips)
        expected, found = head(descriptors, mask), ask(tmp_path / "head.onnx", descriptors, mask)
        assert list(found) == [part for part in PARTS if getattr(expected, part) is not None]
        for part, values in found.items():
            assert relative_error(values, getattr(expected, part)) < FLOAT32_FORWARD, (part, videos, clips)


def test_the_file_says_what_it_is_and_names_no_place_of_this_machine(tmp_path):
    result = export_onnx(some_head("mean"), tmp_path / "a.onnx", opset=20)
    model = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(model)
    assert [opset.version for opset in model.opset_import if not opset.domain] == [20]
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(facts["classes"]) == ["a", "b", "c"]
    assert facts["recipe_sha256"] == recipe_sha256(RECIPE)
    assert (facts["num_clips"], facts["clip_policy"], facts["padding"]) == ("10", "uniform", "mask")
    assert float(facts["worst_relative_difference"]) == result["worst_relative_difference"]
    shapes = {i.name: [d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
    assert shapes == {"descriptors": ["B", "C", 12], "mask": ["B", "C"]}
    data = (tmp_path / "a.onnx").read_bytes()
    assert b".py" not in data
    export_onnx(some_head("mean"), tmp_path / "b.onnx", opset=20)
    assert (tmp_path / "b.onnx").read_bytes() == data


def test_a_gate_of_one_slot_and_several_heads_as_one(tmp_path):
    config = head_config("gcf-256", **SMALL, gate_clips=1)
    heads = MeanOfHeads([build_head(config, 12, 3, seed=seed) for seed in range(2)]).eval()
    head = SavedHead(heads, config, 12, ("a", "b", "c"), RECIPE, TRAINING)
    assert export_onnx(head, tmp_path / "head.onnx")["outputs"] == ["logits", "gate"]
    descriptors, mask = inputs(5, 1)
    found = ask(tmp_path / "head.onnx", descriptors, mask)
    assert relative_error(found["logits"], head(descriptors, mask).logits) < FLOAT32_FORWARD


def test_a_file_that_differs_from_the_head_is_not_kept(tmp_path, monkeypatch):
    class Wrong(torch.nn.Module):
        def __init__(self, head):
            super().__init__()
            self.head = DenseHead(head)

        def forward(self, descriptors, mask):
            return self.head(descriptors * 1.0001, mask)

    monkeypatch.setattr("gcf.head.onnx_export.DenseHead", Wrong)
    with pytest.raises(RefusedError, match=r"head\.onnx: not written: .* differ by \d\.\de-0[45], 1e-05 is allowed"):
        export_onnx(some_head("mean"), tmp_path / "head.onnx")
    assert not list(tmp_path.iterdir())


def test_a_head_that_cannot_be_exported_is_refused_in_a_line(tmp_path, capfd):
    save_head(tmp_path / "run", some_head("gru"))
    assert gcf.cli.run(["export-head", str(tmp_path / "run"), str(tmp_path / "head.onnx")]) == 4
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "a gru head cannot be exported, it reads as many steps as a video has clips" in err
    assert not (tmp_path / "head.onnx").exists()


def test_a_head_that_pytorch_does_not_translate_is_refused_in_a_line(tmp_path, monkeypatch, capfd):
    class Branching(torch.nn.Module):
        def __init__(self, head):
            super().__init__()
            self.head = DenseHead(head)

        def forward(self, descriptors, mask):
            return self.head(descriptors if descriptors.sum() > 0 else -descriptors, mask)

    monkeypatch.setattr("gcf.head.onnx_export.DenseHead", Branching)
    with pytest.raises(
        RefusedError, match=r"head\.onnx: not written: PyTorch cannot translate mean \(.+\); use it"
    ) as caught:
        export_onnx(some_head("mean"), tmp_path / "head.onnx")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().out == ""
    assert not (tmp_path / "head.onnx").exists()


def test_what_is_missing_or_unknown_is_said_before_any_work(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="opset 17 cannot be written; 18 to"):
        export_onnx(some_head(), tmp_path / "head.onnx", opset=17)
    with pytest.raises(RefusedError, match="there is no folder"):
        export_onnx(some_head("mean"), tmp_path / "no" / "folder.onnx")
    for name in ("onnxruntime", "onnxscript"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=r"needs onnxscript, onnxruntime: pip install gcf-net\[onnx\]"):
        export_onnx(some_head(), tmp_path / "head.onnx")
    assert not list(tmp_path.iterdir())


def test_the_command_prints_one_object(tmp_path, capfd):
    save_head(tmp_path / "run", some_head("mean"))
    assert gcf.cli.run(["export-head", str(tmp_path / "run"), str(tmp_path / "head.onnx"), "--json"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    result = json.loads(out)
    assert (result["head"], result["opset"], result["outputs"]) == ("mean", 18, ["logits", "evidence"])
    assert result["bytes"] == (tmp_path / "head.onnx").stat().st_size
    assert gcf.cli.run(["export-head", str(tmp_path / "run"), str(tmp_path / "again.onnx")]) == 0
    assert "mean for 3 classes, any number of clips; gives logits, evidence" in capfd.readouterr().out
