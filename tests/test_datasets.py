"""What each dataset of a feature file must be is checked where the file is opened, in any command."""

import tracemalloc

import h5py
import numpy as np
import pytest
from caches import easy_cache

import gcf.cli
from gcf.data.datasets import DATASETS, REQUIRED
from gcf.data.features import FeatureFile
from gcf.data.merge import merge_features
from gcf.data.schema import CLIP_FIELDS, OPTIONAL, VIDEO_FIELDS
from gcf.data.verify import verify_features
from gcf.errors import FeatureFileError

FLOATS = [name for name, wanted in DATASETS.items() if wanted.kind == "f"]
INTEGERS = [name for name, wanted in DATASETS.items() if wanted.kind == "iu"]
TEXTS = [name for name, wanted in DATASETS.items() if wanted.kind == "S"]
NUMBERS = FLOATS + INTEGERS


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A sound file of 12 videos in two classes, with every dataset of the schema."""
    path = tmp_path_factory.mktemp("original") / "f.h5"
    rng = np.random.default_rng(0)
    counts = np.diff(easy_cache(path, num_classes=2, per_class=6, clips=(2, 5)).offsets)
    path.unlink()
    easy_cache(
        path,
        num_classes=2,
        per_class=6,
        clips=(2, 5),
        logits=[rng.normal(size=(count, 2)) for count in counts],
        backbone_classes=["x", "y"],
        failures=[("broken.mp4", "empty")],
    )
    return path.read_bytes()


@pytest.fixture
def path(original, tmp_path):
    (tmp_path / "f.h5").write_bytes(original)
    return tmp_path / "f.h5"


def rewrite(path, name, change):
    """Put another dataset under a name: `change` of its values, or an array."""
    with h5py.File(path, "a") as h5:
        values = change(h5[name][...]) if callable(change) else change
        del h5[name]
        h5[name] = values


def refused_in_one_line(path, capfd, said, commands=("info", "train-head", "verify")):
    """Each of the commands ends with exit code 4 and one line that says so."""
    for command in commands:
        options = ["--head", "mean", "--epochs", "1"] if command == "train-head" else []
        assert gcf.cli.run([command, str(path), *options]) == 4, command
        out, err = capfd.readouterr()
        (line,) = err.splitlines()
        assert out == ""
        assert str(path) in line
        assert said in line


def test_the_table_has_every_dataset_of_the_schema():
    fields = {f"clips/{name}" for name in CLIP_FIELDS} | {f"videos/{name}" for name in VIDEO_FIELDS}
    assert fields < set(REQUIRED)
    assert set(DATASETS) == {*REQUIRED, *OPTIONAL, "logits", "backbone_classes"}


def as_text(values):
    return values.astype("S")


def as_complex(values):
    return values.astype(np.complex128)


def as_bools(values):
    return values.astype(bool)


def as_table(values):
    return np.stack([values, values], axis=1)


def one_less(values):
    return values[:-1]


def as_records(values):
    return np.array([(value, 0) for value in values.tolist()], [("a", values.dtype), ("b", "<i4")])


OTHER_KINDS = [as_text, as_complex, as_bools, as_table, one_less, as_records]


@pytest.mark.slow
@pytest.mark.parametrize("change", OTHER_KINDS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_another_kind_rank_or_length_are_refused(name, change, path):
    rewrite(path, name, change)
    with pytest.raises(FeatureFileError, match=rf"f\.h5: .*{name}.*; extract again, or write") as caught:
        FeatureFile(path)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", NUMBERS)
def test_floats_for_integers_and_integers_for_floats_are_refused(name, path):
    wanted, other = ("integers", "<f8") if name in INTEGERS else ("floats", "<i8")
    rewrite(path, name, lambda values: values.astype(other))
    with pytest.raises(FeatureFileError, match=rf"{name} is \w+ of shape \(\d+\), expected {wanted} \("):
        FeatureFile(path)


@pytest.mark.slow
@pytest.mark.parametrize("change", [lambda v: np.arange(len(v)), as_table, one_less], ids=["numbers", "table", "short"])
@pytest.mark.parametrize("name", TEXTS)
def test_texts_of_another_kind_rank_or_length_are_refused(name, change, path):
    if change is one_less and name in ("classes", "failures/error", "failures/id"):
        rewrite(path, name, as_table)  # their own length alone is no fault
    else:
        rewrite(path, name, change)
    with pytest.raises(FeatureFileError, match=r"f\.h5: .*; extract again") as caught:
        FeatureFile(path)
    assert "\n" not in str(caught.value)


def with_halves(offsets):
    return offsets + 0.5 * (np.arange(len(offsets)) % 2)


def unsigned_and_back(offsets):
    offsets[[2, 3]] = offsets[[3, 2]]
    return offsets.astype(np.uint64)


def from_one(offsets):
    return np.concatenate([[1], offsets[1:]])


def beyond_the_end(offsets):
    return np.concatenate([offsets[:-1], [offsets[-1] + 1]])


def huge(offsets):
    return np.concatenate([offsets[:-1], [1 << 63]]).astype(np.uint64)


@pytest.mark.slow
@pytest.mark.parametrize("change", [with_halves, unsigned_and_back, from_one, beyond_the_end, huge])
def test_offsets_that_cut_rows_at_wrong_places_are_refused_by_every_command(change, path, capfd):
    rewrite(path, "videos/offset", change)
    refused_in_one_line(path, capfd, "videos/offset")


def first(value, dtype=None):
    """A column whose first value is another."""

    def change(values):
        values = values.astype(dtype or values.dtype)
        values[0] = value
        return values

    return change


BELIEVED = {
    "a start that is no number": ("clips/start_time", first(np.nan)),
    "an endless end": ("clips/end_time", first(np.inf)),
    "a start of more than float64": ("clips/start_time", first(np.finfo(np.longdouble).max, np.longdouble)),
    "a frame before the first": ("clips/start_frame", first(-1)),
    "a clip of no frame": ("clips/num_frames", first(0)),
    "a clip of more frames than can be said": ("clips/num_frames", first(65_552, "<i8")),
    "a rate that is no number": ("videos/fps", first(np.nan)),
    "an endless video": ("videos/duration", first(np.inf)),
    "a negative size": ("videos/size", first(-1)),
    "a negative width": ("videos/width", first(-320)),
    "a height of more than can be said": ("videos/height", first((1 << 32) + 240, "<i8")),
    "an unknown subset": ("videos/subset", first(b"dev")),
    "an unknown status": ("videos/status", first(b"no")),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", BELIEVED)
def test_what_cannot_be_is_refused_where_it_is_read_and_is_a_fault_to_verify(fault, path, capfd):
    name, change = BELIEVED[fault]
    rewrite(path, name, change)
    refused_in_one_line(path, capfd, f"{name} is ", ["train-head", "info"])
    with pytest.raises(FeatureFileError, match=f"{name} is "):
        FeatureFile(path).video(0)
    assert verify_features(path).faults


@pytest.mark.parametrize("label", [-2, 2])
def test_a_label_without_a_class_is_refused(label, path, capfd):
    rewrite(path, "videos/label", first(label))
    refused_in_one_line(path, capfd, f"videos/label is {label} at 0")


def test_a_label_needs_a_class_also_where_there_is_none(path):
    rewrite(path, "videos/label", lambda labels: np.zeros_like(labels))
    rewrite(path, "classes", np.zeros(0, "S1"))
    with pytest.raises(FeatureFileError, match=r"videos/label is 0 at 0, and lies outside its 0 classes"):
        FeatureFile(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["videos/id", "videos/group", "classes", "backbone_classes", "failures/id"])
@pytest.mark.parametrize("kind", ["fixed", "variable"])
def test_names_of_more_than_4096_bytes_are_refused(name, kind, path):
    def change(values):
        names = [value.decode() for value in values]
        names[-1] = "/é" * 1366  # 4,098 bytes
        return [text.encode() for text in names] if kind == "fixed" else names

    rewrite(path, name, change)
    with pytest.raises(FeatureFileError, match=rf"{name} has a name of more than 4,096 bytes, '/é/é") as caught:
        FeatureFile(path)
    assert len(str(caught.value)) < 400


def test_a_name_of_4096_bytes_is_one(path):
    rewrite(path, "videos/group", lambda values: [*values[:-1], b"x" * 4096])
    assert FeatureFile(path).groups[-1] == "x" * 4096


WIDTHS = {
    "videos/offset": ["<i4", ">i8", "<u2"],
    "videos/label": ["<i1", "<i8"],
    "videos/crc32": ["<i8", "<u8"],
    "clips/start_time": ["<f4", ">f8", np.longdouble],
    "clips/start_frame": ["<i4", "<u8"],
    "clips/num_frames": ["<i8", "<u1"],
    "videos/fps": ["<f2"],
    "videos/size": ["<u8"],
    "videos/width": ["<u2"],
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), [(name, dtype) for name in WIDTHS for dtype in WIDTHS[name]])
def test_every_width_of_the_kind_reads_as_the_schemas(name, dtype, path, tmp_path):
    known = FeatureFile(path)
    starts = known.clips.start_frame.tolist()
    rewrite(path, name, lambda values: np.round(values, 1).astype(dtype) if name in FLOATS else values.astype(dtype))
    features = FeatureFile(path)
    wanted = np.dtype(DATASETS[name].dtype)
    group, _, field = name.partition("/")
    columns = vars(features.clips) if group == "clips" else vars(features.videos)
    columns = columns | {"offset": features.offsets, "label": features.labels, "crc32": features.checksums}
    assert columns[field].dtype == wanted
    assert features.offsets.tolist() == known.offsets.tolist()
    assert features.labels.tolist() == known.labels.tolist()
    if name not in FLOATS:  # the checksums are of the values before
        assert verify_features(path).faults == ()
        merged = merge_features([path], tmp_path / "merged.h5")
        assert merged.clips.start_frame.tolist() == starts


def test_labels_of_an_unsigned_type_are_labels(path):
    rewrite(path, "videos/label", lambda labels: labels.astype(np.uint8))
    assert FeatureFile(path).labels.tolist() == [0, 1] * 6


@pytest.mark.parametrize("dtype", ["<f8", ">f2", "<i2", "<c8", "S4"])
@pytest.mark.parametrize("name", ["descriptors", "logits"])
def test_rows_are_float16_or_float32_as_this_machine_has_them(name, dtype, path):
    rewrite(path, name, lambda rows: rows.astype(dtype))
    with pytest.raises(FeatureFileError, match=rf"{name} is .*expected float16 or float32 \("):
        FeatureFile(path)


def test_integers_that_numpy_does_not_have_are_refused(path):
    """HDF5 has integers of 24 bits in 4 bytes, whose other bits may be anything."""
    kind = h5py.h5t.STD_I32LE.copy()
    kind.set_precision(24)
    with h5py.File(path, "a") as h5:
        values = h5["clips/start_frame"][...].astype("<i4")
        del h5["clips/start_frame"]
        space = h5py.h5s.create_simple(values.shape)
        h5py.h5d.create(h5.id, b"clips/start_frame", kind, space).write(h5py.h5s.ALL, h5py.h5s.ALL, values)
    with pytest.raises(FeatureFileError, match=r"clips/start_frame is of a type that is only nearly int32"):
        FeatureFile(path)


@pytest.mark.slow
def test_all_datasets_of_another_type_are_named_at_once(path, capfd):
    rewrite(path, "videos/fps", as_text)
    rewrite(path, "clips/num_frames", as_table)
    refused_in_one_line(path, capfd, "videos/fps is text of shape (12), expected floats (videos)")
    refused_in_one_line(path, capfd, "clips/num_frames is int16 of shape (")


def test_lists_of_no_value_may_be_of_any_kind(path):
    rewrite(path, "failures/id", np.zeros(0))
    rewrite(path, "failures/error", np.zeros(0, "<i4"))
    assert FeatureFile(path).failures == []


MANY = 3_000_000_000


def declare(path, names, *, hole):
    """Datasets of 3e9 values that were never written: with `hole` the file has their length, and no bytes in it."""
    with h5py.File(path, "a") as h5:
        for name in names:
            dtype, shape = h5[name].id.get_type(), h5[name].shape
            del h5[name]
            create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            create.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY if hole else h5py.h5d.ALLOC_TIME_LATE)
            create.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            space = h5py.h5s.create_simple((MANY + (name == "videos/offset"), *shape[1:]))
            h5py.h5d.create(h5.id, name.encode(), dtype, space, create)


EVERY = [name for name, wanted in DATASETS.items() if "videos" in "".join(wanted.axes) or "clips" in wanted.axes]
DECLARED = {"videos": EVERY, "classes": ["classes"], "failures": ["failures/id", "failures/error"]}


@pytest.mark.slow
@pytest.mark.parametrize("hole", [False, True], ids=["absent", "hole"])
@pytest.mark.parametrize("what", DECLARED)
def test_a_small_file_that_declares_3e9_values_is_refused_in_little_memory(what, hole, path):
    declare(path, DECLARED[what], hole=hole)
    assert path.stat().st_blocks * 512 < 1e6
    tracemalloc.start()
    try:
        with pytest.raises(FeatureFileError, match=r"f\.h5: ") as caught:
            FeatureFile(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60e6
    assert ("cut short" in str(caught.value)) == (not hole)


def test_nothing_is_read_before_all_types_are_known(path, monkeypatch):
    rewrite(path, "failures/error", np.zeros(1))  # the last of the table

    def read(*_):
        raise AssertionError("a value was read")

    monkeypatch.setattr(h5py.Dataset, "__getitem__", read)
    with pytest.raises(FeatureFileError, match="failures/error is float64"):
        FeatureFile(path)
