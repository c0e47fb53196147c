"""Backbones from outside: a Python file, or an installed package's entry point."""

import hashlib
import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from compare import assert_bitwise_equal

from gcf.errors import UsageError
from gcf.extract.backbones import list_backbones, load_backbone

RECIPE = """
RECIPE = {"num_frames": 8, "resize": (36, 48), "crop": 32, "channel_order": "RGB", "pixel_max": 1.0,
          "mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}
"""
NETWORK = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), 2.0))
        self.drop = nn.Dropout()

    def feature_map(self, clips):
        return clips[:, :, ::2, ::4, ::4] * self.scale

    def descriptor(self, feature_map):
        return self.drop(feature_map.mean((2, 3, 4)))

    def classify(self, descriptor):
        return descriptor[:, :2]

def build():
    return Net()
"""


@pytest.fixture
def plugin(tmp_path):
    """A function: write a plug-in file of that content; its path."""

    def written(content):
        path = tmp_path / "toy.py"
        path.write_text(content)
        return path

    return written


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A function: an installed package that registers `toy_net` as an object of its module."""

    def install(content, target="toy_package.net"):
        package, metadata = tmp_path / "toy_package", tmp_path / "toy_package-1.0.dist-info"
        package.mkdir()
        metadata.mkdir()
        (package / "__init__.py").touch()
        (package / "net.py").write_text(content)
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-package\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[gcf.backbones]\ntoy_net = {target}\n")
        monkeypatch.syspath_prepend(tmp_path)

    yield install
    for name in [name for name in sys.modules if name.startswith("toy_package")]:
        del sys.modules[name]


@pytest.mark.slow
def test_the_real_x3d_works_as_it_is(real):
    path = real / "x3d_xs" / "x3d_xs.py"
    network = load_backbone(path)
    spec = importlib.util.spec_from_file_location("x3d_itself", path)
    itself = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(itself)
    clips = torch.randn(1, 3, 4, 64, 64)
    with torch.inference_mode():
        theirs = itself.build()
        expected = theirs.descriptor(theirs.feature_map(clips))
        descriptor = network.descriptor(network.feature_map(clips))
        assert_bitwise_equal(descriptor, expected)
        assert network.classify(descriptor).shape == (1, 400)
    recipe = network.recipe
    assert json.loads(json.dumps(recipe)) == recipe
    assert (recipe["name"], recipe["weights"]) == ("x3d_xs", "kinetics400-int8")
    assert (recipe["num_frames"], recipe["resize"], recipe["crop"], recipe["resize_rule"]) == (16, 182, 160, "pillow")
    assert recipe["mean"] == [0.45, 0.45, 0.45]
    assert len(recipe["classes"]) == 400
    assert recipe["temporal_stride"] == "trained"
    assert len(recipe["weights_sha256"]) == 64


def test_a_file_needs_only_the_required_entries_and_gets_the_defaults(plugin):
    network = load_backbone(str(plugin(RECIPE + NETWORK)))
    assert not network.training
    assert network.recipe | {"weights_sha256": "", "plugin_sha256": ""} == {
        "name": "toy",
        "weights": "plug-in",
        "weights_sha256": "",
        "plugin_sha256": "",
        "num_frames": 8,
        "resize": [36, 48],
        "resize_rule": "pillow",
        "crop": 32,
        "channel_order": "RGB",
        "pixel_max": 1.0,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.2, 0.2, 0.2],
        "classes": None,
        "temporal_stride": "trained",
    }


def test_the_digest_in_the_recipe_is_that_of_the_weights(plugin):
    first = load_backbone(plugin(RECIPE + NETWORK)).recipe["weights_sha256"]
    again = load_backbone(plugin(RECIPE + NETWORK + "# a comment\n")).recipe["weights_sha256"]
    other = load_backbone(plugin(RECIPE + NETWORK.replace("2.0", "3.0"))).recipe["weights_sha256"]
    assert first == again != other


def test_the_digest_of_its_code_is_in_the_recipe_too(plugin):
    path = plugin(RECIPE + NETWORK)
    assert load_backbone(path).recipe["plugin_sha256"] == hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("def broken(", r"toy\.py: cannot be run \(SyntaxError"),
        ("1 / 0", r"toy\.py: cannot be run \(ZeroDivisionError: division by zero\)"),
        (NETWORK, "has no dict RECIPE"),
        (RECIPE, r"has no build\(\)"),
        (RECIPE.replace('"crop": 32, ', "") + NETWORK, "RECIPE lacks crop"),
        (RECIPE.replace("RGB", "GBR") + NETWORK, "RECIPE's channel_order cannot be used"),
        (RECIPE.replace("0.2, 0.2, 0.2", "0.2, 0, 0.2") + NETWORK, "RECIPE's std cannot be used"),
        (RECIPE.replace("(36, 48)", "(36, 48, 3)") + NETWORK, "RECIPE's resize cannot be used"),
        (RECIPE.replace("1.0", "float('nan')") + NETWORK, "RECIPE must be plain JSON"),
        (RECIPE.replace("1.0", "'1'") + NETWORK, "RECIPE's pixel_max cannot be used"),
        (RECIPE + NETWORK + "RECIPE['frames_step'] = 4", r"RECIPE's frames_step \(it needs fixed_frames: false\)"),
        (RECIPE + NETWORK + "RECIPE.update(frames_step=4, fixed_frames=True)", r"RECIPE's frames_step \(it needs"),
        (RECIPE + NETWORK + "RECIPE['classes'] = [1, 2]", "RECIPE's classes cannot be used"),
        (RECIPE + NETWORK.replace("return Net()", "return 1 / 0"), r"build\(\) failed \(ZeroDivisionError"),
        (RECIPE + NETWORK.replace("return Net()", "return 3"), r"build\(\) gave int"),
        (RECIPE + NETWORK.replace("def classify", "def classes"), "the network has no classify"),
    ],
)
def test_what_a_plug_in_lacks_is_said(content, message, plugin):
    with pytest.raises(UsageError, match=message):
        load_backbone(plugin(content))


def test_a_plug_in_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"absent\.py: no such plug-in file"):
        load_backbone(tmp_path / "absent.py")


@pytest.mark.parametrize("options", [{"weights": "random"}, {"weights": "a.pth"}, {"temporal_stride": "none"}])
def test_options_that_a_plug_in_decides_itself_are_refused(options, plugin):
    with pytest.raises(UsageError, match="plug-in toy"):
        load_backbone(plugin(RECIPE + NETWORK), **options)


def test_an_installed_packages_entry_point_is_listed_and_loaded(installed):
    installed(RECIPE + NETWORK)
    assert [info.name for info in list_backbones() if info.plugin] == ["toy_net"]
    network = load_backbone("toy_net")
    assert network.recipe["name"] == "toy_net"
    assert network.feature_map(torch.ones(1, 3, 8, 32, 32)).shape == (1, 3, 4, 8, 8)


def test_an_entry_point_may_name_an_object(installed):
    content = NETWORK + "class Plugin:\n    build = staticmethod(build)\n" + RECIPE.replace("\n", "\n    ")
    installed(content, target="toy_package.net:Plugin")
    assert load_backbone("toy_net").recipe["num_frames"] == 8


def test_an_entry_point_that_cannot_be_loaded_names_its_package(installed):
    installed("import a_module_that_is_not_there")
    with pytest.raises(UsageError, match=r"backbone toy_net of toy_package\.net: cannot be loaded \(ModuleNotFound"):
        load_backbone("toy_net")
