"""What a network knows already: its own classifier is a head like any other, where it is linear."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import videos
from compare import FLOAT16_STORAGE, FLOAT32_FORWARD, assert_bitwise_equal, relative_error
from stage_one import TINY, extract
from torch import nn

import gcf.cli
from gcf import extract_videos
from gcf.data.features import FeatureFile
from gcf.errors import UsageError
from gcf.explain.localize import LocalizeConfig, localize_videos
from gcf.explain.predict import predict_videos
from gcf.explain.reading.described import trained
from gcf.explain.reading.own_classifier import own_classifier
from gcf.extract.stream.config import ExtractConfig
from gcf.extract.stream.pipeline import load_network

pytestmark = pytest.mark.slow

MINE = {"backbone": TINY, "device": "cpu", "workers": 1}
NUMBERS = LocalizeConfig(heat=False, overlay=False, sheet=False)
CLASSIFY = "return self.fc(descriptor)"


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A video of three clips, in a folder where nothing is named backbone."""
    return videos.write_video(tmp_path_factory.mktemp("own") / "v.avi", 40)


@pytest.fixture
def other(tmp_path):
    """The path of the tiny plug-in with parts of its text replaced."""

    def write(changes):
        text = Path(TINY).read_text()
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "other.py"
        path.write_text(text)
        return str(path)

    return write


def head_of(backbone):
    network, recipe = load_network(backbone, "default", ExtractConfig(device="cpu"))
    return own_classifier(network, recipe), network.backbone


@pytest.fixture
def invoke(invoke, tmp_path, monkeypatch):
    """The same in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return invoke


def test_weights_and_bias_are_those_of_the_network():
    head, backbone = head_of(TINY)
    own = head.module.classifier
    assert relative_error(own.weight.detach(), backbone.fc.weight.detach()) < FLOAT32_FORWARD
    assert relative_error(own.bias.detach(), backbone.fc.bias.detach()) < FLOAT32_FORWARD
    assert (head.classes, head.descriptor_width) == (("a", "b", "c", "d", "e"), 24)


def test_a_classifier_of_two_linear_layers_is_one(other):
    head, backbone = head_of(other({CLASSIFY: "return 2 * self.fc(3 * descriptor) - 1"}))
    assert relative_error(head.module.classifier.weight.detach(), 6 * backbone.fc.weight.detach()) < FLOAT32_FORWARD
    assert relative_error(head.module.classifier.bias.detach(), 2 * backbone.fc.bias.detach() - 1) < FLOAT32_FORWARD


@pytest.mark.parametrize(
    "answer",
    [
        "self.fc(descriptor).softmax(1)",
        "self.fc(descriptor.relu())",
        "self.fc(descriptor) / descriptor.norm(dim=1, keepdim=True)",
        "self.fc(descriptor) * float('nan')",
    ],
)
def test_a_classifier_that_is_not_linear_is_refused(other, answer):
    with pytest.raises(UsageError, match="not linear in the descriptor; train a head"):
        head_of(other({CLASSIFY: f"return {answer}"}))


def test_a_network_without_a_classifier_is_refused(other):
    with pytest.raises(UsageError, match="has no classifier of its own; train a head"):
        own_classifier(SimpleNamespace(backbone=nn.Identity()), {})
    with pytest.raises(UsageError, match="the network has no classify"):
        head_of(other({"def classify": "def other"}))


def test_classes_without_names_are_numbered(other):
    assert head_of(other({'    "classes": ["a", "b", "c", "d", "e"],\n': ""}))[0].classes[:2] == ("class 0", "class 1")


def test_the_answer_is_the_mean_of_what_the_network_says_of_all_clips(video, tmp_path):
    (found,) = localize_videos("backbone", video, config=NUMBERS, **MINE)
    extract(video, tmp_path / "f.h5")
    of_clips = np.asarray(FeatureFile(tmp_path / "f.h5").video(0).logits, np.float32).reshape(3, 5)
    assert relative_error(found.reading.logits, of_clips.mean(axis=0)) < FLOAT16_STORAGE
    bias = head_of(TINY)[0].module.classifier.bias.detach().numpy()
    assert found.reading.evidence_kind == "share"
    assert relative_error(found.reading.evidence.sum(axis=0) + bias, found.reading.logits) < FLOAT32_FORWARD
    assert relative_error(3 * found.reading.evidence + bias, of_clips) < 4 * FLOAT16_STORAGE
    ((name, share),) = predict_videos("backbone", video, top=1, **MINE)[0].classes
    assert (name, share) == (found.reading.classes[found.reading.top], found.reading.probabilities.max())


def test_clips_are_sampled_as_the_weights_were_trained_where_that_is_asked(video, other, tmp_path, invoke):
    sparse = other({'"num_frames": 16,': '"num_frames": 8, "trained_fps": 10,'})
    mine = MINE | {"backbone": sparse}
    (native,) = localize_videos("backbone", video, config=NUMBERS, **mine)
    (found,) = localize_videos("backbone", video, config=NUMBERS, sampling="trained", **mine)
    settings = {"device": "cpu", "workers": 1, "precision": "auto"}
    rows = extract_videos(video, tmp_path / "f.h5", backbone=sparse, sampling="trained", **settings)
    stored = FeatureFile(rows.path).video(0)
    assert (len(native.reading.evidence), len(found.reading.evidence)) == (5, 2)  # 40 frames at 25 a second
    assert relative_error(found.reading.logits, np.asarray(stored.logits, np.float32).mean(axis=0)) < FLOAT16_STORAGE
    assert_bitwise_equal(found.reading.clips.end_time, stored.clips.end_time)
    (predicted,) = predict_videos("backbone", video, sampling="trained", **mine)
    assert predicted.num_clips == 2
    options = ["--backbone", sparse, "--sampling", "trained", "--json"]
    code, out, err = invoke("predict", "backbone", video, *options)
    assert (code, json.loads(out)["videos"][0]["num_clips"]) == (0, 2), err
    assert invoke("localize", "backbone", video, *options, "--no-heat", "--no-overlay", "--no-sheet")[0] == 0
    assert len(Path("backbone-localized/clips.csv").read_text().splitlines()) == 1 + 2


def test_a_trained_head_says_itself_how_frames_are_taken(folder, tmp_path):
    features = extract(folder, tmp_path / "f.h5").path
    gcf.train_head(features, tmp_path / "run", epochs=1, audit=False)
    with pytest.raises(UsageError, match="sampling is for the word backbone"):
        predict_videos(tmp_path / "run", folder, sampling="trained", **MINE)


def test_both_commands_take_the_word_for_a_head(video, invoke):
    code, out, _ = invoke("predict", "backbone", video, "--backbone", TINY, "--json")
    assert code == 0
    (predicted,) = json.loads(out)["videos"]
    code, out, err = invoke("localize", "backbone", video, "--backbone", TINY, "--json", "--channels", "positive")
    assert code == 0, err
    (localized,) = json.loads(out)["videos"]
    assert localized["top"] == predicted["classes"]
    assert {path.name for path in Path("backbone-localized").iterdir()} > {"v.avi.mp4", "v.avi.png", "v.avi.npz"}
    assert json.loads(Path("backbone-localized/localization.json").read_bytes())["head"] == "backbone"


def test_what_it_needs_is_said_in_one_line(video, invoke):
    extract(video, "f.h5")
    for command in ("predict", "localize"):
        for args, text in (((video,), "which backbone? name it"), (("f.h5", "--backbone", TINY), "needs videos")):
            code, out, err = invoke(command, "backbone", *args)
            assert (code, out) == (2, "")
            (line,) = err.splitlines()
            assert text in line
    assert not Path("backbone-localized").exists()


def test_a_folder_of_that_name_is_a_head(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert trained("backbone") == trained(Path("backbone")) == "backbone"
    Path("backbone").mkdir()
    with pytest.raises(gcf.errors.GcfError, match=re.escape("backbone")):
        trained("backbone")


def test_the_real_plug_in_names_what_is_done(real):
    (found,) = localize_videos(
        "backbone",
        real / "videos" / "ucf101_v_Punch_g03_c01.avi",
        config=NUMBERS,
        backbone=str(real / "x3d_xs" / "x3d_xs.py"),
        device="cpu",
        workers=1,
        batch_size=1,
    )
    assert found.reading.classes[found.reading.top] == "punching person (boxing)"
    assert len(found.reading.evidence) == 7
