import os
import resource

import h5py
import numpy as np
import pytest
from compare import assert_bitwise_equal
from contents import RECIPE, make_content, make_video

from gcf.data.features import FeatureFile
from gcf.data.merge import merge_features
from gcf.data.recipe import recipe_sha256
from gcf.data.schema import FeatureContent
from gcf.data.writer import write_features
from gcf.errors import FeatureFileError, RecipeError, RefusedError


def test_what_is_written_is_read(tmp_path):
    content = make_content()
    write_features(tmp_path / "f.h5", content)
    features = FeatureFile(tmp_path / "f.h5")
    assert features.ids == [v.id for v in content.videos]
    assert features.recipe == RECIPE
    assert features.failures == [("b/broken\udcff.mp4", "empty")]
    assert features.classes == ["jump", "run"]
    assert features.labels.tolist() == [-1, 0, 1, -1, 0, 1, -1]
    assert features.backbone_classes == list("vwxyz")
    for n, video in enumerate(content.videos):
        read = features.video(n)
        assert_bitwise_equal(read.descriptors, video.descriptors)
        assert_bitwise_equal(read.logits, video.logits)
        assert read.clips.end_time.tolist() == video.clips.end_time.tolist()
        assert read.info == video.info
    assert isinstance(features.descriptors, np.memmap)
    assert not features.descriptors.flags.writeable


def test_the_file_is_plain_hdf5_with_the_promised_names(tmp_path):
    write_features(tmp_path / "f.h5", make_content(8))
    with h5py.File(tmp_path / "f.h5") as h5:
        assert h5.attrs["format"] == "gcf-features"
        assert h5.attrs["schema"] == 1
        assert h5["descriptors"].shape == (20, 1, 32)
        assert h5["logits"].dtype == np.float16
        assert h5["clips/num_frames"].dtype == np.int16
        assert h5["videos/offset"][...].tolist() == [0, 1, 3, 6, 10, 11, 13, 16, 20]
        assert h5["videos/id"].asstr()[1] == "a/01é.mp4"
        assert h5["videos/subset"].asstr()[...].tolist() == ["train", "test", "val", ""] * 2
        names = {"fps", "num_frames", "width", "height", "duration", "size", "mtime_ns", "status", "label", "group"}
        assert names <= h5["videos"].keys()
        for dataset in (h5["descriptors"], h5["logits"], h5["clips/start_time"], h5["videos/id"]):
            assert dataset.chunks is None
            assert dataset.compression is None


def test_descriptors_start_on_a_page_when_they_fill_one(tmp_path):
    content = FeatureContent(RECIPE, [make_video("v", num_clips=70)])
    write_features(tmp_path / "f.h5", content)
    with h5py.File(tmp_path / "f.h5") as h5:
        assert h5["descriptors"].id.get_offset() % 4096 == 0
    assert (tmp_path / "f.h5").read_bytes()[8] == 0  # superblock version 0, which every HDF5 reads


def test_equal_content_gives_equal_bytes(tmp_path):
    for name in ("one.h5", "two.h5"):
        write_features(tmp_path / name, make_content())
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()


def test_a_file_of_failures_alone_can_be_written_and_read(tmp_path):
    write_features(tmp_path / "f.h5", FeatureContent(RECIPE, [], failures=[("v.mp4", "empty")]))
    features = FeatureFile(tmp_path / "f.h5")
    assert (features.num_videos, features.num_clips, features.failures) == (0, 0, [("v.mp4", "empty")])


def test_a_failed_write_leaves_the_old_file_and_no_temporary(tmp_path):
    path = tmp_path / "f.h5"
    write_features(path, make_content())
    before = path.read_bytes()
    broken = make_content()
    object.__setattr__(broken.videos[3], "descriptors", np.zeros((2, 1, 31), np.float16))  # not 32 wide
    with pytest.raises(ValueError, match=r"a/03é\.mp4"):
        write_features(path, broken)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["f.h5"]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused_before_it_is_mapped(tmp_path, share):
    path = tmp_path / "f.h5"
    write_features(path, make_content(50))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(FeatureFileError, match=r"f\.h5"):
        FeatureFile(path)


def tampered(tmp_path, change):
    path = tmp_path / "f.h5"
    write_features(path, make_content())
    with h5py.File(path, "a") as h5:
        change(h5, tmp_path)
    return path


def replace(h5, name, make):
    del h5[name]
    make()


def external_link(h5, folder):
    write_features(folder / "other.h5", make_content())
    replace(h5, "logits", lambda: h5.__setitem__("logits", h5py.ExternalLink(str(folder / "other.h5"), "/logits")))


def soft_link(h5, _):
    replace(h5, "logits", lambda: h5.__setitem__("logits", h5py.SoftLink("/descriptors")))


def group_link(h5, folder):
    write_features(folder / "other.h5", make_content())
    replace(h5, "clips", lambda: h5.__setitem__("clips", h5py.ExternalLink(str(folder / "other.h5"), "/clips")))


def external_storage(h5, folder):
    (folder / "secret").write_bytes(bytes(10000))
    replace(
        h5,
        "descriptors",
        lambda: h5.create_dataset(
            "descriptors", (14, 1, 32), "f2", external=[(str(folder / "secret"), 0, h5py.h5f.UNLIMITED)]
        ),
    )


def virtual_dataset(h5, folder):
    layout = h5py.VirtualLayout((14, 1, 32), "f2")
    layout[...] = h5py.VirtualSource(str(folder / "other.h5"), "descriptors", (14, 1, 32))
    replace(h5, "descriptors", lambda: h5.create_virtual_dataset("descriptors", layout))


def compressed(h5, _):
    rows = h5["descriptors"][...]
    replace(h5, "descriptors", lambda: h5.create_dataset("descriptors", data=rows, compression="gzip"))


def shape_bomb(h5, _):
    replace(h5, "descriptors", lambda: h5.create_dataset("descriptors", (1 << 40, 1, 2048), "f2"))


def another_schema(h5, _):
    h5.attrs["schema"] = 2


def foreign(h5, _):
    h5.attrs["format"] = "something"


def altered_recipe(h5, _):
    h5.attrs["recipe"] = '{"backbone":"other"}'


def recipe_that_is_a_list(h5, _):
    h5.attrs["recipe"], h5.attrs["recipe_sha256"] = "[1]", recipe_sha256([1])


def numbers_for_names(h5, _):
    replace(h5, "videos/note", lambda: h5.create_dataset("videos/note", data=np.zeros(len(h5["videos/id"]), "<i4")))


def wrong_offsets(h5, _):
    h5["videos/offset"][-1] = 99


def label_out_of_range(h5, _):
    h5["videos/label"][0] = 7


TRICKS = [
    external_link,
    soft_link,
    group_link,
    external_storage,
    virtual_dataset,
    compressed,
    shape_bomb,
    another_schema,
    foreign,
    altered_recipe,
    recipe_that_is_a_list,
    numbers_for_names,
    wrong_offsets,
    label_out_of_range,
]


@pytest.mark.slow
@pytest.mark.parametrize("change", TRICKS, ids=lambda f: f.__name__)
def test_a_strangers_file_is_refused_in_one_line_naming_it(tmp_path, change):
    with pytest.raises(FeatureFileError, match=r"f\.h5") as caught:
        FeatureFile(tampered(tmp_path, change))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 4


def test_what_is_no_feature_file_is_refused(tmp_path):
    (tmp_path / "page.h5").write_text("<html>404</html>")
    for name in ("page.h5", "absent.h5"):
        with pytest.raises(FeatureFileError, match=name):
            FeatureFile(tmp_path / name)


def shard(tmp_path, name, numbers, **fields):
    content = make_content(7, **fields)
    write_features(
        tmp_path / name,
        FeatureContent(
            content.recipe,
            [content.videos[n] for n in numbers],
            backbone_classes=content.backbone_classes,
            classes=[content.classes[n] for n in (1, 0)] if name == "b.h5" else content.classes,
            labels=[n % 2 for n in numbers],
        ),
    )
    return tmp_path / name


@pytest.mark.slow
def test_merged_shards_hold_every_video_once_in_order_with_its_own_class(tmp_path):
    a, b = shard(tmp_path, "a.h5", [0, 3, 4]), shard(tmp_path, "b.h5", [1, 2, 6])
    merged = merge_features([b, a], tmp_path / "all.h5")
    assert merged.ids == [f"a/{n:02d}é.mp4" for n in (0, 1, 2, 3, 4, 6)]
    names = [merged.classes[label] for label in merged.labels]
    assert names == ["jump", "jump", "run", "run", "jump", "run"]  # b.h5 lists its classes the other way round
    expected = make_content().videos
    for n, original in enumerate([0, 1, 2, 3, 4, 6]):
        assert_bitwise_equal(merged.video(n).descriptors, expected[original].descriptors)


def test_a_merge_never_overwrites_a_file(tmp_path):
    a, b = shard(tmp_path, "a.h5", [0, 3]), shard(tmp_path, "b.h5", [1])
    before = b.read_bytes()
    with pytest.raises(RefusedError, match="exists already"):
        merge_features([a], b)  # the output forgotten
    assert b.read_bytes() == before


@pytest.mark.slow
def test_classes_keep_their_order_where_all_shards_agree(tmp_path):
    for name, n in (("a.h5", 0), ("c.h5", 1)):
        content = make_content()
        one = FeatureContent(content.recipe, [content.videos[n]], classes=["run", "jump"], labels=[1])
        write_features(tmp_path / name, one)
    merged = merge_features([tmp_path / "a.h5", tmp_path / "c.h5"], tmp_path / "all.h5")
    assert merged.classes == ["run", "jump"]
    assert merged.labels.tolist() == [1, 1]


@pytest.mark.slow
def test_files_of_two_recipes_or_with_a_common_video_are_not_merged(tmp_path):
    a = shard(tmp_path, "a.h5", [0, 3])
    with pytest.raises(RecipeError, match=r'weights: "other" against "w"'):
        merge_features([a, shard(tmp_path, "b.h5", [1], recipe=RECIPE | {"weights": "other"})], tmp_path / "all.h5")
    with pytest.raises(RefusedError, match="disjoint"):
        merge_features([a, shard(tmp_path, "c.h5", [3])], tmp_path / "all.h5")
    assert not (tmp_path / "all.h5").exists()


@pytest.mark.slow
def test_walking_many_files_holds_no_file_open(tmp_path):
    """A long run leaves thousands of parts, a process may hold a thousand files."""
    for n in range(80):
        write_features(tmp_path / f"{n:02d}.h5", FeatureContent(RECIPE, [make_video(f"{n:02d}.mp4", num_clips=2)]))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, limits[1]))
    try:
        merged = merge_features(sorted(tmp_path.glob("*.h5")), tmp_path / "all.h5")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert merged.num_videos == 80
