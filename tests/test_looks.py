import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from caches import RECIPE, easy_cache, write_cache
from measured import write_truth

from gcf.data import looks
from gcf.data.annotations import Annotation, Annotations
from gcf.data.looks import record_look
from gcf.explain.localize import localize_videos
from gcf.head.evaluate import evaluate_head
from gcf.head.training import train_head

ONE = {"a": ["run"]}


def lines(path):
    return path.with_name(path.name + ".looks.jsonl").read_text().splitlines()


def test_looks_at_one_test_set_are_counted_whatever_the_order(tmp_path):
    features = tmp_path / "f.h5"
    assert record_look(features, {"a": ["x", "y"], "b": ["x"], "c": ["y"]}, what="gcf ablate") == 1
    assert record_look(features, {"a": ["x", "y"], "b": ["x"]}, what="gcf train-head") == 1
    again = {"c": ["y"], "a": ["y", "x"], "b": ["x"]}
    assert record_look(str(features), again, what="gcf eval") == 2
    found = [json.loads(line) for line in lines(features)]
    assert [entry["what"] for entry in found] == ["gcf ablate", "gcf train-head", "gcf eval"]
    assert [entry["videos"] for entry in found] == [3, 2, 3]
    assert found[0]["test_set"] == found[2]["test_set"] != found[1]["test_set"]
    assert set(found[0]) == {"test_set", "videos", "what", "gcf"}  # no time of day


def test_other_videos_or_labels_are_another_test_set_and_another_spelling_is_not(tmp_path):
    names = [["ab", "c"], ["a", "bc"], ["abc"], ["caf\udce9.avi"]]  # run together, or not UTF-8
    sets = [dict.fromkeys(ids, ("run",)) for ids in names]
    sets += [{"abc": ["sit"]}, {"abc": ["run", "sit"]}, {"abc": ["runsit"]}, {"abc": []}]
    assert [record_look(tmp_path / "f.h5", found, what="x") for found in sets] == [1] * len(sets)
    assert record_look(tmp_path / "f.h5", sets[3], what="x") == 2
    assert record_look(tmp_path / "f.h5", {"abc": ["Sit ", " ru n"]}, what="x") == 2
    unmerged = {"abc": ["run", "Run"]}
    assert record_look(tmp_path / "f.h5", unmerged, what="x") == 2
    assert record_look(tmp_path / "f.h5", {}, what="x") is None


def test_a_copy_elsewhere_under_another_name_goes_on_by_the_home(tmp_path, home_of_test):
    for _ in range(2):
        record_look(tmp_path / "f.h5", ONE, what="x")
    (tmp_path / "elsewhere").mkdir()
    copy = tmp_path / "elsewhere" / "g.h5"
    assert record_look(copy, ONE, what="x") == 3
    assert record_look(None, ONE, what="x") == 4  # no feature file at all
    (ledger,) = (home_of_test / "looks").iterdir()
    entries = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert {entry["test_set"] for entry in entries} == {ledger.stem}
    assert len(entries) == 4
    assert len(lines(copy)) == 1
    assert str(tmp_path) not in ledger.read_text() + "".join(lines(copy))


def test_on_another_machine_the_ledger_beside_the_file_goes_on(tmp_path, monkeypatch):
    for _ in range(3):
        record_look(tmp_path / "f.h5", ONE, what="x")
    monkeypatch.setenv("GCF_HOME", str(tmp_path / "another" / "home"))
    assert record_look(tmp_path / "f.h5", ONE, what="x") == 4
    assert record_look(tmp_path / "g.h5", ONE, what="x") == 2  # what this machine knows


def test_lines_of_earlier_versions_know_the_ids_alone_and_count_whatever_the_labels(tmp_path):
    old = {"test_set": hashlib.sha256(b"a\0b").hexdigest(), "videos": 2, "what": "x", "gcf": "0"}
    (tmp_path / "f.h5.looks.jsonl").write_text(2 * f"{json.dumps(old)}\n")
    assert record_look(tmp_path / "f.h5", {"b": ["sit"], "a": ["run"]}, what="x") == 3
    assert record_look(tmp_path / "f.h5", {"b": ["run"], "a": ["run"]}, what="x") == 3
    assert record_look(tmp_path / "f.h5", ONE, what="x") == 1


def test_a_damaged_line_does_not_count_and_spoils_no_other(tmp_path, home_of_test):
    features = tmp_path / "f.h5"
    record_look(features, ONE, what="x")
    beside, (at_home,) = features.with_name("f.h5.looks.jsonl"), (home_of_test / "looks").iterdir()
    broken = b'\xff\x00[]\n3\n{"videos": 1}\n{"test_set": []}\n{"test_set": "cut sh'
    for ledger in (beside, at_home):
        ledger.write_bytes(ledger.read_bytes() + broken)
    assert record_look(features, ONE, what="x") == 2
    assert record_look(features, ONE, what="x") == 3
    for ledger in (beside, at_home):
        assert json.loads(ledger.read_bytes().splitlines()[-1])["what"] == "x"


def test_where_one_ledger_cannot_be_written_the_other_counts(tmp_path, monkeypatch):
    assert [record_look(tmp_path / "absent" / "f.h5", ONE, what="x") for _ in range(2)] == [1, 2]
    (tmp_path / "f.h5.looks.jsonl").mkdir()
    assert record_look(tmp_path / "f.h5", ONE, what="x") == 3
    (tmp_path / "home").write_text("no folder")
    monkeypatch.setenv("GCF_HOME", str(tmp_path / "home"))
    assert [record_look(tmp_path / "g.h5", ONE, what="x") for _ in range(2)] == [1, 2]


@pytest.mark.parametrize("home", ["file/home", "~nobody-of-this-name/home"])
def test_where_none_can_be_written_there_is_no_count_and_no_error(tmp_path, monkeypatch, home):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GCF_HOME", home)
    assert record_look(tmp_path / "absent" / "f.h5", ONE, what="x") is None
    assert record_look(None, ONE, what="x") is None
    assert not (tmp_path / "absent").exists()


def test_where_nothing_can_be_locked_there_is_no_count(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError("no locks on this file system")

    monkeypatch.setattr(looks.fcntl, "flock", no_locks)
    assert record_look(tmp_path / "g.h5", ONE, what="x") is None


LOOK_OFTEN = """
import sys
from gcf.data.looks import record_look
print(*[record_look(sys.argv[1], {"a": ["run"], "b": []}, what="x" * 3000) for _ in range(300)])
"""


@pytest.mark.slow
@pytest.mark.parametrize("names", [("f.h5", "f.h5"), ("f.h5", "copy.h5")])
def test_two_processes_at_once_lose_no_look_and_count_none_twice(tmp_path, names):
    commands = [[sys.executable, "-c", LOOK_OFTEN, str(tmp_path / name)] for name in names]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    counts = [[int(count) for count in worker.communicate()[0].split()] for worker in workers]
    assert sorted(counts[0] + counts[1]) == list(range(1, 601))
    assert sum(len(lines(tmp_path / name)) for name in set(names)) == 600


def judged(head, features, **options):
    """The count of an evaluation, and the notes that name one."""
    found = evaluate_head(head, features, **options)
    return found["test_looks"], [note for note in found["notes"] if "judged on" in note]


@pytest.fixture
def trained(tmp_path):
    """A feature file, 9 of its 36 videos of test, and a head trained on the others: one look."""
    features = easy_cache(tmp_path / "f.h5")
    run = train_head(features, tmp_path / "run", head="mean", epochs=1)
    assert run.metrics["test_looks"] == 1
    return features, run.head


@pytest.mark.slow
def test_evaluations_count_with_trainings_wherever_a_copy_of_the_file_lies(tmp_path, trained):
    features, head = trained
    assert judged(head, features) == (2, ["These test videos have been judged on 2 times by now."])
    (tmp_path / "elsewhere").mkdir()
    copy = shutil.copy(features.path, tmp_path / "elsewhere" / "g.h5")
    assert judged(head, copy)[0] == 3
    assert judged(head, copy, subset="all")[0] == 4  # the test videos are among them
    assert judged(head, features, subset="test")[0] == 5


@pytest.mark.slow
def test_an_evaluation_of_training_videos_alone_counts_nothing(tmp_path, trained, home_of_test):
    features, head = trained
    assert judged(head, features, subset="train") == (None, [])
    unmarked = easy_cache(tmp_path / "g.h5", subsets=False)
    assert judged(head, unmarked) == (None, [])
    assert len(lines(features.path)) == 1
    assert len(list((home_of_test / "looks").iterdir())) == 1


@pytest.mark.slow
def test_the_same_videos_under_other_labels_are_another_test_set(trained):
    features, head = trained
    names, turned = features.classes, np.roll(features.classes, 1)
    spelled = [name.upper() for name in names]
    counts = []
    for classes in (turned, names, spelled):
        labels = [str(classes[label]) for label in features.labels]
        rows = zip(features.ids, labels, features.subsets, strict=True)
        videos = {name: Annotation(label, subset=subset) for name, label, subset in rows}
        annotations = Annotations("a", tuple(sorted(set(labels))), videos)
        counts.append(judged(head, features, annotations=annotations)[0])
    assert counts == [1, 2, 3]


@pytest.mark.slow
def test_videos_with_several_classes_are_known_by_all_of_them(trained):
    features, head = trained
    counts = []
    for classes in (("class 0",), ("class 0", "class 1"), ("class 0",)):
        videos = {
            name: Annotation.of_classes(classes if subset == "test" else [f"class {n % 3}"], subset)
            for n, (name, subset) in enumerate(zip(features.ids, features.subsets, strict=True))
        }
        several = Annotations("a", ("class 0", "class 1", "class 2"), videos, multi_label=True)
        counts.append(judged(head, features, annotations=several, multi_label=True)[0])
    assert counts == [1, 1, 2]


@pytest.mark.slow
def test_the_published_val_is_the_test_set_where_there_is_no_other(tmp_path):
    rng, labels = np.random.default_rng(0), [n % 2 for n in range(40)]
    rows = [rng.standard_normal((3, 6)) for _ in labels]
    subsets = ["train"] * 30 + ["val"] * 10
    features = write_cache(tmp_path / "f.h5", rows, labels, "ab", subsets=subsets)
    run = train_head(features, head="mean", epochs=1)
    assert run.metrics["test_looks"] == 1
    counts = [judged(run.head, features, subset=name)[0] for name in ("val", "all", "train")]
    assert counts == [2, 3, None]


@pytest.mark.slow
def test_a_head_remembers_that_the_published_val_judged_it_beside_a_test_set(tmp_path):
    rng, labels = np.random.default_rng(0), [n % 2 for n in range(50)]
    rows = [rng.standard_normal((3, 6)) for _ in labels]
    subsets = ["train"] * 30 + ["val"] * 10 + ["test"] * 10
    features = write_cache(tmp_path / "f.h5", rows, labels, "ab", subsets=subsets)
    run = train_head(features, tmp_path / "run", head="mean", epochs=1, judge="val")
    assert run.metrics["test_looks"] == 1
    counts = [judged(tmp_path / "run", features, subset=name)[0] for name in ("val", "test")]
    assert counts == [2, None]
    other = train_head(features, head="mean", epochs=1)
    assert [judged(other.head, features, subset=name)[0] for name in ("val", "test")] == [None, 2]


@pytest.mark.slow
def test_the_command_says_it_in_words_and_in_json(trained, tmp_path, invoke):
    features, _ = trained
    code, out, _ = invoke("eval", tmp_path / "run", features.path)
    assert code == 0
    assert "These test videos have been judged on 2 times by now." in out
    _, out, _ = invoke("eval", tmp_path / "run", features.path, "--json")
    assert json.loads(out)["test_looks"] == 3


def test_after_many_looks_the_note_warns():
    assert looks.looks_notes(None) == looks.looks_notes(1) == []
    assert "partly luck" not in looks.looks_notes(20)[0]
    assert "partly luck" in looks.looks_notes(21)[0]


def in_three_classes(features, path, *, subsets, label="class {}"):
    """A truth of the videos of `easy_cache`: one segment each."""
    rows = zip(features.ids, features.labels.tolist(), subsets, strict=True)
    entries = {name: (subset, [(0.0, 0.5, label.format(k))]) for name, k, subset in rows}
    return write_truth(path, entries)


@pytest.mark.slow
def test_localisations_that_are_measured_on_test_videos_count(tmp_path, trained, invoke):
    features, head = trained
    truth = in_three_classes(features, tmp_path / "t.json", subsets=features.subsets)
    for subset, count in (("test", 2), (None, 3), ("train", None)):
        found = localize_videos(head, features, truth=truth, subset=subset)
        assert found.metrics["test_looks"] == count
        assert ("These test videos have been judged on" in found.describe()) == (count is not None)
    assert localize_videos(head, features).metrics is None  # nothing is judged
    assert [json.loads(line)["what"] for line in lines(features.path)][1:] == ["gcf localize"] * 2
    places = [tmp_path / "run", features.path, "-o", tmp_path / "seen"]
    code, out, _ = invoke("localize", *places, "--truth", truth)
    assert code == 0
    assert "These test videos have been judged on 4 times by now." in out
    saved = json.loads((tmp_path / "seen" / "localization.json").read_text())
    assert saved["metrics"]["test_looks"] == 4
    assert "judged on 4 times" in saved["measured"]


@pytest.mark.slow
def test_a_truth_without_subsets_or_of_other_segments_leaves_the_files_test_set(tmp_path, trained):
    features, head = trained
    whole = in_three_classes(features, tmp_path / "t.json", subsets=[""] * 36)
    assert localize_videos(head, features, truth=whole).metrics["test_looks"] == 2
    subsets = {"subsets": features.subsets, "label": "CLASS {}"}
    other = in_three_classes(features, tmp_path / "u.json", **subsets)
    content = json.loads(other.read_text())
    one_more = {"label": "class 2", "segment": [0.5, 1.0]}
    content["database"]["v0000.mp4"]["annotations"].append(one_more)
    other.write_text(json.dumps(content))
    assert localize_videos(head, features, truth=other).metrics["test_looks"] == 3


@pytest.mark.slow
def test_where_the_file_has_no_labels_the_segments_name_the_classes(tmp_path, trained):
    features, head = trained
    truth = in_three_classes(features, tmp_path / "t.json", subsets=features.subsets)
    rows = [features.video(n).descriptors for n in range(36)]
    bare = write_cache(tmp_path / "g.h5", rows, [-1] * 36, [], recipe=RECIPE)
    assert localize_videos(head, bare, truth=truth).metrics["test_looks"] == 2
    assert evaluate_head(head, bare, annotations=truth)["test_looks"] == 3


def test_no_test_writes_into_the_home_of_whoever_runs_it(home_of_test):
    assert Path(os.environ["GCF_HOME"]) == home_of_test
    inside = [sys.executable, "-c", "from gcf.data.home import home_folder; print(home_folder())"]
    assert subprocess.check_output(inside, text=True).strip() == str(home_of_test)
    assert not (home_of_test / "looks").exists()
