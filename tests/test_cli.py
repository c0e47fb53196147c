"""The command line as a user meets it: outputs, exit codes, one line per mistake."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import h5py
import numpy as np
import pytest
import videos
from caches import write_cache
from stage_one import TINY

import gcf.cli
from gcf import FeatureFile
from gcf.data.schema import FeatureContent
from gcf.data.writer import write_features


def gcf_run(*args, **options):
    """A run in a process of its own: code, standard output, standard error."""
    command = [sys.executable, "-m", "gcf.cli", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return videos.write_folder(tmp_path_factory.mktemp("videos"), videos=5)


@pytest.fixture(scope="module")
def features(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("features") / "f.h5"
    code, _, err = gcf_run("extract", folder, out, "--backbone", TINY)
    assert code == 0, err
    return out


def with_recipe(features: Path, path: Path, **changes) -> Path:
    """A copy of a feature file that says it was made otherwise."""
    known = FeatureFile(features)
    rows = [known.video(n) for n in range(known.num_videos)]
    write_features(path, FeatureContent(known.recipe | changes, rows, backbone_classes=known.backbone_classes))
    return path


def message(err: str) -> str:
    """The one line that an error is."""
    lines = [line for line in err.splitlines() if line.startswith(("gcf: ", "Error: "))]
    assert len(lines) == 1, err
    return lines[0]


@pytest.mark.parametrize("command", [[], *[[name] for name in gcf.cli.cli.commands], ["weights", "pull"]])
def test_every_command_explains_itself(invoke, command):
    code, out, _ = invoke(*command, "-h")
    assert code == 0
    assert "Usage: gcf" in out
    assert len(out.splitlines()) > 4


def test_every_option_says_what_it_does():
    def walk(command):
        yield command
        for child in getattr(command, "commands", {}).values():
            yield from walk(child)

    for command in walk(gcf.cli.cli):
        assert command.help, command.name
        for parameter in command.params:
            assert isinstance(parameter, click.Argument) or parameter.help, f"{command.name} {parameter.name}"


@pytest.mark.slow
def test_extraction_reports_in_words_and_in_json(folder, features, invoke, tmp_path):
    code, out, _ = invoke("extract", folder, tmp_path / "f.h5", "--backbone", TINY)
    assert code == 0
    assert "10 videos, 30 clips" in out
    code, out, _ = invoke("extract", folder, tmp_path / "f.h5", "--backbone", TINY, "--json")
    facts = json.loads(out)
    assert (facts["videos"], facts["clips"], facts["extracted"], facts["failures"]) == (10, 30, 0, [])
    assert (tmp_path / "f.h5").read_bytes() == features.read_bytes()


@pytest.mark.slow
def test_progress_goes_to_standard_error(folder, tmp_path):
    code, out, err = gcf_run("extract", folder, tmp_path / "f.h5", "--backbone", TINY)
    assert code == 0
    assert "clips/s" in err
    assert "clips/s" not in out


@pytest.mark.slow
def test_a_broken_video_makes_exit_code_3_and_is_named_once(tmp_path, invoke):
    root = videos.write_folder(tmp_path / "v", classes=("a",), videos=2)
    (root / "a" / "bad\nname.mp4").write_bytes(b"")
    code, out, _ = invoke("extract", root, tmp_path / "f.h5", "--backbone", TINY)
    assert code == 3
    assert out.count("bad") == 1
    assert r"failed   'a/bad\nname.mp4': empty" in out
    code, out, _ = invoke("info", tmp_path / "f.h5")
    assert code == 0
    assert r"failed   'a/bad\nname.mp4': empty" in out


def test_a_list_of_which_no_video_exists_is_refused_before_work(tmp_path, invoke, monkeypatch):
    monkeypatch.setattr("gcf.extract.extractor.open_engine", lambda *_: pytest.fail("a network was about to be loaded"))
    (tmp_path / "list.txt").write_text("a/1.mp4\na/2.mp4\n")
    code, out, err = invoke("extract", tmp_path / "list.txt", tmp_path / "f.h5", "--backbone", TINY)
    assert code == 4
    assert not out
    assert "list.txt: none of its 2 videos exists, such as" in message(err)
    assert [path.name for path in tmp_path.iterdir()] == ["list.txt"]


@pytest.mark.slow
def test_a_list_of_which_no_video_can_be_read_is_finished_with_exit_code_3(tmp_path, invoke):
    (tmp_path / "1.mp4").write_bytes(b"")
    (tmp_path / "list.txt").write_text("1.mp4\n")
    code, out, _ = invoke("extract", tmp_path / "list.txt", tmp_path / "f.h5", "--backbone", TINY)
    assert code == 3
    assert "failed   '1.mp4': empty" in out


@pytest.mark.slow
def test_info_says_what_a_file_holds(features, invoke):
    code, out, _ = invoke("info", features)
    assert code == 0
    for fact in ("10 videos", "30 clips", "tiny", "24 wide", "2 classes, 5 to 5 videos each", "5 groups"):
        assert fact in out
    code, out, _ = invoke("info", features, "--json")
    assert json.loads(out)["videos"] == 10


def nested(root: Path) -> Path:
    """Videos below class/person, each person in both classes."""
    for name in ("jump/s01/a.avi", "run/s01/b.avi", "run/s02/c.avi"):
        videos.write_video(root / name, 17)
    return root


@pytest.mark.slow
def test_nested_folders_are_refused_with_both_readings_until_one_is_named(tmp_path, invoke):
    root, out = nested(tmp_path / "v"), tmp_path / "f.h5"
    code, said, err = invoke("extract", root, out, "--backbone", TINY)
    assert (code, said) == (2, "")
    for text in ("2 classes, jump (1), run (2) (--class-level 1)", "2 classes, s01 (2), s02 (1) (--class-level last)"):
        assert text in message(err)
    assert [path.name for path in tmp_path.iterdir()] == ["v"]
    for level, counts in (("last", {"s01": 2, "s02": 1}), ("1", {"jump": 1, "run": 2})):
        code, said, _ = invoke("extract", root, out, "--backbone", TINY, "--class-level", level, "--json")
        assert code == 0
        assert json.loads(said)["class_counts"] == counts
    assert invoke("extract", root, out, "--backbone", TINY, "--class-level", "2")[0] == 2


@pytest.mark.slow
def test_classes_are_named_with_their_counts(folder, features, invoke, tmp_path):
    for command in (["extract", folder, tmp_path / "f.h5", "--backbone", TINY], ["info", features]):
        assert "classes: jump (5), run (5)\n" in invoke(*command)[1]
        assert json.loads(invoke(*command, "--json")[1])["class_counts"] == {"jump": 5, "run": 5}
    train = ["train-head", features, "--epochs", "1", "-o"]
    assert "2 classes: jump (5), run (5).\n" in invoke(*train, tmp_path / "words")[1]
    metrics = json.loads(invoke(*train, tmp_path / "run", "--json")[1])
    assert metrics["coverage"]["class_counts"] == {"jump": 5, "run": 5}
    assert "2 classes: jump (5), run (5)." in metrics["notes"]


@pytest.mark.slow
def test_of_many_classes_the_first_dozen_is_named(tmp_path, invoke):
    names = [f"class {k:02d}" for k in range(15)]
    write_cache(tmp_path / "f.h5", [np.ones((1, 4))] * 30, list(range(15)) * 2, names, recipe={"pixel_max": 1.0})
    assert "class 11 (2) and 3 more\n" in invoke("info", tmp_path / "f.h5")[1]
    assert json.loads(invoke("info", tmp_path / "f.h5", "--json")[1])["class_counts"] == dict.fromkeys(names, 2)


@pytest.mark.slow
def test_info_says_in_which_precision_the_network_ran(features, invoke, tmp_path):
    exact = {"precision": "fp32", "runtime": "torch", "folded": False, "precision_cosine": None}
    code, out, _ = invoke("info", with_recipe(features, tmp_path / "fp32.h5", **exact))
    assert (code, out.count(", in fp32 by torch\n")) == (0, 1)
    half = exact | {"precision": "bf16", "runtime": "openvino", "precision_cosine": 0.9995}
    _, out, _ = invoke("info", with_recipe(features, tmp_path / "f.h5", **half))
    assert ", in bf16 by openvino (cosine to fp32 at least 0.9995 when tried)\n" in out


@pytest.mark.slow
def test_a_strangers_feature_file_sends_no_command_to_the_terminal(features, invoke, tmp_path, monkeypatch):
    code, out, _ = invoke("info", with_recipe(features, tmp_path / "f.h5", weights="\x1b[2J\rmine", mean="\x07"))
    assert code == 0
    assert r"weights \x1b[2J\rmine" in out
    assert all(line.isprintable() for line in out.splitlines())
    with h5py.File(tmp_path / "f.h5", "a") as h5:
        h5.attrs["schema"] = "\x1b[2J"
    code, _, err = invoke("info", tmp_path / "f.h5")
    assert (code, err.count(r"schema \x1b[2J")) == (4, 1)
    monkeypatch.setattr(FeatureFile, "__init__", lambda *_: logging.getLogger("gcf").warning("\x1b[2J"))
    assert r"gcf: \x1b[2J" in invoke("info", tmp_path / "f.h5")[2]


MISTAKES = {
    "no videos": (["extract", "{tmp}", "{tmp}/f.h5"], 1, "no videos found"),
    "absent folder": (["extract", "{tmp}/none", "{tmp}/f.h5"], 2, "no such file or folder"),
    "unknown backbone": (["extract", "{videos}", "{tmp}/f.h5", "--backbone", "resnet5"], 2, "unknown backbone"),
    "absent plug-in": (["extract", "{videos}", "{tmp}/f.h5", "--backbone", "none.py"], 2, "no such plug-in"),
    "unknown weights": (["extract", "{videos}", "{tmp}/f.h5", "--weights", "k999"], 2, "k999"),
    "absent annotations": (["extract", "{videos}", "{tmp}/f.h5", "--annotations", "none.csv"], 2, "none.csv"),
    "broken annotations": (["extract", "{videos}", "{tmp}/f.h5", "--annotations", "{tmp}/bad.csv"], 4, "bad.csv"),
    "missing output folder": (["extract", "{videos}", "{tmp}/no/f.h5"], 4, "there is no folder"),
    "read-only output": (["extract", "{videos}", "/proc/f.h5"], 4, "cannot be written"),
    "unknown option": (["extract", "{videos}", "{tmp}/f.h5", "--colour"], 2, "--colour"),
    "bad shard": (["extract", "{videos}", "{tmp}/f.h5", "--shard", "half"], 2, "i/n"),
    "not a feature file": (["info", "{tmp}/bad.csv"], 4, "not a readable feature file"),
    "absent feature file": (["info", "{tmp}/none.h5"], 4, "no such file"),
    "unknown head": (["train-head", "{features}", "-o", "{tmp}/run", "--head", "gcf-257"], 2, "unknown head"),
    "unknown cv": (["train-head", "{features}", "-o", "{tmp}/run", "--cv", "leave"], 2, "cv"),
    "too many folds": (["train-head", "{features}", "-o", "{tmp}/run", "--cv", "50"], 4, "folds"),
    "gate beside init": (["train-head", "{features}", "--init", "{tmp}", "--gate", "token"], 2, "not both"),
    "gate of a linear head": (["train-head", "{features}", "--head", "mean", "--gate", "token"], 2, "has no gate"),
    "unknown device": (["train-head", "{features}", "-o", "{tmp}/run", "--device", "tpu9"], 2, "cannot be used here"),
    "negative seed": (["train-head", "{features}", "-o", "{tmp}/run", "--seed", "-1"], 2, "seed"),
    "unknown policy": (["ablate", "{features}", "-o", "{tmp}/run", "--clip-policy", "best"], 2, "unknown clip policy"),
    "unknown padding": (["train-head", "{features}", "--padding", "zero"], 2, "unknown padding"),
    "all looped": (["ablate", "{features}", *"--clip-policy all --padding loop".split()], 2, "padding"),
    "impossible run folder": (["train-head", "{features}", "-o", "{features}/run"], 4, "cannot be written"),
    "run folder in use": (["train-head", "{features}", "-o", "{tmp}"], 4, "not empty, and not a run"),
    "unknown preset": (["ablate", "{features}", "-o", "{tmp}/run", "--preset", "all"], 2, "unknown preset"),
    "no such head": (["predict", "{tmp}", "{videos}"], 4, "head.json"),
    "unknown weights shown": (["weights", "show", "resnext101", "k999"], 2, "k999"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_with_its_exit_code(case, folder, features, invoke, tmp_path):
    args, expected, text = MISTAKES[case]
    (tmp_path / "bad.csv").write_text("path,colour\na.mp4,red\n")
    places = {"tmp": tmp_path, "videos": folder, "features": features}
    code, out, err = invoke(*[a.format(**places) for a in args])
    assert code == expected, err
    assert text in message(err)
    assert not out
    assert [p.name for p in tmp_path.iterdir()] == ["bad.csv"]


def test_offline_weights_say_what_to_put_where(folder, tmp_path, monkeypatch, invoke):
    monkeypatch.setenv("GCF_HOME", str(tmp_path / "home"))
    code, _, err = invoke("extract", folder, tmp_path / "f.h5", "--backbone", "mobilenetv2")
    assert code == 4
    assert "kinetics_mobilenetv2_1.0x_RGB_16_best.pth" in err
    assert str(tmp_path / "home" / "weights" / "kinetics_mobilenetv2_1.0x_RGB_16_best.pth") in err
    assert "drive.google.com" in err


@pytest.mark.slow
def test_random_weights_work_and_are_warned_about_everywhere(folder, tmp_path, invoke):
    out = tmp_path / "f.h5"
    code, _, err = invoke("extract", folder, out, "--backbone", "mobilenetv2_0.2x", "--weights", "random")
    assert code == 0
    assert "random weights" in err
    assert FeatureFile(out).recipe["weights"] == "random"
    assert "random weights" in invoke("info", out)[1]


def test_a_nan_in_the_descriptors_is_refused_by_name(features, tmp_path, invoke):
    copy = tmp_path / "f.h5"
    copy.write_bytes(features.read_bytes())
    with h5py.File(copy, "a") as h5:
        h5["descriptors"][0, 0, 0] = np.nan
        first = h5["videos/id"].asstr()[0]
    code, _, err = invoke("train-head", copy, "-o", tmp_path / "run")
    assert code == 4
    assert first in message(err)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_run_cleanly_and_it_resumes(folder, features, tmp_path, number, code):
    waiting, go = tmp_path / "waiting", tmp_path / "go"
    slow = tmp_path / "slow.py"  # its fourth batch waits for `go`; some videos are done by then
    text = Path(TINY).read_text().replace("return self.conv(", "self.wait(); return self.conv(")
    slow.write_text(
        text.replace(
            "    def descriptor(",
            f"""    def wait(self):
        import pathlib, time
        self.batches = getattr(self, "batches", 0) + 1
        if self.batches >= 4 and not pathlib.Path({str(go)!r}).exists():
            pathlib.Path({str(waiting)!r}).touch()
            time.sleep(2)

    def descriptor(""",
        )
    )
    out = tmp_path / "f.h5"
    command = [sys.executable, "-m", "gcf.cli", "extract", str(folder), str(out), "--backbone", str(slow)]
    command += ["--batch-size", "2", "--precision", "fp32", "--runtime", "torch"]  # which runs the plug-in's own Python
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not waiting.exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "the same command goes on" in err
    assert "Traceback" not in err
    assert list((tmp_path / "f.h5.parts").glob("part-*.h5"))
    assert not out.exists()
    go.touch()
    assert gcf_run(*command[3:])[0] == 0
    assert FeatureFile(out).num_videos == 10


@pytest.mark.slow
def test_train_eval_predict_and_ablate_work_together(folder, features, tmp_path, invoke):
    run = tmp_path / "run"
    code, out, err = invoke("train-head", features, "-o", run, "--epochs", "3")
    assert code == 0, err
    assert "val" in out
    code, out, err = invoke("eval", run, features, "--json")
    assert code == 0, err
    assert 0 <= json.loads(out)["top1"] <= 1
    code, out, err = invoke("predict", run, folder / "run", "--backbone", TINY, "--json")
    assert code == 0, err
    predicted = json.loads(out)["videos"]
    assert [p["id"] for p in predicted] == [f"v_run_g0{n}_c01.avi" for n in range(1, 6)]
    for p in predicted:
        assert {name for name, _ in p["classes"]} == {"jump", "run"}
        assert sum(share for _, share in p["classes"]) == pytest.approx(1)
    code, out, err = invoke(
        "ablate", features, "-o", tmp_path / "table", "--seeds", "2", "--cv", "group", "--epochs", "2"
    )
    assert code == 0, err
    for arm in ("c-clip", "d-clips", "mean", "fusion-only", "attention-only", "gcf-256"):
        assert f"| {arm} |" in out
    assert (tmp_path / "table" / "table.json").exists()


@pytest.mark.slow
def test_predict_refuses_a_recipe_that_is_not_the_heads_and_reports_broken_videos(folder, features, tmp_path, invoke):
    run = tmp_path / "run"
    assert invoke("train-head", features, "-o", run, "--epochs", "1")[0] == 0
    other = tmp_path / "tiny_backbone.py"
    other.write_text(Path(TINY).read_text().replace('"RGB"', '"BGR"'))
    code, _, err = invoke("predict", run, folder, "--backbone", other)
    assert code == 4
    assert 'channel_order: "BGR" against "RGB"' in err.splitlines()[-1]  # the line before is about the conversion
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "empty.mp4").write_bytes(b"")
    code, out, _ = invoke("predict", run, tmp_path / "v", "--backbone", TINY)
    assert code == 3
    assert "'empty.mp4': empty" in out


@pytest.mark.slow
def test_complexity_shows_the_paper_beside_the_count(invoke):
    code, out, _ = invoke("complexity", "--json")
    assert code == 0
    rows = {(r["name"], r["classes"]): r for r in json.loads(out)["rows"]}
    assert rows["resnext101", 400]["parameters"] == 48_340_816
    assert rows["resnext101", 400]["paper_parameters_m"] == 48.34
    assert rows["resnext101", 600]["macs"] == 9_568_124_928
    assert rows["gcf-256", 600]["paper_mflops"] == 15
    assert "divided by the stride twice" in invoke("complexity")[1]


def test_an_unexpected_fault_is_one_line_too(invoke, monkeypatch, features):
    def broken(path):
        raise RuntimeError("the sky fell")

    monkeypatch.delenv("GCF_TRACEBACK", raising=False)
    monkeypatch.setattr("gcf.data.features.FeatureFile", broken)
    code, _, err = invoke("info", features)
    assert code == 1
    assert "RuntimeError: the sky fell" in message(err)


@pytest.mark.slow
def test_output_that_nobody_reads_is_no_fault(features):
    command = f"({sys.executable} -m gcf.cli info {features} --json; echo code $? >&2) | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == "code 0\n"


@pytest.mark.slow
def test_names_that_are_no_utf8_do_not_end_a_finished_run(tmp_path):
    root = tmp_path / "v"
    videos.write_video(root / "a" / "1.avi", 20)
    os.rename(root / "a" / "1.avi", os.fsencode(root / "a") + b"/\xff.avi")
    (root / "a" / "2.avi").write_bytes(b"")
    out = os.fsencode(tmp_path) + b"/\xfe.h5"
    command = [sys.executable, "-m", "gcf.cli", "extract", str(root), out, "--backbone", TINY]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 3, done.stderr
    assert FeatureFile(os.fsdecode(out)).ids == [os.fsdecode(b"a/\xff.avi")]


def test_predict_checks_its_options(features, folder, tmp_path, invoke):
    code, _, err = invoke("predict", tmp_path, folder, "--top", "0")
    assert code == 2
    assert "top must be at least 1" in message(err)


@pytest.mark.slow
def test_merge_shows_what_came_of_it(folder, features, tmp_path, invoke):
    for i in (1, 2):
        assert invoke("extract", folder, tmp_path / f"{i}.h5", "--backbone", TINY, "--shard", f"{i}/2")[0] == 0
    code, out, _ = invoke("merge", tmp_path / "1.h5", tmp_path / "2.h5", tmp_path / "all.h5", "--json")
    assert code == 0
    assert json.loads(out)["videos"] == 10
    assert (tmp_path / "all.h5").read_bytes() == features.read_bytes()
    assert invoke("merge", tmp_path / "1.h5", tmp_path / "2.h5")[0] == 4


@pytest.mark.slow
@pytest.mark.parametrize("options", ["--cv 3", "--cv group", "--clip-policy all", "--padding loop"])
def test_ablate_takes_every_protocol_and_policy(features, tmp_path, invoke, options):
    quick = "--seeds 1 --epochs 1 --json".split()
    code, out, err = invoke("ablate", features, "-o", tmp_path / "t", *quick, *options.split())
    assert code == 0, err
    assert [row["name"] for row in json.loads(out)["rows"]][-1] == "gcf-256"


@pytest.mark.slow
def test_a_head_without_a_gate_is_the_fusion_alone(features, tmp_path, invoke):
    scores = []
    for name, options in (("a", ["--gate", "none"]), ("b", ["--head", "fusion-only"])):
        code, out, err = invoke("train-head", features, "-o", tmp_path / name, "--epochs", "3", "--json", *options)
        assert code == 0, err
        scores.append(json.loads(out)["loss"])
    assert scores[0] == scores[1]


def test_help_lists_every_command_in_a_section_in_lines_of_80(invoke):
    code, out, _ = invoke("-h")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    titles = [line[:-1] for line in out.splitlines() if line and not line.startswith(" ") and line.endswith(":")]
    assert titles == ["Options", "Extract", "Train and compare", "Look", "Files", "Help"]
    listed = {line.split()[0] for line in out.splitlines() if line.startswith("  ") and line.strip()}
    assert set(gcf.cli.cli.commands) <= listed
    assert "..." not in out.partition("Extract:")[2]


@pytest.mark.slow
def test_python_m_gcf_is_gcf():
    run = subprocess.run([sys.executable, "-m", "gcf", "--version"], capture_output=True, text=True, check=True)
    assert run.stdout == f"gcf, version {gcf.__version__}\n"


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (("extract", "VIDEOS", "f.h5", "--backbone", "resnet101"), "did you mean resnext101"),
        (("check-head", "gcf-265"), "did you mean gcf-256"),
        (("extrakt",), "extract"),
        (("extract", "--bakbone", "x"), "--backbone"),
    ],
)
def test_the_nearest_name_is_offered(invoke, folder, tmp_path, monkeypatch, args, hint):
    monkeypatch.chdir(tmp_path)
    code, out, err = invoke(*[str(folder) if arg == "VIDEOS" else arg for arg in args])
    assert code == 2
    assert hint in out + err
