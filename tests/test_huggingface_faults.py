"""Names, folders and checkpoints that cannot be used: one line that says what, where, and what to do."""

import hashlib
import json
import logging
from pathlib import Path

import hf_models
import pytest
import torch
from hf_models import CLASSIFIERS, ENCODERS
from safetensors.torch import load_file, save_file
from transformers import TimesformerForVideoClassification

from gcf.errors import UsageError, WeightsError
from gcf.extract.backbones import load_backbone


@pytest.fixture
def tuned(tmp_path):
    """A folder with a VideoMAE classifier, to be spoilt."""
    hf_models.saved(tmp_path / "tuned", *CLASSIFIERS["videomae"], "videomae")
    return tmp_path / "tuned"


def change_weights(folder, change):
    state = load_file(folder / "model.safetensors")
    save_file(change(state), folder / "model.safetensors", metadata={"format": "pt"})


def change_config(folder, **entries):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def without(name):
    return lambda state: {key: tensor for key, tensor in state.items() if key != name}


def refused(error, folder, **options) -> str:
    """What is said, which is one line that begins with the place."""
    with pytest.raises(error) as found:
        load_backbone(f"hf:{folder}", **options)
    said = str(found.value)
    assert said.startswith("hf:./tuned: ")
    assert "\n" not in said
    return said


@pytest.mark.slow
@pytest.mark.parametrize("name", ["classifier.bias", "videomae.encoder.layer.1.output.dense.weight", "fc_norm.weight"])
def test_a_parameter_that_the_checkpoint_lacks_is_an_error_and_not_left_to_chance(tuned, name):
    change_weights(tuned, without(name))
    said = refused(WeightsError, tuned)
    assert f"its weights do not fit its VideoMAEForVideoClassification: 1 missing ({name})" in said


def test_transformers_own_report_of_missing_parameters_is_not_shown_and_its_level_is_put_back(tuned, monkeypatch):
    change_weights(tuned, without("classifier.bias"))
    shown, handler = [], logging.Handler()
    handler.emit = shown.append
    logger = logging.getLogger("transformers")
    monkeypatch.setattr(logger, "handlers", [handler])
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        refused(WeightsError, tuned)
        assert shown == []
        assert logger.level == logging.INFO
    finally:
        logger.setLevel(before)


def test_a_tensor_that_has_no_place_in_the_network_is_an_error(tuned):
    change_weights(tuned, lambda state: state | {"head.weight": torch.zeros(3)})
    assert "1 not of this network (head.weight)" in refused(WeightsError, tuned)


def test_tensors_of_another_shape_are_an_error(tuned):
    change_weights(tuned, lambda state: state | {"classifier.bias": torch.zeros(5)})
    assert "1 of another shape (classifier.bias)" in refused(WeightsError, tuned)


@pytest.mark.slow
def test_an_encoder_may_come_with_the_parts_around_it_but_not_with_more_layers_than_it_has(tmp_path):
    hf_models.saved(tmp_path / "tuned", *ENCODERS["videomae-pretraining"], "videomae")
    load_backbone(f"hf:{tmp_path / 'tuned'}")
    change_config(tmp_path / "tuned", num_hidden_layers=1)
    assert "15 not of this network (videomae.encoder.layer.1.attention" in refused(WeightsError, tmp_path / "tuned")
    change_config(tmp_path / "tuned", num_hidden_layers=3)
    assert "missing (encoder.layer.2.attention" in refused(WeightsError, tmp_path / "tuned")


@pytest.mark.slow
def test_what_the_descriptor_does_not_need_may_be_missing(tmp_path):
    hf_models.saved(tmp_path / "tuned", *CLASSIFIERS["vjepa2"], "vjepa2")
    digest = load_backbone(f"hf:{tmp_path / 'tuned'}").recipe["weights_sha256"]
    change_weights(tmp_path / "tuned", lambda state: {k: tensor for k, tensor in state.items() if "predictor" not in k})
    assert load_backbone(f"hf:{tmp_path / 'tuned'}").recipe["weights_sha256"] == digest


def test_a_damaged_file_of_weights_is_named(tuned):
    path = tuned / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert "model.safetensors: not a readable safetensors file (" in refused(WeightsError, tuned)


@pytest.mark.slow
def test_code_in_a_checkpoint_is_not_run(tuned, tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    (tuned / "model.safetensors").unlink()
    torch.save({"classifier.bias": Trap()}, tuned / "pytorch_model.bin")
    assert "pytorch_model.bin: refused: it asks to run " in refused(WeightsError, tuned)
    assert not (tmp_path / "sprung").exists()


def test_code_beside_a_checkpoint_is_not_run(tuned, tmp_path):
    (tuned / "mine.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')")
    change_config(tuned, auto_map={"AutoConfig": "mine.C", "AutoModelForVideoClassification": "mine.M"})
    load_backbone(f"hf:{tuned}")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.slow
def test_weights_that_are_pickled_tensors_are_read(tuned):
    digest = load_backbone(f"hf:{tuned}").recipe["weights_sha256"]
    torch.save(load_file(tuned / "model.safetensors"), tuned / "pytorch_model.bin")
    (tuned / "model.safetensors").unlink()
    assert load_backbone(f"hf:{tuned}").recipe["weights_sha256"] == digest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda d: (d / "config.json").unlink(), WeightsError, "has no config.json; name a model's repository"),
        (lambda d: (d / "config.json").write_text("{"), WeightsError, "cannot be loaded (JSONDecodeError"),
        (lambda d: (d / "config.json").write_text("[]"), WeightsError, "config.json holds no JSON object; it should"),
        (lambda d: (d / "config.json").write_text("3"), WeightsError, "config.json holds no JSON object; it should"),
        (
            lambda d: (d / "model.safetensors").unlink(),
            WeightsError,
            "has no weights: neither model.safetensors nor pyt",
        ),
        (lambda d: (d / "preprocessor_config.json").unlink(), WeightsError, "which pixels it wants is not known"),
        (lambda d: (d / "preprocessor_config.json").write_text("{"), WeightsError, "cannot be loaded ("),
        (
            lambda d: change_config(d, model_type="bert"),
            UsageError,
            "is of type 'bert'; known: videomae, timesformer, ",
        ),
        (lambda d: change_config(d, model_type="mine"), UsageError, "is of type 'mine'; known: "),
        (lambda d: change_config(d, model_type=None), UsageError, "is of type None; known: "),
        (lambda d: change_config(d, transformers_weights="other.safetensors"), UsageError, "(transformers_weights)"),
        (lambda d: change_config(d, num_channels=1), UsageError, "it takes 1 channels, not RGB"),
        (
            lambda d: hf_models.VideoMAEImageProcessor(size={"shortest_edge": 48}, crop_size=40).save_pretrained(d),
            UsageError,
            "its processor crops [40, 40], its network takes 32x32 pixels",
        ),
    ],
)
def test_what_a_folder_lacks_or_asks_is_said_in_one_line(tuned, spoil, error, message):
    spoil(tuned)
    assert message in refused(error, tuned)


def test_a_network_of_other_channels_is_refused_whatever_its_configuration_calls_them(tmp_path):
    hf_models.saved(tmp_path / "tuned", *CLASSIFIERS["vjepa2"], "vjepa2")
    change_config(tmp_path / "tuned", in_chans=1)
    assert "it takes 1 channels, not RGB" in refused(UsageError, tmp_path / "tuned")


def test_a_network_that_answers_for_frames_and_not_for_clips_is_refused(tmp_path):
    config = hf_models.timesformer(attention_type="space_only", **hf_models.LABELS)
    hf_models.saved(tmp_path / "tuned", TimesformerForVideoClassification, config, "timesformer")
    assert "it answers for each frame, not for the clip" in refused(UsageError, tmp_path / "tuned")


@pytest.mark.slow
@pytest.mark.parametrize("entry", [{"num_attention_heads": 4}, {"hidden_act": "relu"}, {"layer_norm_eps": 0.1}])
def test_a_configuration_that_changes_the_numbers_and_no_tensor_changes_the_recipe(tuned, entry):
    before = load_backbone(f"hf:{tuned}").recipe
    change_config(tuned, **entry)
    after = load_backbone(f"hf:{tuned}").recipe
    assert after["weights_sha256"] == before["weights_sha256"]
    assert after["config_sha256"] != before["config_sha256"]


@pytest.mark.slow
def test_names_of_classes_and_marks_of_versions_change_nothing_but_the_classes(tuned):
    before = load_backbone(f"hf:{tuned}").recipe
    change_config(tuned, id2label={"0": "a", "1": "b", "2": "c"}, transformers_version="5.0.0", new_entry=1)
    assert load_backbone(f"hf:{tuned}").recipe == before | {"classes": ["a", "b", "c"]}


@pytest.mark.slow
def test_the_digest_of_weights_is_that_of_the_file_whatever_the_modules_are_called_and_tells_where_tensors_sit(tuned):
    """Restated: names, types, shapes and bytes in the order of the names in the file, which no version changes."""
    state, expected = load_file(tuned / "model.safetensors"), hashlib.sha256()
    for name in sorted(state):
        expected.update(f"{name}\0torch.float32\0{tuple(state[name].shape)}\0".encode() + state[name].numpy().tobytes())
    digest = load_backbone(f"hf:{tuned}").recipe["weights_sha256"]
    assert digest == expected.hexdigest()
    query, key = (f"videomae.encoder.layer.0.attention.attention.{part}.weight" for part in ("query", "key"))
    change_weights(tuned, lambda state: state | {query: state[key], key: state[query]})
    assert load_backbone(f"hf:{tuned}").recipe["weights_sha256"] != digest


@pytest.mark.slow
def test_shards_have_the_digest_of_the_whole_and_one_that_is_not_there_is_named(tuned):
    digest = load_backbone(f"hf:{tuned}").recipe["weights_sha256"]
    model = hf_models.built(*CLASSIFIERS["videomae"])
    (tuned / "model.safetensors").unlink()
    model.save_pretrained(tuned, max_shard_size="20KB")
    shards = sorted(tuned.glob("model-*.safetensors"))
    assert len(shards) > 2
    assert load_backbone(f"hf:{tuned}").recipe["weights_sha256"] == digest
    shards[1].unlink()
    assert f"has no {shards[1].name}, which its model.safetensors.index.json names" in refused(WeightsError, tuned)


def test_a_revision_cannot_be_asked_of_a_folder(tuned):
    assert "weights 'v2' cannot be asked of it" in refused(UsageError, tuned, weights="v2")


UNUSABLE = ("hf:~nouser/x", f"hf:./{'x' * 300}", f"hf:{'x' * 300}", "hf:a\0b", "hf:a/..")


@pytest.mark.parametrize(
    "name", ["hf:", "hf:./none", "hf:/no/where", "hf:a/b/c", "hf:~/none here", "hf:-x/y", *UNUSABLE]
)
def test_a_name_that_is_neither_folder_nor_repository_is_refused_without_asking_anybody(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no such folder, and no repository's name; give hf:OWNER/NAME"):
        load_backbone(name)


def test_removing_strides_in_time_is_refused(tuned):
    with pytest.raises(UsageError, match=r"hf:\./tuned has no stride in time that can be removed"):
        load_backbone(f"hf:{tuned}", temporal_stride="none")


@pytest.mark.slow
def test_an_old_form_of_the_processors_file_is_understood(tuned):
    """As the first published models have it: a feature extractor, and sizes that are numbers."""
    before = load_backbone(f"hf:{tuned}").recipe
    old = {"feature_extractor_type": "VideoMAEFeatureExtractor", "size": 36, "crop_size": 32, "resample": 2}
    old |= {f"do_{step}": True for step in ("resize", "center_crop", "normalize")}
    old |= {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    (tuned / "preprocessor_config.json").write_text(json.dumps(old))
    assert load_backbone(f"hf:{tuned}").recipe == before


@pytest.mark.slow
def test_a_folder_is_called_by_its_own_name_from_wherever_it_is_asked_for(tuned, monkeypatch):
    expected = load_backbone(f"hf:{tuned}").recipe
    monkeypatch.chdir(tuned.parent)
    for name in ("hf:tuned", "hf:./tuned", "hf:tuned/", "hf:../" + tuned.parent.name + "/tuned"):
        assert load_backbone(name).recipe == expected
    monkeypatch.chdir(tuned)
    assert load_backbone("hf:.").recipe == expected
    assert load_backbone("hf:.", weights="tuned").recipe == expected  # as the recipe calls them


@pytest.mark.slow
@pytest.mark.parametrize("said", [None, [], ["VideoMAEForPreTraining"], ["VideoMAEModel"], ["Mine"]])
def test_a_classifier_is_not_dropped_where_the_configuration_does_not_speak_of_one(said, tuned):
    change_config(tuned, architectures=said)
    advice = (
        '; if they are a classifier\'s, "architectures": ["VideoMAEForVideoClassification"] must stand in its config'
    )
    for name in (None, "classifier.weight", "classifier.bias"):
        change_weights(tuned, without(name))
        assert advice in refused(WeightsError, tuned)
    change_weights(tuned, without("fc_norm.weight"))
    assert "its VideoMAEModel: 1 not of this network (fc_norm.bias)" + advice in refused(WeightsError, tuned)
    change_weights(tuned, without("fc_norm.bias"))
    assert not hasattr(load_backbone(f"hf:{tuned}"), "classify")


def test_other_parts_than_a_classifier_are_known_by_what_the_configuration_says(tmp_path):
    hf_models.saved(tmp_path / "tuned", *ENCODERS["videomae-pretraining"], "videomae")
    change_config(tmp_path / "tuned", architectures=None)
    said = refused(WeightsError, tmp_path / "tuned")
    assert "its weights do not fit its VideoMAEModel: 21 not of this network (decoder." in said
    assert "classifier" not in said


UNEVEN = [
    ("videomae", {"num_frames": 5}, "(T, H, W) = (5, 32, 32) are no whole number of its patches of (2, 8, 8)"),
    ("videomae", {"image_size": 36}, "(T, H, W) = (4, 36, 36) are no whole number of its patches of (2, 8, 8)"),
    ("timesformer", {"image_size": 36}, "(T, H, W) = (3, 36, 36) are no whole number of its patches of (1, 8, 8)"),
    ("vivit", {"num_frames": 7}, "(T, H, W) = (7, 32, 32) are no whole number of its patches of (2, 8, 8)"),
    ("vivit", {"image_size": 36}, "(T, H, W) = (6, 36, 36) are no whole number of its patches of (2, 8, 8)"),
    ("vjepa2", {"frames_per_clip": 5}, "(T, H, W) = (5, 32, 32) are no whole number of its patches of (2, 8, 8)"),
    ("vjepa2", {"crop_size": 36}, "(T, H, W) = (4, 36, 36) are no whole number of its patches of (2, 8, 8)"),
    ("vjepa2", {"frames_per_clip": 0}, "(T, H, W) = (0, 32, 32) are no whole number of its patches of (2, 8, 8)"),
]


@pytest.mark.parametrize(("kind", "entries", "message"), UNEVEN)
def test_clips_that_patches_do_not_fill_are_refused_at_loading(kind, entries, message, tmp_path):
    hf_models.saved(tmp_path / "tuned", *CLASSIFIERS[kind], kind)
    change_config(tmp_path / "tuned", **entries)
    assert f"this {kind} cannot be used: its clips of {message}" in refused(UsageError, tmp_path / "tuned")
