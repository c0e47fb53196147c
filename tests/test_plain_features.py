"""Feature files that plain h5py wrote: what the documented schema asks for is enough."""

import hashlib
import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from caches import easy_cache

import gcf
from gcf.data.info import describe, summarise
from gcf.data.merge import merge_features
from gcf.data.schema import OPTIONAL
from gcf.errors import FeatureFileError

PAGE = Path(__file__).parents[1] / "docs" / "feature-file.md"


@pytest.fixture
def written(tmp_path, monkeypatch):
    """The file that the documentation's example writes."""
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(block, names)
    return tmp_path / "mine.h5"


def as_plain(path, *, fixed=False):
    """A good file again by plain h5py: another spacing of the recipe, nothing optional, text of variable length."""
    known = easy_cache(path.with_name("by_gcf.h5"))
    text = json.dumps(known.recipe | {"num_frames": 16}, indent=2)
    with h5py.File(known.path) as source, h5py.File(path, "w") as h5:
        kind = (lambda t: np.bytes_(t.encode())) if fixed else str
        h5.attrs.update({name: kind(value) for name, value in (("format", "gcf-features"), ("recipe", text))})
        h5.attrs.update({"schema": 1, "recipe_sha256": kind(hashlib.sha256(text.encode()).hexdigest())})

        def copy(name, item):
            if isinstance(item, h5py.Dataset) and name not in OPTIONAL:
                texts = h5py.check_string_dtype(item.dtype) and not fixed
                h5[name] = item.asstr()[...].tolist() if texts else item[...]

        source.visititems(copy)
    return known


def test_the_documented_example_is_a_feature_file_and_lacks_only_what_it_may(written):
    features = gcf.FeatureFile(written)
    assert features.ids == ["jump/a.mp4", "run/b.mp4"]
    assert features.classes == ["jump", "run"]
    assert (features.videos.note, features.checksums) == (["", ""], None)
    found = gcf.verify_features(written)
    assert (found.faults, found.warnings) == ((), ())


def test_the_writer_of_the_documentation_has_ten_lines():
    writer = re.search(r"    text = .*?(?=```)", PAGE.read_text(encoding="utf-8"), re.DOTALL).group()
    assert len(writer.splitlines()) <= 10


@pytest.mark.slow
@pytest.mark.parametrize("fixed", [False, True], ids=["variable", "fixed"])
def test_text_of_either_kind_reads_as_what_gcf_wrote_and_trains_to_the_same_head(fixed, tmp_path):
    known = as_plain(tmp_path / "plain.h5", fixed=fixed)
    plain = gcf.FeatureFile(tmp_path / "plain.h5")
    for name in ("ids", "classes", "subsets", "groups", "failures"):
        assert getattr(plain, name) == getattr(known, name)
    assert plain.labels.tolist() == known.labels.tolist()
    ours, theirs = (gcf.train_head(f, head="mean", epochs=3).metrics for f in (plain, known))
    assert (ours["top1"], ours["loss"]) == (theirs["top1"], theirs["loss"])
    assert merge_features([plain.path], tmp_path / "merged.h5").ids == known.ids


def test_the_hash_is_that_of_the_text_as_it_is_stored(tmp_path):
    as_plain(tmp_path / "plain.h5")
    with h5py.File(tmp_path / "plain.h5", "a") as h5:
        text = h5.attrs["recipe"]
        assert gcf.FeatureFile(tmp_path / "plain.h5").recipe_sha256 == hashlib.sha256(text.encode()).hexdigest()
        h5.attrs["recipe"] = text + " "
    with pytest.raises(FeatureFileError, match=r"plain\.h5: its recipe does not match its recipe_sha256, the sha256"):
        gcf.FeatureFile(tmp_path / "plain.h5")


@pytest.mark.slow
def test_info_and_verify_say_what_such_a_file_misses_and_what_follows(written, invoke):
    lines = [
        "  missing  videos/note: why a video is partial is not known",
        "  missing  videos/crc32: damage to a video cannot be seen",
        "  missing  in the recipe precision, tail, channel_order, pixel_max, mean, std, resize, resize_rule, crop: "
        "other videos cannot be described as these were",
    ]
    for command in ("info", "verify"):
        code, out, _ = invoke(command, written)
        assert code == 0
        assert out.splitlines()[-3:] == lines
        _, out, _ = invoke(command, written, "--json")
        assert [f"  missing  {part}" for part in json.loads(out)["missing"]] == lines
    assert "made by my network with weights first try" in describe(gcf.FeatureFile(written))


def test_a_file_by_extraction_misses_nothing(features):
    assert summarise(gcf.FeatureFile(features))["missing"] == []
    assert gcf.verify_features(features).missing == ()


def test_all_that_must_be_there_is_named_at_once(written, invoke):
    with h5py.File(written, "a") as h5:
        del h5["videos/fps"], h5["failures"], h5.attrs["recipe_sha256"]
    for command in ("info", "verify"):
        code, out, err = invoke(command, written)
        assert (code, out) == (4, "")
        assert "lacks the attribute recipe_sha256, videos/fps, failures/id, failures/error; " in err


def test_references_to_one_long_text_are_not_followed_beyond_the_size_of_the_file(tmp_path):
    as_plain(tmp_path / "plain.h5")
    with h5py.File(tmp_path / "plain.h5", "a") as h5:
        count = len(h5["videos/group"])
        del h5["videos/group"]
        h5["videos/group"] = ["x" * 50_000] + [""] * (count - 1)
        start = h5["videos/group"].id.get_offset()
    data = bytearray((tmp_path / "plain.h5").read_bytes())
    data[start : start + 16 * count] = data[start : start + 16] * count
    (tmp_path / "plain.h5").write_bytes(data)
    with pytest.raises(FeatureFileError, match=r"the texts of /videos/group are longer than the file"):
        gcf.FeatureFile(tmp_path / "plain.h5")


@pytest.mark.slow
def test_numbers_that_json_does_not_know_and_other_objects_are_refused(tmp_path):
    for text in ('{"mean": NaN}', '{"mean": 1e999}'):
        as_plain(tmp_path / "plain.h5")
        with h5py.File(tmp_path / "plain.h5", "a") as h5:
            h5.attrs.update({"recipe": text, "recipe_sha256": hashlib.sha256(text.encode()).hexdigest()})
        with pytest.raises(FeatureFileError, match="JSON compliant"):
            gcf.FeatureFile(tmp_path / "plain.h5")
    as_plain(tmp_path / "plain.h5")
    with h5py.File(tmp_path / "plain.h5", "a") as h5:
        del h5["classes"]
        h5.create_dataset("classes", (3,), h5py.vlen_dtype(np.int32))
    with pytest.raises(FeatureFileError, match=r"classes is object of shape \(3\), expected text"):
        gcf.FeatureFile(tmp_path / "plain.h5")
