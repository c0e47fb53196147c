"""`gcf localize`: every option does what it says, the exit code says how it went, a mistake is one line."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import videos
from measured import write_truth
from stage_one import TINY, extract

import gcf
import gcf.cli
from gcf.explain import localizer
from gcf.explain.drawing.strip import Facts
from gcf.head.models.build import build_head
from gcf.head.models.saved import save_head

pytestmark = pytest.mark.slow

FILES = {"localization.json", "intervals.json", "intervals.csv", "clips.csv"}
SUBSETS = {"v.avi": "test", "w.avi": "train"}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two videos, of two and of three clips."""
    root = tmp_path_factory.mktemp("two")
    for n, name in enumerate(SUBSETS):
        videos.write_video(root / name, 20 + 20 * n, seed=n)
    return root


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    entries = {name: (subset, [(0.0, 0.64, "run")]) for name, subset in SUBSETS.items()}
    return write_truth(tmp_path_factory.mktemp("truth") / "truth.json", entries)


@pytest.fixture
def calls(monkeypatch):
    """What was drawn: for each kind, localisations and segments; files are left empty."""
    calls = {"overlay": [], "sheet": []}

    def drawing(kind):
        def draw(out, path, localization, *, segments):
            calls[kind].append((localization, list(segments)))
            out.write_bytes(b"")

        return draw

    for kind in calls:
        monkeypatch.setattr(localizer, f"write_{kind}", drawing(kind))
    return calls


@pytest.fixture
def localize(tiny_run, tmp_path, capfd):
    """`gcf localize` into tmp_path/out in this process: code, standard output, lines of standard error."""

    def run(*args, head=tiny_run, backbone=TINY):
        args = [head, *args, "-o", tmp_path / "out", *(("--backbone", backbone) if backbone else ()), "--device", "cpu"]
        code = gcf.cli.run(["localize", *map(str, args)])
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return code, out, [line for line in err.splitlines() if line.startswith(("gcf: ", "Error: "))]

    return run


def files(folder):
    return {path.name for path in folder.iterdir()}


def test_all_of_it_is_left_and_the_report_follows(localize, two, truth, tmp_path, capfd):
    code, out, err = localize(two, "--truth", truth)
    assert (code, err) == (0, [])
    assert files(tmp_path / "out") == FILES | {
        f"{name}.{suffix}" for name in SUBSETS for suffix in ("npz", "mp4", "png")
    }
    assert "'v.avi': " in out
    assert "temporal mAP" in out
    assert "pointing" not in out  # no boxes are annotated
    assert gcf.cli.run(["report", str(tmp_path / "out")]) == 0
    assert Path(capfd.readouterr().out.strip()) == tmp_path / "out" / "index.html"
    assert "<td>annotated</td>" in (tmp_path / "out" / "v.avi.html").read_text()


def test_one_object_says_what_the_folder_does(localize, two, truth, tmp_path):
    code, out, _ = localize(two, "--truth", truth, "--json", "--no-heat", "--no-overlay", "--no-sheet")
    assert code == 0
    found, stored = json.loads(out), json.loads((tmp_path / "out" / "localization.json").read_bytes())
    assert found["folder"] == str(tmp_path / "out")
    assert found["metrics"] == stored["metrics"]
    for ours, theirs in zip(found["videos"], stored["videos"], strict=True):
        assert ours == {key: theirs[key] for key in ours}
    assert files(tmp_path / "out") == FILES | {f"{name}.npz" for name in SUBSETS}


def test_a_feature_file_gives_the_numbers_alone(localize, two, tmp_path):
    assert localize(two, "--no-heat", "--no-overlay", "--no-sheet")[0] == 0
    expected = {name: (tmp_path / "out" / name).read_bytes() for name in FILES - {"localization.json"}}
    (tmp_path / "out").rename(tmp_path / "from_videos")
    extract(two, tmp_path / "f.h5")
    assert localize(tmp_path / "f.h5", backbone=None)[0] == 0
    assert {name: (tmp_path / "out" / name).read_bytes() for name in expected} == expected
    assert files(tmp_path / "out") == FILES | {f"{name}.npz" for name in SUBSETS}


def test_a_subset_of_the_truth(localize, two, truth, tmp_path, calls):
    assert localize(two, "--truth", truth, "--subset", "test")[0] == 0
    for kind in ("overlay", "sheet"):
        ((found, segments),) = calls[kind]
        assert (found.id, [(s.start, s.end, s.label) for s in segments]) == ("v.avi", [(0.0, 0.64, "run")])
    with (tmp_path / "out" / "clips.csv").open() as file:
        assert {row["video"] for row in csv.DictReader(file)} == {"v.avi"}


@pytest.mark.parametrize(
    ("args", "drawn"), [((), (2, 2)), (("--no-overlay",), (0, 2)), (("--no-sheet",), (2, 0)), (("--no-heat",), (2, 2))]
)
def test_what_is_drawn_can_be_chosen(localize, two, calls, args, drawn):
    assert localize(two, *args)[0] == 0
    assert (len(calls["overlay"]), len(calls["sheet"])) == drawn
    for found, _ in calls["overlay"] + calls["sheet"]:
        assert (found.heat is None) == ("--no-heat" in args)


@pytest.mark.parametrize("heat", ["--heat", "--no-heat"])
@pytest.mark.parametrize("label", ["jump", "run"])
def test_the_class_asked_for_is_drawn_with_maps_and_without(localize, two, calls, heat, label):
    assert localize(two / "v.avi", "--class", label, heat)[0] == 0
    ((found, segments),) = calls["overlay"]
    facts = Facts.of(found, segments)
    index = found.reading.classes.index(label)
    assert (facts.label, facts.probability) == (label, found.reading.probabilities[index])
    if found.heat is not None:
        assert found.heat.label == label


def test_options_of_the_maps_reach_them(localize, two, calls, tmp_path):
    for args in ([], ["--windows", "2"], ["--channels", "positive"], ["--gate-threshold", "0.999"]):
        assert localize(two / "w.avi", "--no-sheet", "--overwrite", "--class", "run", *args)[0] == 0, args
    plain, windows, positive, threshold = (found for found, _ in calls["overlay"])
    assert (plain.heat.values.shape[1], windows.heat.values.shape[1]) == (4, 2)
    assert not np.array_equal(positive.heat.values, plain.heat.values)
    assert "passes 0.999" in threshold.note
    settings = json.loads((tmp_path / "out" / "localization.json").read_bytes())["settings"]
    assert (settings["threshold"], settings["windows"], settings["label"]) == (0.999, 1, "run")


def test_a_network_of_gcf_has_a_map_for_every_frame(localize, two, calls):
    network = "--weights", "primitives", "--temporal-stride", "none"
    assert localize(two / "v.avi", *network, "--no-sheet", head="backbone", backbone="shufflenetv2_0.25x")[0] == 0
    ((found, _),) = calls["overlay"]
    assert (found.heat.values.shape, found.heat.strides) == ((2, 16, 4, 4), (1, 32, 32))
    seen = found.heat.values.any(axis=(2, 3))  # the second clip has four frames, the rest is padding
    assert seen[0].all()
    assert seen[1].tolist() == [True] * 4 + [False] * 12


def test_a_broken_video_and_a_part_of_one_make_the_exit_code(localize, two, tmp_path):
    numbers = "--no-heat", "--no-overlay", "--no-sheet"
    for name, data in {"empty.avi": b"", "part.avi": (two / "w.avi").read_bytes()[:-3000]}.items():
        (tmp_path / name).write_bytes(data)
        code, out, err = localize(two / "v.avi", tmp_path / name, *numbers, "--overwrite")
        assert (code, err) == (3, [])
        assert f"/{name}'" in out
        assert gcf.cli.run(["report", str(tmp_path / "out")]) == 0
    assert localize(two / "v.avi", *numbers, "--overwrite")[0] == 0


def test_a_folder_of_other_settings_or_of_something_else_is_refused(localize, two, calls, tmp_path):
    assert localize(two / "v.avi", "--no-heat", "--no-sheet")[0] == 0
    code, out, (line,) = localize(two / "v.avi", "--no-heat", "--no-sheet", "--class", "run")
    assert (code, out) == (4, "")
    assert "by another head or with other settings" in line
    assert localize(two / "v.avi", "--no-heat", "--no-sheet", "--class", "run", "--overwrite")[0] == 0
    assert len(calls["overlay"]) == 2
    (tmp_path / "out" / "localization.json").unlink()
    code, _, (line,) = localize(two / "v.avi", "--overwrite")
    assert (code, "not empty, and no localisation of gcf" in line) == (4, True)


MISTAKES = {
    "unknown class": (["--class", "swim"], 2, "'swim' is none of this head's: jump, run"),
    "a subset of nothing": (["--subset", "test"], 2, "one of a truth file"),
    "unknown subset": (["--truth", "{truth}", "--subset", "tset"], 2, "unknown subset 'tset'"),
    "a subset without videos": (["--truth", "{truth}", "--subset", "val"], 4, "subset 'val'"),
    "truth of other videos": (["--truth", "{tmp}/other.json"], 4, "names none of the 2 videos"),
    "truth of other classes": (["--truth", "{tmp}/swim.json"], 4, "none of the head's 2"),
    "no windows": (["--windows", "0"], 2, "at least 1, not 0"),
    "more windows than frames": (["--windows", "99"], 2, "at most the 16 frames of a clip, not 99"),
    "no threshold": (["--gate-threshold", "1.5"], 2, "not 1.5"),
    "other channels": (["--channels", "some"], 2, "'some' is not one of"),
    "strides of a plug-in": (["--temporal-stride", "none"], 2, "decides its own strides"),
    "another recipe": (["--backbone", "{tmp}/other.py"], 4, 'channel_order: "BGR" against "RGB"'),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(case, localize, two, truth, tmp_path):
    (tmp_path / "other.py").write_text(Path(TINY).read_text().replace('"RGB"', '"BGR"'))
    write_truth(tmp_path / "other.json", {"x.avi": ("test", [(0.0, 0.5, "run")])})
    write_truth(tmp_path / "swim.json", {"v.avi": ("test", [(0.0, 0.5, "swim")])})
    args, expected, text = MISTAKES[case]
    args = [a.format(tmp=tmp_path, truth=truth) for a in args]
    given = {"backbone": None} if "--backbone" in args else {}
    code, out, err = localize(two, *args, **given)
    (line,) = err
    assert (code, out) == (expected, ""), line
    assert text in line
    assert not (tmp_path / "out").exists()


def test_features_of_another_recipe_are_refused(localize, two, tmp_path):
    extract(two, tmp_path / "f.h5", tail="drop")
    code, _, (line,) = localize(tmp_path / "f.h5", backbone=None)
    assert (code, 'tail: "loop" against "drop"' in line) == (4, True)
    assert not (tmp_path / "out").exists()


def test_a_head_of_joined_files_needs_as_many_of_them(localize, two, tiny_run, tmp_path):
    extract(two, tmp_path / "f.h5")
    head = gcf.load_head(tiny_run)
    width = 2 * head.descriptor_width
    joined = replace(head, module=build_head(head.config, width, 2), descriptor_width=width)
    save_head(tmp_path / "joined", replace(joined, recipe={"joined": [head.recipe] * 2}))
    for sources, text in {(two,): "of 2 networks side by side", (tmp_path / "f.h5",): "reads 2 feature files"}.items():
        code, _, (line,) = localize(*sources, head=tmp_path / "joined", backbone=None)
        assert (code, text in line) == (4, True), line
        assert not (tmp_path / "out").exists()
    assert localize(*[tmp_path / "f.h5"] * 2, head=tmp_path / "joined", backbone=None)[0] == 0
    assert files(tmp_path / "out") == FILES | {f"{name}.npz" for name in SUBSETS}
