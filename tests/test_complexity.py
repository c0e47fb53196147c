"""Parameters and multiply-accumulates, against the manifests and torchvision's own figures."""

import json

import pytest
from parity_names import NAMES

from gcf.errors import UsageError
from gcf.extract.complexity import backbone_complexity


@pytest.mark.slow
@pytest.mark.parametrize("model", NAMES)
def test_parameters_and_macs_are_those_of_the_manifest_to_the_digit(model, parity):
    manifest = json.loads((parity / "manifests" / f"{model}.json").read_text())
    cost = backbone_complexity(NAMES[model], num_classes=manifest["n_classes"])
    assert (cost.params, cost.macs) == (manifest["params"], manifest["macs_16x112x112"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "num_classes", "millions"),
    [("mobilenetv2", 600, "3.12"), ("shufflenetv2", 600, "6.64"), ("resnext101", 400, "48.34")],
)
def test_parameters_are_those_of_table_3_of_the_paper(name, num_classes, millions):
    assert f"{backbone_complexity(name, num_classes=num_classes).params / 1e6:.2f}" == millions


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "frames", "size"), [("r3d_18", 16, 112), ("s3d", 16, 224), ("mvit_v1_b", 16, 224), ("mvit_v2_s", 16, 224)]
)
def test_macs_of_torchvisions_networks_are_its_own_figures(name, frames, size):
    from torchvision.models import get_model_weights

    billions = get_model_weights(name).KINETICS400_V1.meta["_ops"]
    assert round(backbone_complexity(name, num_frames=frames, size=size).macs / 1e9, 3) == billions


def test_a_clip_that_the_network_cannot_take_is_refused_by_its_size():
    with pytest.raises(UsageError, match=r"mvit_v1_b takes no clip of 8 frames of 112 x 112.*\(16, 224, 224\)"):
        backbone_complexity("mvit_v1_b", num_frames=8)
