"""README and docs: commands and options exist, links resolve, measured blocks are dated, the README's code runs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

import gcf.cli
from gcf.head.tables.arm_table import markdown_table

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", *DOCS]
LINKED = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "benchmarks" / "README.md"]
MEASURED = re.compile(r"<!-- measured: (.+) · (.+) · (\d{4}-\d\d-\d\d) -->")
COMMAND = re.compile(r"(?:^|`|\$ )(gcf [a-z][^`\n]*)", re.M)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands_in(text: str) -> list[list[str]]:
    """The gcf commands of a page as words, comments and what follows a pipe left out."""
    found = []
    for line in COMMAND.findall(text):
        try:
            words = shlex.split(line.partition(" # ")[0].partition(" | ")[0].partition(" && ")[0], comments=True)
        except ValueError:  # an apostrophe of a sentence
            continue
        found.append(words)
    return found


def fault(words: list[str]) -> str | None:
    """What is wrong with a command, None where nothing is."""
    command, rest = gcf.cli.cli, words[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        named = command.commands.get(rest[0].split("|")[0])
        if named is None:
            return f"no command {rest[0]}"
        command, rest = named, rest[1:]
    known = {"-h", "--help"}
    for parameter in command.params:
        known |= {*parameter.opts, *parameter.secondary_opts}
    for word in rest:
        option = word.partition("=")[0]
        if re.fullmatch(r"--?[a-z][a-z-]*", option) and option not in known:
            return f"no option {option}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_shown_exists_with_those_options(page):
    faults = {shlex.join(words): fault(words) for words in commands_in(page.read_text())}
    assert {words: why for words, why in faults.items() if why} == {}


def test_a_command_that_does_not_exist_is_seen():
    assert fault(["gcf", "extrakt"]) == "no command extrakt"
    assert fault(["gcf", "extract", "--bakbone", "x"]) == "no option --bakbone"
    assert fault(["gcf", "weights", "list", "--json"]) is None
    assert commands_in("say `gcf extract v f.h5 --backbone x3d_s` and") == [
        ["gcf", "extract", "v", "f.h5", "--backbone", "x3d_s"]
    ]


def slugs(text: str) -> set[str]:
    """The anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {re.sub(r" +", "-", heading.strip()) for heading in plain}


@pytest.mark.parametrize("page", LINKED, ids=name_of)
def test_every_link_and_picture_resolves(page):
    lost = []
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        if not place.exists() or (anchor and anchor not in slugs(place.read_text())):
            lost.append(target)
    assert lost == []


def test_the_readme_is_one_screen():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 90
    assert max(map(len, lines)) <= 100


def printed_titles() -> list[str]:
    """The columns that a comparison's table has."""
    figures = dict.fromkeys("mean std mean_class fold_min fold_max delta low high p p_holm".split(), 0.0)
    row = {"name": "mean", "k": 1, "n": 1, "gained": 0, "lost": 0, **figures}
    header = markdown_table([row]).splitlines()[0]
    return [cell.strip() for cell in header.strip("|").split("|")]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_is_measured_is_dated_and_has_the_columns_that_are_printed(page):
    text = page.read_text()
    assert text.count("<!-- measured") == len(MEASURED.findall(text))
    printed = printed_titles()
    for mark in MEASURED.finditer(text):
        block = text[mark.end() :].lstrip("\n")
        assert block.startswith(("```", "|", "!")), mark.group(0)
        if block.startswith("| arm |"):
            header = re.sub(r"against [^|]+ \|", "against d-clips |", block.splitlines()[0])
            titles = [cell.strip() for cell in header.strip("|").split("|")]
            places = [printed.index(title) for title in titles]
            assert places == sorted(places)


@pytest.mark.slow
def test_every_table_of_arms_says_when_it_was_measured():
    for page in PAGES:
        for table in re.finditer(r"(.*)\n\| arm \| (?:top-1|hit@1)", page.read_text()):
            assert MEASURED.fullmatch(table.group(1)), f"{name_of(page)}: a table of arms without its mark"


@pytest.mark.slow
def test_the_readmes_python_runs(tmp_path, monkeypatch):
    gcf.write_demo_videos(tmp_path / "videos", videos=60)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=600)
    features = gcf.FeatureFile(tmp_path / "f.h5")
    assert features.descriptors.shape[1:] == (1, 1024)
    logits = gcf.load_head(tmp_path / "run")(features.video(0)).logits
    assert tuple(logits.shape) == (1, 10)


@pytest.mark.slow
def test_the_site_is_built_whole_and_loads_nothing_from_elsewhere(tmp_path):
    mkdocs = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")]
    subprocess.run(mkdocs, cwd=ROOT, check=True, timeout=600)
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) > len(DOCS) - 1
    loads = re.compile(r"""<(?:script|img|iframe|source)[^>]*\ssrc=["']?https?:|<link[^>]*href=["']?https?:""")
    for page in pages:
        assert not loads.search(page.read_text()), page
    for style in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"url\(['\"]?https?:|@import", style.read_text()), style
    index = (tmp_path / "site" / "index.html").read_text()
    for page in DOCS:
        if page.stem != "index":
            assert re.search(rf'href="{page.stem}/"', index), page


def test_the_api_page_has_every_public_name():
    page = (ROOT / "docs" / "api.md").read_text()
    shown = {line.rpartition(".")[2] for line in page.splitlines() if line.startswith("::: ")}
    assert shown == set(gcf.__all__) - {"__version__"}


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(ROOT / "docs" / "tutorial.ipynb", 4)
    shown = sum("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", ()))
    assert shown == 3
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=800, kernel_name="python3", resources=place).execute()
    assert (tmp_path / "gcf-tutorial" / "table" / "table.md").exists()
