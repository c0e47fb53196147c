"""The table of published weights, the folder they are kept in, and the recipe that a file of weights brings."""

import hashlib
import json
import logging
import os
from pathlib import Path

import pytest
import torch
from torchvision.models import get_model_weights

from gcf.errors import UsageError, WeightsError
from gcf.extract.backbones import load_backbone
from gcf.extract.backbones.published import (
    assumed_pixels,
    class_names,
    default_weights,
    describe_weights,
    find_weights,
    list_weights,
    pull_weights,
    weights_ids,
)
from gcf.extract.backbones.registry import BACKBONES
from gcf.extract.backbones.torchvision_models import NETWORKS
from gcf.extract.weights import cache as weights_cache
from gcf.extract.weights.cache import obtain, seen_digests, weights_folder
from gcf.extract.weights.download import DownloadSource

MEAN = [114.7748, 107.7354, 99.4750]
TINY_K600 = "kinetics_mobilenetv2_0.2x_RGB_16_best.pth"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The folder of weights, in an empty GCF_HOME."""
    monkeypatch.setenv("GCF_HOME", str(tmp_path / "home"))
    folder = tmp_path / "home" / "weights"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def state():
    return load_backbone("mobilenetv2_0.2x", weights="random").state_dict()


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory):
    """A function: a checkpoint of the smallest network with that many classes, as bytes."""

    def content(num_classes=600, value=0.0):
        path = tmp_path_factory.mktemp("ckpt") / "a.pth"
        cut = {name: t[:num_classes] + value if name.startswith("classifier") else t for name, t in state.items()}
        torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in cut.items()}}, path)
        return path.read_bytes()

    return content


@pytest.mark.parametrize("name", NETWORKS)
def test_every_weights_enum_of_torchvision_is_listed_and_gives_the_recipe(name):
    enum = get_model_weights(name)
    assert weights_ids(name) == tuple(member.name.lower().replace("_", "-") for member in enum)
    for member, weights_id in zip(enum, weights_ids(name), strict=True):
        spec, transforms = find_weights(name, weights_id), member.transforms()
        recipe = spec.pixels.recipe()
        assert spec.source.urls == (member.url,)
        assert member.url.endswith(f"-{spec.source.sha256}.pth")
        assert len(spec.source.sha256) == 8
        assert recipe["mean"] == list(transforms.mean)
        assert recipe["std"] == list(transforms.std)
        assert recipe["crop"] == list(transforms.crop_size)
        assert recipe["resize"] == (
            transforms.resize_size[0] if len(transforms.resize_size) == 1 else transforms.resize_size
        )
        assert (recipe["channel_order"], recipe["pixel_max"], recipe["resize_rule"]) == ("RGB", 1.0, "torchvision")
        assert spec.class_names() == member.meta["categories"]
        assert BACKBONES[name].parameters == member.meta["num_params"]
        assert f"clip_len={spec.pixels.num_frames}" in member.meta["_docs"]
        assert f"frame_rate={spec.pixels.frame_rate:g}" in member.meta["_docs"]


def test_files_listed_for_torchvision_are_those_of_its_enums():
    listed = {(info.backbone, info.id): info.file for info in list_weights()}
    for (name, weights_id), file in listed.items():
        assert find_weights(name, weights_id).source.file == file


@pytest.mark.parametrize(
    ("backbone", "weights_id", "order", "pixel_max", "mean", "names"),
    [
        ("resnext101", "kinetics400-hara", "RGB", 255.0, MEAN, 400),
        ("resnext101", "kinetics600", "BGR", 255.0, MEAN, 600),
        ("mobilenetv2", "kinetics600", "BGR", 255.0, MEAN, 600),
        ("shufflenetv2", "kinetics600", "BGR", 255.0, MEAN, 600),
        ("r2plus1d_50", "kinetics700-hara", "RGB", 1.0, [0.4345, 0.4051, 0.3775], None),
        ("r3d_101", "kinetics700-hara", "RGB", 1.0, [0.4345, 0.4051, 0.3775], None),
    ],
)
def test_the_recipe_belongs_to_the_weights(backbone, weights_id, order, pixel_max, mean, names):
    spec = find_weights(backbone, weights_id)
    recipe = spec.pixels.recipe()
    assert (recipe["channel_order"], recipe["pixel_max"], recipe["mean"]) == (order, pixel_max, mean)
    assert (recipe["num_frames"], recipe["resize"], recipe["crop"], recipe["resize_rule"]) == (16, 112, 112, "pillow")
    assert (spec.class_names() and len(spec.class_names())) == names


@pytest.mark.parametrize(
    ("backbone", "weights_id"),
    [("resnext101", "kinetics400-hara"), ("shufflenetv2", "kinetics600"), ("mobilenetv2", "kinetics600")],
)
def test_the_default_is_the_first_that_can_be_fetched_directly_else_the_first(backbone, weights_id):
    assert default_weights(backbone).id == weights_id


def test_class_lists_are_alphabetical_and_kinetics_600_keeps_368_classes_of_kinetics_400():
    k400, k600 = class_names("kinetics400"), class_names("kinetics600")
    assert (len(set(k400)), len(set(k600))) == (400, 600)
    assert (k400, k600) == (sorted(k400), sorted(k600))
    assert len(set(k400) & set(k600)) == 368  # Carreira et al., A Short Note about Kinetics-600, section 2


def test_the_folder_is_that_of_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("GCF_HOME", str(tmp_path / "a"))
    assert weights_folder() == tmp_path / "a" / "weights"
    monkeypatch.delenv("GCF_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert weights_folder() == tmp_path / "b" / "gcf" / "weights"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", str(tmp_path / "c"))
    assert weights_folder() == tmp_path / "c" / ".cache" / "gcf" / "weights"


def test_weights_without_a_direct_address_say_where_to_get_them_and_where_to_put_them(home):
    with pytest.raises(WeightsError) as caught:
        load_backbone("mobilenetv2")
    message = str(caught.value)
    assert "kinetics_mobilenetv2_1.0x_RGB_16_best.pth has no direct address" in message
    assert "https://drive.google.com/drive/folders/1eggpkmy_zjb62Xra6kQviLa67vzP_FR8" in message
    assert str(home / "kinetics_mobilenetv2_1.0x_RGB_16_best.pth") in message


@pytest.mark.slow
def test_a_file_placed_by_hand_is_used_written_down_and_refused_once_it_changes(home, checkpoint):
    path = home / TINY_K600
    path.write_bytes(checkpoint())
    first = hashlib.sha256(path.read_bytes()).hexdigest()
    network = load_backbone("mobilenetv2_0.2x")
    assert network.recipe["weights"] == "kinetics600"
    assert network.recipe["weights_sha256"] == first
    assert network.recipe["classes"] == class_names("kinetics600")
    assert network.recipe["channel_order"] == "BGR"
    path.write_bytes(checkpoint(value=1.0))
    second = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(WeightsError, match=f"sha256 is {second}, at first sight it was {first}"):
        load_backbone("mobilenetv2_0.2x", weights="kinetics600")
    Path(f"{path}.seen.json").unlink()
    assert load_backbone("mobilenetv2_0.2x").recipe["weights_sha256"] == second


def test_a_publication_that_changes_is_refused_at_the_next_download_but_a_mirror_may_differ(home, monkeypatch):
    published = {"https://one.example/a": b"first", "https://two.example/a": b"mirror"}

    def fetched(source, path):
        path.write_bytes(published[source.urls[0]])
        return source.urls[0], hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(weights_cache, "download", fetched)
    one, two = (DownloadSource("a.pth", (address,)) for address in published)
    path, first = obtain(one)
    path.unlink()
    obtain(two)
    assert set(seen_digests(path).values()) == {hashlib.sha256(body).hexdigest() for body in published.values()}
    path.unlink()
    published["https://one.example/a"] = b"second"
    with pytest.raises(WeightsError, match=f"at first sight it was {first}"):
        obtain(one)
    assert not path.exists()


def test_a_cached_file_whose_published_digest_differs_is_refused(home):
    (home / "r3d_18-b3b3357e.pth").write_bytes(b"PK\x03\x04 not the real one")
    with pytest.raises(WeightsError, match=r"published was b3b3357e\.\.\.; delete the file"):
        load_backbone("r3d_18")


def test_a_folder_that_cannot_be_written_is_still_of_use(home, monkeypatch, caplog):
    (home / "a.pth").write_bytes(b"weights")

    def forbidden(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(weights_cache, "atomic_file", forbidden)
    assert obtain(DownloadSource("a.pth"))[0] == home / "a.pth"
    assert "could not be written down" in caplog.text


def test_damaged_notes_of_a_digest_are_named(home):
    (home / "a.pth").write_bytes(b"weights")
    (home / "a.pth.seen.json").write_text("{")
    with pytest.raises(WeightsError, match=r"a\.pth\.seen\.json: not readable"):
        obtain(DownloadSource("a.pth"))


@pytest.mark.slow
def test_a_file_with_a_published_name_brings_that_recipe_and_its_classes(checkpoint, tmp_path):
    (tmp_path / TINY_K600).write_bytes(checkpoint())
    for name in ("mobilenetv2_0.2x", "mobilenetv2"):
        recipe = load_backbone(name, weights=tmp_path / TINY_K600).recipe
        assert recipe["name"] == "mobilenetv2_0.2x"
        assert recipe["weights"] == TINY_K600
        assert recipe["classes"] == class_names("kinetics600")


@pytest.mark.slow
def test_names_are_never_given_to_logits_of_unknown_order(checkpoint, tmp_path):
    (tmp_path / "mine.pth").write_bytes(checkpoint())  # 600 classes, but who knows which
    assert load_backbone("mobilenetv2", weights=tmp_path / "mine.pth").recipe["classes"] is None
    (tmp_path / TINY_K600).write_bytes(checkpoint(num_classes=101))  # the name is known, the count is another
    assert load_backbone("mobilenetv2", weights=tmp_path / TINY_K600).recipe["classes"] is None


@pytest.mark.slow
def test_what_is_assumed_of_an_unknown_file_is_logged(checkpoint, tmp_path, caplog):
    (tmp_path / "mine.pth").write_bytes(checkpoint(num_classes=5))
    caplog.set_level(logging.INFO, "gcf")
    recipe = load_backbone("mobilenetv2", weights=str(tmp_path / "mine.pth")).recipe
    assert recipe["channel_order"] == "BGR"
    assert "mine.pth: not a published file; assumed that it wants BGR, 0..255" in caplog.text
    assert "the shapes of the weights are those of width 0.2: mobilenetv2_0.2x" in caplog.text
    assert "mobilenetv2_0.2x: 5 classes" in caplog.text


@pytest.mark.parametrize(("num_classes", "order"), [(400, "RGB"), (600, "BGR"), (5, "RGB")])
def test_pixels_are_assumed_to_be_those_of_published_weights_with_as_many_classes(num_classes, order):
    assert assumed_pixels("resnext101", num_classes).channel_order == order


def test_descriptions_are_plain_json_and_say_whether_the_file_is_there(home, checkpoint):
    (home / TINY_K600).write_bytes(checkpoint())
    shown = describe_weights("mobilenetv2_0.2x", "kinetics600")
    assert json.loads(json.dumps(shown)) == shown
    assert shown["cached"] == str(home / TINY_K600)
    assert len(shown["classes"]) == 600
    assert describe_weights("mobilenetv2_1.0x", "kinetics600")["cached"] is None
    here = [(info.backbone, info.origin) for info in list_weights() if info.cached]
    assert here == [("mobilenetv2_0.2x", "by hand"), ("shufflenetv2_0.25x", "packaged")]


def test_pulling_gives_the_path_of_the_checked_file(home):
    (home / "r2p1d50_K_200ep.pth").write_bytes(b"PK\x03\x04")
    assert pull_weights("r2plus1d_50") == home / "r2p1d50_K_200ep.pth"
    assert pull_weights("r2plus1d_50", "kinetics700-hara") == home / "r2p1d50_K_200ep.pth"
    assert sorted(os.listdir(home)) == ["r2p1d50_K_200ep.pth", "r2p1d50_K_200ep.pth.seen.json"]


@pytest.mark.parametrize(
    ("backbone", "weights_id", "message"),
    [
        ("resnext", "kinetics400", "unknown backbone 'resnext'"),
        (
            "resnext101",
            "kinetics400",
            "unknown weights 'kinetics400' of resnext101; known: kinetics400-hara, kinetics600",
        ),
        ("r2plus1d_101", "kinetics600", "known: none are public"),
    ],
)
def test_unknown_weights_are_refused_with_those_that_there_are(backbone, weights_id, message):
    with pytest.raises(UsageError, match=message):
        describe_weights(backbone, weights_id)
