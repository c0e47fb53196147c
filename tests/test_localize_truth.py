"""A truth file names the videos to localise and what to measure; one that cannot is refused before the work."""

import pytest
import videos
from measured import truth_entry, write_truth
from stage_one import TINY

from gcf.errors import AnnotationError, UsageError
from gcf.explain.localize import LocalizeConfig, localize_videos
from gcf.explain.reading import described

MINE = {"backbone": TINY, "device": "cpu", "workers": 1}
NUMBERS = LocalizeConfig(heat=False)


@pytest.fixture
def features(reference, tmp_path):
    (tmp_path / "f.h5").write_bytes(reference)
    return tmp_path / "f.h5"


@pytest.fixture
def clip(tmp_path):
    """A video of two clips and a half."""
    return videos.write_video(tmp_path / "v.avi", 40)


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """Two videos of the test subset, one of training, one that is not there."""
    subsets = {"v_jump_g01_c01": "test", "v_run_g02_c01": "test", "v_run_g01_c01": "train", "v_run_g09_c01": "val"}
    entries = {name: (subset, [(0.0, 0.64, name.split("_")[1])]) for name, subset in subsets.items()}
    return write_truth(tmp_path_factory.mktemp("truth") / "truth.json", entries)


@pytest.mark.slow
def test_of_a_subset_its_videos_alone_are_read_and_all_are_judged(tiny_run, folder, features, truth):
    found = localize_videos(tiny_run, folder, config=NUMBERS, truth=truth, subset="test", **MINE)
    assert [v.id for v in found] == ["jump/v_jump_g01_c01.avi", "run/v_run_g02_c01.avi"]
    assert (found.metrics["videos"], found.metrics["segments"]) == (2, 2)
    assert found.metrics["faithfulness"] is not None
    stored = localize_videos(tiny_run, features, truth=truth, subset="test")
    assert [v.id for v in stored] == [v.id for v in found]
    assert stored.metrics == found.metrics | {"test_looks": 2, "notes": stored.metrics["notes"]}
    everything = localize_videos(tiny_run, features, truth=truth)
    assert len(everything) == 6
    assert (everything.metrics["videos"], everything.metrics["unannotated"]) == (3, 3)


def test_a_truth_that_cannot_judge_is_refused_before_the_work(tiny_run, folder, truth, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="unknown subset 'tset'"):
        localize_videos(tiny_run, folder, truth=truth, subset="tset", **MINE)
    with pytest.raises(AnnotationError, match="none of the 6 videos is in its subset 'val'"):
        localize_videos(tiny_run, folder, truth=truth, subset="val", **MINE)
    other = write_truth(tmp_path / "t.json", {"v_run_g01_c01": ("test", [(0.0, 0.5, "swim")])})
    monkeypatch.setattr(described.Source, "__iter__", lambda _: pytest.fail("a video was read"))
    with pytest.raises(AnnotationError, match="none of the head's 2"):
        localize_videos(tiny_run, folder, tmp_path / "out", truth=other, **MINE)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_maps_are_judged_by_the_boxes_of_the_truth(tiny_run, clip, tmp_path):
    entry = truth_entry("test", [(0.0, 0.64, "run")], boxes=[[0, 0, 64, 48]] * 40)
    truth, config = tmp_path / "t.json", LocalizeConfig(label="run", threshold=0.0)
    judged = localize_videos(tiny_run, clip, config=config, truth=write_truth(truth, {"v": entry}), **MINE).metrics
    pointing = judged["pointing"]
    assert pointing["frames"] == 16
    assert pointing["hits"] + pointing["blank"] == 16  # a box around everything
    assert pointing["hits"] > 0
    write_truth(truth, {"v": entry | {"boxes": [[0]]}})
    with pytest.raises(AnnotationError, match=r"expected \[left, top, right, bottom\]"):
        localize_videos(tiny_run, clip, tmp_path / "out", config=config, truth=truth, **MINE)
    assert not (tmp_path / "out").exists()


def test_a_name_of_two_videos_is_refused(tiny_run, clip, tmp_path):
    clip.with_suffix(".mkv").write_bytes(clip.read_bytes())
    truth = write_truth(tmp_path / "t.json", {"v": ("test", [(0.0, 0.5, "run")])})
    with pytest.raises(AnnotationError, match=r"'v' may be 'v\.avi' or 'v\.mkv'"):
        localize_videos(tiny_run, tmp_path, config=NUMBERS, truth=truth, **MINE)
