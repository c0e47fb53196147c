"""Whole extractions in bfloat16: as reproducible to the byte as those in float32."""

import pytest
import torch
from stage_one import extract

from gcf import FeatureFile, merge_features
from gcf.errors import RecipeError
from gcf.extract import extractor
from gcf.extract.network import precision
from gcf.extract.stream import run

pytestmark = [pytest.mark.processor, pytest.mark.slow]


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=["torch", "openvino"])
def in_half(folder, tmp_path_factory, request):
    """The tiny plug-in's features in bfloat16 by either runtime, from one decoder and one lane."""
    if request.param == "openvino":
        request.getfixturevalue("openvino_bf16")
    out = tmp_path_factory.mktemp("half") / "f.h5"
    extract(folder, out, precision="bf16", runtime=request.param, workers=1)
    return out


@pytest.fixture
def half(in_half):
    """The options that made `in_half`."""
    return {"precision": "bf16", "runtime": FeatureFile(in_half).recipe["runtime"]}


def test_the_recipe_of_a_file_says_in_which_precision_it_was_made(in_half, reference):
    recipe = FeatureFile(in_half).recipe
    assert (recipe["precision"], recipe["folded"]) == ("bf16", False)
    assert 0.999 <= recipe["precision_cosine"] < 1
    assert in_half.read_bytes() != reference


def test_decoders_and_lanes_change_no_byte_in_half_precision(in_half, half, folder, tmp_path, two_threads):
    extract(folder, tmp_path / "f.h5", workers=4, **half)
    assert (tmp_path / "f.h5").read_bytes() == in_half.read_bytes()


def test_an_interrupted_run_in_half_precision_ends_in_the_same_bytes(in_half, half, folder, tmp_path, monkeypatch):
    out, seen = tmp_path / "f.h5", []

    def stop_after_three(self, *, clips):
        seen.append(clips)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "PART_VIDEOS", 1)
        patch.setattr(extractor.Progress, "advance", stop_after_three)
        patch.setattr(precision, "worst_cosine", lambda *_: 0.9995)  # another machine's
        with pytest.raises(KeyboardInterrupt):
            extract(folder, out, **half)
    assert not out.exists()
    with pytest.raises(RecipeError, match="precision"):
        extract(folder, out, precision="fp32")
    assert extract(folder, out, **half).extracted == 3
    assert out.read_bytes() == in_half.read_bytes()


def test_shards_in_half_precision_merge_to_the_bytes_of_one_run(in_half, half, folder, tmp_path):
    parts = [tmp_path / f"{i}.h5" for i in (1, 2)]
    for i, part in enumerate(parts, start=1):
        extract(folder, part, shard=(i, 2), **half)
    merge_features(parts, tmp_path / "f.h5")
    assert (tmp_path / "f.h5").read_bytes() == in_half.read_bytes()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_shards_whose_machines_saw_other_cosines_merge_to_the_worst(folder, tmp_path, monkeypatch, order):
    parts = [tmp_path / f"{i}.h5" for i in (1, 2)]
    for i, (part, worst) in enumerate(zip(parts, (0.9995, 0.9991), strict=True), start=1):
        monkeypatch.setattr(precision, "worst_cosine", lambda *_, worst=worst: worst)
        extract(folder, part, precision="bf16", shard=(i, 2))
    merged = merge_features([parts[n] for n in order], tmp_path / "f.h5")
    assert merged.recipe == FeatureFile(parts[1]).recipe
    assert merged.recipe["precision_cosine"] == 0.9991
