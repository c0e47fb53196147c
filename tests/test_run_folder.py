"""Where results go: what lies there already, who else works there, kills, and full disks."""

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from caches import easy_cache

import gcf.cli
from gcf.data import atomic
from gcf.data.folder import clear_staging, entries, locked_folder, staged
from gcf.errors import RefusedError, StoppedError
from gcf.explain.files.localization_folder import LocalizationFolder
from gcf.explain.pages.write import write_pages
from gcf.explain.predict import Pictures
from gcf.head.ablation import ablate
from gcf.head.models.saved import load_head
from gcf.head.report.write import write_report
from gcf.head.training import train_head
from gcf.head.trials.store import open_store

QUICK = ("--head", "mean", "--epochs", "2", "--no-audit")
HOLD = """
import sys, time
from gcf.data.folder import locked_folder, staged
with locked_folder(sys.argv[1]) as folder, staged(folder, last="metrics.json") as staging:
    (staging / "head.json").write_text("half of it")
    print("here", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def cache(tmp_path):
    return easy_cache(tmp_path / "feats.h5").path


def train(*args):
    return gcf.cli.run(["train-head", *map(str, args), *QUICK])


@pytest.fixture
def hold():
    """Starts processes that work on a folder until the test ends, or they are killed."""
    running = []

    def start(folder) -> subprocess.Popen:
        process = subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE)
        running.append(process)
        assert process.stdout.readline() == b"here\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.slow
def test_features_and_notes_beside_a_run_stay_when_it_is_replaced(tmp_path, capfd):
    run = tmp_path / "run"
    run.mkdir()
    features = easy_cache(tmp_path / "feats.h5").path
    assert train(features, "-o", run) == 0
    os.replace(features, run / "feats.h5")
    (run / "notes.txt").write_text("mine")
    (run / "table.csv").write_text("mine, of no train-head")
    (run / "seed-0").mkdir()
    (run / "seed-0" / "notes.txt").write_text("mine")
    before = files(run)
    assert train(run / "feats.h5", "-o", run, "--overwrite", "--seed", 3) == 0
    after = files(run)
    for name in ("feats.h5", "notes.txt", "table.csv", "seed-0/notes.txt"):
        assert after[name] == before[name], name
    assert after["metrics.json"] != before["metrics.json"]
    assert "stays: feats.h5, notes.txt" in capfd.readouterr().err
    assert not list(run.glob(".*"))


@pytest.mark.slow
def test_what_the_earlier_run_wrote_and_this_one_does_not_is_gone(cache, tmp_path):
    train_head(cache, tmp_path / "run", head="mean", epochs=2, seeds=2)
    assert (tmp_path / "run" / "seed-1" / "head.json").exists()
    train_head(cache, tmp_path / "run", head="mean", epochs=2, overwrite=True)
    assert not list((tmp_path / "run").glob("seed-*"))
    assert load_head(tmp_path / "run")


@pytest.mark.slow
def test_a_file_that_a_run_of_another_kind_would_replace_is_named(cache, tmp_path, capfd):
    assert train(cache, "-o", tmp_path / "run") == 0
    (tmp_path / "run" / "table.csv").write_text("mine")
    before = files(tmp_path / "run")
    code = gcf.cli.run(["ablate", str(cache), "-o", str(tmp_path / "run"), "--overwrite", *QUICK])
    assert code == 4
    assert "beside the earlier run lies what this one would replace (table.csv)" in capfd.readouterr().err
    assert files(tmp_path / "run") == before


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_the_project_as_output_is_refused_with_what_it_holds(overwrite, tmp_path, monkeypatch, capfd):
    project = tmp_path / "project"
    project.mkdir()
    features = easy_cache(project / "feats.h5").path
    for name in ("a.py", "b.py", "config.json", "metrics.json", "notes.txt", "thesis.tex"):
        (project / name).write_text("{}")
    before = files(project)
    monkeypatch.chdir(project)
    assert train(features, "-o", ".", *overwrite) == 4
    assert "it holds a.py, b.py, config.json, feats.h5, metrics.json and 2 more" in capfd.readouterr().err
    assert files(project) == before


@pytest.mark.slow
@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_is_followed_and_stays_one(dangling, cache, tmp_path):
    if not dangling:
        (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    for overwrite in ((), ("--overwrite",)):
        assert train(cache, "-o", tmp_path / "run", *overwrite) == 0
        assert (tmp_path / "run").is_symlink()
        assert load_head(tmp_path / "disk")


@pytest.fixture
def mount(tmp_path):
    """Mounts a disk of so many kibibytes of memory, where that is allowed."""
    places = []

    def mounted(kibibytes: int) -> Path:
        place = tmp_path / "disk"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(place)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("nothing can be mounted here")
        places.append(place)
        return place

    yield mounted
    for place in places:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.slow
def test_a_mount_point_is_written_into(cache, mount):
    disk = mount(8192)
    for overwrite in ((), ("--overwrite",)):
        assert train(cache, "-o", disk, *overwrite) == 0
        assert load_head(disk)


@pytest.mark.slow
def test_an_empty_folder_is_written_into_and_metrics_come_last(cache, tmp_path, monkeypatch):
    run = tmp_path / "run"
    run.mkdir()
    inode, order, replace = run.stat().st_ino, [], Path.replace

    def noted(path, target):
        order.append(Path(target).name)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", noted)
    train_head(cache, run, head="mean", epochs=2)
    assert run.stat().st_ino == inode
    assert order[-1] == "metrics.json"
    assert {"head.json", "head.safetensors", "predictions.npz"} <= set(order)


@pytest.mark.parametrize("parent", ["file", "loop"])
def test_a_place_that_cannot_be_is_refused_before_the_work(parent, cache, tmp_path, monkeypatch, capfd):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    monkeypatch.setattr("gcf.head.trials.experiment.Experiment.run", lambda *_: pytest.fail("it was trained"))
    assert train(cache, "-o", tmp_path / parent / "run") == 4
    assert "name another folder" in capfd.readouterr().err


@pytest.mark.slow
def test_the_second_of_two_commands_is_refused_while_the_first_works(cache, hold, tmp_path, capfd):
    first = hold(tmp_path / "run")
    for command in (["train-head", *QUICK], ["ablate", *QUICK], ["compare", "--epochs", "2"]):
        name, *options = command
        out = ["-o", str(tmp_path / "run"), "--overwrite"]
        assert gcf.cli.run([name, str(cache), *out, *options]) == 4, name
        (line,) = [said for said in capfd.readouterr().err.splitlines() if "in use" in said]
        assert re.search(rf"run: in use by process {first.pid} on \S+; wait for it, or stop it", line)
    assert (tmp_path / "run" / ".gcf-lock").exists()


FACTS = {"gcf": "0", "head": "run", "classes": [], "settings": {}}


def others(cache, folder):
    """Every other command that writes a folder, by its name."""
    yield "export --npy", ["export", str(cache), "--npy", str(folder)]
    yield "demo-videos", ["demo-videos", str(folder), "--videos", "1"]
    yield "demo", ["demo", str(folder)]


@pytest.mark.slow
def test_no_command_writes_into_a_folder_that_another_works_on(cache, hold, tmp_path, capfd):
    hold(tmp_path / "out")
    for name, command in others(cache, tmp_path / "out"):
        assert gcf.cli.run(command) == 4, name
        assert "in use by process" in capfd.readouterr().err, name
    with pytest.raises(RefusedError, match="in use by process"):
        Pictures.of(tmp_path / "out", None, [])
    train_head(cache, tmp_path / "run", head="mean", epochs=2)
    with pytest.raises(RefusedError, match="in use by process"):
        write_report(tmp_path / "run", tmp_path / "out.html")


@pytest.mark.slow
def test_a_localisation_and_its_pages_are_kept_from_others(cache, tmp_path, capfd):
    train_head(cache, tmp_path / "run", head="mean", epochs=2)
    seen = tmp_path / "seen"
    command = ["localize", str(tmp_path / "run"), str(cache), "-o", str(seen)]
    with locked_folder(seen):
        assert gcf.cli.run(command) == 4
        assert "in use by process" in capfd.readouterr().err
    assert gcf.cli.run(command) == 0
    with locked_folder(seen), pytest.raises(RefusedError, match="in use by process"):
        write_pages(seen)
    assert not list(seen.glob(".*"))


@pytest.mark.slow
def test_a_killed_run_is_in_nobodys_way(cache, hold, tmp_path):
    process = hold(tmp_path / "run")
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = sorted(path.name.split(".")[1] for path in (tmp_path / "run").iterdir())
    assert left == ["gcf-lock", "gcf-staging"]  # the lock, which nobody holds, and half of a run
    assert train(cache, "-o", tmp_path / "run") == 0
    assert not list((tmp_path / "run").glob(".*"))


@pytest.mark.slow
def test_the_same_process_number_again_is_no_obstacle(cache, hold, tmp_path, monkeypatch):
    process = hold(tmp_path / "run")
    process.kill()
    process.wait()
    (tmp_path / f".run.{process.pid}.tmp").mkdir()  # as versions before left it
    monkeypatch.setattr(os, "getpid", lambda: process.pid)
    assert train(cache, "-o", tmp_path / "run") == 0
    with (tmp_path / f".x.{process.pid}.tmp").open("wb"), atomic.atomic_file(tmp_path / "x") as file:
        file.write(b"whole")
    assert (tmp_path / "x").read_bytes() == b"whole"


def killed(*_):
    raise MemoryError("as if killed")


@pytest.mark.parametrize("moved", range(6))
def test_a_run_that_was_killed_while_it_got_its_place_is_finished_by_the_next(moved, tmp_path, monkeypatch):
    names = ["a", "sub/b", "metrics.json"]
    old = [tmp_path / name for name in ("a", "gone", "metrics.json")]
    for path in old:
        path.write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    real, rename, calls = Path.replace, Path.rename, []

    def cut(path, target, do):
        calls.append(path)
        return killed() if len(calls) > moved + 1 else do(path, target)  # the first makes it ready

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda path, target: cut(path, target, real))
        patch.setattr(Path, "rename", lambda path, target: cut(path, target, rename))
        try:
            with staged(tmp_path, last="metrics.json", replaces=old) as staging:
                (staging / "sub").mkdir()
                for name in names:
                    (staging / name).write_text("new")
        except MemoryError:
            assert not (tmp_path / "metrics.json").exists()
    clear_staging(tmp_path, last="metrics.json")
    expected = dict.fromkeys(names, b"new") | {"notes.txt": b"mine"}
    assert files(tmp_path) == expected


def unfinished(folder: Path) -> list[Path]:
    """What kills leave: a file by number, as versions before named it, and one by name."""
    left = [folder / ".x.npz.1.tmp", folder / f".x.npz.{'0' * 32}.tmp"]
    for path in left:
        path.write_text("half of it")
    return left


def test_left_overs_of_dead_writers_are_cleared_and_those_of_living_ones_stay(cache, tmp_path):
    store = Path(f"{cache}.results")
    store.mkdir()
    left = unfinished(store)
    with atomic.atomic_file(store / "y.npz") as living:
        living.write(b"half")
        assert open_store(cache)[1] is None
        assert entries(store) == []
        assert not any(path.exists() for path in left)
        assert Path(living.name).exists()
    assert (store / "y.npz").read_bytes() == b"half"


def test_left_overs_in_a_localisation_are_cleared(tmp_path):
    LocalizationFolder.begin(tmp_path, FACTS, videos=())
    (tmp_path / "sub").mkdir()
    left = [*unfinished(tmp_path), *unfinished(tmp_path / "sub")]
    LocalizationFolder.begin(tmp_path, FACTS, videos=())
    assert not any(path.exists() for path in left)


@pytest.mark.slow
def test_a_full_disk_names_what_is_missing_and_what_is_kept_and_the_command_goes_on(cache, mount, monkeypatch, capfd):
    disk = mount(96)
    (disk / "ballast").write_bytes(bytes(64 << 10))
    out = disk / "run"
    assert train(cache, "-o", out) == 5
    said = " ".join(capfd.readouterr().err.split())
    found = re.search(
        r"run: no room on the disk \(No space left on device; ([\d,]+) bytes are needed, ([\d,]+) are missing\); "
        r"free some and run the same command again: what was trained is kept in (\S+/unplaced/\w+), from where",
        said,
    )
    assert found, said
    needed, missing = (int(number.replace(",", "")) for number in found.groups()[:2])
    assert 0 < missing < needed
    kept = Path(found[3])
    assert load_head(kept)
    assert not out.exists()
    (disk / "ballast").unlink()
    before = files(kept)
    monkeypatch.setattr("gcf.head.trials.experiment.Experiment.run", lambda *_: pytest.fail("it was trained again"))
    assert train(cache, "-o", out) == 0
    assert files(out) == before
    assert not kept.exists()


@pytest.mark.slow
def test_another_command_does_not_take_what_is_kept(cache, mount, tmp_path):
    disk = mount(96)
    (disk / "ballast").write_bytes(bytes(64 << 10))
    with pytest.raises(StoppedError, match="kept in"):
        train_head(cache, disk / "run", head="mean", epochs=2)
    run = train_head(cache, tmp_path / "other", head="mean", epochs=2, seed=7)
    assert run.metrics["seeds"][0]["seed"] == 7


@pytest.mark.slow
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_a_comparison_without_room_goes_on_from_its_results(error, cache, tmp_path, monkeypatch, capfd):
    def full(*_, **__):
        raise OSError(error, os.strerror(error))

    command = ["ablate", str(cache), "-o", str(tmp_path / "t"), *QUICK, "--seeds", "2"]
    with monkeypatch.context() as patch:
        patch.setattr("gcf.head.ablation_files.plot_arms", full)
        assert gcf.cli.run(command) == 5
    said = " ".join(capfd.readouterr().err.split())
    assert f"t: no room on the disk ({os.strerror(error)}; " in said
    assert f"run the same command again: what was trained is kept in {cache}.results, from where it goes on" in said
    assert not (tmp_path / "t").exists()
    assert gcf.cli.run(command) == 0
    assert re.search(r"(\d+) of \1 results .* are there already", capfd.readouterr().err)


@pytest.mark.slow
def test_the_results_are_the_same_with_and_without_a_folder_that_was_there(cache, tmp_path):
    (tmp_path / "there").mkdir()
    runs = [ablate(cache, tmp_path / name, heads=["mean"], seeds=1, epochs=2) for name in ("there", "new")]
    first, second = (np.load(run.path / "predictions.npz") for run in runs)
    assert all(np.array_equal(first[name], second[name]) for name in first.files)


@pytest.mark.slow
def test_a_head_is_not_exported_over_a_file(cache, tmp_path, capfd):
    pytest.importorskip("onnxruntime")
    train_head(cache, tmp_path / "run", head="mean", epochs=2)
    (tmp_path / "h.onnx").write_text("mine")
    assert gcf.cli.run(["export-head", str(tmp_path / "run"), str(tmp_path / "h.onnx")]) == 4
    assert "exists already" in capfd.readouterr().err
    assert (tmp_path / "h.onnx").read_text() == "mine"


@pytest.mark.slow
def test_arrays_go_into_an_empty_folder(cache, tmp_path):
    (tmp_path / "a").mkdir()
    assert gcf.cli.run(["export", str(cache), "--npy", str(tmp_path / "a")]) == 0
    assert (tmp_path / "a" / "index.csv").exists()
    assert not list((tmp_path / "a").glob(".*"))
