"""The weights that come with gcf: are they the file that the card describes, and do they know the motions?"""

import hashlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from compare import assert_bitwise_equal

import gcf
from gcf.data.motions import MIRRORED, PRIMITIVES
from gcf.data.synthetic import write_demo_videos
from gcf.errors import WeightsError
from gcf.extract.backbones.published import (
    EFFICIENT,
    assumed_pixels,
    default_weights,
    find_weights,
    list_weights,
    pull_weights,
)
from gcf.extract.decoding.preprocess import POSITIONS, SCALES, View
from gcf.extract.weights import cache as weights_cache
from gcf.extract.weights.cache import cached_path

BACKBONE, WEIGHTS = "shufflenetv2_0.25x", "primitives"
SPEC = find_weights(BACKBONE, WEIGHTS)
SCRIPT = Path(__file__).parents[1] / "scripts" / "train_primitives.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("train_primitives", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return write_demo_videos(tmp_path_factory.mktemp("trimmed") / "v", videos=44, seed=5, trimmed=True)


@pytest.mark.slow
def test_nine_of_ten_clips_of_an_unseen_seed_are_named_rightly(script, videos, tmp_path):
    assert 5 not in (script.TRAIN_SEED, script.HELD_OUT_SEED)
    out = tmp_path / "f.h5"
    gcf.extract_videos(videos.folder, out, backbone=BACKBONE, weights=WEIGHTS, annotations=videos.labels)
    features = gcf.FeatureFile(out)
    assert features.backbone_classes == list(PRIMITIVES)
    wanted = [features.classes[label] for label in features.labels for _ in range(2)]
    found = [PRIMITIVES[k] for k in np.asarray(features.logits).argmax(axis=1)]
    assert np.diff(features.offsets).tolist() == [2] * 44
    assert np.mean([w == f for w, f in zip(wanted, found, strict=True)]) >= 0.9


def test_the_file_is_small_and_the_one_that_the_card_describes():
    path = cached_path(SPEC.source)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.stat().st_size <= 2 * 10**6
    assert digest.startswith(SPEC.source.sha256)
    assert len(SPEC.source.sha256) >= 16
    card = path.with_suffix(".md").read_text()
    assert digest in card
    assert f"{gcf.load_backbone(BACKBONE, weights=WEIGHTS).classifier[1].out_features} classes" in card


def test_nothing_is_fetched_and_nothing_written_down(tmp_path, monkeypatch):
    monkeypatch.setenv("GCF_HOME", str(tmp_path / "home"))
    assert pull_weights(BACKBONE, WEIGHTS) == cached_path(SPEC.source)
    (info,) = (info for info in list_weights() if info.id == WEIGHTS)
    assert info.origin == "packaged"
    assert info.cached == cached_path(SPEC.source)
    assert not (tmp_path / "home").exists()


def test_the_recipe_is_the_one_of_the_training():
    recipe = gcf.load_backbone(BACKBONE, weights=WEIGHTS).recipe
    assert {name: recipe[name] for name in SPEC.pixels.recipe()} == SPEC.pixels.recipe()
    assert recipe["classes"] == list(PRIMITIVES)


def test_nobody_gets_them_or_their_pixels_unasked():
    assert default_weights(BACKBONE).id == "kinetics600"
    assert assumed_pixels(BACKBONE, len(PRIMITIVES)) == EFFICIENT


def test_a_damaged_or_lost_file_is_said_to_be_one(tmp_path, monkeypatch):
    monkeypatch.setattr(weights_cache, "PACKAGED", tmp_path)
    with pytest.raises(WeightsError, match="install gcf again"):
        pull_weights(BACKBONE, WEIGHTS)
    (tmp_path / SPEC.source.file).write_bytes(b"other")
    with pytest.raises(WeightsError, match="not what came with gcf; install gcf again"):
        pull_weights(BACKBONE, WEIGHTS)


@pytest.mark.slow
def test_a_flipped_clip_is_named_for_the_motion_that_it_shows(script, videos, monkeypatch):
    data = script.Clips(videos.folder, seed=1)
    motions = [entry["annotations"][0]["primitive"] for _, entry in data.truth]
    shown = {}
    for flip in (False, True):
        monkeypatch.setattr(script, "draw_view", lambda *_, flip=flip: View(1.0, (0.5, 0.5), flip))
        shown[flip] = [data[0, number] for number in range(len(data))]
    assert set(MIRRORED) <= set(motions)
    for motion, (plain, label), (flipped, other) in zip(motions, shown[False], shown[True], strict=True):
        assert PRIMITIVES[label] == motion
        assert PRIMITIVES[other] == MIRRORED.get(motion, motion)
        assert_bitwise_equal(flipped.numpy(), np.ascontiguousarray(plain.numpy()[:, :, ::-1]))


def test_an_augmented_crop_shows_the_sprite(script):
    size, box = (120, 160), [20, 10, 50, 50]  # at the left rim of the central square
    assert script.shown_share(View(1.0, (0.5, 0.5), flip=False), size, [box]) == 1
    assert script.shown_share(View(0.5, (1.0, 1.0), flip=False), size, [box]) == 0
    assert script.shown_share(View(0.5, (0.0, 0.0), flip=False), size, [box, [40, 0, 80, 60]]) == 0.75
    assert script.shown_share(View(0.5, (1.0, 1.0), flip=False), size, [None]) == 1
    drawn = [script.draw_view(np.random.default_rng(seed), size, [box]) for seed in range(200)]
    assert min(script.shown_share(view, size, [box]) for view in drawn) >= script.KEPT
    assert {view.scale for view in drawn} == set(SCALES)
    assert {view.position for view in drawn} >= set(POSITIONS[:2])
    assert {view.flip for view in drawn} == {False, True}


@pytest.fixture
def train(script, videos, monkeypatch):
    """The script's training with one thread, as the other tests have, and the caller's random numbers left alone."""
    monkeypatch.setattr(script, "THREADS", torch.get_num_threads())

    def run(**settings):
        with torch.random.fork_rng():
            return script.train(videos.folder, batch_size=11, lr=4e-3, **settings)

    return run


@pytest.mark.slow
def test_training_is_repeatable_whatever_the_number_of_loaders(train):
    first, second = (train(epochs=1, loaders=loaders).state_dict() for loaders in (0, 1))
    for name, tensor in first.items():
        assert_bitwise_equal(tensor, second[name])


@pytest.mark.slow
def test_training_lowers_the_loss(train, script, videos):
    with torch.random.fork_rng():
        torch.manual_seed(script.TRAIN_SEED)
        fresh = script.build_network(script.find_backbone(BACKBONE), num_classes=len(PRIMITIVES)).train()
    before, after = (loss_of(network.train(), script, videos) for network in (fresh, train(epochs=6, loaders=0)))
    assert after < before - 0.1


def loss_of(network, script, videos) -> float:
    """Cross-entropy on the training clips themselves, with the batch's own statistics, and the same units dropped."""
    data = script.Clips(videos.folder, seed=1)
    pixels, labels = zip(*(data[0, number] for number in range(len(data))), strict=True)
    clips = script.Normalise(SPEC.pixels.recipe())(torch.stack(pixels))
    with torch.inference_mode(), torch.random.fork_rng():
        torch.manual_seed(0)
        return float(torch.nn.functional.cross_entropy(network(clips), torch.tensor(labels)))


def test_the_report_of_the_training_holds_what_the_script_found():
    report = json.loads(cached_path(SPEC.source).with_suffix(".json").read_text())
    assert report["top1"] == report["right"] / report["clips"] >= 0.9
    assert set(report["per_class"]) == set(PRIMITIVES)
    assert report["train_seed"] != report["held_out_seed"]
