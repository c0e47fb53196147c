"""Names with every byte that a file system allows, row 32: each its own row, byte for byte, and no line of its own."""

import json
import os

import pytest
import videos
from stage_one import TINY, extract

from gcf import FeatureFile
from gcf.data.text import named_classes, printable
from gcf.errors import GcfError
from gcf.extract.decoding.find import find_videos

pytestmark = pytest.mark.slow

NAMES = [
    b"new\nline.avi",
    b"\xff\xfe.avi",
    b"-i.avi",
    b"http:x.avi",
    b"%03d.avi",
    b"concat:a|b.avi",
    b"file:v.avi",
    b"cr\rback\x1b[2J.avi",
    "caf\u00e9.avi".encode(),  # composed and decomposed: one name to the eye, two files
    "cafe\u0301.avi".encode(),
    "\u202etxt.avi".encode(),
    b"a/same.avi",
    b"b/same.avi",
    b" lead and trail .avi",
    b"'quote\".avi",
    b"back\\slash.avi",
    b"x" * 247 + b".avi",
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A healthy video under each name, and an empty file under a name that is as odd, with `bad` before it."""
    root = tmp_path_factory.mktemp("names")
    content = videos.write_video(root / "v.avi", 17).read_bytes()
    (root / "v.avi").unlink()
    for name in NAMES:
        folder, _, base = name.rpartition(b"/")
        os.makedirs(os.path.join(os.fsencode(root), folder), exist_ok=True)
        for full, data in ((name, content), (os.path.join(folder, b"bad" + base[-240:]), b"")):
            with open(os.path.join(os.fsencode(root), full), "wb") as file:
                file.write(data)
    return root


@pytest.mark.slow
def test_every_name_is_a_row_and_comes_back_byte_for_byte(tree, tmp_path, invoke):
    code, out, err = invoke("extract", tree, tmp_path / "f.h5", "--backbone", TINY, "--json")
    assert code == 3, err
    features, facts = FeatureFile(tmp_path / "f.h5"), json.loads(out)
    assert sorted(map(os.fsencode, features.ids)) == sorted(NAMES)
    assert features.offsets.tolist() == [2 * n for n in range(len(NAMES) + 1)]
    failed = [os.fsencode(video_id) for video_id, _ in facts["failures"]]
    wanted = [os.path.join(os.path.dirname(n), b"bad" + os.path.basename(n)[-240:]) for n in NAMES]
    assert sorted(failed) == sorted(wanted)
    assert {error for _, error in facts["failures"]} == {"empty"}
    assert [tuple(failure) for failure in facts["failures"]] == features.failures


@pytest.mark.slow
def test_no_name_begins_a_line_or_reaches_the_terminal_as_a_command(tree, tmp_path, capfd):
    summary = extract(tree, tmp_path / "f.h5")
    lines = summary.describe().split("\n")
    assert len([line for line in lines if line.startswith("  failed   ")]) == len(NAMES)
    assert all(
        line.startswith((str(tmp_path), "  failed   ", "  2 classes: ", "  without a label: ")) for line in lines
    )
    assert all(line.isprintable() for line in lines)
    assert all(line.isprintable() for line in capfd.readouterr().err.splitlines())


def test_a_video_whose_name_looks_like_an_option_is_taken_by_name(tree, tmp_path, invoke, monkeypatch):
    monkeypatch.chdir(tree)
    code, _, err = invoke("extract", "--backbone", TINY, "--", "-i.avi", tmp_path / "f.h5")
    assert code == 0, err
    assert FeatureFile(tmp_path / "f.h5").ids == ["-i.avi"]


def test_warnings_and_reasons_are_one_line_each():
    assert named_classes({"a\nb": 1, "c\x1b[2J": 2}) == "a\\nb (1), c\\x1b[2J (2)"
    assert printable("a\nb\r\x1b[2Jc\udcff\u202e\u00e9") == "a\\nb\\r\\x1b[2Jc\\udcff\\u202e\u00e9"


def test_a_list_that_is_no_list_is_refused_in_a_line(tmp_path):
    (tmp_path / "nul.txt").write_bytes(b"v/1.mp4\nv/\0.mp4\n")
    with pytest.raises(GcfError, match=r"nul\.txt, line 2: has a null character"):
        find_videos([tmp_path / "nul.txt"])
    (tmp_path / "long.csv").write_text("path\n" + "x" * 200_000 + "\n")
    with pytest.raises(GcfError, match=r"long\.csv: cannot be read"):
        find_videos([tmp_path / "long.csv"])
