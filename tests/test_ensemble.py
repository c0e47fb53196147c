import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from caches import easy_cache
from compare import FLOAT32_FORWARD, relative_error
from stage_one import TINY

from gcf.errors import HeadError, RecipeError
from gcf.explain.predict import predict_videos
from gcf.head.evaluate import evaluate_head
from gcf.head.models.build import build_head, head_config
from gcf.head.models.config import HeadConfig
from gcf.head.models.ensemble import MeanOfHeads, load_ensemble, load_trained
from gcf.head.models.saved import load_head
from gcf.head.training import train_head

SMALL = HeadConfig("small", width=16, key_width=8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A feature file and a run of three seeds on it, too short to agree."""
    folder = tmp_path_factory.mktemp("ensemble")
    features = easy_cache(folder / "f.h5", num_classes=4, per_class=8)
    return features, train_head(features, folder / "run", head=SMALL, epochs=6, seeds=3, seed=4)


@pytest.mark.slow
def test_the_probabilities_are_the_mean_of_the_members(trained):
    _, run = trained
    ensemble = load_ensemble(run.path)
    assert len(ensemble.members) == 3
    clips = torch.randn(5, 7, 12, generator=torch.Generator().manual_seed(0)).numpy()
    mask = np.arange(7) < np.array([[7], [3], [1], [5], [7]])
    said = ensemble(clips, mask)
    members = [load_head(run.path / f"seed-{seed}")(clips, mask) for seed in (4, 5, 6)]
    odds = np.exp([m.logits.numpy() for m in members])  # (S, B, K)
    probabilities = (odds / odds.sum(axis=2, keepdims=True)).mean(axis=0)
    assert relative_error(np.exp(said.logits.numpy()), probabilities) < FLOAT32_FORWARD
    assert relative_error(said.gate, np.mean([m.gate.numpy() for m in members], axis=0)) < FLOAT32_FORWARD
    assert said.evidence is None
    assert said.attention is None


def test_without_a_gate_in_every_member_there_is_none():
    heads = [build_head(head_config(SMALL, gate=gate), 12, 3).eval() for gate in ("clips", "none")]
    clips, mask = torch.zeros(2, 4, 12), torch.ones(2, 4, dtype=torch.bool)
    assert MeanOfHeads(heads)(clips, mask).gate is None
    assert MeanOfHeads(heads[:1])(clips, mask).gate is not None


@pytest.mark.slow
def test_a_run_of_several_seeds_is_judged_as_one_head(trained):
    features, run = trained
    found = evaluate_head(run.path, features)
    saved = np.load(run.path / "predictions.npz")
    mean = saved["probabilities"].mean(axis=0)
    assert found["k"] == (mean.argmax(axis=1) == saved["labels"]).sum()
    own = mean[np.arange(len(mean)), saved["labels"]]
    assert found["loss"] == pytest.approx(-np.log(own).mean(), rel=1e-5)
    assert found["loss"] < run.metrics["loss"]  # Jensen's inequality: less than the mean of the members' losses
    assert found["notes"][0] == "The probabilities are the mean of 3 heads'."
    assert 0 < found["gate"]["mean_alpha"] < 1


def test_it_chooses_clips_and_checks_features_as_a_head_does(trained, tmp_path):
    _, run = trained
    ensemble = load_trained(run.path)
    assert ensemble.choose(20).tolist() == run.head.choose(20).tolist()
    with pytest.raises(HeadError, match="descriptors of 14 channels"):
        ensemble.check_fits(easy_cache(tmp_path / "g.h5", width=14))


@pytest.mark.slow
def test_heads_of_folds_are_no_ensemble(trained, tmp_path):
    train_head(trained[0], tmp_path / "run", head="mean", epochs=2, cv=2, seeds=2)
    with pytest.raises(HeadError, match="several heads: seed-0-fold-00"):
        load_trained(tmp_path / "run")
    with pytest.raises(HeadError, match="no heads of several seeds here"):
        load_ensemble(tmp_path / "run")


def test_a_single_head_stays_one(trained):
    assert type(load_trained(trained[1].path / "seed-5")) is type(load_head(trained[1].path / "seed-5"))


def test_a_member_that_is_gone_is_missed(trained, tmp_path):
    shutil.copytree(trained[1].path, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "seed-5")
    with pytest.raises(HeadError, match=r"seed-5: no head\.json here"):
        load_ensemble(tmp_path / "run")
    (tmp_path / "run" / "metrics.json").unlink()  # the heads alone, as somebody copied them
    assert len(load_ensemble(tmp_path / "run").members) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda facts: facts.update(classes=["a", "b", "c", "d"]), "seed-6: its classes is not that of seed-4"),
        (lambda facts: facts["recipe"].update(crop=9), "its recipe is not that of seed-4"),
        (lambda facts: facts["config"].update(name="other"), "its config is not"),
        (lambda facts: facts["training"].update(num_clips=5), "its num_clips is not"),
        (lambda facts: facts["training"].update(padding="loop"), "its padding is not"),
    ],
)
def test_members_of_different_kinds_are_refused(trained, tmp_path, change, message):
    shutil.copytree(trained[1].path, tmp_path / "run")
    path = tmp_path / "run" / "seed-6" / "head.json"
    facts = json.loads(path.read_text())
    change(facts)
    path.write_text(json.dumps(facts))
    with pytest.raises(HeadError, match=message):
        load_ensemble(tmp_path / "run")


@pytest.mark.slow
def test_new_videos_are_predicted_by_the_mean(folder, reference, tmp_path):
    (tmp_path / "f.h5").write_bytes(reference)
    run = train_head(tmp_path / "f.h5", tmp_path / "run", head="mean", epochs=3, seeds=2)
    options = {"backbone": TINY, "device": "cpu"}
    found = predict_videos(run.path, folder, pictures=tmp_path / "pictures", **options)
    members = [predict_videos(run.path / name, folder, **options) for name in ("seed-0", "seed-1")]
    for n, video in enumerate(found):
        expected = [dict(said[n].classes) for said in members]
        assert dict(video.classes) == pytest.approx({c: (expected[0][c] + expected[1][c]) / 2 for c in expected[0]})
    assert len(list((tmp_path / "pictures").rglob("*.png"))) == len(found) > 0


def test_a_head_of_joined_files_is_not_asked_about_videos(trained, folder):
    head = replace(trained[1].head, recipe={"joined": [{}, {}]})
    with pytest.raises(RecipeError, match="descriptors of 2 networks side by side"):
        predict_videos(head, folder)
