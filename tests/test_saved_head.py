import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from caches import RECIPE, easy_cache, write_cache
from compare import assert_bitwise_equal
from small_heads import TRAINING, some_head

from gcf.errors import HeadError, RecipeError
from gcf.head.models.config import PRESETS
from gcf.head.models.saved import load_head, save_head


def clips(count=6, width=12):
    return torch.randn(2, count, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_a_head_comes_back_as_it_was(tmp_path, name):
    head = some_head(name)
    save_head(tmp_path / "run", head)
    found = load_head(tmp_path / "run")
    assert (found.config, found.classes, found.recipe, found.training) == (
        head.config,
        head.classes,
        head.recipe,
        head.training,
    )
    mask = torch.tensor([[True] * 6, [True] * 2 + [False] * 4])
    for part in ("logits", "gate", "evidence", "attention"):
        one, other = getattr(head(clips(), mask), part), getattr(found(clips(), mask), part)
        assert (one is None) == (other is None)
        if one is not None:
            assert_bitwise_equal(one, other)


def test_nothing_but_the_two_files_is_needed_and_neither_is_a_pickle(tmp_path):
    save_head(tmp_path / "run", some_head())
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["head.json", "head.safetensors"]
    assert safetensors.torch.load_file(tmp_path / "run" / "head.safetensors")
    assert load_head(tmp_path / "run" / "head.json").classes == ("a", "b", "c")


def test_arrays_and_tensors_are_taken_alike():
    mask = torch.tensor([[True] * 6, [True] * 2 + [False] * 4])
    head = some_head()
    assert_bitwise_equal(head(clips().numpy(), mask.numpy()).logits, head(clips(), mask).logits)
    assert_bitwise_equal(head(clips()[1], mask[1]).logits, head(clips()[1:], mask[1:]).logits)


def test_one_video_is_given_by_its_rows_or_as_it_comes_from_the_file(tmp_path):
    rng = np.random.default_rng(0)
    features = write_cache(tmp_path / "f.h5", [rng.standard_normal((n, 2, 12)) for n in (4, 25)], [0, 1], ["a", "b"])
    head = some_head()
    for n in (0, 1):
        video = features.video(n)
        rows = video.descriptors[head.choose(len(video.descriptors)), 0]
        expected = head(rows[None].astype(np.float32), np.ones((1, len(rows)), bool))
        for said in (head(video), head(rows), head(torch.from_numpy(rows))):
            assert said.logits.shape == (1, 3)
            assert_bitwise_equal(said.logits, expected.logits)
            assert_bitwise_equal(said.attention, expected.attention)


@pytest.mark.parametrize("count", [1, 4])
def test_three_axes_without_a_mask_are_refused_with_both_readings(tmp_path, count):
    """Clips, views and channels of one video looked like videos, clips and channels: a row of logits for each clip."""
    video = write_cache(tmp_path / "f.h5", [np.ones((count, 12))], [0], ["a", "b"]).video(0)
    with pytest.raises(HeadError) as caught:
        some_head()(video.descriptors)
    for text in (
        f"{count} videos of 1 clips, or {count} clips of one video in 1 views",
        f"a mask {(count, 1)}",
        f"its rows ({count}, 12)",
        "VideoFeatures",
    ):
        assert text in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "mask", "message"),
    [
        ((2, 6, 13), None, r"descriptors \(B, C, 12\) with a mask, or rows \(C, 12\) of one video, got \(2, 6, 13\)"),
        ((12,), None, r"got \(12,\)"),
        ((6, 12), np.ones((1, 6), dtype=bool), r"mask must be bool \(6,\)"),
        ((2, 6, 12), np.ones((2, 5), dtype=bool), r"mask must be bool \(2, 6\)"),
        ((2, 6, 12), np.ones((2, 6)), "mask must be bool"),
        ((2, 11, 12), np.ones((2, 11), dtype=bool), "takes 10 clips at most, got 11"),
        ((11, 12), None, "takes 10 clips at most, got 11"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shape, mask, message):
    with pytest.raises(HeadError, match=message):
        some_head()(torch.zeros(shape), mask)


def test_the_head_chooses_clips_as_in_training():
    assert some_head().choose(4).tolist() == [0, 1, 2, 3]
    assert some_head().choose(20).tolist() == list(range(1, 20, 2))


def test_a_head_of_looped_clips_chooses_them_again_and_an_older_one_masks(tmp_path):
    looped = replace(some_head(), training=TRAINING | {"padding": "loop"})
    assert looped.choose(4).tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert looped.choose(20).tolist() == some_head().choose(20).tolist()
    save_head(tmp_path, looped)
    assert load_head(tmp_path).choose(4).tolist() == looped.choose(4).tolist()
    assert "padding" not in TRAINING  # as in heads that are older than the choice
    assert (looped.padding, some_head().padding) == ("loop", "mask")


def damage_json(folder, **changes):
    path = folder / "head.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def replace_weights(folder, tensors):
    """Other weights under a right sha256, as a stranger could make them."""
    data = safetensors.torch.save(tensors)
    (folder / "head.safetensors").write_bytes(data)
    damage_json(folder, weights_sha256=hashlib.sha256(data).hexdigest())


DAMAGES = {
    "no json": (lambda f: (f / "head.json").unlink(), "no head.json here"),
    "no weights": (lambda f: (f / "head.safetensors").unlink(), r"head\.safetensors: cannot be read"),
    "json cut short": (lambda f: (f / "head.json").write_text('{"format": "gcf-h'), "cannot be read"),
    "json is a list": (lambda f: (f / "head.json").write_text("[]"), "not a saved head"),
    "other format": (lambda f: damage_json(f, format="else"), "not a saved head"),
    "other schema": (lambda f: damage_json(f, schema=2), "schema 2, this version reads 1"),
    "one class": (lambda f: damage_json(f, classes=["a"]), "incomplete or damaged"),
    "class twice": (lambda f: damage_json(f, classes=["a", "a", "b"]), "incomplete or damaged"),
    "classes no names": (lambda f: damage_json(f, classes=[1, 2, 3]), "incomplete or damaged"),
    "absurd width": (lambda f: damage_json(f, descriptor_width=10**12), "incomplete or damaged"),
    "width is true": (lambda f: damage_json(f, descriptor_width=True), "incomplete or damaged"),
    "no training": (lambda f: damage_json(f, training={}), "incomplete or damaged"),
    "unknown setting": (
        lambda f: damage_json(f, config={"name": "x", "depth": 3}),
        "not a head of this version.*depth",
    ),
    "wrong setting": (lambda f: damage_json(f, config={"name": "x", "gate": "soft"}), "unknown gate 'soft'"),
    "setting of a wrong type": (lambda f: damage_json(f, config={"name": "x", "width": "wide"}), "not a head of this"),
    "endless layers": (lambda f: damage_json(f, config={"name": "x", "layers": 10**9}), "at most 100 layers"),
    "more classes": (
        lambda f: damage_json(f, classes=["a", "b", "c", "d"]),
        r"classifier\.weight: expected \(4, 16\), found \(3, 16\)",
    ),
    "other head": (
        lambda f: damage_json(f, config={"name": "mean", "kind": "mean"}),
        r"classifier\.bias: expected \(3,\), found nothing",
    ),
    "no safetensors": (
        lambda f: (
            (f / "head.safetensors").write_bytes(b"x" * 100),
            damage_json(f, weights_sha256=hashlib.sha256(b"x" * 100).hexdigest()),
        ),
        "not a head of this version",
    ),
    "weights not finite": (
        lambda f: replace_weights(
            f, {n: torch.full_like(v, torch.nan) for n, v in some_head().module.state_dict().items()}
        ),
        "classifier.weight: not finite float32",
    ),
    "weights of another type": (
        lambda f: replace_weights(f, {n: v.half() for n, v in some_head().module.state_dict().items()}),
        "classifier.weight: not finite float32",
    ),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_head_is_refused_with_the_reason(tmp_path, kind):
    save_head(tmp_path, some_head())
    damage, message = DAMAGES[kind]
    damage(tmp_path)
    with pytest.raises(HeadError, match=message):
        load_head(tmp_path)


@pytest.mark.parametrize("place", [8, 200, -1])
def test_one_flipped_bit_in_the_weights_is_noticed(tmp_path, place):
    save_head(tmp_path, some_head())
    path = tmp_path / "head.safetensors"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(HeadError, match="sha256 differs"):
        load_head(tmp_path)


def test_a_folder_of_several_heads_names_them(tmp_path):
    for name in ("fold-00", "fold-01"):
        save_head(tmp_path / name, some_head())
    with pytest.raises(HeadError, match="several heads: fold-00, fold-01"):
        load_head(tmp_path)


@pytest.mark.slow
def test_features_of_another_recipe_or_width_are_refused_but_incidentals_are_not(tmp_path):
    head = some_head()
    head.check_fits(easy_cache(tmp_path / "same.h5"))
    head.check_fits(easy_cache(tmp_path / "newer.h5", recipe=RECIPE | {"versions": {"gcf": "9"}, "views": 1}))
    with pytest.raises(RecipeError, match=r"other\.h5.*crop: 8 against 9"):
        head.check_fits(easy_cache(tmp_path / "other.h5", recipe=RECIPE | {"crop": 9}))
    with pytest.raises(HeadError, match="descriptors of 14 channels, this head takes 12"):
        head.check_fits(easy_cache(tmp_path / "wide.h5", width=14))
