"""The whole chain, video file to stored descriptors, against transformers alone: its processor, its forward pass."""

import json
import os

import av
import hf_models
import numpy as np
import pytest
import torch
from compare import relative_error
from hf_models import CLASSIFIERS, ENCODERS, run_processor
from videos import write_video

import gcf
from gcf import FeatureFile, extract_videos
from gcf.errors import RecipeError, UsageError
from gcf.extract.engines.ray_engine import _for_all_nodes

pytestmark = pytest.mark.slow

# float32 normalises in another order, and a network multiplies that; stored as float32
CHAIN = 1e-5
SIZES = {"wide.mp4": (50, 94), "tall.mp4": (94, 50)}  # 36 x 67 resized: half of the margin of 35 is 17, not 18
FRAMES = 11  # clips of 4 and 6 and a tail


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A folder of two short videos."""
    folder = tmp_path_factory.mktemp("clips")
    for seed, (name, size) in enumerate(SIZES.items()):
        write_video(folder / name, FRAMES, size=size, seed=seed)
    return folder


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A folder with a ViViT classifier, whose frames Pillow resizes: decoders need no torch, and start soon."""
    folder = tmp_path_factory.mktemp("hf") / "tuned"
    hf_models.saved(folder, *CLASSIFIERS["vivit"], "vivit")
    return folder


def frames_of(path):
    """Every frame of a video, as PyAV alone decodes it, (T, H, W, 3) uint8."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def expected_rows(model, processor, path, length):
    """Descriptors (C, D) and logits (C, K) by transformers; the last clip is filled by looping from its own start."""
    frames, caught = frames_of(path), []
    hook = model.classifier.register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    logits = []
    for start in range(0, len(frames), length):
        clip = frames[start : start + length]
        clip = clip[np.arange(length) % len(clip)]
        with torch.inference_mode():
            logits.append(model(**{model.main_input_name: run_processor(processor, clip)}).logits)
    hook.remove()
    return torch.cat(caught), torch.cat(logits)


@pytest.mark.parametrize("kind", ["videomae", "timesformer", "vivit", "vjepa2"])
def test_a_feature_file_holds_what_transformers_gives_for_the_same_frames(kind, clips, tmp_path, invoke):
    model = hf_models.saved(tmp_path / kind, *CLASSIFIERS[kind], kind)
    options = ["--dtype", "float32", "--precision", "fp32", "--device", "cpu", "--workers", "1", "--json"]
    code, out, _ = invoke("extract", clips, tmp_path / "f.h5", "--backbone", f"hf:{tmp_path / kind}", *options)
    assert code == 0
    assert json.loads(out)["videos"] == 2
    features = FeatureFile(tmp_path / "f.h5")
    length = features.recipe["num_frames"]
    for n, video_id in enumerate(features.ids):
        expected, logits = expected_rows(model, hf_models.processor(kind), clips / video_id, length)
        rows = slice(*features.offsets[n : n + 2])
        assert relative_error(features.descriptors[rows, 0], expected) < CHAIN
        assert relative_error(features.logits[rows].astype(np.float32), logits) < 1e-3  # stored as float16
    assert list(features.backbone_classes) == list(hf_models.NAMES)
    assert features.recipe["backbone"] == f"hf:./{kind}"


def test_an_encoder_gives_descriptors_and_no_logits(clips, tmp_path):
    hf_models.saved(tmp_path / "encoder", *ENCODERS["vivit"], "vivit")
    extract_videos(clips, tmp_path / "f.h5", backbone=f"hf:{tmp_path / 'encoder'}", device="cpu")
    features = FeatureFile(tmp_path / "f.h5")
    assert features.logits is None
    assert features.descriptors.shape == (4, 1, 32)
    with pytest.raises(UsageError, match="has no classifier of its own"):
        gcf.predict_videos("backbone", clips, backbone=f"hf:{tmp_path / 'encoder'}", device="cpu")


@pytest.fixture(scope="module")
def head(folder, tuned, tmp_path_factory):
    """A head on the descriptors of `tuned`, of six videos of two classes."""
    out = tmp_path_factory.mktemp("run") / "f.h5"
    extract_videos(folder, out, backbone=f"hf:{tuned}", device="cpu")
    return gcf.train_head(out, out.with_name("run"), epochs=1).path


def test_a_head_wants_its_folder_named_and_refuses_one_with_other_weights(
    head, tuned, clips, tmp_path, monkeypatch, invoke
):
    video = clips / "wide.mp4"
    gcf.predict_videos(head, video, backbone=f"hf:{tuned}", device="cpu")
    monkeypatch.chdir(tuned.parent)  # where the name that the recipe has is a place: it may be a stranger's
    code, out, err = invoke("predict", head, video, "--device", "cpu")
    assert (code, out) == (2, "")
    assert err.endswith("this head's network was a file or folder (hf:./tuned); name it with --backbone\n")
    assert len(err.splitlines()) == 1
    model = hf_models.saved(tmp_path / "tuned", *CLASSIFIERS["vivit"], "vivit")
    model.vivit.layernorm.bias.data[0] += 1
    model.save_pretrained(tmp_path / "tuned")
    with pytest.raises(RecipeError, match="weights_sha256"):
        gcf.predict_videos(head, video, backbone=f"hf:{tmp_path / 'tuned'}", device="cpu")


def test_the_networks_own_classifier_and_heat_maps_work(tuned, clips, tmp_path):
    predicted = gcf.predict_videos("backbone", clips, backbone=f"hf:{tuned}", device="cpu")
    assert len(list(predicted)) == 2
    gcf.localize_videos("backbone", clips / "wide.mp4", tmp_path / "out", backbone=f"hf:{tuned}", device="cpu")
    assert any((tmp_path / "out").iterdir())


def test_the_doctor_tries_its_pixels(tuned, folder, invoke):
    code, out, _ = invoke("doctor", "--backbone", f"hf:{tuned}", "--videos", folder, "--device", "cpu")
    assert code in (0, 1)
    assert "hf:./tuned: " in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--backbone", "hf:./none"], 2, "hf:./none: no such folder"),
        (["--backbone", "{tuned}", "--clip-frames", "16"], 2, "hf:./tuned takes clips of 6 frames only, not 16"),
        (["--backbone", "{tuned}", "--sampling", "trained"], 2, "does not say how many frames a second"),
        (["--backbone", "{tuned}", "--weights", "v2"], 2, "a folder has one state"),
        (["--backbone", "{tuned}", "--temporal-stride", "none"], 2, "has no stride in time that can be removed"),
    ],
)
def test_the_command_says_in_one_line_what_cannot_be_had(arguments, code, message, tuned, clips, tmp_path, invoke):
    given = [each.format(tuned=f"hf:{tuned}") for each in arguments]
    found, out, err = invoke("extract", clips, tmp_path / "f.h5", *given)
    assert (found, out) == (code, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "f.h5").exists()


def test_random_weights_extract_too(tuned, clips, tmp_path):
    extract_videos(clips, tmp_path / "f.h5", backbone=f"hf:{tuned}", weights="random", device="cpu")
    recipe = FeatureFile(tmp_path / "f.h5").recipe
    assert (recipe["backbone"], recipe["weights"]) == ("hf:./tuned", "random")


def test_augmented_views_come_out_in_the_networks_size(tuned, clips, tmp_path):
    extract_videos(clips, tmp_path / "f.h5", backbone=f"hf:{tuned}", views=3, device="cpu")
    assert FeatureFile(tmp_path / "f.h5").descriptors.shape == (4, 3, 32)


def test_workers_in_other_folders_are_given_a_whole_path(tuned, monkeypatch):
    monkeypatch.chdir(tuned.parent)
    assert _for_all_nodes("hf:./tuned") == f"hf:{tuned.resolve()}"
    assert _for_all_nodes("hf:MCG-NJU/videomae-base") == "hf:MCG-NJU/videomae-base"
    assert _for_all_nodes("my.py") == os.path.abspath("my.py")
    assert _for_all_nodes("resnext101") == "resnext101"
