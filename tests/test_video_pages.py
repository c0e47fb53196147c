"""The pages of a localisation: figures are the folder's, names are texts, nothing else is needed."""

import base64
import io
import json
import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from localized import CLASSES, CLIP, add_video, failed, values, write_localization
from pages import Page
from PIL import Image
from videos import picture

import gcf.cli
from gcf.data.text import printable
from gcf.errors import RefusedError
from gcf.explain.pages import media
from gcf.explain.pages.write import write_pages
from gcf.head.report.words import MINUS

HOSTILE = ["<script>alert(1)</script>", "\" onload='x' ' id=", "two\nlines \udc80 {{ 7*7 }} $x^2$"]


def page_of(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def said(path: Path) -> str:
    return " ".join(" ".join(page_of(path).texts).split())


def one_video(folder, **changes) -> Path:
    """A folder with one video, without an overlay unless asked for; its page is made."""
    entry = add_video(folder, "a.mp4", **{"codec": None} | changes)
    write_localization(folder, [entry])
    return write_pages(folder)[1]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Two videos and a failed one, with their pages."""
    folder = tmp_path_factory.mktemp("localized")
    known = [{"start": 0.5, "end": 2.0, "label": "jump"}, {"start": 0.0, "end": 0.5, "label": "fall"}]
    entries = [
        failed("broken.mp4", "truncated: no index"),
        add_video(folder, "sub/a.avi", annotated=known, note="only a part decoded"),
        add_video(folder, "z.mkv", num_clips=3),
    ]
    write_localization(folder, entries, measured="temporal mAP\n  localised  25.0 %")
    write_pages(folder)
    return folder


@pytest.mark.slow
def test_every_figure_of_a_video_is_in_its_page(written):
    page, saved = page_of(written / "sub/a.avi.html"), values(6)
    order = np.argsort(-saved["probabilities"], kind="stable")[:5]
    rows = page.rows[[row[0] for row in page.rows].index("clip") :]
    assert rows[0] == ["clip", "from, s", "to, s", "gate", "attention", *[CLASSES[k] for k in order]]
    assert len(rows) == 7
    for number, row in enumerate(rows[1:]):
        figures = [saved[name][number] for name in ("start", "end", "gate", "attention")]
        assert [float(cell.replace(MINUS, "-")) for cell in row[1:]] == pytest.approx(
            [*figures, *saved["evidence"][number, order]], abs=6e-4
        )
    assert ["jump", "1.28", "3.20", "1.92", "0.75"] in page.rows
    assert ["fall", "0.00", "0.50", "0.50", "annotated"] in page.rows
    text = said(written / "sub/a.avi.html")
    for sentence in (
        "only a part decoded",
        "traced through the fusion",
        "3.8 s · 64 \u00d7 48 · 25 frames per second · 6 clips",
    ):
        assert sentence in text
    assert f"{100 * saved['probabilities'][order[0]]:.1f}" in text


def test_gallery_and_pages_lead_to_one_another(written):
    gallery = page_of(written / "index.html")
    assert [a for a in gallery.loads if a.endswith(".html")][::2] == ["broken.mp4.html", "sub/a.avi.html", "z.mkv.html"]
    for path in written.rglob("*.html"):
        for address in page_of(path).loads:
            if not address.startswith(("#", "data:")):
                assert (path.parent / unquote(address)).is_file(), (path, address)
    assert page_of(written / "sub/a.avi.html").loads[:3] == ["../index.html", "../broken.mp4.html", "../z.mkv.html"]
    text = said(written / "index.html")
    for sentence in (
        "3 videos, 1 of them failed",
        "truncated: no index",
        "only a part decoded",
        "1.3 to 3.2 s",
        "localised 25.0 %",
    ):
        assert sentence in text
    assert "truncated: no index" in said(written / "broken.mp4.html")


def test_the_pages_load_nothing(written):
    for path in written.rglob("*.html"):
        text, page = path.read_text(), page_of(path)
        assert not [a for a in page.loads if a.startswith("on") or (":" in a and not a.startswith("data:"))]
        assert not {"link", "iframe", "object", "base"} & set(page.tags)
        assert "url(" not in text
        assert "@import" not in text
        assert not re.search(r"https?:", text)
        assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-" in text
        assert ("; media-src data:" in text) == (path.name != "index.html")
        ids = re.findall(r'\sid="([^"]+)"', text)
        assert len(ids) == len(set(ids))


def test_the_overlay_is_inside_the_page_and_its_frames_are_those_of_the_clips(written):
    page = page_of(written / "sub/a.avi.html")
    player = next(a for a in page.loads if a.startswith("data:video/mp4;base64,"))
    assert base64.b64decode(player.partition(",")[2]) == (written / "sub/a.avi.mp4").read_bytes()
    frames = [decoded(a) for a in page.loads if a.startswith("data:image/jpeg")][1:]  # the first is repeated, large
    truth = np.stack([picture(n, height=48, width=64) for n in range(6 * CLIP)]).astype(float)
    assert [int(np.abs(truth - frame).mean(axis=(1, 2, 3)).argmin()) for frame in frames] == [
        CLIP // 2 + CLIP * n for n in range(6)
    ]
    thumbnail = decoded(next(a for a in page_of(written / "index.html").loads if a.startswith("data:image/jpeg")))
    best = int(values(6)["evidence"][:, 0].argmax())
    assert int(np.abs(truth - thumbnail).mean(axis=(1, 2, 3)).argmin()) == CLIP // 2 + CLIP * best


def decoded(address: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))).astype(float)


@pytest.mark.slow
def test_hostile_names_are_shown_as_text(tmp_path):
    pages = {}
    for kind, names in {"hostile": HOSTILE, "harmless": ["a/b", "c", "d"]}.items():
        classes = [*names, "x", "y", "z"]
        folder = tmp_path / kind
        entries = [
            add_video(
                folder, name, codec=None, classes=classes, note=name, annotated=[{"start": 0, "end": 1, "label": name}]
            )
            for name in names
        ]
        entries.append(failed("broken", names[0]))
        write_localization(folder, entries, classes=classes, evidence_kind=names[1], head=names[0])
        pages[kind] = write_pages(folder)
    for hostile, harmless in zip(pages["hostile"], pages["harmless"], strict=True):
        page = page_of(hostile)
        assert page.tags == page_of(harmless).tags
        assert page.tags.count("script") == 1
        assert not [a for a in page.loads if a.startswith("on") or "script:" in a]
        text = " ".join(page.texts)
        for name in HOSTILE if page_of(hostile).tags.count("tr") or hostile.name == "index.html" else HOSTILE[:1]:
            assert printable(name) in text
    assert (tmp_path / "hostile" / f"{HOSTILE[2]}.html").is_file()


@pytest.mark.slow
def test_equal_folders_give_equal_bytes(written, tmp_path):
    known = [{"start": 0.5, "end": 2.0, "label": "jump"}, {"start": 0.0, "end": 0.5, "label": "fall"}]
    first = add_video(tmp_path, "sub/a.avi", annotated=known, note="only a part decoded")
    entries = [failed("broken.mp4", "truncated: no index"), first, add_video(tmp_path, "z.mkv", num_clips=3)]
    write_localization(tmp_path, entries, measured="temporal mAP\n  localised  25.0 %")
    again = [path.read_bytes() for path in write_pages(tmp_path)]
    assert again == [path.read_bytes() for path in write_pages(tmp_path)]
    for name, content in zip(["index.html", "broken.mp4.html", "sub/a.avi.html", "z.mkv.html"], again, strict=True):
        assert content == (written / name).read_bytes()


def test_a_video_without_an_overlay_has_its_time_line_alone(tmp_path):
    page = page_of(one_video(tmp_path))
    assert "video" not in page.tags
    assert "img" not in page.tags
    assert {"watch", "intervals", "clips"} <= page.ids
    assert page.tags.count("path") == 5 + 2


def test_a_head_without_gate_and_attention_has_no_lanes_of_them(tmp_path):
    page = page_of(one_video(tmp_path, without=("gate", "attention")))
    assert page.tags.count("path") == 5
    assert not {"gate", "attention"} & {cell for row in page.rows for cell in row}


def test_without_an_overlay_the_contact_sheet_is_shown(tmp_path):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "sheet.png")
    entry = add_video(tmp_path, "a.mp4", codec=None)
    entry["files"]["sheet"] = "sheet.png"
    write_localization(tmp_path, [entry])
    gallery, page = write_pages(tmp_path)
    assert any(a.startswith("data:image/png") for a in page_of(page).loads)
    assert any(a.startswith("data:image/jpeg") for a in page_of(gallery).loads)
    (tmp_path / "sheet.png").write_bytes(b"no picture")
    assert "sheet.png cannot be read" in said(write_pages(tmp_path)[1])


@pytest.mark.slow
def test_a_large_overlay_stays_beside_the_page_which_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(media, "MOST_BYTES", 1000)
    page = one_video(tmp_path, codec="mpeg4")
    assert "a.mp4.mp4" in page_of(page).loads
    assert "too large to be part of this page" in said(page)
    assert "video" not in page_of(page).tags
    assert page_of(page).tags.count("img") == 7


def damage_overlay(folder):
    (folder / "a.mp4.mp4").write_bytes(b"no video")


def cut_overlay(folder):
    path = folder / "a.mp4.mp4"
    path.write_bytes(path.read_bytes()[:200])


def save(**arrays):
    return lambda folder: np.savez(folder / "a.mp4.npz", **{**values(6), **arrays})


DAMAGE = [
    (lambda folder: (folder / "a.mp4.npz").unlink(), "a.mp4.npz is missing"),
    (lambda folder: (folder / "a.mp4.npz").write_bytes(b"PK\3\4 no zip"), "a.mp4.npz is damaged"),
    (save(evidence=np.zeros((6, 5))), "a.mp4.npz is damaged (evidence is float64[6, 5], not numbers[6, 6])"),
    (save(gate=np.zeros(5)), "a.mp4.npz is damaged (gate"),
    (save(evidence=np.full((6, 6), np.nan)), "evidence is not finite"),
    (save(start=np.arange(6)[::-1], end=np.arange(6)[::-1] + 1), "not in the order of time"),
    (save(end=values(6)["start"] - 0.01), "not in the order of time"),
    (save(evidence=np.array([[{}] * 6] * 6)), "allow_pickle=False"),
    (lambda folder: (folder / "a.mp4.mp4").unlink(), "The overlay video a.mp4.mp4 is missing"),
    (damage_overlay, "The overlay video a.mp4.mp4 cannot be read"),
    (cut_overlay, "The overlay video a.mp4.mp4 cannot be read"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("damage", "reason"), DAMAGE)
def test_what_is_missing_of_one_video_its_page_says_and_the_others_are_made(tmp_path, damage, reason):
    entries = [add_video(tmp_path, "a.mp4"), add_video(tmp_path, "b.mp4", codec=None)]
    write_localization(tmp_path, entries)
    damage(tmp_path)
    gallery, first, second = write_pages(tmp_path)
    assert reason in said(first)
    assert reason in said(gallery)
    assert ["jump", "1.28", "3.20", "1.92", "0.75"] in page_of(first).rows
    assert "clips" in page_of(second).ids
    assert reason not in said(second)


def test_clips_in_which_time_stands_still_are_shown_as_they_are(tmp_path):
    """Frames of joined streams that would go back in time keep the last time stamp."""
    entry = add_video(tmp_path, "a.mp4", codec=None)
    end = values(6)["end"]
    save(start=np.minimum(values(6)["start"], end[2]), end=np.minimum(end, end[2]))(tmp_path)
    write_localization(tmp_path, [entry])
    page = page_of(write_pages(tmp_path)[1])
    assert "clips" in page.ids
    assert sum(row[1:3] == ["1.920", "1.920"] for row in page.rows) == 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "no localization.json; name the folder"),
        ("{", "damaged or not readable"),
        ("[" * 100_000, "damaged or not readable"),
        ("[]", "not written by gcf localize"),
        ('{"format": "gcf-run"}', "not written by gcf localize"),
        ('{"format": "gcf-localization", "version": 2}', "version 2, this gcf reads 1"),
        ('{"format": "gcf-localization", "version": 1}', "damaged"),
    ],
)
def test_what_is_no_localisation_is_refused_in_one_line(tmp_path, text, reason):
    if text is not None:
        (tmp_path / "localization.json").write_text(text)
    with pytest.raises(RefusedError, match=reason) as caught:
        write_pages(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"id": 3},
        {"id": None},
        {"files": {"clips": "a\0b"}},
        {"files": {"clips": "\ud800"}},
        {"files": {"clips": ""}},
        {"files": {"clips": 3}},
        {"files": {"clips": "../a.npz"}},
        {"files": {"overlay": "/dev/zero"}},
        {"duration": float("nan")},
        {"duration": -1},
        {"intervals": [{"start": 2, "end": 1, "label": "jump", "score": 1}]},
        {"intervals": [{"start": 0, "end": float("inf"), "label": "jump", "score": 1}]},
        {"intervals": [{"start": 0, "end": 1, "label": ["jump"], "score": 1}]},
        {"top": [["jump"]]},
        {"note": 5},
    ],
)
def test_entries_that_cannot_be_true_are_refused_and_nothing_is_written(tmp_path, change):
    folder = tmp_path / "out"
    entry = add_video(folder, "b.mp4", codec=None)
    write_localization(folder, [entry, entry | {"id": "a"} | change])
    with pytest.raises(RefusedError, match=r"localization.json: damaged"):
        write_pages(folder)
    assert not list(tmp_path.rglob("*.html"))


def test_a_video_that_is_listed_twice_is_refused(tmp_path):
    write_localization(tmp_path, [add_video(tmp_path, "a", codec=None)] * 2)
    with pytest.raises(RefusedError, match="twice"):
        write_pages(tmp_path)


@pytest.mark.parametrize("name", ["../a", "/tmp/a", "a\0b", "\ud800", "", "..", "d/" + "a" * 300])
def test_a_page_lies_in_the_folder_whatever_the_video_is_called(tmp_path, name):
    folder = tmp_path / "out"
    entry = add_video(folder, "named", codec=None) | {"id": name}
    write_localization(folder, [entry, failed(name, "broken")])
    _, first, second = write_pages(folder)
    assert first == folder / "named.html"
    assert printable(name) in said(first)
    assert sorted(tmp_path.rglob("*.html")) == sorted([folder / "index.html", first, second])


def test_an_unfinished_localisation_says_so(tmp_path):
    write_localization(tmp_path, [add_video(tmp_path, "a", codec=None)], complete=False)
    assert "has not finished" in said(write_pages(tmp_path)[0])


def test_a_video_called_index_does_not_take_the_gallerys_place(tmp_path):
    write_localization(tmp_path, [add_video(tmp_path, "index", codec=None)])
    gallery, page = write_pages(tmp_path)
    assert gallery != page
    assert "index.video.html" in page_of(gallery).loads


@pytest.mark.slow
def test_earlier_pages_are_replaced_and_nothing_else(tmp_path):
    write_localization(tmp_path, [add_video(tmp_path, name, codec=None) for name in ("a", "b")])
    _, first, second = write_pages(tmp_path)
    write_pages(tmp_path)
    first.unlink()
    second.write_text("mine")
    with pytest.raises(RefusedError, match="no page of gcf"):
        write_pages(tmp_path)
    assert second.read_text() == "mine"
    assert not first.exists()
    write_pages(tmp_path, overwrite=True)
    assert "generator" in second.read_text()
    second.unlink()
    second.mkdir()
    with pytest.raises(RefusedError, match="cannot be written"):
        write_pages(tmp_path, overwrite=True)


def test_what_stands_in_a_pages_place_is_not_read_in_full(tmp_path):
    write_localization(tmp_path, [add_video(tmp_path, "a", codec=None)])
    with (tmp_path / "a.html").open("wb") as file:
        file.truncate(1 << 42)  # takes no room, and would not fit any memory
    with pytest.raises(RefusedError, match="no page of gcf"):
        write_pages(tmp_path)


@pytest.mark.slow
def test_a_thousand_clips_make_a_small_page_that_is_not_printed_in_full(tmp_path):
    path = one_video(tmp_path, num_clips=1000)
    assert path.stat().st_size < 350_000
    assert '<details id="clips" class="long">' in path.read_text()
    assert len(page_of(path).rows) == 1 + 1 + 1 + 1000


def test_classes_with_intervals_are_on_the_time_line_up_to_nine(tmp_path):
    classes = [f"class {n}" for n in range(40)]
    found = [{"start": 0, "end": 1, "label": f"class {n}", "score": n} for n in range(10, 20)]
    write_localization(
        tmp_path, [add_video(tmp_path, "a", codec=None, classes=classes, intervals=found)], classes=classes
    )
    path = write_pages(tmp_path)[1]
    headers = next(row for row in page_of(path).rows if row[0] == "clip")
    assert headers[-9:][0] == "class 0"
    assert set(headers[-4:]) <= {f"class {n}" for n in range(10, 20)}
    assert page_of(path).tags.count("input") == 9
    shown = {f"class {n}" for n in range(10, 20)} & set(headers)
    assert f"Of {10 - len(shown)} of these classes there is no evidence on the time line" in said(path)


def test_the_command_takes_a_localisation(tmp_path, capfd):
    page = one_video(tmp_path)
    page.unlink()
    assert gcf.cli.run(["report", str(tmp_path)]) == 0
    assert capfd.readouterr().out == f"{tmp_path / 'index.html'}\n"
    assert gcf.cli.run(["report", str(tmp_path), "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {"report": str(tmp_path / "index.html"), "pages": [str(page)]}
    assert gcf.cli.run(["report", str(tmp_path), "-o", str(tmp_path / "x.html")]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert gcf.cli.run(["report", str(tmp_path / "nothing")]) == 4
    assert "no metrics.json of a run and no localization.json" in capfd.readouterr().err
