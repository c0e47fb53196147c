"""Labels that differ in letter case or blanks only: named wherever classes are read, and one class where asked for."""

import json

import numpy as np
import pytest
import videos
from caches import easy_cache, write_cache
from stage_one import TINY, extract

from gcf import FeatureFile
from gcf.data.annotations import Annotation, Annotations, label_videos, read_annotations
from gcf.errors import AnnotationError
from gcf.head.ablation import ablate
from gcf.head.compare import compare_features
from gcf.head.evaluate import evaluate_head
from gcf.head.fitting.labelled import label_features
from gcf.head.training import train_head

IDS = ["Jump/a.mp4", "jump /b.mp4", "jump/c.mp4", "jump/d.mp4", "run/e.mp4", "x.mp4"]
SPELLED = "'jump' (2) and 'Jump' (1) and 'jump ' (1)"
SHORT = {"epochs": 3}
NAMES = ("class 0", "class 1", "class 2")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A feature file of three classes, and their labels as several people wrote them."""
    features = easy_cache(tmp_path_factory.mktemp("cache") / "f.h5")
    lines = ["path,label,subset"]
    for n, (video, label) in enumerate(zip(features.ids, features.labels, strict=True)):
        name = {3: "Class {}", 7: "class  {}"}.get(n // 3, "class {}").format(label)
        lines.append(f"{video},{name},{features.subsets[n]}")
    path = features.path.with_name("labels.csv")
    path.write_text("\n".join(lines) + "\n")
    return features, path


def test_spellings_are_named_with_their_videos_and_stay_classes_of_their_own():
    found = label_videos(IDS)
    assert found.classes == ("Jump", "jump", "jump ", "run")
    assert found.labels.tolist() == [0, 2, 1, 1, 3, -1]
    (note,) = found.notes
    assert f"blanks only: {SPELLED}. --merge-labels" in note


def test_merged_they_are_the_commonest_spelling_and_it_is_said():
    found = label_videos(IDS, merge_labels=True)
    assert found.classes == ("jump", "run")
    assert found.labels.tolist() == [0, 0, 0, 0, 1, -1]
    assert found.labels.dtype == np.int32
    (note,) = found.notes
    assert f"are taken as one, by the commonest spelling: {SPELLED}." in note


def test_of_spellings_that_are_as_common_the_first_is_kept():
    assert label_videos(["b/1.mp4", "B/2.mp4", "a/3.mp4"], merge_labels=True).classes == ("B", "a")


def test_other_differences_are_no_spellings_and_nothing_is_said():
    ids = ["long_jump/a.mp4", "long jump/b.mp4", "long-jump/c.mp4", "jumps/d.mp4"]
    plain, merged = label_videos(ids), label_videos(ids, merge_labels=True)
    assert plain.notes == merged.notes == ()
    assert plain.classes == merged.classes
    assert plain.labels.tolist() == merged.labels.tolist()


def test_of_many_the_first_dozen_is_named():
    (note,) = label_videos([f"{c}{n:02d}/v.mp4" for n in range(15) for c in "aA"]).notes
    assert "'A11' (1) and 'a11' (1); and 3 more. --merge" in note


def test_a_video_of_several_classes_has_a_merged_one_once():
    sets = [("Jump", "jump"), ("jump", "run"), ("Run",), ("run",), ("jump",)]
    given = {f"{n}.mp4": Annotation.of_classes(names) for n, names in enumerate(sets)}
    annotations = Annotations("x", ("Jump", "Run", "jump", "run"), given, multi_label=True)
    found = label_videos(list(given), annotations, merge_labels=True)
    assert found.classes == ("jump", "run")
    assert found.targets.tolist() == [[True, False], [True, True], [False, True], [False, True], [True, False]]
    assert found.labels.tolist() == [0, -1, 1, 1, 0]


@pytest.mark.slow
def test_heads_learn_merged_labels_as_if_they_had_been_spelled_alike(cache):
    features, labels = cache
    clean = train_head(features, **SHORT)
    merged = train_head(features, annotations=labels, merge_labels=True, **SHORT)
    assert merged.head.classes == NAMES
    for figure in ("k", "n", "loss", "top1"):
        assert merged.metrics[figure] == clean.metrics[figure]
    assert merged.metrics["coverage"]["class_counts"] == dict.fromkeys(NAMES, 12)
    assert any("'class 0' (10) and 'Class 0' (1) and 'class  0' (1)" in note for note in merged.metrics["notes"])
    assert len(train_head(features, annotations=labels, **SHORT).head.classes) == 9


def test_the_labels_of_a_feature_file_are_merged_too(tmp_path):
    rows = [np.random.default_rng(n).standard_normal((2, 4)) for n in range(5)]
    features = write_cache(tmp_path / "f.h5", rows, [0, 1, 2, 2, -1], ["A", "B", "a"])
    found = label_features(features, merge_labels=True)
    assert (found.classes, found.labels.tolist()) == (("B", "a"), [1, 0, 1, 1, -1])
    assert "'a' (2) and 'A' (1)" in found.notes[0]
    assert label_features(features).notes[0].endswith("--merge-labels makes them one.")


@pytest.mark.slow
def test_comparisons_take_the_option_and_say_what_it_did(cache, tmp_path):
    features, labels = cache
    options = {"annotations": labels, "merge_labels": True, "seeds": 2, **SHORT}
    table = ablate(features, tmp_path / "table", heads=["mean"], **options)
    assert table.metrics["coverage"]["class_counts"] == dict.fromkeys(NAMES, 12)
    backbones = compare_features([features, features.path], tmp_path / "backbones", head="mean", **options)
    for found in (table, backbones):
        assert not found.failed
        assert sum("'class 0' (10) and 'Class 0' (1)" in note for note in found.metrics["notes"]) == 1


@pytest.mark.slow
def test_a_head_of_merged_labels_is_judged_on_all_spellings(cache):
    features, labels = cache
    head = train_head(features, annotations=labels, merge_labels=True, **SHORT).head
    found = evaluate_head(head, features, annotations=labels, subset="all")
    assert (found["n"], found["unknown_class"]) == (36, 0)
    assert any("as the head spells them: 'Class 0' as 'class 0', " in note for note in found["notes"])
    several = read_annotations(labels, multi_label=True)
    assert evaluate_head(head, features, annotations=several, subset="all", multi_label=True)["n"] == 36


@pytest.mark.slow
def test_extraction_warns_before_the_work_and_merges_a_finished_file(tmp_path, invoke):
    for name in ("jump/a.avi", "jump/b.avi", "Jump/c.avi", "run/d.avi"):
        videos.write_video(tmp_path / "v" / name, 17)
    command = ["extract", tmp_path / "v", tmp_path / "f.h5", "--backbone", TINY]
    code, out, err = invoke(*command)
    assert code == 0
    for text in (out, err):
        assert "'jump' (2) and 'Jump' (1). --merge-labels makes them one." in text
    assert "3 classes: Jump (1), jump (2), run (1)\n" in out
    code, out, _ = invoke(*command, "--merge-labels", "--json")
    facts = json.loads(out)
    assert (code, facts["extracted"], facts["class_counts"]) == (0, 0, {"jump": 3, "run": 1})
    assert "commonest spelling: 'jump' (2) and 'Jump' (1)." in facts["notes"][0]
    assert FeatureFile(tmp_path / "f.h5").classes == ["jump", "run"]
    extract(tmp_path / "v", tmp_path / "python.h5", merge_labels=True)
    assert FeatureFile(tmp_path / "python.h5").labels.tolist() == FeatureFile(tmp_path / "f.h5").labels.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train-head", "ablate", "compare"])
def test_the_commands_have_the_option(command, cache, tmp_path, invoke):
    features, labels = cache
    options = ["--annotations", labels, "--seeds", "1", "--epochs", "1", "--head", "mean", "--json"]
    code, out, err = invoke(command, features.path, "-o", tmp_path / "run", "--merge-labels", *options)
    assert code == 0, err
    assert any("taken as one" in note for note in json.loads(out)["notes"])


def test_no_label_at_all_shows_a_name_of_each_side(cache, tmp_path):
    features, _ = cache
    (tmp_path / "other.csv").write_text("path,label\nwalk/01.avi,walk\nrun/02.avi,run\n")
    with pytest.raises(AnnotationError, match="0 of 36 videos have a label, of 0 classes; it names") as caught:
        label_features(features, tmp_path / "other.csv")
    assert "it names 'walk/01.avi', and the videos are called 'v0000.mp4'; two classes" in str(caught.value)
    bare = write_cache(tmp_path / "bare.h5", [np.ones((1, 4))], [-1], [])
    with pytest.raises(AnnotationError, match=r"0 of 1 videos have a label, of 0 classes, such as 'v0000\.mp4';"):
        label_features(bare)
