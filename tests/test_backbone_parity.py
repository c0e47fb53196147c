"""Every network against numbers that the original repositories' code gave for the same weights and clips."""

import importlib.util
import json

import numpy as np
import pytest
import torch
from compare import FLOAT32_FORWARD, FLOAT64_FORWARD, relative_error
from parity_names import NAMES

from gcf.extract.backbones.loading import build_network
from gcf.extract.backbones.registry import find_backbone
from gcf.extract.backbones.temporal import remove_temporal_stride, temporal_stride_layers, triple
from gcf.extract.weights.checkpoints import load_strictly

pytestmark = [pytest.mark.processor, pytest.mark.slow]

X3D = {"x3d_m": "x3d_m", "x3d_l": "x3d_l"}
SMALL = ("mobilenetv2_1.0x", "shufflenetv2_2.0x")
INPUTS = {"input": (2, 3, 16, 112, 112), "input_t32": (1, 3, 32, 112, 112), "input_rect": (1, 3, 16, 96, 128)}
X3D_INPUTS = {"input": (2, 3, 16, 160, 160)}
X3D_MAPS = {"input": [2, 432, 16, 5, 5]}  # every frame, and 1/32 of each side


@pytest.fixture(scope="session")
def reference(parity):
    """gen_weights.py of the parity data, as a module."""
    spec = importlib.util.spec_from_file_location("gen_weights", parity / "gen_weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=NAMES | X3D)
def model(request, parity, reference):
    """(manifest, network with the reference's weights); built once for all tests of a model."""
    manifest = reference.load_manifest(parity / "manifests" / f"{request.param}.json")
    state = {key: torch.from_numpy(np.array(value)) for key, value in reference.generate(manifest, seed=0).items()}
    network = empty_network(manifest)
    load_strictly(network, state, source=request.param)
    return manifest, network.eval()


def empty_network(manifest):
    with torch.device("meta"):
        return build_network(find_backbone((NAMES | X3D)[manifest["model"]]), num_classes=manifest["n_classes"])


def check(network, reference, parity, manifest, *, dtype, limit):
    """Run all inputs that the model has; every error is in the message."""
    expected = np.load(parity / f"{manifest['model']}.seed0.npz")
    inputs, maps = (X3D_INPUTS, X3D_MAPS) if manifest["model"] in X3D else (INPUTS, manifest["feature_maps"])
    errors = {}
    for name, shape in inputs.items():
        suffix = name.removeprefix("input")
        if f"pooled64{suffix}" not in expected:
            continue
        clips = torch.from_numpy(reference.make_input(shape, 0, name)).to(dtype)
        with torch.inference_mode():
            feature_map = network.feature_map(clips)
            descriptor = network.descriptor(feature_map)
            logits = network.classify(descriptor)
        assert list(feature_map.shape) == maps[name]
        errors[name, "descriptor"] = relative_error(descriptor, expected[f"pooled64{suffix}"])
        errors[name, "logits"] = relative_error(logits, expected[f"logits64{suffix}"])
    assert len(errors) == 2 * sum(key.startswith("pooled64") for key in expected)
    assert max(errors.values()) < limit, errors


def test_descriptors_and_logits_are_the_references_in_float32(model, parity, reference):
    manifest, network = model
    check(network, reference, parity, manifest, dtype=torch.float32, limit=FLOAT32_FORWARD)


def test_names_and_shapes_are_those_of_the_manifest(model):
    manifest, network = model
    found = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    assert found == {tensor["key"]: tensor["shape"] for tensor in manifest["tensors"]}
    assert sum(parameter.numel() for parameter in network.parameters()) == manifest["params"]


def test_the_layers_that_step_over_frames_are_those_of_the_manifest_and_none_after_removal(model):
    manifest, _ = model
    network = empty_network(manifest)
    found = {
        name: (list(triple(layer.kernel_size)), list(triple(layer.stride)))
        for name, layer in temporal_stride_layers(network).items()
    }
    listed = [] if manifest["model"] in X3D else manifest["temporal_stride_layers"]  # X3D has none, and lists none
    assert found == {entry["layer"]: (entry["kernel"], entry["stride"]) for entry in listed}
    remove_temporal_stride(network)
    assert temporal_stride_layers(network) == {}


@pytest.mark.parametrize("name", SMALL)
def test_descriptors_and_logits_are_the_references_in_float64(name, parity, reference):
    manifest = reference.load_manifest(parity / "manifests" / f"{name}.json")
    network = empty_network(manifest)
    state = {key: torch.from_numpy(np.array(value)) for key, value in reference.generate(manifest, seed=0).items()}
    load_strictly(network, state, source=name)
    check(network.double().eval(), reference, parity, manifest, dtype=torch.float64, limit=FLOAT64_FORWARD)


def test_the_weights_are_those_that_the_references_ran_with(parity, reference):
    expected = json.loads((parity / "expected_seed0.json").read_text())["models"]
    for name in SMALL:
        manifest = reference.load_manifest(parity / "manifests" / f"{name}.json")
        assert reference.digest(reference.generate(manifest, seed=0)) == expected[name]["weights_sha256"]
