"""What float16 cannot hold is said: when descriptors are stored, and before a head is to learn from them."""

import json
from pathlib import Path

import numpy as np
import pytest
from caches import easy_cache, write_cache

import gcf
from gcf.data.arrays import ArrayFeatures
from gcf.data.digits import lost_digits
from gcf.errors import FeatureFileError
from gcf.head.fitting.finite import check_learnable

SCALED = """
from tiny_backbone import RECIPE, Tiny, build as build_tiny

RECIPE = RECIPE | {{"name": "scaled", "weights": "times {scale}"}}


def build():
    network, plain = build_tiny(), Tiny.descriptor
    network.descriptor = lambda feature_map: {scale} * plain(network, feature_map)
    return network
"""


def scaled(folder: Path, scale: float) -> Path:
    """A plug-in whose descriptors are those of the tiny one times `scale`."""
    path = folder / "scaled.py"
    path.write_text(SCALED.format(scale=scale))
    return path


def extract(folder, out, plugin, **options):
    settings = {"batch_size": 4, "workers": 2, "precision": "fp32", "runtime": "torch", "device": "cpu"}
    return gcf.extract_videos(folder, out, backbone=plugin, **settings | options)


def test_rounding_to_float16_is_no_loss_and_underflow_is():
    rng = np.random.default_rng(0)
    rows = np.abs(rng.normal(size=(5, 2, 64))).astype(np.float32)
    assert lost_digits(rows, rows.astype(np.float16)) == ""
    assert lost_digits(100 * rows, (100 * rows).astype(np.float16)) == ""
    few = np.concatenate([rows, 1e-7 * rows[:1]])  # among others that are well
    assert lost_digits(few, few.astype(np.float16)).startswith("float16 loses digits: clip 5 is ")
    none = np.full((1, 1, 4), 1e-30, np.float32)
    assert lost_digits(none, none.astype(np.float16)) == "float16 loses digits: clip 0 is 100 % off"
    assert lost_digits(0 * rows, np.zeros_like(rows, np.float16)) == ""  # zeros are what was computed
    assert lost_digits(rows, rows) == ""


def test_small_values_among_large_ones_are_no_loss():
    rows = np.ones((3, 1, 64), np.float32)
    rows[:, :, 1:] = 1e-6
    assert lost_digits(rows, rows.astype(np.float16)) == ""


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-6, 1e-12])
def test_extraction_says_where_digits_are_lost(scale, folder, tmp_path, invoke, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    plugin = scaled(tmp_path, scale)
    found = extract(folder, tmp_path / "f.h5", plugin)
    assert [video_id for video_id, _ in found.digits_lost] == gcf.FeatureFile(tmp_path / "f.h5").ids
    assert all(note.startswith("float16 loses digits: clip ") for _, note in found.digits_lost)
    line = "  float16 loses digits of 6 videos: 'jump/v_jump_g01_c01.avi', "
    assert line in found.describe()
    assert "and 3 more; extract with --dtype float32 to keep them" in found.describe()
    assert (found.partial, found.complete) == ([], True)
    again = extract(folder, tmp_path / "f.h5", plugin)  # what was said of a video stays with it
    assert (again.extracted, again.digits_lost) == (0, found.digits_lost)
    code, out, _ = invoke("info", tmp_path / "f.h5")
    assert (code, line in out) == (0, True)
    _, out, _ = invoke("info", tmp_path / "f.h5", "--json")
    facts = json.loads(out)
    assert [(lost["id"], lost["note"]) for lost in facts["digits_lost"]] == found.digits_lost
    assert facts["partial"] == []
    assert gcf.verify_features(tmp_path / "f.h5").faults == ()
    exact = extract(folder, tmp_path / "exact.h5", plugin, dtype="float32")
    assert (exact.digits_lost, gcf.FeatureFile(tmp_path / "exact.h5").videos.note) == ([], [""] * 6)


@pytest.mark.slow
def test_the_command_says_it_too_and_ends_well(folder, tmp_path, invoke, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    command = ("extract", folder, tmp_path / "f.h5", "--backbone", scaled(tmp_path, 1e-12), "--runtime", "torch")
    code, out, _ = invoke(*command, "--precision", "fp32")
    assert (code, "float16 loses digits of 6 videos" in out) == (0, True)
    _, out, _ = invoke(*command, "--precision", "fp32", "--json")
    assert json.loads(out)["digits_lost"][0] == [
        "jump/v_jump_g01_c01.avi",
        "float16 loses digits: clip 0 is 100 % off",
    ]


def alike(value, *, dtype="float16", last=None):
    """Two-class features (12 videos of 2 clips, 8 wide) of one value, or with another in the last clip."""
    rows = np.full((24, 8), value, dtype)
    rows[-1] = value if last is None else last
    return rows


NOTHING = {
    "zero": (alike(0), "are zero; look at the network"),
    "underflow": (alike(1e-9), "are zero; look at the network and its weights (gcf doctor --backbone), or, where its "),
    "equal": (alike(0.25), "are equal; look at the network"),
    "equal in float32": (alike(0.25, dtype="float32"), "are equal; "),
    "below the digits": (alike(1e-6, last=3e-6), "lie below 6e-05, where float16 loses its digits; extract again with"),
    "the last digit": (
        alike(1000, last=1000.5),
        "differ in float16's last digit alone; extract again with --dtype flo",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", NOTHING)
def test_features_that_teach_nothing_are_named_before_training(case, tmp_path, invoke):
    rows, expected = NOTHING[case]
    recipe = {"dtype": rows.dtype.name}
    labels = [n % 2 for n in range(12)]
    features = write_cache(tmp_path / "f.h5", list(rows.reshape(12, 2, 8)), labels, ["a", "b"], recipe=recipe)
    said = "nothing can be learned: the descriptors of all 12 labelled videos "
    for train in (gcf.train_head, gcf.ablate):
        with pytest.raises(FeatureFileError) as caught:
            train(features)
        assert said + expected in str(caught.value)
    code, _, err = invoke("train-head", features.path, "-o", tmp_path / "run")
    assert (code, len(err.splitlines())) == (4, 1)
    assert said in err
    assert not (tmp_path / "run").exists()


def test_a_difference_is_enough(tmp_path):
    for rows in (alike(0, last=1), alike(0.25, last=0.26), alike(1e-6, dtype="float32", last=3e-6)):
        features = ArrayFeatures(rows, [2] * 12)
        check_learnable(features, np.arange(12))
    check_learnable(easy_cache(tmp_path / "f.h5"), np.arange(5))


def test_what_is_not_labelled_does_not_count(tmp_path):
    rows = alike(0, last=1).reshape(12, 2, 8)
    features = write_cache(tmp_path / "f.h5", list(rows), [*([0, 1] * 5), 0, -1], ["a", "b"])
    with pytest.raises(FeatureFileError, match="all 11 labelled videos are zero"):
        gcf.train_head(features)


def test_no_more_is_read_than_it_takes_to_see_a_difference(tmp_path, monkeypatch):
    features, read = easy_cache(tmp_path / "f.h5"), []
    gather = features.gather
    monkeypatch.setattr(features, "gather", lambda rows: read.append(rows) or gather(rows))
    check_learnable(features, np.arange(features.num_videos))
    assert len(read) <= 2


@pytest.mark.slow
def test_files_side_by_side_are_looked_at_one_by_one(tmp_path):
    rows = [np.zeros((2, 8), np.float16)] * 12
    good = write_cache(tmp_path / "a.h5", [row + n for n, row in enumerate(rows)], [0, 1] * 6, ["a", "b"])
    blank = write_cache(tmp_path / "b.h5", rows, [0, 1] * 6, ["a", "b"])
    with pytest.raises(FeatureFileError, match=r"b\.h5: nothing can be learned"):
        gcf.ablate([good.path, blank.path])
