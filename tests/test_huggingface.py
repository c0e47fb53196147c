"""Networks of transformers cut in three, against transformers' own forward pass; clip lengths and random weights."""

import json
import logging
import subprocess
import sys

import hf_models
import numpy as np
import pytest
import torch
from compare import assert_bitwise_equal, relative_error
from hf_models import CLASSIFIERS, ENCODERS, NAMES, SIDE
from transformers import (
    TimesformerForVideoClassification,
    VideoMAEForVideoClassification,
    VivitForVideoClassification,
    VJEPA2ForVideoClassification,
)

from gcf.errors import UsageError
from gcf.extract.backbones import load_backbone
from gcf.extract.network.precision import precise_network
from gcf.extract.stream.config import ExtractConfig
from gcf.extract.stream.recipe import make_recipe

# Both run the same layers; only means over positions are taken in another order
EQUAL = 1e-6


def clips_for(network, count=3):
    return torch.randn(count, 3, network.recipe["num_frames"], SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def own_outputs(model, clips):
    """What reaches the model's last layer, and its logits, in its own forward pass of (B, T, 3, H, W)."""
    caught = []
    hook = model.classifier.register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    with torch.inference_mode():
        logits = model(**{model.main_input_name: clips.transpose(1, 2)}).logits
    hook.remove()
    return caught[0], logits


def cut(network, clips):
    """Feature map and descriptor of clips."""
    with torch.inference_mode():
        feature_map = network.feature_map(clips)
        return feature_map, network.descriptor(feature_map)


@pytest.fixture(scope="module", params=CLASSIFIERS)
def classifier(request, tmp_path_factory):
    """(model as it was saved, the network that gcf loads)."""
    folder = tmp_path_factory.mktemp("hf") / request.param
    model = hf_models.saved(folder, *CLASSIFIERS[request.param], request.param)
    return model, load_backbone(f"hf:{folder}")


@pytest.fixture(scope="module")
def videomae(tmp_path_factory):
    """A folder with a VideoMAE classifier."""
    folder = tmp_path_factory.mktemp("hf") / "tuned"
    hf_models.saved(folder, *CLASSIFIERS["videomae"], "videomae")
    return folder


def test_descriptor_and_logits_are_what_reaches_and_leaves_the_models_own_last_layer(classifier):
    model, network = classifier
    clips = clips_for(network)
    expected, logits = own_outputs(model, clips)
    feature_map, descriptor = cut(network, clips)
    assert expected.std() > 0.05
    assert feature_map.shape[:2] == (3, 32)
    assert feature_map.shape[3:] == (4, 4)
    assert relative_error(descriptor, expected) < EQUAL
    with torch.inference_mode():
        assert relative_error(network.classify(descriptor), logits) < EQUAL


def test_classes_are_the_names_of_the_logits_in_their_order(classifier):
    assert classifier[1].recipe["classes"] == list(NAMES)


def test_a_loaded_network_is_frozen_in_eval_mode_in_float32_with_a_plain_recipe(classifier):
    _, network = classifier
    assert not network.training
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert json.loads(json.dumps(network.recipe)) == network.recipe


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("videomae", lambda out: out.last_hidden_state.mean(1)),
        ("videomae-pretraining", lambda out: out.last_hidden_state.mean(1)),
        ("timesformer", lambda out: out.last_hidden_state[:, 0]),
        ("vivit", lambda out: out.pooler_output),
        ("vjepa2", lambda out: out.last_hidden_state.mean(1)),
    ],
)
def test_an_encoder_has_no_classifier_and_the_descriptor_that_its_class_says(kind, expected, tmp_path):
    model = hf_models.saved(tmp_path / "m", *ENCODERS[kind], kind)
    network = load_backbone(f"hf:{tmp_path / 'm'}")
    assert not hasattr(network, "classify")
    assert network.recipe["classes"] is None
    clips = clips_for(network)
    with torch.inference_mode():
        own = model.base_model(clips.transpose(1, 2))
    assert relative_error(cut(network, clips)[1], expected(own)) < EQUAL


BY_PLACE = {
    "videomae": (VideoMAEForVideoClassification, hf_models.videomae(num_hidden_layers=0)),
    "timesformer": (TimesformerForVideoClassification, hf_models.timesformer(num_hidden_layers=0)),
    "vivit": (VivitForVideoClassification, hf_models.vivit(num_hidden_layers=0)),
    "vjepa2": (VJEPA2ForVideoClassification, hf_models.vjepa2(num_hidden_layers=0)),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", BY_PLACE)
def test_a_patch_of_the_picture_changes_the_map_at_its_own_place(kind, tmp_path):
    """Without layers a token knows its own patch alone."""
    hf_models.saved(tmp_path / "m", *BY_PLACE[kind], kind)
    network = load_backbone(f"hf:{tmp_path / 'm'}")
    clips = clips_for(network, count=1)
    frames, patch = network.patch[0], hf_models.PATCH
    before, _ = cut(network, clips)
    for t, y, x in np.ndindex(*before.shape[2:]):
        changed = clips.clone()
        changed[:, :, t * frames : (t + 1) * frames, y * patch : (y + 1) * patch, x * patch : (x + 1) * patch] += 1
        moved = (cut(network, changed)[0] - before).norm(dim=1)[0]
        assert np.unravel_index(int(moved.argmax()), moved.shape) == (t, y, x)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["timesformer", "vivit", "videomae-first"])
def test_a_map_around_a_token_has_it_as_its_mean_and_differs_as_the_patches_do(kind, tmp_path):
    model = hf_models.saved(tmp_path / "m", *CLASSIFIERS[kind], kind)
    network = load_backbone(f"hf:{tmp_path / 'm'}")
    clips = clips_for(network)
    expected, _ = own_outputs(model, clips)
    feature_map, _ = cut(network, clips)
    assert relative_error(feature_map.mean((2, 3, 4)), expected) < EQUAL
    with torch.inference_mode():
        tokens = model.base_model(clips.transpose(1, 2)).last_hidden_state
    patches = tokens if kind == "videomae-first" else tokens[:, 1:]
    spread = (patches - patches.mean(1, keepdim=True)).norm()
    assert relative_error((feature_map - expected[:, :, None, None, None]).norm(), spread) < EQUAL


def test_other_sizes_than_its_own_are_refused_by_the_network(classifier):
    _, network = classifier
    frames = network.recipe["num_frames"]
    with pytest.raises(ValueError, match=r"takes clips of \(T, H, W\) = "):
        network.feature_map(torch.zeros(1, 3, frames, SIDE, SIDE + 8))
    with pytest.raises(ValueError, match=r"takes clips of \(T, H, W\) = "):
        network.feature_map(torch.zeros(1, 3, frames + 1, SIDE, SIDE))


def test_clips_are_as_long_as_the_networks_own_and_others_only_where_positions_allow_them(classifier):
    model, network = classifier
    own = network.recipe["num_frames"]
    assert make_recipe(network.recipe, ExtractConfig(), device="cpu")["num_frames"] == own
    if model.config.model_type == "vjepa2":
        assert make_recipe(network.recipe, ExtractConfig(clip_frames=6), device="cpu")["num_frames"] == 6
        assert network.feature_map(torch.zeros(1, 3, 6, SIDE, SIDE)).shape[2] == 3
        with pytest.raises(UsageError, match="takes 2 frames at a time: clips of 5 frames would be cut"):
            make_recipe(network.recipe, ExtractConfig(clip_frames=5), device="cpu")
        return
    assert make_recipe(network.recipe, ExtractConfig(clip_frames=own), device="cpu")["num_frames"] == own
    with pytest.raises(UsageError, match=f"takes clips of {own} frames only, not 16"):
        make_recipe(network.recipe, ExtractConfig(clip_frames=16), device="cpu")


def test_a_long_clip_stays_long_with_native_sampling():
    recipe = {"name": "hf:a/b", "num_frames": 32, "fixed_frames": True, "frames_step": 2}
    assert make_recipe(recipe, ExtractConfig(), device="cpu")["num_frames"] == 32


@pytest.mark.slow
def test_sampling_at_a_rate_that_nobody_wrote_down_is_refused_without_talk_of_plug_ins(videomae):
    network = load_backbone(f"hf:{videomae}")
    with pytest.raises(UsageError, match="does not say how many frames a second") as refused:
        make_recipe(network.recipe, ExtractConfig(sampling="trained"), device="cpu")
    assert "RECIPE" not in str(refused.value)


def test_the_recipe_of_a_file_keeps_the_version_of_transformers_and_no_constraints(videomae):
    network = load_backbone(f"hf:{videomae}")
    recipe = make_recipe(network.recipe, ExtractConfig(), device="cpu")
    assert recipe["versions"]["transformers"] == sys.modules["transformers"].__version__
    assert not {"fixed_frames", "frames_step", "transformers"} & set(recipe)
    assert (recipe["backbone"], recipe["weights"]) == ("hf:./tuned", "tuned")


@pytest.mark.slow
def test_random_weights_are_the_same_bytes_on_every_run_and_leave_the_generator_alone(videomae, caplog):
    torch.manual_seed(1234)
    before = torch.random.get_rng_state()
    first = load_backbone(f"hf:{videomae}", weights="random")
    assert_bitwise_equal(torch.random.get_rng_state(), before)
    torch.manual_seed(4321)
    again = load_backbone(f"hf:{videomae}", weights="random")
    assert first.recipe == again.recipe
    assert first.recipe["weights"] == "random"
    assert first.recipe["classes"] is None
    assert first.recipe["weights_sha256"] != load_backbone(f"hf:{videomae}").recipe["weights_sha256"]
    for name, tensor in first.state_dict().items():
        assert_bitwise_equal(again.state_dict()[name], tensor)
    assert {(record.name, record.levelno) for record in caplog.records} == {("gcf", logging.WARNING)}
    assert "hf:./tuned has random weights" in caplog.text
    assert cut(first, clips_for(first))[1].std() > 0.01


@pytest.mark.slow
def test_the_digest_is_that_of_the_weights_whatever_the_folder_and_the_type_on_the_disk(videomae, tmp_path):
    model = hf_models.saved(tmp_path / "again", *CLASSIFIERS["videomae"], "videomae")
    digest = load_backbone(f"hf:{videomae}").recipe["weights_sha256"]
    assert load_backbone(f"hf:{tmp_path / 'again'}").recipe["weights_sha256"] == digest
    model.classifier.bias.data[0] += 1
    model.save_pretrained(tmp_path / "again")
    assert load_backbone(f"hf:{tmp_path / 'again'}").recipe["weights_sha256"] != digest
    model.half().save_pretrained(tmp_path / "again")
    loaded = load_backbone(f"hf:{tmp_path / 'again'}")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}


@pytest.mark.parametrize("names", [["LABEL_0", "LABEL_1", "LABEL_2"], ["a", "a", "b"]])
def test_names_that_nobody_gave_or_that_two_classes_share_are_none(names, tmp_path):
    config = hf_models.videomae(id2label=dict(enumerate(names)))
    hf_models.saved(tmp_path / "m", VideoMAEForVideoClassification, config, "videomae")
    network = load_backbone(f"hf:{tmp_path / 'm'}")
    assert network.recipe["classes"] is None
    assert network.classify.out_features == 3


@pytest.mark.slow
def test_half_precision_is_tried_and_used_though_nothing_can_be_folded(classifier):
    _, network = classifier
    options = {"device": torch.device("cpu"), "batch_size": 2, "num_frames": network.recipe["num_frames"]}
    half, entries = precise_network(network, precision="bf16", **options)
    assert (entries["precision"], entries["folded"]) == ("bf16", False)
    assert entries["precision_cosine"] >= 0.999
    pixels = hf_models.noise(0, 1, network.recipe["num_frames"], SIDE, SIDE, 3)
    assert np.isfinite(half(pixels)[0]).all()


def test_loading_says_nothing_on_a_terminal(videomae, capfd):
    load_backbone(f"hf:{videomae}")
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_transformers_is_imported_for_hf_alone():
    code = (
        "import sys, gcf.cli\ntry: gcf.cli.main(['extract', '--help'])\nexcept SystemExit: pass\n"
        "from gcf.extract.backbones import load_backbone\nload_backbone('mobilenetv2_0.2x', weights='random')\n"
        "sys.exit('transformers' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_without_transformers_the_extra_is_named(videomae, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match=r"hf: networks need transformers: pip install 'gcf-net\[hf\]'"):
        load_backbone(f"hf:{videomae}")
