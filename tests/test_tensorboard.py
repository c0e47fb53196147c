import csv
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from caches import easy_cache

from gcf.errors import RefusedError, UsageError
from gcf.head.fitting.tensorboard import TensorBoardLog, run_name
from gcf.head.training import train_head

pytest.importorskip("tensorboard")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the package's own imports
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TAGS = {"lr": "lr", "loss/train": "train_loss", "loss/val": "val_loss", "top1/val": "val_top1"}


def curves(folder):
    """(step, value) of every tag that a run's event files hold."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def row(step, value=0.5):
    return {"epoch": step // 20, "step": step, "lr": 0.1, "train_loss": value, "val_loss": 2 * value, "val_top1": 0.25}


@pytest.mark.slow
def test_the_history_of_a_training_comes_back_from_the_event_files(tmp_path):
    train_head(easy_cache(tmp_path / "f.h5"), tmp_path / "run", head="mean", epochs=60, seeds=2)
    rows = list(csv.DictReader((tmp_path / "run" / "history.csv").read_text().splitlines()))
    with TensorBoardLog(tmp_path / "log") as log:
        for r in rows:
            numbers = {key: float(value) for key, value in r.items() if key not in ("arm", "fold")}
            log.add(r["arm"], int(r["seed"]), r["fold"], numbers | {"step": int(r["step"])})
    assert sorted(p.name for p in (tmp_path / "log").iterdir()) == ["mean, seed 0, holdout", "mean, seed 1, holdout"]
    for seed in ("0", "1"):
        found = curves(tmp_path / "log" / f"mean, seed {seed}, holdout")
        mine = [r for r in rows if r["seed"] == seed]
        assert found.keys() == TAGS.keys()
        for tag, key in TAGS.items():
            assert [step for step, _ in found[tag]] == [20, 40, 60]
            assert [value for _, value in found[tag]] == pytest.approx(
                [float(r[key]) for r in mine], rel=1e-6
            )  # float32


def test_runs_that_share_a_step_stay_apart_and_no_name_leaves_the_folder(tmp_path):
    names = [("../out", 0, ".."), ("..", 0, "/out/.."), ("a b", 1, "a-b"), ("a", 1, "b"), ("a", 11, "b")]
    with TensorBoardLog(tmp_path / "log") as log:
        for n, name in enumerate(names):
            log.add(*name, row(20, float(n)))
    assert [p.name for p in tmp_path.iterdir()] == ["log"]
    folders = [p for p in (tmp_path / "log").rglob("*") if p.is_dir()]
    assert len(folders) == len(names)
    for n, name in enumerate(names):
        assert curves(tmp_path / "log" / run_name(*name))["loss/train"] == [(20, float(n))]


def test_trainings_side_by_side_share_a_log(tmp_path):
    with TensorBoardLog(tmp_path) as log, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: log.add("mean", n % 3, "s", row(20 * n, n)), range(300)))
    for seed in range(3):
        found = sorted(curves(tmp_path / run_name("mean", seed, "s"))["loss/val"])
        assert found == [(20 * n, 2 * n) for n in range(300) if n % 3 == seed]


def test_rows_are_written_one_at_a_time(tmp_path):
    log, inside, met = TensorBoardLog(tmp_path), [], []
    real = log._record_writer

    def slow(file):
        met.append(list(inside))
        inside.append(file)
        time.sleep(0.01)  # long enough for another thread to come in
        inside.pop()
        return real(file)

    log._record_writer = slow
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: log.add("mean", 0, "s", row(n)), range(8)))
    assert met == [[]] * 8


def test_rows_are_there_before_the_log_is_closed_and_rows_need_not_be_whole(tmp_path):
    log = TensorBoardLog(tmp_path)
    log.add("a", 0, "s", {"step": 1, "val_loss": 1.0})
    assert curves(tmp_path / run_name("a", 0, "s")) == {"loss/val": [(1, 1.0)]}


def test_a_second_log_in_the_same_folder_leaves_the_first_one_alone(tmp_path):
    for step in (20, 40):
        with TensorBoardLog(tmp_path) as log:
            log.add("a", 0, "s", row(step))
    run = tmp_path / run_name("a", 0, "s")
    assert len(list(run.iterdir())) == 2
    assert [step for step, _ in curves(run)["lr"]] == [20, 40]


def test_a_missing_package_and_a_bad_folder_are_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(RefusedError, match="file: cannot be made"):
        TensorBoardLog(tmp_path / "file")
    for name in [n for n in sys.modules if n.split(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UsageError, match=r"need tensorboard .*: pip install gcf-net\[tensorboard\]"):
        TensorBoardLog(tmp_path / "log")
    assert not (tmp_path / "log").exists()
