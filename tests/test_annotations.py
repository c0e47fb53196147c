"""Annotation files in every known format, and finding the videos that they name."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from gcf.data.annotations import Annotation, Annotations, label_videos, read_annotations
from gcf.errors import AnnotationError, UsageError


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


# ---- CSV


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("path_column", ["path", "video", "id", "name"])
def test_a_csv_gives_label_subset_and_group_whatever_its_path_column_is_called(tmp_path, encoding, path_column):
    text = f'Label,{path_column},subset,group\r\n"jumping, high",dir/a b.mp4,training,7\ndébarquer,"c.avi",,\n\n'
    found = read_annotations(write(tmp_path / "x.csv", text, encoding))
    assert found.videos == {
        "dir/a b.mp4": Annotation("jumping, high", "train", "7"),
        "c.avi": Annotation("débarquer", "", ""),
    }
    assert found.classes == ("débarquer", "jumping, high")
    assert found.splits == {}
    assert found.notes == ()


def test_every_subset_word_has_one_meaning(tmp_path):
    words = ["train", "Training", "val", "validation", "validate", "test", "testing", ""]
    rows = "".join(f"{i}.mp4,a,{word}\n" for i, word in enumerate(words))
    found = read_annotations(write(tmp_path / "x.csv", "path,label,subset\n" + rows))
    assert [a.subset for a in found.videos.values()] == ["train", "train", "val", "val", "val", "test", "test", ""]


def test_an_empty_label_is_a_video_without_label_and_a_repeated_row_is_one_row(tmp_path):
    found = read_annotations(write(tmp_path / "x.csv", "path,label\na.mp4,\nb.mp4,run\nb.mp4,run\n"))
    assert found.videos == {"a.mp4": Annotation(None), "b.mp4": Annotation("run")}
    assert found.classes == ("run",)


def test_columns_that_are_not_used_are_named(tmp_path):
    found = read_annotations(write(tmp_path / "x.csv", "path,label,fps,fold\na.mp4,run,25,3\n"))
    assert len(found.notes) == 1
    assert "fps, fold" in found.notes[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a.mp4,run\nb.mp4,walk\n", ["line 1", "'a.mp4,run'", "expected path,label"]),
        ("path;label\na.mp4;run\n", ["line 1", "path;label", "separated by commas"]),
        ("path,class\na.mp4,run\n", ["line 1", "expected path,label"]),
        ("path,label\na.mp4,run\nb.mp4\n", ["line 3", "1 fields, expected 2"]),
        ("path,label\na.mp4,run,fast\n", ["line 2", "3 fields, expected 2"]),
        ("path,label,subset\na.mp4,run,trian\n", ["line 2", "'trian'", "validation"]),
        ("path,label\na.mp4,run\nb.mp4,run\na.mp4,walk\n", ["line 4", "'a.mp4'", "'walk'", "'run'", "line 2"]),
        ("path,label,group\na.mp4,run,1\na.mp4,run,2\n", ["line 3", "group '2' against '1'"]),
        ("path,label\n,run\n", ["line 2", "no path"]),
        ("path,name,label\na,b,run\n", ["line 1", "path, name", "keep one"]),
        ('path,label\n"a.mp4,run\n', ["line 2", "unexpected end"]),
        ("", ["is empty"]),
        ("\n\n", ["is empty"]),
        ("label,youtube_id,time_start,split\n", ["line 1", "time_end"]),
        ("label,youtube_id,time_start,time_end,split\nrun,abc,x,9,train\n", ["line 2", "time_start", "'x'", "seconds"]),
        ("label,youtube_id,time_start,time_end,split\nrun,abc,1.5,9,train\n", ["line 2", "time_start", "'1.5'"]),
        ("label,youtube_id,time_start,time_end,split\nrun,,1,9,train\n", ["line 2", "no youtube_id"]),
        ("label,youtube_id,time_start,time_end,split\nrun,abc,1,9,holdout\n", ["line 2", "'holdout'"]),
    ],
)
def test_a_wrong_csv_is_refused_with_file_line_finding_and_expectation(tmp_path, text, said):
    path = write(tmp_path / "bad.csv", text)
    with pytest.raises(AnnotationError) as caught:
        read_annotations(path)
    for words in [str(path), *said]:
        assert words in str(caught.value)


def test_text_that_is_not_utf8_is_refused_with_its_line(tmp_path):
    path = write(tmp_path / "latin.csv", "path,label\na.mp4,run\nb.mp4,café\n", "latin-1")
    with pytest.raises(AnnotationError, match=r"line 3: byte 0xe9 is not UTF-8"):
        read_annotations(path)


def test_a_path_that_holds_no_annotations_is_refused(tmp_path):
    with pytest.raises(AnnotationError, match="No such file"):
        read_annotations(tmp_path / "absent.csv")
    with pytest.raises(AnnotationError, match=r"no annotation files.*expected classInd"):
        read_annotations(tmp_path)
    with pytest.raises(AnnotationError, match="not a regular file"):
        read_annotations("/dev/null")


def test_a_split_of_a_format_that_publishes_none_is_refused(tmp_path):
    for name, text in [("x.csv", "path,label\na,b\n"), ("x.json", '{"database": {}}')]:
        with pytest.raises(AnnotationError, match="no splits to choose from"):
            read_annotations(write(tmp_path / name, text), split="1")


# ---- Kinetics


KINETICS = "label,youtube_id,time_start,time_end,split,is_cc\n"


def test_kinetics_rows_find_cut_files_and_whole_films(tmp_path):
    rows = [
        '"air drumming",-_dbcJuKJQN,40,50,val,0',
        "abseiling,--3B32lodo2,0,10,train,0",
        "abseiling,gone,5,15,test,0",
    ]
    found = read_annotations(write(tmp_path / "val.csv", KINETICS + "\n".join(rows)))
    assert list(found.videos) == ["-_dbcJuKJQN_000040_000050", "--3B32lodo2_000000_000010", "gone_000005_000015"]
    assert found.notes == ()
    labelling = label_videos(["abseiling/--3B32lodo2.mp4", "x/-_dbcJuKJQN_000040_000050.mkv", "x/other.mp4"], found)
    assert [labelling.classes[i] for i in labelling.labels[:2]] == ["abseiling", "air drumming"]
    assert labelling.subsets == ("train", "val", "")
    assert labelling.missing == ("gone_000005_000015",)
    assert labelling.unlabelled == ("x/other.mp4",)


def test_a_folder_of_kinetics_files_is_read_whole(tmp_path):
    write(tmp_path / "train.csv", KINETICS + "run,aaaaaaaaaaa,0,10,train,0\n")
    write(tmp_path / "test.csv", "youtube_id,time_start,time_end,split\nbbbbbbbbbbb,0,10,test\n")
    assert list(read_annotations(tmp_path).videos.values()) == [Annotation(None, "test"), Annotation("run", "train")]
    write(tmp_path / "classes.csv", "id,name\n0,run\n")
    with pytest.raises(AnnotationError, match=r"classes\.csv: line 1: no Kinetics header"):
        read_annotations(tmp_path)


# ---- UCF-101


CLASSES = ("ApplyEyeMakeup", "Archery", "HandstandPushups")
UCF101_TESTS = {1: range(1, 8), 2: range(8, 15), 3: range(15, 22)}  # the groups of the published test lists


def ucf101_names() -> list[str]:
    return [f"{c}/v_{c}_g{g:02d}_c{k:02d}.avi" for c in CLASSES for g in range(1, 26) for k in (1, 2)]


def group_number(name: str) -> int:
    return int(name.split("_g")[1][:2])


@pytest.fixture
def ucf101(tmp_path) -> Path:
    folder = tmp_path / "ucfTrainTestlist"
    write(folder / "classInd.txt", "".join(f"{i} {c}\r\n" for i, c in enumerate(CLASSES, start=1)))
    for split, tests in UCF101_TESTS.items():
        test = [n for n in ucf101_names() if group_number(n) in tests]
        train = [f"{n} {CLASSES.index(n.split('/')[0]) + 1}" for n in ucf101_names() if group_number(n) not in tests]
        write(folder / f"trainlist0{split}.txt", "\n".join(train) + "\n")
        write(folder / f"testlist0{split}.txt", "\n".join(test) + "\n")
    write(folder / "README.txt", "not a list")
    return folder


@pytest.mark.parametrize(("given", "split", "tested"), [
    (".", None, 1), (".", "2", 2), (".", "03", 3), ("testlist02.txt", None, 2), ("trainlist02.txt", "3", 3),
    ("classInd.txt", None, 1),
])  # fmt: skip
def test_ucf101_lists_give_the_chosen_split_and_keep_all(ucf101, given, split, tested):
    found = read_annotations(ucf101 / given, split=split)
    assert found.classes == CLASSES
    assert set(found.videos) == set(ucf101_names())
    assert list(found.splits) == ["1", "2", "3"]
    for name, annotation in found.videos.items():
        assert annotation.label == name.split("/")[0]
        assert annotation.subset == found.splits[str(tested)][name]
        for number, tests in UCF101_TESTS.items():
            assert found.splits[str(number)][name] == ("test" if group_number(name) in tests else "train")


def test_ucf101_groups_come_from_the_names_and_flat_copies_with_another_ending_are_found(ucf101):
    ids = sorted(n.split("/")[1].replace(".avi", ".mp4") for n in ucf101_names())
    labelling = label_videos(ids, read_annotations(ucf101))
    assert labelling.missing == labelling.unlabelled == ()
    assert labelling.groups == tuple(f"g{group_number(i):02d}" for i in ids)
    assert list(labelling.splits) == ["1", "2", "3"]
    assert labelling.splits["1"] == labelling.subsets
    assert labelling.splits["3"] == tuple("test" if 15 <= group_number(i) <= 21 else "train" for i in ids)


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("classInd.txt", None, ["no classInd.txt"]),
        ("classInd.txt", "1 Archery\nArchery\n", ["classInd.txt: line 2", "'Archery'", "expected a number"]),
        ("classInd.txt", "1 Archery\n1 Bowling\n", ["classInd.txt: line 2", "repeats"]),
        ("testlist02.txt", None, ["split 2", "testlist02.txt"]),
        ("trainlist01.txt", "Archery/v_Archery_g08_c01.avi 9\n", ["trainlist01.txt: line 1", "index 9", "1 to 3"]),
        (
            "trainlist01.txt",
            "Archery/v_Archery_g08_c01.avi 1\n",
            ["trainlist01.txt: line 1", "is ApplyEyeMakeup, but the folder says Archery"],
        ),
        ("testlist01.txt", "\nSurfing/v_Surfing_g01_c01.avi\n", ["testlist01.txt: line 2", "'Surfing", "an index"]),
        ("testlist01.txt", "Archery/v_Archery_g08_c01.avi\n", ["testlist01.txt: line 1", "two subsets"]),
    ],
)
def test_wrong_ucf101_lists_are_refused(ucf101, file, text, said):
    (ucf101 / file).unlink() if text is None else write(ucf101 / file, text)
    with pytest.raises(AnnotationError) as caught:
        read_annotations(ucf101)
    for words in said:
        assert words in str(caught.value)


def test_a_split_that_does_not_exist_is_refused_with_those_that_do(ucf101):
    with pytest.raises(AnnotationError, match=r"no split '4'; published here: 1, 2, 3"):
        read_annotations(ucf101, split="4")


def test_a_folder_with_the_lists_of_two_data_sets_wants_to_know_which(ucf101):
    write(ucf101 / "wave_test_split1.txt", "a.avi 1\n")
    with pytest.raises(AnnotationError, match="UCF-101 and HMDB-51"):
        read_annotations(ucf101)
    assert read_annotations(ucf101 / "classInd.txt").classes == CLASSES
    assert read_annotations(ucf101 / "wave_test_split1.txt").classes == ("wave",)


# ---- HMDB-51


@pytest.fixture
def hmdb51(tmp_path) -> Path:
    folder = tmp_path / "testTrainMulti_7030_splits"
    for c in ("brush_hair", "wave"):
        write(folder / f"{c}_test_split1.txt", f"x_{c}_u_0.avi 1 \n(y)_{c}_u_0.avi 2 \nz!_{c}_u_0.avi 0 \n")
        write(folder / f"{c}_test_split2.txt", f"x_{c}_u_0.avi 2 \n(y)_{c}_u_0.avi 0 \nz!_{c}_u_0.avi 1 \n")
    return folder


@pytest.mark.parametrize(("given", "split", "subsets"), [
    (".", None, ("train", "test", "")), (".", "2", ("test", "", "train")),
    ("wave_test_split2.txt", None, ("test", "", "train")),
])  # fmt: skip
def test_hmdb51_lists_know_every_label_and_leave_out_what_is_marked_0(hmdb51, given, split, subsets):
    found = read_annotations(hmdb51 / given, split=split)
    assert found.classes == ("brush_hair", "wave")
    ids = ["wave/x_wave_u_0.avi", "wave/(y)_wave_u_0.avi", "wave/z!_wave_u_0.avi", "brush_hair/x_brush_hair_u_0.avi"]
    labelling = label_videos(ids, found)
    assert labelling.labels.tolist() == [1, 1, 1, 0]
    assert labelling.subsets[:3] == subsets
    assert labelling.splits == {"1": ("train", "test", "", "train"), "2": ("test", "", "train", "test")}
    assert set(map(len, found.splits.values())) == {4}
    assert "leaves out 2 of 6 videos" in found.notes[0]


def test_wrong_hmdb51_lists_are_refused(hmdb51):
    with pytest.raises(AnnotationError, match=r"no split '3'; published here: 1, 2"):
        read_annotations(hmdb51, split="3")
    write(hmdb51 / "wave_test_split2.txt", "x_wave_u_0.avi 2\ny_wave_u_0.avi 3\n")
    with pytest.raises(AnnotationError, match=r"wave_test_split2\.txt: line 2: 'y_wave_u_0.avi 3'; expected"):
        read_annotations(hmdb51)
    (hmdb51 / "wave_test_split2.txt").unlink()
    with pytest.raises(AnnotationError, match=r"no wave_test_split2\.txt"):
        read_annotations(hmdb51)


# ---- JSON


def test_activitynet_json_gives_one_label_per_video_and_says_where_there_are_several(tmp_path):
    def entry(subset, *labels):
        return {
            "subset": subset,
            "duration": float("nan"),
            "annotations": [{"label": x, "segment": [0, 9]} for x in labels],
        }

    database = {
        "one": entry("training", "Surfing"),
        "same": entry("validation", "Archery", "Archery"),
        "two": entry("training", "Surfing", "Archery"),
        "none": entry("testing"),
    }
    found = read_annotations(write(tmp_path / "anet", json.dumps({"version": "1.3", "database": database})))
    assert found.classes == ("Archery", "Surfing")
    assert found.videos == {
        "one": Annotation("Surfing", "train"),
        "same": Annotation("Archery", "val"),
        "two": Annotation(None, "train"),
        "none": Annotation(None, "test"),
    }
    assert len(found.notes) == 1
    assert "1 videos show several classes and are left unlabelled: two" in found.notes[0]
    assert label_videos(["one.mp4", "two.mp4", "none.mp4"], found).unlabelled == ("two.mp4", "none.mp4")


def test_json_with_a_list_of_labels_keeps_its_order(tmp_path):
    database = {
        "v_Run_g01_c01": {"subset": "training", "annotations": {"label": "Run"}},
        "v_Jog_g02_c01": {"subset": "validation", "annotations": {"label": "Jog", "segment": [1, 9]}},
    }
    path = write(tmp_path / "ucf101_01.json", json.dumps({"labels": ["Walk", "Run", "Jog"], "database": database}))
    labelling = label_videos(["Jog/v_Jog_g02_c01.avi", "Run/v_Run_g01_c01.avi"], read_annotations(path))
    assert labelling.classes == ("Walk", "Run", "Jog")
    assert labelling.labels.tolist() == [2, 1]
    assert labelling.subsets == ("val", "train")
    assert labelling.groups == ("g02", "g01")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"database": {\n"a": }}', ["line 2", "expected {"]),
        ("[1, 2]", ["no object 'database'"]),
        ('{"a": {"subset": "train"}}', ["no object 'database'"]),
        ('{"database": {"a": 3}}', ["database['a']", "3", "expected {"]),
        ('{"database": {"a": {"annotations": 3}}}', ["database['a']", "'annotations' is 3"]),
        ('{"database": {"a": {"annotations": {"label": 3}}}}', ["database['a']", "3 where a text"]),
        ('{"database": {"a": {"subset": "trian"}}}', ["database['a']", "'trian'"]),
        (
            '{"labels": ["x"], "database": {"a": {"annotations": {"label": "y"}}}}',
            ["database['a']", "'y'", "1 'labels'"],
        ),
        ('{"labels": ["x", "x"], "database": {}}', ["'labels'", "different names"]),
        ('{"database": {"a": {"subset": "train"}, "a": {"subset": "test"}}}', ["'a' occurs twice"]),
        ("[" * 100_000, ["cannot be read as JSON"]),
    ],
)
def test_wrong_json_is_refused_with_file_key_finding_and_expectation(tmp_path, text, said):
    path = write(tmp_path / "bad.json", text)
    with pytest.raises(AnnotationError) as caught:
        read_annotations(path)
    for words in [str(path), *said]:
        assert words in str(caught.value)


# ---- folders and groups


def test_folder_names_give_class_and_subset():
    ids = ["train/run/a.mp4", "Validation/run/b.mp4", "test/sports/walk/c.mp4", "testing/d.mp4", "e.mp4"]
    labelling = label_videos(ids)
    assert labelling.classes == ("run", "walk")
    assert labelling.labels.dtype == np.int32
    assert labelling.labels.tolist() == [0, 0, 1, -1, -1]
    assert labelling.subsets == ("train", "val", "test", "test", "")
    assert labelling.unlabelled == ("testing/d.mp4", "e.mp4")
    assert labelling.missing == ()
    assert labelling.groups == ("",) * 5


def test_the_folder_right_above_names_the_class_however_deep():
    labelling = label_videos(["set1/walk/a.mp4", "set2/run/b.mp4", "jump/c.mp4"])
    assert [labelling.classes[i] for i in labelling.labels] == ["walk", "run", "jump"]
    assert labelling.subsets == ("", "", "")


NESTED = ["train/jump/s01/a.mp4", "train/run/s01/b.mp4", "test/run/s02/c.mp4", "test/d.mp4"]


@pytest.mark.parametrize(
    ("level", "classes", "labels"),
    [
        ("1", ("jump", "run"), [0, 1, 1, -1]),
        (1, ("jump", "run"), [0, 1, 1, -1]),
        ("last", ("s01", "s02"), [0, 0, 1, -1]),
    ],
)
def test_the_class_level_says_which_folder_below_the_subset_names_the_class(level, classes, labels):
    labelling = label_videos(NESTED, class_level=level)
    assert (labelling.classes, labelling.labels.tolist()) == (classes, labels)
    assert labelling.subsets == ("train", "train", "test", "test")


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (NESTED, ["'s01' lies below 'jump' and 'run'", "'train/run/s01/b.mp4' is of 'run' or of 's01'"]),
        (["set1/walk/a.mp4", "set2/walk/b.mp4"], ["'walk' lies below 'set1' and 'set2'"]),
        (["walk/a.mp4", "more/walk/b.mp4"], ["'walk' lies below 'more' and '.'", "1 classes, walk (2)"]),
        (["a/x/s/1.mp4", "a/y/s/2.mp4"], ["'s' lies below 'a/x' and 'a/y'", "1 classes, a (2)", "1 classes, s (2)"]),
    ],
)
def test_folders_that_name_the_classes_in_two_ways_are_refused_with_both(ids, said):
    with pytest.raises(UsageError) as caught:
        label_videos(sorted(ids))
    for text in [*said, "--class-level 1", "--class-level last"]:
        assert text in str(caught.value)


def test_both_readings_of_the_folders_name_their_classes():
    with pytest.raises(UsageError) as caught:
        label_videos(NESTED)
    for text in ("first folder 2 classes, jump (1), run (2) (", "last 2 classes, s01 (2), s02 (1) ("):
        assert text in str(caught.value)


@pytest.mark.parametrize(
    "ids",
    [
        ["jump/s01/a.mp4", "jump/s02/b.mp4", "run/s03/c.mp4"],  # each folder of videos has a name of its own
        ["train/jump/a.mp4", "val/jump/b.mp4", "Testing/jump/c.mp4"],  # subsets are no parents
        ["train/x/jump/a.mp4", "test/x/jump/b.mp4"],
        ["ucf/jump/a.mp4", "ucf/run/b.mp4", "c.mp4"],
    ],
)
def test_ordinary_folders_are_not_refused(ids):
    last = [video.split("/")[-2] if "/" in video else None for video in ids]
    labelling = label_videos(ids)
    assert [labelling.classes[k] if k >= 0 else None for k in labelling.labels] == last


def test_a_class_level_that_makes_no_sense_is_refused():
    for level in ("2", 0, "first"):
        with pytest.raises(UsageError, match="class_level is 1 or last, not"):
            label_videos(["a/b.mp4"], class_level=level)
    with pytest.raises(UsageError, match="so do the annotations: give one of them"):
        label_videos(["a/b.mp4"], Annotations("x", ("a",), {"a/b.mp4": Annotation("a")}), class_level="last")


def test_a_class_called_train_among_other_classes_stays_a_class():
    labelling = label_videos(["bus/a.mp4", "train/b.mp4"])
    assert labelling.classes == ("bus", "train")
    assert labelling.subsets == ("", "")


def test_groups_of_ucf101_names_count_only_where_the_annotations_give_none():
    ids = ["Archery/v_Archery_g07_c03.avi", "Archery/v_Archery_g25_c01.mp4", "Archery/other_g07_c03.avi"]
    assert label_videos(ids).groups == ("g07", "g25", "")
    given = Annotations("x", ("A",), {ids[0]: Annotation("A", "", "night"), ids[1]: Annotation("A")})
    assert label_videos(ids, given).groups == ("night", "", "")


# ---- real labels


def test_the_labels_of_ut_interaction_are_read_as_a_spreadsheet_reads_them(real):
    folder = real / "ut_interaction"
    found = read_annotations(folder / "labels.csv")
    with (folder / "labels.csv").open(newline="") as file:
        rows = {row["path"]: Annotation(row["label"], "", row["group"]) for row in csv.DictReader(file)}
    assert found.videos == rows
    ids = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.avi"))
    for root in ("", "set1/"):
        labelling = label_videos([i.removeprefix(root) for i in ids], found)
        assert labelling.missing == labelling.unlabelled == ()
        assert np.bincount(labelling.labels).tolist() == [10] * 6
        assert sorted(set(labelling.groups), key=int) == [str(n) for n in range(1, 11)]


def test_the_eight_real_videos_are_all_labelled(real):
    ids = sorted(path.name for path in (real / "videos").iterdir() if path.suffix != ".csv")
    labelling = label_videos(ids, read_annotations(real / "videos" / "labels.csv"))
    assert labelling.missing == labelling.unlabelled == ()
    assert sorted(labelling.labels.tolist()) == list(range(8))
    assert labelling.classes[labelling.labels[ids.index("k400_archery.mp4")]] == "archery"
