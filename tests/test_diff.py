import json

import h5py
import numpy as np
import pytest
from caches import one_video, write_cache
from compare import FLOAT64_FORWARD, relative_error

import gcf.cli
from gcf import diff_features
from gcf.data import compared
from gcf.data.compared import ClipPlace
from gcf.data.schema import FeatureContent, id_key
from gcf.data.writer import write_features

pytestmark = pytest.mark.slow

RECIPE = {"backbone": "none", "crop": 8, "versions": {"gcf": "0"}}
COUNTS = (1, 3, 2)  # clips of the videos: row 0, rows 1 to 3, rows 4 to 5


def arrays(seed=0, *, views=2, width=20, counts=COUNTS):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(c, views, width)).astype(np.float16) for c in counts]


def written(path, videos=None, **changes):
    videos = arrays() if videos is None else videos
    content = {
        "labels": [0, 1, -1],
        "classes": ["jump", "run"],
        "logits": [v[:, 0, :4] for v in videos],
        "backbone_classes": list("wxyz"),
        "subsets": ["train", "train", "test"],
        "groups": ["g1", "g1", "g2"],
        "failures": [("broken.mp4", "empty")],
        "recipe": RECIPE,
    }
    return write_cache(path, videos, **content | changes).path


@pytest.fixture
def a(tmp_path):
    return written(tmp_path / "a.h5")


def altered(path, *changes):
    written(path)
    with h5py.File(path, "a") as h5:
        for name, index, value in changes:
            h5[name][index] = value
    return path


def told(found):
    """The topics that a difference has lines on."""
    topics = "recipe incidental only_a only_b failures classes labels subsets groups facts clips".split()
    rows = [name for name in ("descriptors", "logits") if not getattr(found, name).same]
    return {topic for topic in topics if getattr(found, topic)} | set(rows)


@pytest.mark.slow
def test_a_file_says_the_same_as_itself_and_its_twin(a, tmp_path):
    for b in (a, written(tmp_path / "b.h5")):
        found = diff_features(a, b)
        assert found.same
        assert told(found) == set()
        assert (found.videos, found.descriptors.clips, found.logits.clips) == (3, 6, 6)
        assert len(found.describe().splitlines()) == 1


def test_one_changed_value_is_named_with_its_video_clip_and_view(a, tmp_path):
    found = diff_features(a, altered(tmp_path / "b.h5", ("descriptors", (3, 1, 7), 100)))
    assert told(found) == {"descriptors"}
    rows = found.descriptors
    assert (rows.clips, rows.differing, rows.videos, rows.not_finite) == (6, 1, 1, 0)
    place = ClipPlace("v0001.mp4", 2, 1)
    assert (rows.absolute.at, rows.relative.at, rows.cosine.at) == (place, place, place)
    one = arrays()[1][2, 1].astype(np.float64)
    other = one.copy()
    other[7] = 100
    expected = [100 - one[7], (100 - one[7]) / 100, one @ other / np.sqrt((one @ one) * (other @ other))]
    values = [rows.absolute.value, rows.relative.value, rows.cosine.value]
    assert relative_error(values, expected) < FLOAT64_FORWARD
    assert "'v0001.mp4' clip 2 view 1" in found.describe()


def test_each_measure_names_its_own_worst_row(tmp_path):
    base = [np.array([[1000.0, 0.0], [1.0, 1.0], [8.0, 8.0]])]
    changed = [np.array([[1008.0, 0.0], [0.5, 0.5], [8.0, 2.0]])]
    for name, videos in (("a.h5", base), ("b.h5", changed)):
        write_cache(tmp_path / name, videos, [-1], [])
    rows = diff_features(tmp_path / "a.h5", tmp_path / "b.h5").descriptors
    assert (rows.absolute.at.clip, rows.absolute.value) == (0, 8.0)
    assert (rows.relative.at.clip, rows.relative.value) == (2, 0.75)
    assert rows.cosine.at.clip == 2


@pytest.mark.parametrize("rows", [([-8.0, 1.0], [-4.0, 1.0]), ([4.0, 1.0], [8.0, 1.0])])
def test_the_relative_difference_is_of_the_largest_magnitude(rows, tmp_path):
    names = [tmp_path / "a.h5", tmp_path / "b.h5"]
    for name, row in zip(names, rows, strict=True):
        write_cache(name, [np.array([row])], [-1], [])
    assert [diff_features(*order).descriptors.relative.value for order in (names, names[::-1])] == [0.5, 0.5]


def test_a_row_of_zeros_against_another_has_cosine_zero(tmp_path):
    for name, row in (("a.h5", [0.0, 0.0]), ("b.h5", [3.0, 4.0])):
        write_cache(tmp_path / name, [np.array([row])], [-1], [])
    rows = diff_features(tmp_path / "a.h5", tmp_path / "b.h5").descriptors
    assert (rows.absolute.value, rows.relative.value, rows.cosine.value) == (4.0, 1.0, 0.0)


def test_one_changed_logit_is_named_without_a_view(a, tmp_path):
    found = diff_features(a, altered(tmp_path / "b.h5", ("logits", (5, 3), -50)))
    assert told(found) == {"logits"}
    assert found.logits.absolute.at == ClipPlace("v0002.mp4", 1, None)
    assert (found.logits.differing, found.logits.clips) == (1, 6)


def test_values_that_are_not_finite_are_counted_and_left_out_of_the_extremes(a, tmp_path):
    b = altered(tmp_path / "b.h5", ("descriptors", (0, 0, 0), np.nan), ("descriptors", (4, 0, 0), np.inf))
    rows = diff_features(a, b).descriptors
    assert (rows.differing, rows.videos, rows.not_finite, rows.absolute) == (2, 2, 2, None)


def test_a_nan_is_like_another_and_an_infinity_like_itself(tmp_path):
    infinite = ("descriptors", (4, 0, 0), -np.inf)
    a = altered(tmp_path / "a.h5", infinite, ("descriptors", (0, 0, 0), -np.float16(np.nan)))
    b = altered(tmp_path / "b.h5", infinite, ("descriptors", (0, 0, 0), np.nan))
    assert a.read_bytes() != b.read_bytes()
    found = diff_features(a, b)
    assert found.same
    assert found.descriptors.not_finite == 0
    b = altered(tmp_path / "b.h5", infinite, ("descriptors", (4, 0, 1), 1))
    assert diff_features(altered(tmp_path / "a.h5", infinite), b).descriptors.not_finite == 1


def test_float16_and_float32_of_one_value_are_the_same(a, tmp_path):
    b = written(tmp_path / "b.h5", [v.astype(np.float32) for v in arrays()], recipe=RECIPE | {"dtype": "float32"})
    found = diff_features(a, b)
    assert found.same
    assert found.incidental == ('dtype: nothing against "float32"',)


def test_one_value_that_float16_rounds_is_the_only_difference(a, tmp_path):
    videos = [v.astype(np.float32) for v in arrays()]
    videos[1][2, 0, 3] = np.nextafter(videos[1][2, 0, 3], np.float32(9))
    rows = diff_features(a, written(tmp_path / "b.h5", videos, recipe=RECIPE | {"dtype": "float32"})).descriptors
    assert (rows.differing, rows.videos, rows.absolute.at) == (1, 1, ClipPlace("v0001.mp4", 2, 0))


@pytest.mark.parametrize("values", [1, 100])
def test_the_size_of_a_block_changes_nothing(values, a, tmp_path, monkeypatch):
    b = written(tmp_path / "b.h5", arrays(1))
    expected = diff_features(a, b)
    assert expected.descriptors.differing == 6
    monkeypatch.setattr(compared, "BLOCK_VALUES", values)
    assert diff_features(a, b) == expected


def test_recipes_that_differ_are_told_apart_from_what_is_incidental(a, tmp_path):
    recipe = {"backbone": "other", "crop": 8, "versions": {"gcf": "1"}}
    found = diff_features(a, written(tmp_path / "b.h5", recipe=recipe))
    assert found.recipe == ('backbone: "none" against "other"',)
    assert found.incidental == ('versions: {"gcf": "0"} against {"gcf": "1"}',)
    assert not found.same


def test_what_is_incidental_alone_is_no_difference(a, tmp_path):
    found = diff_features(a, written(tmp_path / "b.h5", recipe=RECIPE | {"device": "cuda"}))
    assert told(found) == {"incidental"}
    assert found.same
    assert "device" in found.describe()


def test_another_width_is_said_and_not_compared(a, tmp_path):
    found = diff_features(a, written(tmp_path / "b.h5", arrays(width=12)))
    assert found.descriptors.shapes == ("20 against 12 wide; not compared",)
    assert (found.descriptors.clips, found.same) == (0, False)
    assert found.logits.clips == 6


def test_of_other_views_those_in_both_are_compared(a, tmp_path):
    more = [np.concatenate([v, v[:, :1]], axis=1) for v in arrays()]
    found = diff_features(a, written(tmp_path / "b.h5", more))
    assert found.descriptors.shapes == ("2 against 3 views; those in both are compared",)
    assert (found.descriptors.clips, found.descriptors.differing) == (6, 0)
    assert not found.same


def test_logits_that_one_file_lacks_are_said(a, tmp_path):
    found = diff_features(a, written(tmp_path / "b.h5", logits=None, backbone_classes=None))
    assert found.logits.shapes == ("of 4 against 0 classes; not compared",)
    assert told(found) == {"logits", "classes"}


def test_videos_in_one_file_alone_are_named_and_the_others_compared(tmp_path):
    one, two, three = arrays()
    for name, videos in (("a.h5", {"a": one, "b": two}), ("b.h5", {"b": two, "c": three})):
        rows = [one_video(key, value) for key, value in videos.items()]
        write_features(tmp_path / name, FeatureContent(RECIPE, rows))
    found = diff_features(tmp_path / "a.h5", tmp_path / "b.h5")
    assert (found.only_a, found.only_b) == (("'a'",), ("'c'",))
    assert (found.videos, found.descriptors.clips, found.descriptors.differing) == (1, 3, 0)
    assert not found.same


def test_files_without_a_common_video_are_compared_all_the_same(tmp_path):
    for name in "ab":
        write_features(tmp_path / name, FeatureContent(RECIPE, [one_video(name, np.ones((1, 1, ord(name))))]))
    found = diff_features(tmp_path / "a", tmp_path / "b")
    assert told(found) == {"only_a", "only_b"}


ANNOTATED = {
    "failures": ({"failures": [("broken.mp4", "cut")]}, ("'broken.mp4': 'empty' against 'cut'",)),
    "labels": ({"labels": [0, 0, -1]}, ("'v0001.mp4': 'run' against 'jump'",)),
    "subsets": ({"subsets": ["train", "val", "test"]}, ("'v0001.mp4': 'train' against 'val'",)),
    "groups": ({"groups": ["g1", "g1", ""]}, ("'v0002.mp4': 'g2' against ''",)),
    "classes": ({"classes": ["jump", "run", "walk"]}, ("1 only in B: 'walk'",)),
}


@pytest.mark.parametrize("topic", ANNOTATED)
def test_another_annotation_is_told_and_nothing_else(topic, a, tmp_path):
    changes, expected = ANNOTATED[topic]
    found = diff_features(a, written(tmp_path / "b.h5", **changes))
    assert told(found) == {topic}
    assert getattr(found, topic) == expected
    assert not found.same


def test_labels_are_compared_by_the_names_of_their_classes(a, tmp_path):
    found = diff_features(a, written(tmp_path / "b.h5", classes=["run", "jump"], labels=[1, 0, -1]))
    assert told(found) == {"classes"}
    assert found.classes == ("in another order",)


def test_names_of_the_backbones_classes_are_compared(a, tmp_path):
    found = diff_features(a, written(tmp_path / "b.h5", backbone_classes=list("wxyq")))
    assert found.classes == ("of the backbone: 1 only in A: 'z'", "of the backbone: 1 only in B: 'q'")


PLACED = {
    "clips/start_time": (3, 1.25, "clips", "'v0001.mp4': start_time 1.28 against 1.25 (clip 2; 1 differ)"),
    "clips/end_time": (0, np.nan, "clips", "'v0000.mp4': end_time 0.64 against nan (clip 0; 1 differ)"),
    "clips/start_frame": (1, 1, "clips", "'v0001.mp4': start_frame 0 against 1 (clip 0; 1 differ)"),
    "clips/num_frames": (5, 9, "clips", "'v0002.mp4': num_frames 16 against 9 (clip 1; 1 differ)"),
    "videos/fps": (2, 30, "facts", "'v0002.mp4': fps 25.0 against 30.0"),
    "videos/size": (2, 7, "facts", "'v0002.mp4': size 1000 against 7"),
    "videos/width": (2, 7, "facts", "'v0002.mp4': width 64 against 7"),
}


@pytest.mark.parametrize("name", PLACED)
def test_another_time_or_fact_is_told_with_its_place(name, a, tmp_path):
    index, value, topic, expected = PLACED[name]
    found = diff_features(a, altered(tmp_path / "b.h5", (name, index, value)))
    assert told(found) == {topic}
    assert getattr(found, topic) == (expected,)


def test_the_time_of_a_copy_is_no_difference(a, tmp_path):
    assert diff_features(a, altered(tmp_path / "b.h5", ("videos/mtime_ns", 0, 77))).same


def test_videos_of_other_lengths_are_compared_as_far_as_both_go(a, tmp_path):
    videos = arrays()
    found = diff_features(a, written(tmp_path / "b.h5", [videos[0], videos[1][:2], videos[2]]))
    assert found.clips == ("'v0001.mp4': 3 against 2 clips",)
    assert (found.descriptors.clips, found.descriptors.differing) == (5, 0)


def test_the_command_ends_with_0_for_the_same_and_1_for_a_difference(a, tmp_path, capfd):
    assert gcf.cli.run(["diff", str(a), str(a)]) == 0
    assert "say the same" in capfd.readouterr().out
    b = altered(tmp_path / "b.h5", ("descriptors", (3, 1, 7), 100))
    assert gcf.cli.run(["diff", str(a), str(b)]) == 1
    assert "differ" in capfd.readouterr().out


def test_the_command_refuses_what_is_no_feature_file(a, tmp_path, capfd):
    (tmp_path / "b.h5").write_text("<html>")
    assert gcf.cli.run(["diff", str(a), str(tmp_path / "b.h5")]) == 4
    out, err = capfd.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)


def test_the_command_prints_strict_json(a, tmp_path, capfd):
    changes = [("descriptors", (3, 1, 7), 100), ("descriptors", (0, 0, 0), np.nan)]
    assert gcf.cli.run(["diff", str(a), str(altered(tmp_path / "b.h5", *changes)), "--json"]) == 1

    def refuse(constant):
        raise ValueError(constant)

    found = json.loads(capfd.readouterr().out, parse_constant=refuse)
    assert found["same"] is False
    assert found["descriptors"]["absolute"]["at"] == {"video": "v0001.mp4", "clip": 2, "view": 1}
    assert found["descriptors"]["not_finite"] == 1


def test_many_differences_are_counted_and_the_first_few_shown(tmp_path):
    for name, groups in (("a.h5", "xxxxxxxx"), ("b.h5", "yyyyyyyy")):
        write_cache(tmp_path / name, [np.ones((1, 2))] * 8, [-1] * 8, [], groups=list(groups))
    found = diff_features(tmp_path / "a.h5", tmp_path / "b.h5")
    assert len(found.groups) == 8
    lines = found.describe().splitlines()
    assert len(lines) == 7
    assert lines[-1].endswith("... 8 in all")


def test_hostile_names_stay_in_their_line(tmp_path, capfd):
    names = sorted(["a\nb.mp4", "'; rm -rf", "\udcff.mp4", "\x1b[2J.mp4"], key=id_key)
    for file, value in (("a.h5", 1.0), ("b.h5", 2.0)):
        rows = [one_video(name, np.full((2, 1, 3), value)) for name in names[: 4 - (file == "b.h5")]]
        write_features(tmp_path / file, FeatureContent({}, rows, groups=[file] * len(rows)))
    assert gcf.cli.run(["diff", str(tmp_path / "a.h5"), str(tmp_path / "b.h5")]) == 1
    out = capfd.readouterr().out
    assert len(out.splitlines()) == 1 + 1 + 3 + 2
    assert "\x1b" not in out
