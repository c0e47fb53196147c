"""What a head reads is the same from videos and from the feature file that was made of them; all else is refused."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from caches import easy_cache
from compare import assert_bitwise_equal
from stage_one import TINY, extract

import gcf
from gcf import FeatureFile
from gcf.errors import FeatureFileError, GcfError, HeadError, RecipeError, UsageError
from gcf.explain.reading import described
from gcf.explain.reading.described import find_sources, open_source
from gcf.extract.backbones.published import PACKAGED_FILE
from gcf.extract.decoding.find import VideoPath
from gcf.extract.decoding.pool import Failed
from gcf.extract.network import precision
from gcf.extract.network.clip_network import ClipNetwork
from gcf.extract.weights.cache import cached_path

pytestmark = pytest.mark.processor

PACKAGED = cached_path(PACKAGED_FILE)
MINE = {"backbone": TINY, "device": "cpu"}


@pytest.fixture(scope="module")
def head(features):
    return gcf.train_head(features, features.with_name("run"), epochs=1).head


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setattr(described, "load_network", lambda *_: pytest.fail("a network was loaded"))


def joined_to(head, count: int):
    """A head that looks as if it was trained on `count` joined files of the same recipe."""
    return replace(head, recipe={"joined": [head.recipe] * count}, descriptor_width=count * head.descriptor_width)


@pytest.mark.slow
def test_rows_are_the_same_bits_from_videos_and_from_their_feature_file(head, folder, features):
    described_now, stored = open_source(head, folder, **MINE), open_source(head, features)
    assert [v.id for v in described_now.found] == FeatureFile(features).ids
    assert len(described_now) == len(stored) == 6
    assert stored.found == ()
    assert stored.network is stored.config is None
    assert stored.recipe == FeatureFile(features).recipe
    fresh, kept = dict(described_now), dict(stored)
    assert fresh.keys() == kept.keys()
    for video_id, video in fresh.items():
        other = kept[video_id]
        assert_bitwise_equal(video.descriptors, other.descriptors)
        assert_bitwise_equal(video.clips.start_time, other.clips.start_time)
        assert_bitwise_equal(head(video).logits, head(other).logits)


@pytest.mark.slow
def test_a_feature_file_is_known_by_its_name_or_its_content_and_needs_no_network(head, features, tmp_path, no_network):
    copy = tmp_path / "features.of-today"
    copy.write_bytes(features.read_bytes())
    for source in (features, str(features), [features], copy, FeatureFile(copy)):
        assert len(list(open_source(head, source))) == 6
    with pytest.raises(FeatureFileError, match=r"none\.h5: no such file; gcf extract makes one"):
        open_source(head, tmp_path / "none.h5")
    (tmp_path / "bad.h5").write_text("text")
    with pytest.raises(FeatureFileError, match="not a readable feature file"):
        open_source(head, tmp_path / "bad.h5")


def test_folders_and_pipes_are_not_read_as_feature_files(folder, tmp_path):
    (tmp_path / "videos.h5").symlink_to(folder)
    assert len(find_sources(tmp_path / "videos.h5")) == 6
    os.mkfifo(tmp_path / "pipe.mp4")
    assert find_sources(tmp_path / "pipe.mp4") == [VideoPath(str(tmp_path / "pipe.mp4"), "pipe.mp4")]


@pytest.mark.slow
def test_failures_of_a_feature_file_are_passed_on(head, tmp_path, no_network):
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "b.mp4").write_bytes(b"")
    extract(tmp_path / "v", tmp_path / "f.h5")
    source = open_source(head, tmp_path / "f.h5")
    assert list(source) == [("b.mp4", Failed("empty"))]
    assert len(source) == 1


def test_what_the_head_was_not_trained_on_is_refused(head, folder, features, tmp_path):
    other = replace(head, recipe=head.recipe | {"crop": 30})
    with pytest.raises(RecipeError, match=r"f\.h5: extracted by another recipe .*crop: 30 against 32"):
        open_source(other, features)
    with pytest.raises(RecipeError, match=r"not what this head was trained on: crop: 32 against 30"):
        open_source(other, folder, **MINE)
    with pytest.raises(HeadError, match="descriptors of 24 channels, this head takes 12"):
        open_source(replace(head, descriptor_width=12), features)
    silent = replace(head, recipe={k: v for k, v in head.recipe.items() if k not in ("tail", "weights")})
    with pytest.raises(RecipeError, match="does not say tail, weights: gcf extract has not made them"):
        open_source(silent, folder, **MINE)


def with_network(head, name):
    """The head as if it came from elsewhere, with that name for its network."""
    return replace(head, recipe=head.recipe | {"backbone": name})


STRANGERS = (
    "stranger/net.py",
    "net.py",
    "hf:./stranger",
    "hf:stranger/..",
    "hf:/stranger",
    "./stranger",
    ["net.py"],
    None,
)


@pytest.mark.parametrize("name", STRANGERS)
def test_a_file_or_folder_that_only_a_head_names_is_neither_run_nor_read(name, head, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stranger").mkdir()
    for place in ("stranger/net.py", "net.py"):
        (tmp_path / place).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n" + Path(TINY).read_text())
    with pytest.raises(UsageError, match=r"was a file or folder .*; name it with --backbone"):
        open_source(with_network(head, name), folder, device="cpu")
    assert not (tmp_path / "ran").exists()


def test_what_a_head_has_from_the_hub_is_said_before_it_is_fetched(head, folder, monkeypatch, caplog):
    asked = []
    monkeypatch.setattr(described, "load_network", lambda *given: asked.append(given[:2]) or (None, head.recipe))
    caplog.set_level("INFO", logger="gcf")
    trained = replace(head, recipe=head.recipe | {"backbone": "hf:someone/net", "weights": "1" * 40})
    with pytest.raises(RecipeError, match="not what this head was trained on"):
        open_source(trained, folder, device="cpu")
    assert asked == [("hf:someone/net", "1" * 40)]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert said[0].startswith(f"this head's network is hf:someone/net at {'1' * 40}: what the cache lacks")
    caplog.clear()
    open_source(replace(head, recipe=head.recipe), folder, backbone="hf:someone/net", device="cpu")
    assert not caplog.records


@pytest.fixture
def listed(monkeypatch):
    """What a network was asked for; nothing is loaded."""
    asked = []
    monkeypatch.setattr(described, "load_network", lambda *given: asked.append(given) or (None, {"precision": "fp32"}))
    return asked


WEIGHTS_FILES = (
    "/etc/passwd",
    "mine.pth",
    "./primitives",
    "primitives/../mine.pth",
    "primitives.pth",
    "../primitives",
    "",
    5,
    ["primitives"],
    None,
)


@pytest.mark.parametrize("weights", WEIGHTS_FILES)
def test_a_file_of_weights_that_only_a_head_names_is_not_opened(weights, head, folder, tmp_path, monkeypatch, listed):
    monkeypatch.chdir(tmp_path)
    for name in ("mine.pth", "primitives"):
        (tmp_path / name).write_bytes(b"weights")
    recipe = {"backbone": "shufflenetv2_0.25x", "weights": weights, "weights_sha256": "5" * 64}
    other = replace(head, recipe=head.recipe | recipe)
    with pytest.raises(HeadError, match=r"this head's weights were a file .*; name it with --weights") as caught:
        open_source(other, folder, device="cpu")
    assert "/" not in str(caught.value)
    assert not listed
    with pytest.raises(RecipeError, match="weights_sha256"):
        open_source(other, folder, weights=str(tmp_path / "mine.pth"), device="cpu")
    assert listed[0][:2] == ("shufflenetv2_0.25x", str(tmp_path / "mine.pth"))


@pytest.mark.slow
def test_a_file_of_weights_that_is_named_again_must_be_the_one_of_the_training(head, folder, tmp_path):
    recipe = {"backbone": "shufflenetv2_0.25x", "weights": "mine.safetensors", "weights_sha256": "5" * 64}
    shutil.copyfile(PACKAGED, tmp_path / "mine.safetensors")
    with pytest.raises(RecipeError, match=f'weights_sha256: "[0-9a-f]{{64}}" against "{"5" * 64}"'):
        open_source(
            replace(head, recipe=head.recipe | recipe), folder, weights=str(tmp_path / "mine.safetensors"), device="cpu"
        )


@pytest.mark.parametrize("weights", ["primitives", "random"])
def test_weights_that_gcf_itself_has_need_no_naming(weights, head, folder, listed):
    trained = replace(head, recipe=head.recipe | {"backbone": "shufflenetv2_0.25x", "weights": weights})
    with pytest.raises(RecipeError):
        open_source(trained, folder, device="cpu")
    assert listed[0][:2] == ("shufflenetv2_0.25x", weights)


def test_an_installed_package_is_named_by_a_head_and_brings_its_weights(head, folder, listed):
    trained = replace(head, recipe=head.recipe | {"backbone": "installed", "weights": "plug-in"})
    with pytest.raises(RecipeError):
        open_source(trained, folder, device="cpu")
    assert listed[0][:2] == ("installed", "default")


@pytest.mark.parametrize("commit", ["main", "v2", "1" * 39, "refs/pr/1", "random", None])
def test_of_the_hub_a_head_can_only_name_a_commit(commit, head, folder, listed):
    trained = replace(head, recipe=head.recipe | {"backbone": "hf:someone/net", "weights": commit})
    with pytest.raises(HeadError, match=r"someone/net of the hub at .*, which is no commit"):
        open_source(trained, folder, device="cpu")
    assert not listed
    pinned = replace(head, recipe=trained.recipe | {"weights": "1" * 40})
    with pytest.raises(RecipeError):
        open_source(pinned, folder, device="cpu")
    assert (listed[0][:2], listed[0][3:]) == (("hf:someone/net", "1" * 40), ("safetensors",))


def test_a_folder_here_is_not_taken_for_a_repository_that_a_head_names(head, folder, tmp_path, monkeypatch, listed):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "someone" / "net").mkdir(parents=True)
    trained = replace(head, recipe=head.recipe | {"backbone": "hf:someone/net", "weights": "1" * 40})
    with pytest.raises(UsageError, match=r"was a file or folder \(hf:someone/net\); name it with --backbone"):
        open_source(trained, folder, device="cpu")
    assert not listed


def test_a_plug_in_that_is_not_the_one_of_the_training_is_not_run(head, folder, tmp_path):
    path = tmp_path / "tiny_backbone.py"
    path.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n" + Path(TINY).read_text())
    with pytest.raises(RecipeError, match='not what this head was trained on: plugin_sha256: "'):
        open_source(head, folder, backbone=str(path), device="cpu")
    path.write_text(path.read_text().replace('"RGB"', '"BGR"'))  # told as well, from the text
    with pytest.raises(RecipeError, match='trained on: channel_order: "BGR" against "RGB"; plugin_'):
        open_source(head, folder, backbone=str(path), device="cpu")
    path.write_text("def broken(")
    with pytest.raises(RecipeError, match="trained on: plugin_sha256"):
        open_source(head, folder, backbone=str(path), device="cpu")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "damage",
    [
        {"tail": "else"},
        {"precision": "fp8"},
        {"dtype": None},
        {"runtime": "abacus"},
        {"temporal_stride": "two"},
        {"sampling": "often"},
        {"batch_size": 0},
        {"num_frames": "x"},
    ],
    ids=str,
)
def test_settings_that_only_a_head_has_wrong_are_the_heads_fault(damage, head, folder, listed):
    with pytest.raises(HeadError, match=r"recipe of this head's features is damaged: .*; train the head again"):
        open_source(replace(head, recipe=head.recipe | damage), folder, **MINE)
    with pytest.raises(UsageError, match="deadline"):
        open_source(head, folder, deadline=-1, **MINE)
    assert not listed


def test_float32_stands_in_for_a_precision_that_this_machine_has_not(head, folder, monkeypatch, caplog):
    def only_float32(backbone, **options):
        if options["precision"] != "fp32":
            raise RuntimeError("no such instruction")
        return ClipNetwork(backbone, **options)

    monkeypatch.setattr(precision, "ClipNetwork", only_float32)
    trained = replace(head, recipe=head.recipe | {"precision": "bf16", "folded": True, "precision_cosine": 0.9999})
    source = open_source(trained, folder, **MINE)
    assert source.recipe["precision"] == "fp32"
    assert "bf16 cannot be used (no such instruction); float32 is used instead" in caplog.text
    monkeypatch.undo()
    half = replace(head, recipe=head.recipe | {"precision": "bf16"})
    monkeypatch.setattr(described, "load_network", lambda *_: (None, half.recipe))
    with pytest.raises(RecipeError, match='precision: "bf16" against "fp32"'):
        open_source(head, folder, **MINE)


def test_videos_and_feature_files_do_not_mix(head, folder, features):
    with pytest.raises(UsageError, match="videos or a feature file, not both"):
        open_source(head, [folder / "run", features])
    with pytest.raises(UsageError, match="no videos given"):
        open_source(head, [])
    with pytest.raises(GcfError, match="no such file or folder"):
        open_source(head, folder / "none.avi")


@pytest.mark.slow
def test_a_head_of_joined_files_reads_as_many_of_them(head, features, folder, tmp_path, no_network):
    two = joined_to(head, 2)
    first, second = open_source(two, [features, features]), dict(open_source(head, features))
    assert len(first) == 6
    for video_id, video in first:
        own = second[video_id]
        assert_bitwise_equal(video.descriptors, np.concatenate([own.descriptors] * 2, axis=2))
        assert video.clips.start_frame.tolist() == own.clips.start_frame.tolist()
        assert video.info == own.info
    with pytest.raises(RecipeError, match="reads 2 feature files at a time, 1 was given"):
        open_source(two, features)
    with pytest.raises(RecipeError, match="reads 1 feature file at a time, 2 were given"):
        open_source(head, [features, features])
    with pytest.raises(RecipeError, match="descriptors of 2 networks side by side"):
        open_source(two, folder)


@pytest.mark.slow
def test_videos_that_are_not_in_all_joined_files_are_counted(head, features, folder, tmp_path, caplog):
    extract(folder / "run", tmp_path / "part.h5")
    both = FeatureFile(features)
    ids = [name.removeprefix("run/") for name in both.ids]
    both.ids = [name if name.startswith("v") else f"x{name}" for name in ids]
    source = open_source(joined_to(head, 2), gcf.data.joined.join_features([both, FeatureFile(tmp_path / "part.h5")]))
    assert len(list(source)) == 3
    assert "3 videos are not in all of these feature files" in caplog.text


@pytest.mark.slow
def test_other_videos_go_through_the_network_that_is_loaded(head, folder, monkeypatch):
    source = open_source(head, folder / "run", **MINE)
    monkeypatch.setattr(described, "load_network", lambda *_: pytest.fail("loaded again"))
    (more,) = [v for v in find_sources(folder / "jump") if "g01" in v.id]
    ((video_id, video),) = source.describe([more])
    assert video_id == "v_jump_g01_c01.avi"
    assert len(video.descriptors) == 2
    assert list(source.describe([])) == []


def test_an_empty_cache_of_another_width_is_no_match(head, tmp_path):
    with pytest.raises(RecipeError, match="another recipe"):
        open_source(head, easy_cache(tmp_path / "g.h5", width=24))


@pytest.mark.parametrize(
    ("recorded", "runtime", "batch_size"),
    [
        ({"runtime": "torch", "batch_size": 4}, "torch", 4),  # its bits can be repeated
        ({"runtime": "openvino", "batch_size": 1}, "auto", 1),
        ({"runtime": "openvino", "batch_size": 1, "device": "cuda"}, "auto", None),
        ({"runtime": "torch", "batch_size": 32, "device": "cuda"}, "auto", None),
        ({"batch_size": 2}, "auto", None),  # of a version that knew one runtime
        ({"runtime": "openvino", "batch_size": 1, "precision": "bf16"}, "openvino", 1),
    ],
)
def test_the_network_of_a_head_is_computed_as_its_features_were_where_that_can_be(head, recorded, runtime, batch_size):
    recipe = {name: value for name, value in head.recipe.items() if name != "runtime"}
    config = described._config(recipe | {"device": "cpu", "precision": "fp32"} | recorded, {"device": "cpu"})
    assert (config.runtime, config.batch_size) == (runtime, batch_size)


@pytest.mark.slow
def test_float32_by_the_other_runtime_is_said(head, folder, features, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(described, "_in_float32", lambda _, config: replace(config, runtime="openvino"))
    source = open_source(head, folder, **MINE)
    assert source.recipe["runtime"] == "openvino"
    assert 'runtime: "openvino" against "torch", these videos before the head' in caplog.text
    stored = dict(open_source(head, features))
    for video_id, video in source:
        np.testing.assert_allclose(video.descriptors, stored[video_id].descriptors, rtol=2e-3, atol=1e-5)  # float16


@pytest.mark.slow
def test_float32_stands_in_where_openvino_is_not_to_be_had(head, folder, monkeypatch, caplog):
    monkeypatch.setattr("gcf.extract.network.precision.openvino_fault", lambda: "it is not installed")
    other = replace(head, recipe=head.recipe | {"precision": "bf16", "runtime": "openvino", "device": "cpu"})
    source = open_source(other, folder, **MINE)
    assert (source.recipe["precision"], source.recipe["runtime"]) == ("fp32", "torch")
    assert "it is not installed; float32 takes its place" in caplog.text
    assert len(dict(source)) == 6
