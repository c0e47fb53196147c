import json

import numpy as np
import pytest
from caches import RECIPE, easy_cache, write_cache
from compare import assert_bitwise_equal
from statsmodels.stats.contingency_tables import mcnemar

import gcf.cli
from gcf.errors import AnnotationError, HeadError, RecipeError, RefusedError, UsageError
from gcf.head.models.config import HeadConfig
from gcf.head.models.saved import load_head
from gcf.head.training import train_head
from gcf.head.transfer import transfer_head

pytestmark = pytest.mark.slow

SMALL = HeadConfig("small", width=16, key_width=8)


def hard_cache(path):
    """Four classes, hardly apart, so that two heads err on different videos."""
    rng = np.random.default_rng(2)
    labels = np.arange(80) % 4
    centres = np.eye(4, 12)[[3, 1, 0, 2]]
    videos = [centres[k] + rng.standard_normal((int(rng.integers(2, 9)), 12)) for k in labels]
    roles = ["test" if n // 4 % 2 else "train" for n in range(80)]
    return write_cache(path, videos, labels, ["w", "x", "y", "z"], subsets=roles)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transfer")
    source, target = easy_cache(folder / "s.h5"), hard_cache(folder / "t.h5")
    return target, transfer_head(source.path, target.path, folder / "run", head=SMALL, epochs=40, seed=1, lr=0.05)


def test_the_last_layer_alone_is_trained_at_the_papers_rate(done):
    _, run = done
    heads = {name: load_head(run.path / name) for name in ("source", "transferred", "scratch")}
    weights = {name: head.module.state_dict() for name, head in heads.items()}
    for name, value in weights["source"].items():
        if name == "classifier.weight":
            assert weights["transferred"][name].shape == (4, 16)
        else:
            assert_bitwise_equal(weights["transferred"][name], value)
            assert not np.array_equal(weights["scratch"][name], value)
    assert heads["source"].config == heads["transferred"].config == heads["scratch"].config
    rates = {name: head.training["settings"]["lr"] for name, head in heads.items()}
    assert rates == {"source": 0.05, "transferred": 0.01, "scratch": 0.05}
    assert heads["transferred"].classes == ("w", "x", "y", "z")


def test_both_are_judged_on_the_same_videos_and_their_difference_is_paired(done):
    target, run = done
    metrics = json.loads((run.path / "metrics.json").read_text())
    assert metrics == run.metrics
    right = {}
    for name in ("transferred", "scratch"):
        saved = np.load(run.path / name / "predictions.npz")
        assert sorted(saved["ids"]) == [v for v, role in zip(target.ids, target.subsets, strict=True) if role == "test"]
        right[name] = saved["probabilities"][0].argmax(axis=1) == saved["labels"]
        assert (metrics[name]["k"], metrics[name]["n"]) == (right[name].sum(), 40)
    one, other = right["transferred"], right["scratch"]
    table = [[(a & b).sum() for b in (other, ~other)] for a in (one, ~one)]
    assert table[0][1] != table[1][0]  # else the figures below would say nothing
    found = metrics["difference"]
    assert found["delta"] == pytest.approx(one.mean() - other.mean())
    assert found["mcnemar_p"] == pytest.approx(mcnemar(table, exact=True).pvalue)
    assert found["p"] is None  # of one seed
    assert "Two seeds (--seeds 2) would do" in run.describe()
    assert found["low"] is None


def test_it_is_train_head_twice(done):
    target, run = done
    alone = train_head(target, head=SMALL, epochs=40, seed=1, lr=0.05)
    assert alone.metrics["loss"] == run.metrics["scratch"]["loss"]
    frozen = {"init": run.path / "source", "freeze": "all-but-classifier", "epochs": 40, "seed": 1}
    assert train_head(target, **frozen).metrics["loss"] == run.metrics["transferred"]["loss"]
    assert run.transferred.path == run.path / "transferred"
    text = run.describe()
    assert f"last layer alone, test: top-1 {100 * run.metrics['transferred']['top1']:.1f} %" in text
    assert f"({run.metrics['scratch']['k']}/40)" in text


def test_a_trained_head_takes_the_place_of_the_source(done, tmp_path):
    target, run = done
    again = transfer_head(None, target, init=run.path / "source", epochs=40, seed=1, lr=0.05)
    assert again.path is None
    assert again.transferred.path is None
    for name in ("transferred", "scratch", "difference"):
        assert again.metrics[name] == run.metrics[name]


def test_folds_and_seeds_are_the_targets(tmp_path):
    source, target = easy_cache(tmp_path / "s.h5"), hard_cache(tmp_path / "t.h5")
    run = transfer_head(source, target, tmp_path / "run", head="mean", epochs=2, cv=2, seeds=2)
    for name in ("transferred", "scratch"):
        assert run.metrics[name]["n"] == 160  # 80 videos, twice
        assert len(list((run.path / name).glob("seed-*-fold-*"))) == 4
    assert load_head(run.path / "source").training["split"] == "holdout"


def test_what_does_not_go_together_is_refused_before_any_training(tmp_path, monkeypatch):
    source, target = easy_cache(tmp_path / "s.h5"), hard_cache(tmp_path / "t.h5")
    head = train_head(source, head=SMALL, epochs=1).head
    monkeypatch.setattr("gcf.head.transfer.train_head", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(RecipeError, match=r"t\.h5: .*crop: 9 against 8"):
        transfer_head(easy_cache(tmp_path / "c.h5", recipe=RECIPE | {"crop": 9}), target)
    with pytest.raises(HeadError, match=r"t\.h5: descriptors of 12 channels, this head takes 14"):
        transfer_head(easy_cache(tmp_path / "w.h5", width=14), target)
    with pytest.raises(AnnotationError, match="two classes"):
        transfer_head(source, write_cache(tmp_path / "u.h5", [np.zeros((1, 12))], [-1], []))
    with pytest.raises(UsageError, match="cv official needs annotations"):
        transfer_head(source, target, cv="official")
    with pytest.raises(UsageError, match="either a feature file to train on first, or a trained head"):
        transfer_head(source, target, init=head)
    with pytest.raises(UsageError, match="trained already: leave out head, source annotations"):
        transfer_head(None, target, init=head, head="mean", source_annotations="a.csv")
    with pytest.raises(UsageError, match="leave out freeze"):
        transfer_head(source, target, freeze="none")
    with pytest.raises(UsageError, match="has a gate for 10 clips"):
        transfer_head(None, target, init=head, num_clips=5)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("important")
    with pytest.raises(RefusedError, match="not a run of gcf"):
        transfer_head(source, target, tmp_path / "mine")


def test_recipes_that_differ_incidentally_go_together(tmp_path):
    source = easy_cache(tmp_path / "s.h5", recipe=RECIPE | {"versions": {"gcf": "9"}, "batch_size": 4})
    assert transfer_head(source, hard_cache(tmp_path / "t.h5"), head="mean", epochs=1).metrics["transferred"]["n"] == 40


def test_the_command_takes_a_source_or_a_head(tmp_path, capfd):
    source, target = easy_cache(tmp_path / "s.h5").path, hard_cache(tmp_path / "t.h5").path
    assert gcf.cli.run(["transfer", str(source), str(target), "--head", "mean", "--epochs", "1", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found == json.loads((tmp_path / "t-transfer" / "metrics.json").read_text())
    head = str(tmp_path / "t-transfer" / "source")
    assert gcf.cli.run(["transfer", str(target), "--init", head, "-o", str(tmp_path / "run"), "--epochs", "1"]) == 0
    assert "difference +" in capfd.readouterr().out.replace("-", "+")
    for wrong in ([str(target)], [str(source), str(target), "--init", head]):
        assert gcf.cli.run(["transfer", *wrong]) == 2
        assert "give SOURCE.h5 and TARGET.h5, or --init HEAD" in capfd.readouterr().err
