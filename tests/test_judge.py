"""Who judges: the test subset, or the published val, which then chooses nothing."""

import numpy as np
import pytest
from caches import easy_cache, write_cache
from click.testing import CliRunner

import gcf.cli
from gcf.errors import UsageError
from gcf.head.ablation import ablate
from gcf.head.compare import compare_features
from gcf.head.fitting.labelled import label_features, make_splits
from gcf.head.models.config import Protocol
from gcf.head.training import train_head

SHORT = {"seeds": 2, "epochs": 2}


def kinetics(path, *, test=0, unmarked=0, wrong_val=False):
    """A miniature of a data set with a published val: three classes, 36 training videos, 12 of val."""
    subsets = ["train"] * 36 + ["val"] * 12 + ["test"] * test + [""] * unmarked
    rng, count = np.random.default_rng(0), 48 + test + unmarked
    labels = [n % 3 for n in range(count)]
    videos = [rng.standard_normal((4, 8)) + 2 * np.eye(8)[label] for label in labels]
    if wrong_val:  # the same descriptors under other labels
        labels[36:48] = [(label + 1) % 3 for label in labels[36:48]]
    return write_cache(
        path, videos, labels, ["a", "b", "c"], subsets=subsets, groups=[f"g{n // 3}" for n in range(count)]
    )


def split_of(features, **protocol):
    data = label_features(features)
    (split,) = make_splits(data, Protocol(**protocol))
    return data, split


@pytest.mark.parametrize("judge", [None, "val"])
def test_without_a_test_subset_the_published_val_judges_and_another_is_carved_by_whole_groups(tmp_path, judge):
    data, split = split_of(kinetics(tmp_path / "f.h5"), judge=judge)
    assert split.test.tolist() == list(range(36, 48))
    assert sorted([*split.train, *split.val]) == list(range(36))
    assert len(split.val) >= 6
    assert not {data.groups[n] for n in split.val} & {data.groups[n] for n in split.train}


def test_a_test_subset_beside_it_stays_untouched_and_judges_unless_val_is_asked_for(tmp_path):
    features = kinetics(tmp_path / "f.h5", test=6)
    assert split_of(features)[1].test.tolist() == list(range(48, 54))
    assert split_of(features)[1].val.tolist() == list(range(36, 48))
    _, split = split_of(features, judge="val")
    assert split.test.tolist() == list(range(36, 48))
    assert not {*range(48, 54)} & {*split.train, *split.val, *split.test}


@pytest.mark.slow
def test_what_is_unmarked_trains_only_where_nothing_is_marked_train(tmp_path):
    _, split = split_of(kinetics(tmp_path / "f.h5", unmarked=6), judge="val")
    assert not {*range(48, 54)} & {*split.train, *split.val}
    rng = np.random.default_rng(0)
    path = tmp_path / "g.h5"
    rows = [rng.standard_normal((3, 4)) for _ in range(30)]
    features = write_cache(path, rows, [n % 2 for n in range(30)], ["a", "b"], subsets=[""] * 20 + ["val"] * 10)
    _, split = split_of(features, judge="val")
    assert split.test.tolist() == list(range(20, 30))
    assert sorted([*split.train, *split.val]) == list(range(20))


@pytest.mark.slow
def test_a_comparison_says_who_judges_and_counts_the_look(tmp_path):
    features = kinetics(tmp_path / "f.h5", test=6)
    for looks in (1, 2):
        found = ablate(features, tmp_path / f"out{looks}", heads=["mean"], judge="val", reuse=False, **SHORT)
        assert found.metrics["test_looks"] == looks
    (note,) = [note for note in found.metrics["notes"] if note.startswith("The published val")]
    assert "(12 videos) judges, once, at the end" in note
    assert note.endswith("The 6 test videos take no part.")
    saved = np.load(tmp_path / "out2" / "predictions.npz")
    assert sorted(saved["ids"]) == [f"v{n:04d}.mp4" for n in range(36, 48)]
    assert {row["n"] for row in found.rows} == {24}


@pytest.mark.slow
def test_training_and_comparing_backbones_follow_the_same_rule(tmp_path):
    features = kinetics(tmp_path / "f.h5")
    run = train_head(features, head="mean", epochs=2)
    assert run.metrics["n"] == 12
    assert any("There is no test subset" in note and "judges, once" in note for note in run.metrics["notes"])
    assert not any("also chose the weights" in note for note in run.metrics["notes"])
    found = compare_features([features], head="mean", **SHORT)
    assert found.rows[0]["mean_n"] == 24
    assert any("The published val (12 videos)" in note for note in found.metrics["notes"])


@pytest.mark.slow
def test_where_test_is_to_judge_the_published_val_chooses(tmp_path):
    features = kinetics(tmp_path / "f.h5")
    _, split = split_of(features, judge="test")
    assert split.val.tolist() == list(range(36, 48))
    assert not len(split.test)
    run = train_head(features, head="mean", epochs=1, judge="test")
    assert any("also chose the weights" in note for note in run.metrics["notes"])


@pytest.mark.slow
def test_selection_never_sees_the_published_val(tmp_path):
    """Other labels in it change the figures and no weight."""
    first = train_head(kinetics(tmp_path / "f.h5"), head="mean", epochs=3)
    other = kinetics(tmp_path / "g.h5", wrong_val=True)
    second = train_head(other, head="mean", epochs=3)
    assert first.metrics["top1"] > second.metrics["top1"]
    ours, theirs = (run.heads[0].module.state_dict() for run in (first, second))
    assert all((ours[name] == theirs[name]).all() for name in ours)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"judge": "val", "cv": 3}, "cv judges every video in turn"),
        ({"judge": "train"}, "unknown judge 'train'; known: val, test"),
    ],
)
def test_what_cannot_judge_is_a_usage_error(tmp_path, asked, said):
    with pytest.raises(UsageError, match=said):
        ablate(kinetics(tmp_path / "f.h5"), heads=["mean"], **asked, **SHORT)
    with pytest.raises(UsageError, match="no video of the subset val has a label"):
        ablate(easy_cache(tmp_path / "g.h5", subsets=False), heads=["mean"], judge="val", **SHORT)


@pytest.mark.slow
def test_the_command_takes_it(tmp_path):
    kinetics(tmp_path / "f.h5", test=6)
    command = ["ablate", str(tmp_path / "f.h5"), "-o", str(tmp_path / "out"), "--head", "mean", "--judge", "val"]
    done = CliRunner().invoke(gcf.cli.cli, [*command, "--seeds", "2", "--epochs", "1"])
    assert done.exit_code == 0, done.output
    assert "The published val (12 videos) judges" in done.output
