"""What each module of the gated head is for, on planted descriptors: small samples of benchmarks/planted.py."""

import sys
from pathlib import Path

import pytest

import gcf

pytestmark = pytest.mark.slow
HEADS = ["gcf-gated", "gated-gate-only", "gated-fusion-only"]


@pytest.fixture
def task(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
    sys.modules.pop("planted", None)
    import planted

    def make(name, **options):
        return planted.planted(tmp_path / f"{name}.h5", name, width=128, noise=0.1, **options)

    return make


def accuracies(features, heads=HEADS, **options):
    found = gcf.ablate(features, heads=heads, seeds=1, audit=False, reuse=False, **options)
    return {row["name"]: row["mean"] for row in found.rows}, found


def gates(features, deciding, folder):
    run = gcf.train_head(features, folder, head="gcf-gated")
    saved = gcf.load_head(run.path)
    test = [n for n, subset in enumerate(features.subsets) if subset == "test"]
    acting, others = [], []
    for n in test:
        alpha = saved(features.video(n)).gate[0].numpy()
        acting += alpha[deciding[n]].tolist()
        others += alpha[~deciding[n]].tolist()
    return sum(acting) / len(acting), sum(others) / len(others)


def test_a_relation_of_two_clips_needs_gate_and_fusion(task):
    features, _ = task("relation", videos=1600, concepts=2)
    found, table = accuracies(features)
    assert found["gcf-gated"] > 0.93
    assert 0.4 < found["gated-gate-only"] < 0.6  # chance: no sum over clips can tell
    assert found["gcf-gated"] > found["gated-fusion-only"]
    assert any("Trained with the recipe adamw" in note for note in table.metrics["notes"])


def test_the_gate_opens_for_the_clip_that_decides_and_shuts_for_the_others(task, tmp_path):
    features, deciding = task("presence", videos=600)
    on, off = gates(features, deciding, tmp_path / "run")
    assert on > 0.6
    assert off < 0.2


def test_pairs_are_found_by_the_gate_alone_and_the_printed_gate_is_said_to_be_still(task):
    features, _ = task("pairs", videos=900)
    found, table = accuracies(features, ["gcf-gated", "gated-gate-only", "gcf-256"])
    assert found["gcf-gated"] > 0.8
    assert found["gated-gate-only"] > 0.8
    (note,) = [note for note in table.metrics["notes"] if "has not moved" in note]
    assert note.startswith("gcf-256: ")
    assert "times smaller than the classifier's" in note
