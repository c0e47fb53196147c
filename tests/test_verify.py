import json
import tracemalloc

import h5py
import numpy as np
import pytest
from caches import one_video, write_cache

import gcf.cli
from gcf import FeatureFile, verify_features
from gcf.data import verify
from gcf.data.recipe import canonical_json, recipe_sha256
from gcf.data.schema import FeatureContent, id_key
from gcf.data.writer import write_features
from gcf.errors import FeatureFileError

RECIPE = {"backbone": "none", "dtype": "float16", "views": 2, "num_frames": 16}
COUNTS = (1, 3, 2, 4, 2)  # clips of the videos: rows 0, 1 to 3, 4 to 5, 6 to 9, 10 to 11


def good(path, **changes):
    rng = np.random.default_rng(0)
    content = {
        "labels": [0, 1, -1, 0, 1],
        "classes": ["jump", "run"],
        "logits": [rng.normal(size=(c, 3)) for c in COUNTS],
        "backbone_classes": ["x", "y", "z"],
        "subsets": ["train", "train", "test", "val", ""],
        "groups": ["g1", "g1", "g2", "g3", ""],
        "failures": [("broken.mp4", "empty")],
        "recipe": RECIPE,
    }
    return write_cache(path, [rng.normal(size=(c, 2, 20)) for c in COUNTS], **content | changes).path


def planted(path, *changes):
    """A good file with `changes`: a dataset's name, an index, and what is written there; no checksums, as once."""
    good(path)
    with h5py.File(path, "a") as h5:
        del h5["videos/crc32"]
        for name, index, value in changes:
            h5[name][index] = value
    return path


@pytest.mark.slow
def test_a_good_file_has_no_fault_and_no_warning(tmp_path):
    found = verify_features(good(tmp_path / "f.h5"))
    assert (found.faults, found.warnings, found.sound) == ((), (), True)
    assert (found.videos, found.clips, found.failures) == (5, 12, 1)


def test_what_extraction_writes_has_no_fault(reference, tmp_path):
    (tmp_path / "f.h5").write_bytes(reference)
    assert verify_features(tmp_path / "f.h5").faults == ()


def test_a_file_of_failures_alone_has_no_fault(tmp_path):
    write_features(tmp_path / "f.h5", FeatureContent(RECIPE, [], failures=[("v.mp4", "empty")]))
    assert verify_features(tmp_path / "f.h5").faults == ()


V1, START, END = "1 clip of 1 video: 'v0001.mp4'", "clips/start_time", "clips/end_time"
BACK, NOT_A_TIME = "a start or an end before that of the clip before it in ", "a time that is not finite in "
FRAMES = "a number of frames that is not 1 to 16 in 1 clip of 1 video: 'v0000.mp4' (0)"
ASCENDS = "a start_frame that does not ascend from 0 in "
IMPOSSIBLE = "a rate, duration or size that cannot be: 1 video: 'v0001.mp4'"
PLANTED = {
    "a NaN in a descriptor": (("descriptors", (2, 1, 3), np.nan), f"descriptors that are not finite in {V1} (1)"),
    "an infinite descriptor": (("descriptors", (1, 0, 19), np.inf), f"descriptors that are not finite in {V1} (0)"),
    "a NaN in a logit": (("logits", (3, 2), np.nan), f"logits that are not finite in {V1} (2)"),
    "no start": ((START, 3, np.nan), f"{NOT_A_TIME}{V1} (2)"),
    "no end": ((END, 3, np.inf), f"{NOT_A_TIME}{V1} (2)"),
    "an end before the start": ((END, 1, -1.0), f"an end before its start in {V1} (0)"),
    "a start that goes back": ((START, 3, 0.0), f"{BACK}{V1} (2)"),
    "an end that goes back": ((END, 2, 9.0), f"{BACK}{V1} (2)"),
    "no frames": (("clips/num_frames", 0, 0), FRAMES),
    "too many frames": (("clips/num_frames", 0, 17), FRAMES),
    "the same frame again": (("clips/start_frame", 3, 16), f"{ASCENDS}{V1} (2)"),
    "a frame before the first": (("clips/start_frame", 1, -1), f"{ASCENDS}{V1} (0)"),
    "a frame after the last": (("videos/num_frames", 1, 47), f"frames beyond the last one of its video in {V1} (2)"),
    "no name": (("videos/id", 0, b""), "an empty name: 1 video: ''"),
    "an unknown status": (("videos/status", 1, b"no"), "a status other than ok, partial: 1 video: 'v0001.mp4'"),
    "an unknown subset": (("videos/subset", 1, b"dev"), "a subset other than train, val, test: 1 video: 'v0001.mp4'"),
    "no width": (("videos/width", 1, 0), "no width or no height: 1 video: 'v0001.mp4'"),
    "no height": (("videos/height", 1, -5), "no width or no height: 1 video: 'v0001.mp4'"),
    "no decoded frame": (("videos/num_frames", 1, 0), "a number of frames below 1: 1 video: 'v0001.mp4'"),
    "a rate that is no number": (("videos/fps", 1, np.nan), IMPOSSIBLE),
    "a negative rate": (("videos/fps", 1, -25), IMPOSSIBLE),
    "an endless video": (("videos/duration", 1, np.inf), IMPOSSIBLE),
    "a negative duration": (("videos/duration", 1, -1), IMPOSSIBLE),
    "a negative size": (("videos/size", 1, -1), IMPOSSIBLE),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_named_with_its_place(fault, tmp_path):
    change, expected = PLANTED[fault]
    found = verify_features(planted(tmp_path / "f.h5", change))
    assert expected in found.faults
    assert not found.sound


WRITTEN = {
    "a video that failed, too": (
        {"failures": [("v0003.mp4", "empty")]},
        "an entry among the failures, too: 1 video: 'v0003.mp4'",
    ),
    "a failure twice": ({"failures": [("a", "empty"), ("a", "lost")]}, "failures have a name twice: 'a'"),
    "a class twice": ({"classes": ["jump", "jump"]}, "classes have a name twice: 'jump'"),
}


@pytest.mark.parametrize("fault", WRITTEN)
def test_a_contradiction_among_names_is_a_fault(fault, tmp_path):
    changes, expected = WRITTEN[fault]
    assert verify_features(good(tmp_path / "f.h5", **changes)).faults == (expected,)


RECIPES = {
    "dtype": ("float32", "descriptors are float16, the recipe says 'float32'"),
    "views": (3, "descriptors have 2 views, the recipe says 3"),
    "num_frames": ("16", "the recipe's num_frames is '16', not a number of frames"),
}


@pytest.mark.slow
@pytest.mark.parametrize("key", RECIPES)
def test_rows_that_the_recipe_does_not_describe_are_a_fault(key, tmp_path):
    value, expected = RECIPES[key]
    set_recipe(good(tmp_path / "f.h5"), RECIPE | {key: value})
    assert verify_features(tmp_path / "f.h5").faults == (expected,)


def set_recipe(path, recipe):
    with h5py.File(path, "a") as h5:
        h5.attrs["recipe"], h5.attrs["recipe_sha256"] = canonical_json(recipe), recipe_sha256(recipe)


@pytest.mark.slow
def test_videos_out_of_order_are_a_fault(tmp_path):
    change = ("videos/id", slice(2, 4), [b"v0003.mp4", b"v0002.mp4"])
    found = verify_features(planted(tmp_path / "f.h5", change))
    assert found.faults == ("videos are not sorted by the bytes of their names: 'v0003.mp4' stands before 'v0002.mp4'",)


def test_descriptors_of_no_width_are_a_fault(tmp_path):
    write_cache(tmp_path / "f.h5", [np.zeros((2, 1, 0))], [-1], [])
    assert verify_features(tmp_path / "f.h5").faults == ("descriptors are empty: 1 view, 0 wide",)


def test_every_fault_is_counted_and_the_first_few_are_named(tmp_path):
    path = planted(tmp_path / "f.h5", ("descriptors", (slice(None), 0, 0), np.nan))
    (fault,) = verify_features(path).faults
    assert fault.startswith("descriptors that are not finite in 12 clips of 5 videos: 'v0000.mp4' (0), ")
    assert fault.endswith("'v0002.mp4' (0, 1) and 2 more")


@pytest.mark.parametrize("size", [1, 200])
def test_the_size_of_a_block_changes_nothing(size, tmp_path, monkeypatch):
    changes = [("descriptors", (9, 1, 3), np.nan), ("logits", (8, 0), np.inf), ("descriptors", slice(1, 4), 1)]
    path = planted(tmp_path / "f.h5", *changes, ("descriptors", 11, 0))
    expected = verify_features(path)
    assert len(expected.faults) == len(expected.warnings) == 2
    monkeypatch.setattr(verify, "BLOCK_BYTES", size)
    assert verify_features(path) == expected


@pytest.mark.slow
def test_memory_does_not_grow_with_the_descriptors(tmp_path, monkeypatch):
    monkeypatch.setattr(verify, "BLOCK_BYTES", 1 << 18)
    path = write_cache(tmp_path / "f.h5", [np.ones((500, 2, 8000), np.float16)], [-1], []).path  # 16 MB
    tracemalloc.start()
    verify_features(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6  # a mask of all would be 8 MB


def test_zeros_are_a_warning_and_no_fault(tmp_path):
    found = verify_features(
        planted(tmp_path / "f.h5", ("descriptors", (7, 1), 0), ("descriptors", (4, 0, slice(17)), 0))
    )
    assert found.warnings == ("descriptors of zeros alone in 1 clip of 1 video: 'v0003.mp4' (1)",)
    assert found.sound


@pytest.mark.slow
def test_a_video_that_never_changes_is_a_warning_and_no_fault(tmp_path):
    found = verify_features(planted(tmp_path / "f.h5", ("descriptors", slice(1, 4), 0.5), ("descriptors", 6, 0.5)))
    assert found.warnings == ("the same descriptors in every clip of 1 video: 'v0001.mp4'",)
    assert found.sound


def test_a_video_of_zeros_is_warned_of_once(tmp_path):
    found = verify_features(planted(tmp_path / "f.h5", ("descriptors", slice(1, 4), 0)))
    assert found.warnings == ("descriptors of zeros alone in 3 clips of 1 video: 'v0001.mp4' (0, 1, 2)",)


def test_a_video_that_ends_as_it_begins_is_no_warning(tmp_path):
    found = verify_features(planted(tmp_path / "f.h5", ("descriptors", 1, 0.5), ("descriptors", 3, 0.5)))
    assert found.warnings == ()


def test_a_group_in_two_subsets_is_a_warning(tmp_path):
    found = verify_features(good(tmp_path / "f.h5", groups=["g1", "g1", "g1", "g3", ""]))
    assert (found.warnings, found.faults) == (("1 group in several subsets: 'g1'",), ())


def replaced(path, name, values):
    good(path)
    with h5py.File(path, "a") as h5:
        del h5[name]
        h5[name] = values
    return path


TYPES = {
    "clips/start_time": np.zeros(12, "<i8"),
    "clips/num_frames": np.ones((12, 2), "<i2"),
    "videos/width": np.ones(5, "<f4"),
    "videos/label": np.zeros(5),
    "videos/offset": np.array([0.0, 1, 4, 6, 10, 12]),
    "videos/id": np.arange(5),
    "backbone_classes": np.array([b"x", b"y"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TYPES)
def test_a_dataset_of_another_type_or_length_is_refused_in_one_line(name, tmp_path, capfd):
    path = replaced(tmp_path / "f.h5", name, TYPES[name])
    with pytest.raises(FeatureFileError, match=r"f\.h5: .*"):
        verify_features(path)
    assert gcf.cli.run(["verify", str(path)]) == 4
    out, err = capfd.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)


def test_a_recipe_of_no_extraction_is_refused(tmp_path):
    set_recipe(good(tmp_path / "f.h5"), {"joined": [1]})
    with pytest.raises(FeatureFileError, match="its recipe is not that of one extraction"):
        verify_features(tmp_path / "f.h5")


def test_the_command_prints_a_line_a_fault_and_leaves_the_file_alone(tmp_path, capfd):
    path = planted(tmp_path / "f.h5", ("descriptors", (2, 1, 3), np.nan), ("videos/width", 1, 0))
    before, time = path.read_bytes(), path.stat().st_mtime_ns
    assert gcf.cli.run(["verify", str(path)]) == 4
    out, err = capfd.readouterr()
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["fault", "fault", "missing", "missing"]
    assert "2 faults" in out.splitlines()[0]
    assert err == ""
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (before, time)


def test_the_command_ends_well_where_all_is_well(tmp_path, capfd):
    assert gcf.cli.run(["verify", str(good(tmp_path / "f.h5"))]) == 0
    assert "all well" in capfd.readouterr().out


@pytest.mark.slow
def test_a_file_cut_short_is_refused_by_the_command(tmp_path, capfd):
    path = good(tmp_path / "f.h5")
    path.write_bytes(path.read_bytes()[:-1000])
    assert gcf.cli.run(["verify", str(path)]) == 4
    assert len(capfd.readouterr().err.splitlines()) == 1


@pytest.mark.slow
def test_the_command_prints_json(tmp_path, capfd):
    path = planted(tmp_path / "f.h5", ("logits", (3, 2), np.nan))
    assert gcf.cli.run(["verify", str(path), "--json"]) == 4
    found = json.loads(capfd.readouterr().out)
    assert found["sound"] is False
    assert found["faults"] == [f"logits that are not finite in {V1} (2)"]


def test_hostile_names_stay_in_their_line(tmp_path, capfd):
    names = sorted(["a\nfault  b.mp4", "'; rm -rf", "\udcff.mp4", "\x1b[2J.mp4"], key=id_key)
    nan = np.full((2, 1, 3), np.nan, np.float16)
    write_features(tmp_path / "f.h5", FeatureContent({}, [one_video(name, nan) for name in names]))
    assert FeatureFile(tmp_path / "f.h5").ids == names
    assert gcf.cli.run(["verify", str(tmp_path / "f.h5")]) == 4
    out = capfd.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["fault", "missing"]
    assert "8 clips of 4 videos" in out
    assert "\x1b" not in out
