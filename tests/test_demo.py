"""`gcf demo`: does each step do what the command that it shows does, and does a second run use the first?"""

import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

import gcf
import gcf.cli
from gcf.data import plans
from gcf.errors import RefusedError, UsageError
from gcf.explain import demo
from gcf.explain.demo import paper_ordering, run_demo
from gcf.head.fitting import schedule

SMALL = {"videos": 24, "seeds": 1}


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Fewer and shorter videos than the demo allows, and short trainings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "LEAST_VIDEOS", SMALL["videos"])
        patch.setattr(plans, "VIDEO_FRAMES", (97, 120))
        patch.setitem(schedule.LIMITS, "plateau", (10, 40))
        yield


@pytest.fixture(scope="module")
def told():
    return []


@pytest.fixture(scope="module")
def made(tmp_path_factory, told):
    return run_demo(tmp_path_factory.mktemp("demo") / "d", say=told.append, **SMALL)


def commands(told) -> list[list[str]]:
    lines = [line for text in told for line in text.splitlines()]
    return [shlex.split(line[2:])[1:] for line in lines if line.startswith("$ gcf ")]


def files(folder) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.slow
def test_the_commands_shown_do_the_same(made, told, tmp_path):
    other = tmp_path / "by hand"
    for words in commands(told):
        code = gcf.cli.run([word.replace(str(made.folder), str(other)) for word in words])
        assert code == 0, words
    demo_files, by_hand = files(made.folder), files(other)
    del demo_files[demo.STAMPS]
    demo_files, by_hand = ({n: f for n, f in found.items() if ".results/" not in n} for found in (demo_files, by_hand))
    assert set(demo_files) == set(by_hand)  # but for results that are kept, whose names follow from the features
    # features hold the time at which a video was written, and what names or follows from them differs with it
    alike = [name for name in by_hand if name.endswith((".mp4", ".csv", "table.md", "head.safetensors", "truth.json"))]
    assert len(alike) > 24
    for name in (name for name in alike if not name.startswith("seen/")):  # x264's bytes are not always the same
        assert demo_files[name] == by_hand[name], name


@pytest.mark.slow
def test_every_step_leaves_what_it_announces(made):
    found = files(made.folder)
    for name in ("feats.h5", "run/head.safetensors", "run/training.png", "table/table.md", "table/arms.png"):
        assert found[name]
    assert len([name for name in found if name.startswith("videos/") and name.endswith(".mp4")]) == 24
    (picture,) = (name for name in found if name.startswith("pictures/"))
    assert found[picture].startswith(b"\x89PNG")
    (page,) = (name for name in found if name.startswith("seen/") and name.endswith(".mp4.html"))
    assert found[page].startswith(b"<!doctype html>")
    assert found["seen/index.html"]
    assert [row["name"] for row in made.rows][:2] == ["c-clip", "d-clips"]
    assert {row["seeds"] for row in made.rows} == {1}
    (prediction,) = made.prediction
    assert prediction.classes
    assert not prediction.error


@pytest.mark.slow
def test_a_second_run_uses_what_is_there(made, monkeypatch):
    def never(*_, **__):
        raise AssertionError("done again")

    for name in ("train_head", "ablate"):
        monkeypatch.setattr(demo, name, never)
    lasting = [p for p in made.folder.rglob("*") if p.suffix in (".mp4", ".safetensors", ".csv")]
    before = {
        p: p.stat().st_mtime_ns for p in lasting if p.parent.name not in ("first", "seen")
    }  # their tables are written anew
    told = []
    again = run_demo(made.folder, say=told.append, **SMALL)
    assert sum(text == "there already" for text in told) == 2
    assert any("all there" in text for text in told)
    assert any(", all from before" in text for text in told)
    assert again.rows == made.rows
    assert again.prediction == made.prediction
    assert before == {p: p.stat().st_mtime_ns for p in before}


@pytest.mark.slow
def test_what_no_longer_holds_is_done_again(made, monkeypatch):
    asked, told = [], []
    for name in ("train_head", "ablate"):
        real = getattr(demo, name)
        monkeypatch.setattr(demo, name, lambda *a, real=real, **kw: asked.append(real.__name__) or real(*a, **kw))

    def again(**changes):
        asked.clear()
        told.clear()
        run_demo(made.folder, say=told.append, **SMALL | changes)
        return list(asked)

    assert again(seeds=2) == ["ablate"]  # other settings
    assert again() == ["ablate"]
    (line,) = (words for words in commands(told) if words[0] == "ablate")
    assert line[-1] == "--overwrite"
    for lost, redone in (
        ("table/metrics.json", "ablate"),
        ("table/table.md", "ablate"),
        ("run/head.json", "train_head"),
    ):
        (made.folder / lost).unlink()
        assert again() == [redone]
    gcf.train_head(made.folder / "feats.h5", made.folder / "run", head="mean", overwrite=True)  # somebody's own
    assert again() == ["train_head"]
    assert again() == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [([], (300, 5)), (["--quick"], (120, 2)), (["--quick", "--seeds", "3"], (120, 3)), (["--videos", "60"], (60, 5))],
)
def test_quick_is_fewer_videos_and_seeds_unless_they_are_given(monkeypatch, tmp_path, options, expected):
    asked = []

    def noted(folder, *, videos, seeds, **_):
        asked.append((videos, seeds))
        raise RefusedError("that is all")

    monkeypatch.setattr(demo, "_demo", noted)
    assert gcf.cli.run(["demo", str(tmp_path / "d"), *options]) == 4
    assert asked == [expected]


def test_the_first_page_comes_before_the_videos_for_training(told, made):
    order = [words[:1] + words[-1:] for words in commands(told)]
    assert [words[0] for words in order[:4]] == ["demo-videos", "localize", "report", "demo-videos"]
    assert (made.folder / "first" / "index.html").exists()


def test_a_folder_that_no_demo_began_is_left_alone(tmp_path):
    (tmp_path / "run").mkdir()
    for content in (None, "[1, 2, 3]", '{"format": "mine"}'):
        if content is not None:
            (tmp_path / "demo.json").write_text(content)
        with pytest.raises(RefusedError, match="no demo of gcf"):
            run_demo(tmp_path, **SMALL)
    assert (tmp_path / "demo.json").read_text() == '{"format": "mine"}'
    (tmp_path / "file").write_text("")
    with pytest.raises(RefusedError, match="is a file"):
        run_demo(tmp_path / "file", **SMALL)
    with pytest.raises(RefusedError, match="cannot be written"):
        run_demo(tmp_path / "file" / "d", **SMALL)


@pytest.mark.parametrize("wrong", [{"videos": 23}, {"seeds": 0}, {"seed": -1}])
def test_what_the_demo_cannot_do_is_refused_before_anything_is_made(tmp_path, wrong):
    with pytest.raises(UsageError, match="the demo needs at least 24 videos"):
        run_demo(tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_looks_like_an_option_is_shown_as_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = []
    steps = demo._Steps.begin(Path("-x"), told.append)
    steps.step("title", "info", steps.folder / "feats.h5")
    assert commands(told) == [["info", str(tmp_path / "-x" / "feats.h5")]]


def rows(central, clips, full, p_central=0.001, p_full=0.001):
    named = (("c-clip", central, p_central), ("d-clips", clips, None), ("gcf-256", full, p_full))
    return [{"name": name, "mean": mean, "p": p} for name, mean, p in named]


def test_the_ordering_is_claimed_only_where_each_step_is_significant():
    assert "holds, each step with p < 0.01" in paper_ordering(rows(0.3, 0.5, 0.7))
    assert "not significant" in paper_ordering(rows(0.3, 0.5, 0.7, p_full=0.02))
    assert "not significant" in paper_ordering(rows(0.3, 0.5, 0.7, p_central=0.02))
    assert "not in this order" in paper_ordering(rows(0.6, 0.5, 0.7))
    assert "not in this order" in paper_ordering(rows(0.3, 0.7, 0.5))


@pytest.mark.slow
def test_json_is_one_object_and_the_steps_go_to_standard_error(made):
    done = CliRunner().invoke(gcf.cli.cli, ["demo", str(made.folder), "--videos", "24", "--seeds", "1", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert {row["name"] for row in found["rows"]} >= {"c-clip", "d-clips", "mean", "gcf-256"}
    assert "$ gcf extract" in done.stderr
