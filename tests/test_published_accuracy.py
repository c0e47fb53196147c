"""What authors print of their weights' accuracy: sourced, equal to torchvision's own, and shown without torch."""

import json
import subprocess
import sys

import pytest
from torchvision.models import get_model_weights

from gcf.extract.backbones import list_backbones
from gcf.extract.backbones.published import (
    PACKAGED,
    PUBLISHED,
    default_listed,
    default_weights,
    describe_weights,
    find_weights,
    list_weights,
    weights_ids,
)
from gcf.extract.backbones.registry import SPECS
from gcf.extract.backbones.torchvision_models import NETWORKS
from gcf.extract.weights.cache import PACKAGED as PACKAGED_FOLDER


@pytest.mark.parametrize("name", NETWORKS)
def test_torchvisions_accuracies_are_those_of_its_enums_and_say_how_they_were_measured(name):
    listed = {info.id: info for info in list_weights() if info.backbone == name}
    for member in get_model_weights(name):
        info = listed[member.name.lower().replace("_", "-")]
        docs = " ".join(member.meta["_docs"].split())
        assert 100 * info.top1 == pytest.approx(member.meta["_metrics"]["Kinetics-400"]["acc@1"], abs=1e-9)
        assert find_weights(name, info.id).top1 == info.top1
        assert ("estimated on video-level" in docs) == ("videos, " in info.top1_source)
        clips = int(docs.split("`clips_per_video=")[1].split("`")[0])
        assert clips == (int(info.top1_source.split("videos, ")[1].split()[0]) if "videos, " in info.top1_source else 1)
        for setting in ("clip_len={} frames", "frame_rate={} a second"):
            key, words = setting.split("={}")
            value = docs.split(f"`{key}=")[1].split("`")[0]
            assert f" {value}{words}" in info.top1_source


def test_every_figure_has_a_source_and_every_gap_says_that_none_was_found():
    for info in list_weights():
        assert (info.top1 is None) == info.top1_source.startswith("not found: ")
        assert info.top1 is None or 0.5 < info.top1 < 1
        assert len(info.top1_source) > 20


def test_the_quoted_figure_of_hara_has_the_mean_that_its_authors_print():
    printed, top5 = 75.4, 85.7  # kenshohara/3D-ResNets-PyTorch README.md; thaolmk54/hcrn-videoqa issue 13
    top1 = find_weights("resnext101", "kinetics400-hara").top1
    assert (100 * top1 + top5) / 2 == pytest.approx(printed)


def test_the_figure_of_the_packaged_weights_is_their_report():
    report = json.loads((PACKAGED_FOLDER / f"{PACKAGED.backbone}_{PACKAGED.id}.json").read_text())
    assert PACKAGED.top1 == report["top1"] == report["right"] / report["clips"]


@pytest.mark.parametrize("order", [1, -1])
def test_the_defaults_are_known_without_torch_and_are_those_that_are_loaded(monkeypatch, order):
    monkeypatch.setattr(
        "gcf.extract.backbones.published.PUBLISHED", PUBLISHED[::order]
    )  # a direct one need not be the first
    defaults = default_listed()
    assert set(defaults) == {spec.name for spec in SPECS if weights_ids(spec.name)}
    for name, info in defaults.items():
        spec = default_weights(name)
        assert (info.id, info.top1, info.top1_source) == (spec.id, spec.top1, spec.top1_source)
        assert info.dataset == f"Kinetics-{spec.num_classes}"
        assert describe_weights(name, spec.id)["dataset"] == info.dataset


def test_backbones_are_listed_with_what_is_known_of_their_default_weights(invoke):
    code, out, _ = invoke("backbones", "--json")
    shown = {row["name"]: row for row in json.loads(out)["backbones"]}
    facts = {name: [row[k] for k in ("dataset", "top1", "origin")] for name, row in shown.items()}
    assert code == 0
    assert facts["x3d_s"] == ["Kinetics-400", 0.7333, "direct"]
    assert facts["mobilenetv2"] == ["Kinetics-600", None, "by hand"]
    assert facts["r2plus1d_101"] == ["", None, ""]
    assert shown["s3d"]["top1_source"] == "torchvision's enum: clips of 128 frames at 15 a second"
    lines = {line.split()[0]: line.split() for line in invoke("backbones")[1].splitlines() if line}
    assert lines["x3d_s"][3:] == ["yes", "73.3", "Kinetics-400", "direct", "kinetics400"]
    assert lines["r2plus1d_101"][3:] == ["yes", "-", "-", "-", "none", "published"]
    assert lines["s3d"][3:5] == ["no", "68.4"]


def test_plug_ins_are_listed_without_figures(monkeypatch):
    monkeypatch.setattr("gcf.extract.backbones.listing.plugin_names", lambda: ["mine"])
    mine = list_backbones()[-1]
    assert (mine.name, mine.plugin, mine.dataset, mine.top1, mine.origin) == ("mine", True, "", None, "")


def test_weights_are_listed_with_their_authors_accuracy_in_percent(invoke):
    lines = [line.split() for line in invoke("weights", "list")[1].splitlines()]
    shown = {(line[0], line[1]): line[3] for line in lines}
    assert shown["swin3d_b", "kinetics400-imagenet22k-v1"] == "81.6"
    assert shown["resnext101", "kinetics600"] == "-"


@pytest.mark.slow
def test_the_command_that_lists_backbones_loads_no_torch():
    code = "import sys, gcf.cli; gcf.cli.run(['backbones']); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
