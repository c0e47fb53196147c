"""The report in a real browser: it fits a phone, its script runs, and it prints. Needs Chromium."""

import html
import json
import re
import subprocess
from pathlib import Path

import pytest
from browser import FLAGS, chromium_program
from caches import easy_cache

from gcf import ablate, write_report

pytestmark = pytest.mark.slow

POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
LISTEN = "<script>window.faults = []; addEventListener('error', (e) => faults.push(String(e.message)));</script>"
# A file in a frame may not be looked into; it tells its parent.
FRAME = """<!doctype html>
<iframe src="copy.html" style="width:360px;height:900px;border:0"></iframe>
<pre id="told"></pre>
<script>addEventListener("message", (e) => { document.getElementById("told").textContent = e.data; });</script>"""
LOOK = """<script>
const shown = () => [...document.querySelectorAll("#confusion [data-arm]")].filter((p) => p.offsetHeight > 0)
  .map((p) => [p.querySelector("h3").textContent, p.querySelector("table").tBodies[0].innerText]);
const wide = () => [document.documentElement.scrollWidth, document.documentElement.clientWidth];
const told = {first: shown(), folded: wide()};
const select = document.querySelector("#confusion select");
select.focus();
told.focused = document.activeElement === select;
select.value = "0";
select.dispatchEvent(new Event("change", {bubbles: true}));
told.second = shown();
told.both = document.querySelector("#changes select").value;
document.querySelectorAll("details").forEach((part) => { part.open = true; });
told.unfolded = wide();
told.boxes = [...document.querySelectorAll(".scroll")].filter((box) => box.scrollWidth > box.clientWidth).length;
told.faults = faults;
parent.postMessage(JSON.stringify(told), "*");
</script>"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """A function that runs Chromium on a page: its standard output."""
    program = chromium_program()
    profile = tmp_path_factory.mktemp("chromium")

    def run(page: Path, *options: str) -> str:
        command = [program, *FLAGS, "--virtual-time-budget=2000", f"--user-data-dir={profile}", *options, page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout

    return run


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of a small comparison, with a class of a long name and a sweep."""
    folder = tmp_path_factory.mktemp("run")
    ablate(easy_cache(folder / "f.h5", num_classes=12, per_class=4, width=16), folder / "run", cv=2, seeds=2, epochs=1)
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    metrics |= {"sweep": {"axis": "width", "values": {"mean": 64, "gcf-256": 256}}, "notes": ["long" * 100]}
    (folder / "run" / "metrics.json").write_text(json.dumps(metrics))
    return write_report(folder / "run")


@pytest.fixture(scope="module")
def told(page, chromium, tmp_path_factory):
    """What a copy of the page says of itself in a frame as wide as a phone."""
    folder = tmp_path_factory.mktemp("frame")
    text = POLICY.sub(LISTEN, page.read_text(), count=1).replace("</body>", f"{LOOK}</body>")
    (folder / "copy.html").write_text(text)
    (folder / "frame.html").write_text(FRAME)
    found = re.search(r'<pre id="told">(.*?)</pre>', chromium(folder / "frame.html", "--dump-dom"), re.DOTALL)
    assert found[1], "the page has told nothing"
    return json.loads(html.unescape(found[1]))


def test_no_page_is_wider_than_a_phone(told):
    assert told["folded"] == told["unfolded"] == [360, 360]
    assert told["boxes"] > 0  # wide tables scroll inside their boxes


def test_the_script_runs_without_an_error(told):
    assert told["faults"] == []


def test_the_choice_of_an_arm_changes_the_confusion_matrix(told):
    (first,), (second,) = told["first"], told["second"]
    assert told["focused"]
    assert first[0] != "c-clip"
    assert second[0] == "c-clip"
    assert first[1] != second[1]
    assert told["both"] == "0"


def test_the_policy_of_the_page_lets_its_own_script_run_and_no_other(page, chromium, tmp_path):
    dom = chromium(page, "--dump-dom")
    assert '<p class="choose">' in dom
    other = tmp_path / "other.html"
    other.write_text(page.read_text().replace("<main>", "<main><script>document.title = 'taken over'</script>"))
    assert "<title>taken over</title>" not in chromium(other, "--dump-dom")


def test_it_prints(page, chromium, tmp_path):
    chromium(page, f"--print-to-pdf={tmp_path / 'p.pdf'}")
    pdf = (tmp_path / "p.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 2


def test_it_is_drawn(page, chromium, tmp_path):
    chromium(page, f"--screenshot={tmp_path / 's.png'}", "--window-size=1200,900")
    from PIL import Image

    picture = Image.open(tmp_path / "s.png").convert("RGB")
    assert picture.size == (1200, 900)
    assert len(picture.getcolors(1 << 20)) > 50
