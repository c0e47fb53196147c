import shutil
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from caches import easy_cache, write_cache
from compare import assert_bitwise_equal

from gcf.data.features import FeatureFile
from gcf.head.fitting.fit import Trained
from gcf.head.fitting.labelled import label_features, make_splits
from gcf.head.fitting.metrics import score
from gcf.head.fitting.prediction import Prediction
from gcf.head.models.config import PRESETS, Protocol, TrainConfig
from gcf.head.trials import split_result, store
from gcf.head.trials.arms import Arm
from gcf.head.trials.results import pooled_metrics
from gcf.head.trials.split_result import SplitResult
from gcf.head.trials.store import ResultStore, features_digest, open_store, result_key, split_digest

ARM = Arm("gcf", PRESETS["gcf-256"])
TRAIN = TrainConfig()
KEY = "ab" * 32


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return easy_cache(tmp_path_factory.mktemp("store") / "f.h5", groups=[f"g{n // 3}" for n in range(36)])


@pytest.fixture(scope="module")
def data(cache):
    return label_features(cache)


@pytest.fixture(scope="module")
def split(data):
    return make_splits(data, Protocol())[0]


def key(arm=ARM, train=TRAIN, seed=0, **facts):
    return result_key(arm, train, seed, **{"features": "f", "split": "s", "device": "cpu"} | facts)


CHANGES = {
    "head": {"arm": Arm("gcf", PRESETS["gcf-1024"])},
    "one field of the head": {"arm": Arm("gcf", replace(PRESETS["gcf-256"], residual="none"))},
    "no head": {"arm": Arm("gcf", None)},
    "clips to be judged on": {"arm": Arm("gcf", PRESETS["gcf-256"], policy="central")},
    "a change of the arm": {"arm": Arm("gcf", PRESETS["gcf-256"], changes=(("num_clips", 4),))},
    "rate": {"train": TrainConfig(lr=0.05)},
    "clip policy": {"train": TrainConfig(clip_policy="first")},
    "padding": {"train": TrainConfig(padding="loop")},
    "padding of the arm": {"arm": Arm("gcf", PRESETS["gcf-256"], changes=(("padding", "loop"),))},
    "sparsity": {"train": TrainConfig(sparsity=1e-3)},
    "epochs": {"train": TrainConfig(epochs=5)},
    "seed": {"seed": 1},
    "seed of the run": {"train": TrainConfig(seed=1)},
    "features": {"features": "g"},
    "split": {"split": "t"},
    "device": {"device": "NVIDIA H100"},
    "precision": {"precision": "bf16"},
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_ingredient_is_another_key(change):
    assert key(**CHANGES[change]) != key()


@pytest.mark.parametrize(("name", "value"), [("__version__", "9"), ("RESULTS_VERSION", 99)])
def test_another_version_is_another_key(name, value, monkeypatch):
    before = key()
    monkeypatch.setattr(store, name, value)
    assert key() != before


def test_names_and_how_a_setting_was_reached_move_no_number():
    renamed = Arm("other", replace(PRESETS["gcf-256"], name="other"))
    assert key(arm=renamed) == key()
    assert key(train=TrainConfig(lr=0.1)) == key()  # what None stands for
    assert key(train=TrainConfig(device="cpu")) == key(train=TrainConfig(device="auto"))
    changed = Arm("gcf", PRESETS["gcf-256"], changes=(("sparsity", 1e-3),))
    assert key(arm=changed) == key(train=TrainConfig(sparsity=1e-3))


def test_a_training_that_starts_from_a_head_has_no_key():
    with pytest.raises(ValueError, match="starts from a saved head"):
        key(train=TrainConfig(init="somewhere"))


def changed_split(data, split, change):
    """The digest after one change."""
    labels, groups = data.labels.copy(), list(data.groups)
    if change == "label":
        labels[split.train[0]] += 1
    elif change == "group":
        groups[split.val[0]] = "other"
    elif change == "class name":
        return split_digest(replace(data, classes=("other", *data.classes[1:])), split)
    else:
        return split_digest(data, replace(split, **{change: getattr(split, change)[1:]}))
    return split_digest(replace(data, labels=labels, groups=groups), split)


@pytest.mark.parametrize("change", ["label", "group", "class name", "train", "val", "test"])
def test_other_videos_or_labels_are_another_split(data, split, change):
    assert changed_split(data, split, change) != split_digest(data, split)


def test_the_digest_of_a_split_does_not_ask_what_it_is_called_or_where_the_file_lies(data, split, tmp_path):
    shutil.copy(data.features.path, tmp_path / "copy.h5")
    copy = label_features(tmp_path / "copy.h5")
    assert split_digest(copy, replace(split, name="other")) == split_digest(data, split)
    assert features_digest(copy.features) == features_digest(data.features)


def small(path, *, descriptor=0.0, logit=0.0, clips=3, crop=8, names=("a", "b")):
    arrays = [np.full((clips, 4), float(n)) for n in range(3)]
    logits = [np.zeros((clips, 2)) for _ in range(3)]
    arrays[1][1, 2] += descriptor
    logits[1][1, 1] += logit
    return write_cache(
        path, arrays, [0, 1, 0], ["a", "b"], logits=logits, backbone_classes=list(names), recipe={"crop": crop}
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [{"descriptor": 1.0}, {"logit": 1.0}, {"clips": 4}, {"crop": 9}, {"names": ("b", "a")}]
)
def test_other_numbers_are_other_features(tmp_path, change):
    assert features_digest(small(tmp_path / "b.h5", **change)) != features_digest(small(tmp_path / "a.h5"))


def test_a_video_that_was_extracted_again_shows_between_the_sampled_rows(cache, monkeypatch):
    before, again = features_digest(cache), FeatureFile(cache.path)
    monkeypatch.setattr(store, "SAMPLED_ROWS", 2)
    assert features_digest(again) != before
    few = features_digest(again)
    again.videos.mtime_ns = again.videos.mtime_ns.copy()
    again.videos.mtime_ns[17] += 1
    assert features_digest(again) != few


def predicted(n=30, classes=7):
    """Log probabilities (n, K), labels (n,) and the log probabilities of those (n,)."""
    rng = np.random.default_rng(n)
    logits = rng.standard_normal((n, classes)).astype(np.float32)
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    labels = rng.integers(classes - 1, size=n)  # one class never occurs, but is predicted
    return logs, labels, np.array([row[k] for row, k in zip(logs, labels, strict=True)])


RUN = Trained({"epoch": 3, "val_loss": 0.1 + 0.2}, [{"epoch": 1, "lr": 0.1}])


@pytest.mark.parametrize("trained", [RUN, None])
@pytest.mark.parametrize("temperature", [4 / 3, None])
def test_what_is_put_comes_back_number_for_number(tmp_path, trained, temperature):
    logs, labels, own = predicted()
    prediction = Prediction(logs, {"mean_alpha": 1 / 3})
    result = SplitResult.of(trained, prediction, labels, temperature=temperature)
    results = ResultStore(tmp_path)
    results.put(KEY, result.arrays, result.facts)
    arrays, facts = results.get(KEY)
    again = SplitResult(**facts, **arrays)
    assert_bitwise_equal(again.log_probabilities, logs)
    assert_bitwise_equal(again.predicted, logs.argmax(axis=1).astype(np.int32))
    assert_bitwise_equal(again.true_log_probability, own)
    assert_bitwise_equal(again.confidence, np.exp(logs.max(axis=1)))
    assert (again.metrics, again.gate, again.temperature) == (
        score(logs, labels), {"mean_alpha": 1 / 3}, temperature,
    )  # fmt: skip
    assert again.training == (None if trained is None else {"record": RUN.record, "history": RUN.history})
    if temperature is None:
        assert again.calibrated is None
    else:
        divided = torch.from_numpy(logs) / temperature
        assert_bitwise_equal(again.calibrated, result.calibrated)
        np.testing.assert_allclose(again.calibrated, divided.softmax(dim=1).amax(dim=1), rtol=1e-6)


def test_too_many_log_probabilities_are_not_kept_and_the_rest_is(tmp_path, monkeypatch):
    logs, labels, _ = predicted(4, 5)
    for most, there in ((20, True), (19, False)):
        monkeypatch.setattr(split_result, "MOST_VALUES", most)
        found = SplitResult.of(RUN, Prediction(logs, {}), labels)
        again = SplitResult(**found.facts, **found.arrays)
        assert ("log_probabilities" in found.arrays) == (again.log_probabilities is not None) == there
        assert_bitwise_equal(again.predicted, logs.argmax(axis=1).astype(np.int32))


def test_the_metrics_of_all_splits_follow_from_the_parts_without_log_probabilities(monkeypatch):
    monkeypatch.setattr(split_result, "MOST_VALUES", 0)
    splits = [predicted(n) for n in (30, 50, 11)]
    parts = [SplitResult.of(None, Prediction(logs, {}), labels) for logs, labels, _ in splits]
    labels = np.concatenate([labels for _, labels, _ in splits])
    expected = score(np.concatenate([logs for logs, _, _ in splits]), labels)
    assert pooled_metrics(parts, labels) == pytest.approx(expected, rel=1e-12)  # the order of a sum of 91 float64


def test_what_is_not_there_is_absent_and_a_later_put_takes_its_place(tmp_path):
    kept_in = ResultStore(tmp_path)
    assert kept_in.get(KEY) is None
    kept_in.put(KEY, {"a": np.arange(3)}, {"n": 1})
    kept_in.put(KEY, {"a": np.arange(4)}, {"n": 2})
    assert (kept_in.get(KEY)[1], len(kept_in.get(KEY)[0]["a"])) == ({"n": 2}, 4)
    assert [p.name for p in tmp_path.iterdir()] == [f"{KEY}.npz"]


@pytest.mark.slow
def test_a_damaged_file_is_absent_or_whole_and_never_something_else(tmp_path):
    kept_in = ResultStore(tmp_path)
    kept_in.put(KEY, {"a": np.arange(600.0)}, {"n": 1})
    place = kept_in.folder / f"{KEY}.npz"
    whole, gone, tried = place.read_bytes(), 0, 0
    for at in [*range(40), *range(40, len(whole) - 300, 60), *range(len(whole) - 300, len(whole))]:
        flipped = [whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :] for mask in (0x15, 0xFF)]
        for damaged in (whole[:at], *flipped):
            place.write_bytes(damaged)
            found = kept_in.get(KEY)
            gone += found is None
            if found is not None:  # a flipped bit in a date or a padding of the zip container
                arrays, facts = found
                assert facts == {"n": 1}
                assert {name: values.tolist() for name, values in arrays.items()} == {"a": list(range(600))}
    assert gone > 0.7 * tried
    kept_in.put(KEY, {"a": np.arange(600.0)}, {"n": 1})
    assert kept_in.get(KEY) is not None


class Tempting:
    """Reading it back as Python objects would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def foreign(case, place):
    if case == "another key's file":
        ResultStore(place.parent).put("cd" * 32, {"a": np.zeros(1)}, {})
        (place.parent / f"{'cd' * 32}.npz").rename(place)
    elif case == "another program's npz":
        record = f'{{"format": "other", "key": "{KEY}", "record": {{}}}}'
        np.savez(place, record=np.frombuffer(record.encode(), dtype=np.uint8))
    elif case == "a list for a record":
        np.savez(place, record=np.frombuffer(b"[1]", dtype=np.uint8))
    elif case == "arrays alone":
        np.savez(place, a=np.zeros(3))
    elif case == "pickled objects":
        np.savez(place, a=np.array([Tempting(str(place.with_name("opened")))], dtype=object))
    elif case == "a folder":
        place.mkdir()
    else:
        place.write_bytes(b"" if case == "empty" else b"hello")


FOREIGN = ["another key's file", "another program's npz", "a list for a record", "arrays alone", "pickled objects"]


@pytest.mark.parametrize("case", [*FOREIGN, "a folder", "empty", "text"])
def test_a_foreign_file_is_absent(tmp_path, case):
    kept_in = ResultStore(tmp_path)
    foreign(case, tmp_path / f"{KEY}.npz")
    assert kept_in.get(KEY) is None
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize(
    "bad",
    [
        ({"a": np.array([0.5, np.nan])}, {}),
        ({"a": np.array([None])}, {}),
        ({"a": np.zeros(2)}, {"loss": float("nan")}),
    ],
)
def test_nan_and_objects_are_refused_and_leave_nothing(tmp_path, bad):
    kept_in = ResultStore(tmp_path)
    with pytest.raises(ValueError, match=r"NaN|JSON"):
        kept_in.put(KEY, *bad)
    assert kept_in.get(KEY) is None
    assert not list(tmp_path.iterdir())


WRITER = """
import sys, numpy as np
from gcf.head.trials.store import ResultStore
kept_in = ResultStore(sys.argv[1])
for _ in range(8):
    kept_in.put("ab" * 32, {"a": np.full(5000, 7.0)}, {"n": 1})
"""


@pytest.mark.slow
def test_writers_in_other_processes_and_threads_never_show_half_a_result(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    kept_in, seen, errors = ResultStore(tmp_path), 0, []

    def write():
        try:
            for _ in range(3):
                ResultStore(tmp_path).put(KEY, {"a": np.full(5000, 7.0)}, {"n": 1})
        except OSError as error:
            errors.append(error)

    while any(process.poll() is None for process in processes):
        threads = [threading.Thread(target=write) for _ in range(2)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            found = kept_in.get(KEY)
            assert found is not None or not seen
            if found is not None:
                seen += 1
                arrays, facts = found
                assert (facts, set(arrays["a"].tolist())) == ({"n": 1}, {7.0})
    assert [process.communicate()[1] for process in processes] == ["", ""]
    assert not errors
    assert seen
    assert [p.name for p in tmp_path.iterdir()] == [f"{KEY}.npz"]


def test_the_store_lies_beside_the_features_and_is_found_again(tmp_path):
    kept_in, note = open_store(tmp_path / "f.h5")
    assert (kept_in.folder, note) == (tmp_path / "f.h5.results", None)
    assert not list(kept_in.folder.iterdir())
    kept_in.put(KEY, {}, {})
    assert open_store(tmp_path / "f.h5")[0].get(KEY) is not None


@pytest.mark.parametrize("place", ["/proc/f.h5", "absent/f.h5", "f.h5"])
def test_where_nothing_can_be_written_there_is_no_store_and_it_says_so(tmp_path, place):
    (tmp_path / "f.h5.results").touch()
    kept_in, note = open_store(tmp_path / place)
    assert kept_in is None
    assert "results are not kept" in note
