"""Checkpoint files: every published layout, and every way in which one can be bad."""

import importlib
import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from compare import FLOAT32_FORWARD, assert_bitwise_equal, relative_error
from safetensors.torch import save_file

from gcf.errors import WeightsError
from gcf.extract.backbones import load_backbone
from gcf.extract.backbones.loading import build_network
from gcf.extract.backbones.registry import find_backbone
from gcf.extract.weights.checkpoints import load_strictly, read_state_dict
from gcf.extract.weights.file_kind import kind_of_head

pytestmark = pytest.mark.slow

LAYOUTS = ("efficient", "hara2018", "hara", "bare")


@pytest.fixture
def parity_module(parity, monkeypatch):
    """Import a script of the parity folder by name."""
    monkeypatch.syspath_prepend(parity)
    return importlib.import_module


@pytest.fixture(scope="module")
def state():
    return {
        name: tensor.clone()
        for name, tensor in load_backbone("mobilenetv2_0.2x", weights="random").state_dict().items()
    }


class Bomb:
    """Runs a command when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def empty_tiny(num_classes=600):
    with torch.device("meta"):
        return build_network(find_backbone("mobilenetv2_0.2x"), num_classes=num_classes)


def same(first, second):
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert_bitwise_equal(tensor, second[name])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_published_layout_gives_the_plain_state_dict(layout, parity, parity_module, tmp_path):
    manifest = json.loads((parity / "manifests" / "shufflenetv2_2.0x.json").read_text())
    writer = parity_module("write_checkpoint")
    writer.write(writer.build(manifest, 0, layout), tmp_path / "ckpt.pth", layout)
    found = read_state_dict(tmp_path / "ckpt.pth")
    expected = parity_module("gen_weights").generate(manifest, 0)
    if layout == "hara2018":  # torch before 0.4.1 counted no batches
        expected = {name: value for name, value in expected.items() if not name.endswith("num_batches_tracked")}
    same(found, expected)
    network = load_backbone("shufflenetv2", weights=tmp_path / "ckpt.pth")
    assert set(network.state_dict()) == {tensor["key"] for tensor in manifest["tensors"]}
    assert_bitwise_equal(network.state_dict()["conv1.0.weight"], expected["conv1.0.weight"])


@pytest.mark.parametrize("wrapper", ["model_state", "state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "module.module."])
def test_a_wrapped_state_dict_is_found_and_its_prefix_removed(wrapper, prefix, state, tmp_path):
    torch.save({wrapper: {prefix + name: tensor for name, tensor in state.items()}, "epoch": 3}, tmp_path / "a.pth")
    same(read_state_dict(tmp_path / "a.pth"), state)


@pytest.mark.parametrize("file", ["a.safetensors", "a.pth"])
def test_safetensors_are_read_by_suffix_and_by_content(file, state, tmp_path):
    save_file(state, tmp_path / file)
    same(read_state_dict(tmp_path / file), state)


def test_the_small_published_checkpoint_gives_the_references_descriptors_and_logits(parity, parity_module):
    network = load_backbone("mobilenetv2", weights=parity / "ckpt_eff_mobilenetv2_0.2x_5cls.pth")
    facts = json.loads((parity / "ckpt_eff_mobilenetv2_0.2x_5cls.json").read_text())
    clip = parity_module("gen_weights").make_input(facts["input"]["shape"], 0, facts["input"]["name"])
    with torch.inference_mode():
        descriptor = network.descriptor(network.feature_map(torch.from_numpy(clip)))
        logits = network.classify(descriptor)
    expected = np.load(parity / "ckpt_eff_mobilenetv2_0.2x_5cls.npz")
    assert relative_error(descriptor, expected["pooled"]) < FLOAT32_FORWARD
    assert relative_error(logits, expected["logits"]) < FLOAT32_FORWARD
    assert network.recipe["name"] == "mobilenetv2_0.2x"
    assert network.recipe["weights_sha256"] == facts["sha256"]
    assert network.recipe["classes"] is None


def test_another_width_asked_for_by_name_is_refused(parity):
    with pytest.raises(WeightsError, match=r"mobilenetv2_0.45x with 5 classes does not fit.*of another shape"):
        load_backbone("mobilenetv2_0.45x", weights=parity / "ckpt_eff_mobilenetv2_0.2x_5cls.pth")


def test_the_reader_leaves_no_global_allowed_behind(parity):
    read_state_dict(parity / "ckpt_eff_mobilenetv2_0.2x_5cls.pth")
    assert not any("numpy" in str(allowed) for allowed in torch.serialization.get_safe_globals())


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_bomb_is_refused_in_one_line_and_nothing_runs(zipped, state, tmp_path):
    bomb = tmp_path / "bomb.pth"
    content = {"state_dict": state, "optimizer": Bomb(tmp_path / "executed")}
    torch.save(content, bomb, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"bomb\.pth: refused: it asks to run (posix|os)\.mkdir") as caught:
        read_state_dict(bomb)
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


def test_a_plain_pickle_bomb_is_refused(tmp_path):
    (tmp_path / "bomb.pth").write_bytes(pickle.dumps(Bomb(tmp_path / "executed")))
    with pytest.raises(WeightsError, match=r"bomb\.pth"):
        read_state_dict(tmp_path / "bomb.pth")
    assert not (tmp_path / "executed").exists()


def test_numpy_arrays_and_object_scalars_are_beyond_the_allow_list(tmp_path):
    for content in (np.zeros(3), np.array([Bomb(tmp_path / "executed")], dtype=object)):
        torch.save({"state_dict": {}, "extra": content}, tmp_path / "a.pth")
        with pytest.raises(WeightsError, match="refused: it asks to run"):
            read_state_dict(tmp_path / "a.pth")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_called_damaged(zipped, share, state, tmp_path):
    whole = io.BytesIO()
    torch.save(state, whole, _use_new_zipfile_serialization=zipped)
    whole = whole.getvalue()
    (tmp_path / "cut.pth").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(WeightsError, match=r"cut\.pth: .*download it again"):
        read_state_dict(tmp_path / "cut.pth")


def test_a_truncated_safetensors_file_is_called_damaged(state, tmp_path):
    save_file(state, tmp_path / "a.safetensors")
    os.truncate(tmp_path / "a.safetensors", 5000)
    with pytest.raises(WeightsError, match=r"a\.safetensors: not a readable safetensors file"):
        read_state_dict(tmp_path / "a.safetensors")


def test_a_web_page_is_called_one(tmp_path):
    (tmp_path / "page.pth").write_text("<!DOCTYPE html><html><title>Sign in</title></html>")
    with pytest.raises(WeightsError, match="a web page, perhaps a login"):
        read_state_dict(tmp_path / "page.pth")


def test_a_zip_file_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    with pytest.raises(WeightsError, match=r"a\.pth: damaged, cut short, or no checkpoint"):
        read_state_dict(tmp_path / "a.pth")


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 1}, {"a": torch.zeros(1), "lr": 0.1}, torch.zeros(3)])
def test_a_file_without_a_state_dict_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="state dict"):
        read_state_dict(tmp_path / "a.pth")


def test_missing_superfluous_and_reshaped_tensors_are_counted_and_named(state):
    wrong = dict(state)
    for index in range(5):
        del wrong[f"features.{index + 1}.conv.0.weight"]
    wrong["head.weight"] = torch.zeros(2)
    wrong["features.0.0.weight"] = torch.zeros(6, 3, 1, 3, 3)
    with pytest.raises(WeightsError) as caught:
        load_strictly(empty_tiny(), wrong, source="a.pth as tiny")
    message = str(caught.value)
    assert message.startswith("a.pth as tiny does not fit:")
    assert "5 missing (features.1.conv.0.weight, features.2.conv.0.weight, features.3.conv.0.weight, ...)" in message
    assert "1 not of this network (head.weight)" in message
    assert "1 of another shape (features.0.0.weight: expected (6, 3, 3, 3, 3), found (6, 3, 1, 3, 3))" in message


def test_integers_in_place_of_weights_are_refused(state):
    wrong = state | {"classifier.1.bias": torch.zeros(600, dtype=torch.int64)}
    with pytest.raises(WeightsError, match=r"classifier\.1\.bias: expected \(600,\), found \(600,\) int64"):
        load_strictly(empty_tiny(), wrong, source="a.pth")


def test_weights_of_another_network_are_refused(state, tmp_path):
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(
        WeightsError, match=r"a\.pth as resnext101 with 400 classes does not fit: 0 of 626 tensors agree"
    ):
        load_backbone("resnext101", weights=tmp_path / "a.pth")


def test_half_and_double_precision_files_become_float32(state):
    for dtype in (torch.float16, torch.float64):
        network = empty_tiny()
        load_strictly(network, {n: t.to(dtype) if t.is_floating_point() else t for n, t in state.items()}, source="a")
        assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_any_number_of_classes_is_read_from_the_file(state, tmp_path):
    cut = {name: tensor[:17] if name.startswith("classifier") else tensor for name, tensor in state.items()}
    torch.save(cut, tmp_path / "a.pth")
    network = load_backbone("mobilenetv2_0.2x", weights=tmp_path / "a.pth")
    assert network(torch.zeros(1, 3, 2, 32, 32)).shape == (1, 17)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"PK\x03\x04rest", "zip"),
        (b"\x80\x02\x8a\nl\xfc", "pickle"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{", "safetensors"),
        (b"\xef\xbb\xbf\n <HTML>", "web page"),
        (b"", ""),
        (b"\x00\x00\x00\x18ftypmp42", ""),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff{", ""),
    ],
)
def test_a_file_is_known_by_its_first_bytes(head, kind):
    assert kind_of_head(head) == kind
