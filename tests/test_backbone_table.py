"""The table of docs/backbones.md: complete, as the code has it, and written without touching the rest of the page."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from videos import write_folder

from gcf.errors import UsageError
from gcf.extract.backbones import load_backbone
from gcf.extract.backbones.published import default_weights, weights_ids
from gcf.extract.backbones.registry import SPECS
from gcf.extract.complexity import backbone_complexity
from gcf.extract.stream.config import ExtractConfig
from gcf.extract.stream.recipe import make_recipe

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "backbones.md"
sys.path.append(str(ROOT / "benchmarks"))

import backbone_table  # noqa: E402 - a folder of scripts, not a package
import backbones  # noqa: E402


@pytest.fixture(scope="module")
def page():
    """Name -> cells by column, as the page has them, and the numbered notes under the table."""
    text = PAGE.read_text("utf-8").split(backbone_table.BEGIN)[1].split(backbone_table.END)[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    notes = dict(line.split(". ", 1) for line in text.splitlines() if line[:1].isdigit())
    return {cells[0]: dict(zip(lines[0], cells, strict=True)) for cells in lines[2:]}, notes


def test_every_backbone_has_a_row_of_the_page_in_the_order_of_the_registry(page):
    assert list(page[0]) == [spec.name for spec in SPECS]


@pytest.mark.slow
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_what_the_page_says_of_a_backbone_is_what_the_code_says(page, spec):
    row, notes = page[0][spec.name], page[1]
    frames, side = map(int, row["clip"].split(" x "))
    cost = backbone_complexity(spec.name, num_frames=frames, size=side)
    assert float(row["params M"]) == round(cost.params / 1e6, 2)
    assert float(row["GMACs"]) == pytest.approx(cost.macs / 1e9, rel=5e-3)  # three digits
    assert (int(row["width"]), row["unstrided"]) == (spec.descriptor_width, "no" if spec.stride_stays else "yes")
    if not weights_ids(spec.name):
        assert (row["top-1 %"], row["data"], row["download"]) == ("-", "-", "none public")
        assert notes[row["note"]] == "no weights are public"
        return
    weights = default_weights(spec.name)
    assert row["top-1 %"] == ("-" if weights.top1 is None else f"{100 * weights.top1:.1f}")
    assert notes[row["note"]] == weights.top1_source
    assert row["data"] == f"Kinetics-{weights.num_classes}"
    assert row["download"] == ("direct" if weights.source.urls else "by hand")


@pytest.mark.slow
def test_a_table_written_now_would_say_the_same_but_for_speeds(page):
    now = backbone_table.markdown(backbone_table.rows(), {})
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in now.splitlines() if line[:1] == "|"]
    assert [row[:-1] for row in cells[2:]] == [list(row.values())[:-1] for row in page[0].values()]
    assert all(f"{number}. {note}\n" in now + "\n" for number, note in page[1].items())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["mobilenetv2_0.2x", "shufflenetv2_0.25x", "x3d_xs", "x3d_s", "slow_r50", "slowfast_r50", "mc3_18", "s3d"]
)
def test_the_clip_of_the_page_is_the_one_that_an_extraction_feeds(page, name):
    recipe = make_recipe(load_backbone(name, "random").recipe, ExtractConfig(), device="cpu")
    crop = recipe["crop"] if isinstance(recipe["crop"], int) else recipe["crop"][0]
    assert page[0][name]["clip"] == f"{recipe['num_frames']} x {crop}"


def test_writing_the_table_leaves_the_rest_of_the_page_as_it_is_and_twice_is_once():
    text = f"before\n{backbone_table.BEGIN}\nold | table\n{backbone_table.END}\nafter\n\n"
    once = backbone_table.replaced(text, "| new |", source="page")
    assert once == f"before\n{backbone_table.BEGIN}\n\n| new |\n\n{backbone_table.END}\nafter\n\n"
    assert backbone_table.replaced(once, "| new |", source="page") == once


@pytest.mark.parametrize(
    "text",
    [
        "no markers",
        backbone_table.BEGIN,
        f"{backbone_table.END}\n{backbone_table.BEGIN}",
        f"{backbone_table.BEGIN}\n{backbone_table.BEGIN}\n{backbone_table.END}",
    ],
)
def test_a_page_without_its_two_markers_is_refused_by_name(text):
    with pytest.raises(UsageError, match="page: the table goes between the lines"):
        backbone_table.replaced(text, "| new |", source="page")


@pytest.mark.slow
def test_speeds_are_in_their_rows_with_their_precision_and_how_they_were_measured():
    facts = {"torch": "2.9", "processors": 2, "units": "amx_bf16", "videos": 8, "frames": 240.0, "seconds": 8.0}
    kept = {
        "s3d": facts | {"clips_a_second": 7.123, "precision": "fp32"},
        "x3d_xs": facts | {"clips_a_second": 1234.5, "precision": "bf16"},
        "r3d_18": {"error": "out of memory"},
    }
    said = backbone_table.markdown(backbone_table.rows(["s3d", "x3d_xs", "r3d_18", "shufflenetv2_0.5x"]), kept)
    lines = {line.split("|")[1].strip(): line.split("|")[-2].strip() for line in said.splitlines() if line[:1] == "|"}
    assert (lines["s3d"], lines["r3d_18"], lines["shufflenetv2_0.5x"]) == ("7.12 (fp32)", "-", "-")
    assert "2 networks for 8 s each with torch 2.9 on 2 processors with amx_bf16, on 8 videos of 240 frames" in said
    widths = {len(line) for line in said.splitlines() if line[:1] == "|"}
    assert len(widths) == 1  # as text, too, it is a table


def test_clips_are_counted_after_the_first_batches_whatever_the_order_in_which_lanes_finish():
    done = [(2.0, 8), (1.0, 8), (3.0, 4), (2.5, 8)]
    assert backbones.in_full_swing(done, warm=1) == (20, 2.0)


def test_one_network_that_fails_does_not_end_the_run_and_is_kept_as_failed(monkeypatch, tmp_path, capsys):
    answers = {"a": {"error": "no memory"}, "b": {"clips_a_second": 2.0, "precision": "bf16", "peak_rss_mib": 7}}
    monkeypatch.setattr(backbones, "measured_apart", lambda name, *_: answers[name])
    monkeypatch.setattr(backbones, "median_frames", lambda *_: 30.0)
    kept = {}
    videos = [backbones.VideoPath(str(tmp_path / "v.avi"), "v.avi")]
    backbones.measure_all(["a", "b"], videos, 1.0, kept.__setitem__)
    assert kept == {"a": answers["a"], "b": answers["b"] | {"videos": 1, "frames": 30.0}}
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("1/2 a: no memory; about ")
    assert said[1] == "2/2 b: 2 clips/s, bf16, 7 MiB; about 0.0 min left"


FACTS = {
    "torch": "2.9",
    "processors": 2,
    "units": "amx_bf16",
    "videos": 8,
    "frames": 240.0,
    "seconds": 8.0,
    "precision": "bf16",
}


def run_script(*arguments):
    command = [sys.executable, ROOT / "benchmarks" / "backbones.py", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)


@pytest.mark.slow
def test_without_videos_the_table_alone_is_written_from_what_was_kept(tmp_path):
    kept, copy = tmp_path / "kept.json", tmp_path / "page.md"
    kept.write_text(json.dumps({spec.name: FACTS | {"clips_a_second": 5.0} for spec in SPECS}))
    copy.write_text(PAGE.read_text("utf-8"), "utf-8")
    run_script("--json", kept, "--write", copy)
    rows = [line for line in copy.read_text("utf-8").splitlines() if line.endswith("|    5.00 |")]
    assert len(rows) == len(SPECS)
    before, after = (path.read_text("utf-8").split(backbone_table.END)[1] for path in (PAGE, copy))
    assert before == after


@pytest.mark.slow
def test_a_run_that_was_stopped_measures_what_is_missing_and_keeps_it(tmp_path):
    kept, missing = tmp_path / "kept.json", "mobilenetv2_0.2x"
    there = {spec.name: FACTS | {"clips_a_second": 5.0} for spec in SPECS if spec.name != missing}
    kept.write_text(json.dumps(there))
    write_folder(tmp_path / "videos")
    said = run_script(tmp_path / "videos", "--seconds", "0.1", "--json", kept).stderr
    found = json.loads(kept.read_text())
    result = found.pop(missing)
    assert found == there
    assert result["clips_a_second"] == pytest.approx(result["clips"] / result["took"], rel=1e-3)
    assert result["clips"] >= backbones.LEAST_BATCHES * result["batch_size"]
    assert (result["num_frames"], result["videos"], result["peak_rss_mib"] > 100) == (16, 6, True)
    assert said.startswith(f"1/1 {missing}: ")
