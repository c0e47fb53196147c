import inspect
import pickle
from dataclasses import fields

import numpy as np
import pytest
from caches import easy_cache
from compare import assert_bitwise_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import gcf
from gcf.data.splits import holdout
from gcf.errors import AnnotationError, RecipeError
from gcf.head.estimator import GCFClassifier, clip_table
from gcf.head.models.config import HeadConfig, TrainConfig
from gcf.head.models.saved import load_head, save_head
from gcf.head.training import train_head

SMALL = HeadConfig("small", width=16, key_width=8)


def clips_of(features):
    return [features.video(n).descriptors[:, 0] for n in range(features.num_videos)]


@pytest.mark.slow
@pytest.mark.parametrize("chosen", [{}, {"clip_policy": "random"}, {"padding": "loop"}], ids=str)
def test_arrays_give_what_the_file_gives(tmp_path, chosen):
    groups = [f"g{n // 3}" for n in range(36)]
    features = easy_cache(tmp_path / "f.h5", clips=(2, 20), groups=groups)
    settings = {"head": SMALL, "epochs": 60, "num_clips": 6, "seed": 3} | chosen
    run = train_head(features, tmp_path / "run", **settings)
    train, test = (np.flatnonzero(np.array(features.subsets) == subset) for subset in ("train", "test"))
    X, names = clips_of(features), np.array(features.classes)[features.labels]
    model = GCFClassifier(**settings).fit([X[n] for n in train], names[train], groups=[groups[n] for n in train])
    for name, value in run.head.module.state_dict().items():
        assert_bitwise_equal(model.head_.module.state_dict()[name], value)
    probabilities = np.load(tmp_path / "run" / "predictions.npz")["probabilities"][0]
    assert_bitwise_equal(model.predict_proba([X[n] for n in test]), probabilities)
    assert model.score([X[n] for n in test], names[test]) == run.metrics["top1"]
    assert model.classes_.tolist() == features.classes


def test_fitting_leaves_no_file_and_no_look_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    GCFClassifier(SMALL, epochs=1).fit([rng.standard_normal((3, 8)) for _ in range(30)], [n % 3 for n in range(30)])
    assert not list(tmp_path.iterdir())


def padded(videos, fill):
    longest = max(map(len, videos))
    values = np.full((len(videos), longest, videos[0].shape[1]), fill, dtype=np.float32)
    for row, video in zip(values, videos, strict=True):
        row[: len(video)] = video
    missing = np.arange(longest) >= np.array([len(v) for v in videos])[:, None]
    return np.ma.array(values, mask=np.repeat(missing[:, :, None], values.shape[2], axis=2))


@pytest.mark.slow
def test_every_form_of_the_same_clips_gives_the_same_probabilities(tmp_path):
    features = easy_cache(tmp_path / "f.h5")
    X = [np.asarray(video, dtype=np.float32) for video in clips_of(features)]
    objects = np.empty(len(X), dtype=object)
    objects[:] = X
    expected = GCFClassifier(SMALL, epochs=20).fit(X, features.labels).predict_proba(X)
    for form in (objects, padded(X, np.nan), [video.astype(np.float64) for video in X], [v.tolist() for v in X]):
        model = GCFClassifier(SMALL, epochs=20).fit(form, features.labels)
        assert_bitwise_equal(model.predict_proba(form), expected)


@pytest.mark.slow
def test_a_dense_array_is_videos_of_as_many_clips_and_a_table_videos_of_one():
    X = np.random.default_rng(0).standard_normal((30, 4, 5)).astype(np.float32)
    y = np.arange(30) % 3
    model = GCFClassifier(SMALL, epochs=20).fit(X, y)
    assert (model.n_features_in_, model.head_.descriptor_width) == (5, 5)
    assert_bitwise_equal(model.predict_proba(list(X)), model.predict_proba(X))
    assert_bitwise_equal(model.predict_proba(X[:, 0]), model.predict_proba(X[:, :1]))
    assert clip_table(X)[1].tolist() == [4] * 30


def test_groups_stay_whole_when_val_is_set_aside(tmp_path):
    features = easy_cache(tmp_path / "f.h5", subsets=False)
    groups = np.arange(36) // 6 % 6  # numbers, as scikit-learn's users have them
    model = GCFClassifier("mean", epochs=1)
    subsets = np.array(model._subsets(features.labels, [str(g) for g in groups]))
    assert set(subsets) == {"train", "val"}
    assert all(len(set(subsets[groups == g])) == 1 for g in range(6))
    expected = holdout(features.labels, [""] * 36, [str(g) for g in groups]).val
    assert np.flatnonzero(subsets == "val").tolist() == expected.tolist()
    with pytest.raises(AnnotationError, match="no val can be set aside"):
        model.fit(clips_of(features), features.labels, groups=features.labels)


@pytest.mark.slow
def test_it_works_where_scikit_learn_takes_a_classifier(tmp_path):
    features = easy_cache(tmp_path / "f.h5", subsets=False)
    X, names = clips_of(features), np.array(features.classes)[features.labels]
    model = GCFClassifier(SMALL, epochs=60)
    scores = cross_val_score(model, X, names, cv=GroupKFold(3), groups=np.arange(36) // 3)
    assert (scores > 0.8).all()
    search = GridSearchCV(model, {"lr": [1e-6, 0.1]}, cv=3).fit(X, names)
    assert search.best_params_ == {"lr": 0.1}
    table = np.array([video.mean(axis=0) for video in X])
    flow = make_pipeline(StandardScaler(), GCFClassifier("mean", epochs=60)).fit(table, names)
    assert flow.score(table, names) > 0.9
    lists = make_pipeline(FunctionTransformer(lambda videos: [2 * video for video in videos]), model).fit(X, names)
    assert lists.score(X, names) > 0.9
    assert_bitwise_equal(pickle.loads(pickle.dumps(search)).predict_proba(X), search.predict_proba(X))


def test_the_parameters_are_those_of_the_training_with_its_defaults():
    ours = {name: p.default for name, p in inspect.signature(GCFClassifier).parameters.items()}
    training = {f.name: f.default for f in fields(TrainConfig)}
    del training["batch_order"]  # of several seeds, and an estimator has one
    assert ours == {"head": None, "gate": None, "val_fraction": 0.2} | training


@pytest.mark.slow
def test_the_parameters_reach_the_training():
    X, y = np.random.default_rng(0).standard_normal((30, 4, 5)), np.arange(30) % 3
    settings = {"lr": 0.02, "weight_decay": 0.0, "num_clips": 3, "clip_policy": "first", "seed": 5, "batch_size": 7}
    settings["padding"] = "loop"
    model = clone(GCFClassifier(SMALL, gate="token", epochs=2).set_params(**settings)).fit(X, y)
    assert model.head_.config.gate == "token"
    assert settings.items() <= model.head_.training["settings"].items()
    assert model.head_.training["steps"] == 8  # 24 videos in batches of 7, twice


@pytest.mark.slow
def test_a_head_to_start_from_brings_its_recipe(tmp_path):
    features = easy_cache(tmp_path / "f.h5")
    X, names = clips_of(features), np.array(features.classes)[features.labels]
    source = train_head(features, tmp_path / "run", head=SMALL, epochs=20).head
    frozen = {"epochs": 20, "freeze": "all-but-classifier"}
    model = GCFClassifier(init=tmp_path / "run", **frozen).fit(X, names)
    assert model.head_.recipe == features.recipe
    assert_bitwise_equal(model.head_.module.gate.reduce.weight, source.module.gate.reduce.weight)
    plain = GCFClassifier(SMALL, epochs=20).fit(X, names)
    save_head(tmp_path / "saved", plain.head_)
    with pytest.raises(RecipeError, match='source: "arrays" against nothing'):  # arrays vouch for no recipe
        load_head(tmp_path / "saved").check_fits(features)


@pytest.mark.parametrize(
    ("videos", "y", "message"),
    [
        ([np.zeros((2, 3)), np.zeros((2, 4))], ["a", "b"], r"as many channels in all; got \[\(3,\), \(4,\)\]"),
        ([np.zeros((2, 3)), np.zeros((0, 3))], ["a", "b"], "video 1 has no clip"),
        ([np.zeros((2, 3)), np.full((2, 3), np.inf)], ["a", "b"], "contains infinity"),
        (np.zeros((2, 3, 4)), ["a", "a"], "1 class in 2 samples"),
        (np.zeros((2, 3, 4)), ["a"], "inconsistent numbers of samples"),
        (np.ma.array(np.zeros((2, 2, 2)), mask=[[[0, 0], [0, 1]]] * 2), ["a", "b"], "whole clips masked"),
        (np.zeros((2, 3, 4)), None, "requires y"),
    ],
)
def test_what_cannot_be_trained_on_is_a_value_error(videos, y, message):
    with pytest.raises(ValueError, match=message):
        GCFClassifier().fit(videos, y)


def test_before_fit_and_with_other_widths_it_refuses():
    with pytest.raises(NotFittedError):
        GCFClassifier().predict(np.zeros((2, 3, 4)))
    model = GCFClassifier("mean", epochs=1).fit(np.eye(12)[:, None], np.arange(12) % 2)
    with pytest.raises(ValueError, match="X has 4 features, but GCFClassifier is expecting 12"):
        model.predict(np.zeros((2, 3, 4)))


# The 3-D forms of X are not among scikit-learn's checks: they give tables, which are videos of one clip.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Estimator's parameters changed")
@pytest.mark.parametrize(
    "options", [{"head": "mean", "epochs": 60}, {"head": SMALL, "epochs": 60}, {}], ids=["mean", "small", "default"]
)
def test_the_checks_of_scikit_learn_pass(options):
    results = check_estimator(GCFClassifier(**options), on_skip=None)
    statuses = [result["status"] for result in results]
    assert statuses.count("passed") > 50
    assert {r["check_name"] for r in results if r["status"] == "skipped"} <= {"check_array_api_input"}


def test_it_is_a_public_name():
    assert gcf.GCFClassifier is GCFClassifier
