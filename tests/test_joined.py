import numpy as np
import pytest
from caches import RECIPE, write_cache
from compare import assert_bitwise_equal

from gcf.data.features import FeatureFile
from gcf.data.joined import JoinedFeatures, join_features, open_features
from gcf.data.recipe import INCIDENTAL, differences, recipe_sha256
from gcf.data.schema import Clips, FeatureContent, VideoFeatures, VideoInfo
from gcf.data.writer import write_features
from gcf.errors import RefusedError, UsageError

pytestmark = pytest.mark.slow

COUNTS = {"a.mp4": 3, "b.mp4": 1, "c.mp4": 4, "d.mp4": 2}
LABELS = {"a.mp4": "run", "b.mp4": "jump", "c.mp4": "run", "d.mp4": "jump"}


def array_of(name, width, views=1):
    """Descriptors (C, V, width) that only this video and width have; float16 keeps them exactly."""
    rows = np.arange(COUNTS[name] * views * width).reshape(COUNTS[name], views, width)
    return (rows + 100 * ord(name[0]) - 9700 + 7 * width).astype(np.float32)


def stream(path, width, names="abcd", *, counts=COUNTS, views=1, starts=16, classes=("jump", "run"), **content):
    videos = []
    for name in (f"{letter}.mp4" for letter in names):
        array = array_of(name, width, views)[: counts[name]]
        begin = np.arange(len(array)) * starts
        clips = Clips(begin, np.full(len(array), 16), begin / 25, (begin + 16) / 25)
        videos.append(VideoFeatures(name, array, None, clips, VideoInfo(25.0, 16 * len(array), width, 48, 1.0, 9, 1)))
    if classes and "labels" not in content:
        content["labels"] = [classes.index(LABELS[v.id]) for v in videos]
    recipe = RECIPE | {"backbone": f"net{width}"}
    write_features(path, FeatureContent(recipe=recipe, videos=videos, classes=list(classes), **content))
    return FeatureFile(path)


def test_rows_of_the_same_clip_stand_side_by_side(tmp_path):
    one, two = stream(tmp_path / "1.h5", 3), stream(tmp_path / "2.h5", 5)
    joined = join_features([tmp_path / "1.h5", two])
    assert joined.part_rows == (None, None)
    assert joined.descriptors.shape == (10, 1, 8)
    rows = np.array([[9, 0], [4, 4]])
    found = joined.gather(rows)
    expected = np.concatenate([one.descriptors[rows], two.descriptors[rows]], axis=3)  # rows in any shape
    assert_bitwise_equal(found, expected)


def test_videos_that_a_file_lacks_are_left_out_and_the_rest_keeps_its_rows(tmp_path):
    one = stream(tmp_path / "1.h5", 3, "abd", views=2, subsets=["train", "test", "val"], groups=["g1", "g2", "g3"])
    two = stream(tmp_path / "2.h5", 5, "bcd", views=2, failures=[("a.mp4", "broken")], classes=())
    joined = join_features([one, two])
    assert joined.ids == ["b.mp4", "d.mp4"]
    assert (joined.num_videos, joined.num_clips, joined.offsets.tolist()) == (2, 3, [0, 1, 3])
    assert [rows.tolist() for rows in joined.part_rows] == [[3, 4, 5], [0, 5, 6]]
    expected = [np.concatenate([array_of(v, 3, 2), array_of(v, 5, 2)], axis=2) for v in joined.ids]
    assert_bitwise_equal(joined.gather(np.arange(3)).astype(np.float32), np.concatenate(expected))
    assert [joined.classes[k] for k in joined.labels] == ["jump", "jump"]
    assert (joined.subsets, joined.groups) == (["test", "val"], ["g2", "g3"])
    assert joined.failures == [("a.mp4", "broken")]
    assert joined.left_out == 1  # c.mp4; a.mp4 is counted as failed
    assert joined.clips.start_frame.tolist() == [0, 0, 16]
    assert joined.videos.num_frames.tolist() == [16, 32]


def test_the_recipe_lists_those_of_the_files_and_is_compared_file_by_file(tmp_path):
    one, two = stream(tmp_path / "1.h5", 3), stream(tmp_path / "2.h5", 5)
    joined = join_features([one, two])
    assert joined.recipe == {"joined": [one.recipe, two.recipe]}
    assert joined.recipe_sha256 == recipe_sha256(joined.recipe)
    newer = {"joined": [one.recipe | {"versions": "9"}, two.recipe]}
    assert differences(joined.recipe, newer, ignore=INCIDENTAL) == []
    swapped = {"joined": joined.recipe["joined"][::-1]}
    assert differences(joined.recipe, swapped, ignore=INCIDENTAL) == [
        'file 1: backbone: "net3" against "net5"',
        'file 2: backbone: "net5" against "net3"',
    ]
    assert differences(joined.recipe, one.recipe)  # joined and single never agree


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"counts": COUNTS | {"c.mp4": 2}}, r"video 'c\.mp4': 4 clips against 2"),
        ({"starts": 8}, r"video 'a\.mp4': a clip from frame 16 against one from frame 8"),
        ({"views": 2}, r"\[1, 2\] views"),
        ({"labels": [1, 0, 0, 0]}, r"video 'c\.mp4': label 'run' against 'jump'"),
        ({"groups": ["", "", "", "g"]}, r"video 'd\.mp4': group '' against 'g'"),
        ({"subsets": ["", "val", "", ""]}, r"video 'b\.mp4': subset '' against 'val'"),
    ],
)
def test_files_that_disagree_are_refused_with_the_first_video(tmp_path, changes, message):
    with pytest.raises(RefusedError, match=message):
        join_features([stream(tmp_path / "1.h5", 3), stream(tmp_path / "2.h5", 5, **changes)])


def test_the_same_labels_under_other_numbers_agree(tmp_path):
    other = stream(tmp_path / "2.h5", 5, classes=("run", "walk", "jump"))
    joined = join_features([stream(tmp_path / "1.h5", 3), other])
    assert [joined.classes[k] for k in joined.labels] == ["run", "jump", "run", "jump"]


def test_files_without_a_common_video_are_refused(tmp_path):
    with pytest.raises(RefusedError, match=r"1\.h5, .*2\.h5: no video is in all of them"):
        join_features([stream(tmp_path / "1.h5", 3, "ab"), stream(tmp_path / "2.h5", 5, "cd")])
    with pytest.raises(UsageError, match="two feature files or more"):
        join_features([tmp_path / "1.h5"])


def test_open_features_takes_one_or_several(tmp_path):
    one = stream(tmp_path / "1.h5", 3)
    stream(tmp_path / "2.h5", 5)
    assert open_features(one) is one
    assert open_features(str(tmp_path / "1.h5")).ids == one.ids
    assert isinstance(open_features([tmp_path / "1.h5"]), FeatureFile)
    joined = open_features([tmp_path / "1.h5", tmp_path / "2.h5"])
    assert isinstance(joined, JoinedFeatures)
    assert open_features(joined) is joined


def test_a_file_gathers_its_own_rows(tmp_path):
    features = write_cache(tmp_path / "f.h5", [np.arange(12.0).reshape(3, 4)], [0], ["x"])
    found = features.gather(np.array([2, 0]))
    assert type(found) is np.ndarray
    assert found[:, 0].tolist() == [[8, 9, 10, 11], [0, 1, 2, 3]]
