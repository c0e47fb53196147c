"""All the bad files in one tree with sixty good videos, through the command; what FFmpeg then opens, seen by strace."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import bad_videos
import numpy as np
import pytest
import videos
from compare import assert_bitwise_equal
from stage_one import TINY, extract

from gcf import FeatureFile

pytestmark = pytest.mark.slow

GOOD = 60
BOUND = 500  # frames
TOO_LONG = "too long: over 500 frames, the bound that --max-frames sets"
LED_OUT = "a link leads out of the folder of the videos"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """good/ and bad/ below one folder; outside it lies what a link, and what the scripts in disguise, would lead to."""
    base = tmp_path_factory.mktemp("tree")
    lure = videos.write_video(base / "outside" / "lure.avi", 20)
    for n in range(GOOD):
        suffix, codec = (("avi", "mpeg4"), ("mkv", "mpeg4"), ("mp4", "libx264"))[n % 3]
        videos.write_video(base / "root" / "good" / f"{n:02d}.{suffix}", 14 + n % 8, codec=codec, seed=n)
    bad = bad_videos.write_all(base / "root" / "bad", lure)
    videos.write_video(bad / "countless.mkv", BOUND + 1, size=(16, 16))
    (bad / "outward.avi").symlink_to(lure)
    return base


@pytest.fixture(scope="module")
def run(tree):
    """(code, what --json printed, feature file) of `gcf extract` on the whole tree."""
    out = tree / "all.h5"
    command = [
        sys.executable,
        "-m",
        "gcf.cli",
        "extract",
        str(tree / "root"),
        str(out),
        "--backbone",
        TINY,
        "--precision",
        "fp32",
        "--runtime",
        "torch",
    ]
    command += ["--max-frames", str(BOUND), "--stay-inside", "--workers", "2", "--batch-size", "4", "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    return ran.returncode, json.loads(ran.stdout), FeatureFile(out)


def test_every_bad_file_is_named_once_with_its_reason_and_the_code_is_3(run):
    code, facts, features = run
    assert code == 3
    said = {name: reason for name, (_, reason) in bad_videos.EXPECTED.items()}
    said |= {"countless.mkv": TOO_LONG, "outward.avi": LED_OUT, "device.mp4": LED_OUT}  # it is a link to /dev/zero
    named = [tuple(pair) for pair in facts["failures"] + facts["partial"]]
    assert sorted(video_id for video_id, _ in named) == sorted(f"bad/{name}" for name in said)
    for video_id, reason in named:
        assert re.match(said[video_id.removeprefix("bad/")], reason), (video_id, reason)
    partial = sorted(f"bad/{name}" for name in bad_videos.EXPECTED if bad_videos.is_partial(name))
    assert sorted(video_id for video_id, _ in facts["partial"]) == partial
    assert [tuple(failure) for failure in facts["failures"]] == features.failures


def test_the_good_videos_are_the_same_to_the_last_bit_as_without_the_bad_ones(run, tree):
    extract(tree / "root" / "good", tree / "good.h5", workers=1)
    mixed, alone = run[2], FeatureFile(tree / "good.h5")
    places = [n for n, video_id in enumerate(mixed.ids) if video_id.startswith("good/")]
    assert [mixed.ids[n].removeprefix("good/") for n in places] == alone.ids
    assert len(places) == GOOD
    for m, n in enumerate(places):
        ours, theirs = mixed.video(n), alone.video(m)
        assert_bitwise_equal(np.array(ours.descriptors), np.array(theirs.descriptors))
        assert_bitwise_equal(np.array(ours.logits), np.array(theirs.logits))
        assert ours.clips.end_time.tolist() == theirs.clips.end_time.tolist()
        assert ours.info == theirs.info


def traced(folder: Path, log: Path) -> list[str]:
    """The system calls of an extraction of `folder`, children included, that open something or make a socket."""
    if not shutil.which("strace"):
        pytest.skip("strace is absent")
    if subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here")
    calls = "openat,open,connect,bind,socket"
    command = ["strace", "-f", "-qq", "-s", "300", "-e", f"trace={calls}", "-o", str(log)]
    command += [sys.executable, "-m", "gcf.cli", "extract", str(folder), str(log) + ".h5", "--backbone", TINY]
    ran = subprocess.run([*command, "--workers", "1"], capture_output=True, text=True, check=False)
    assert ran.returncode == 3, ran.stderr
    return log.read_text().splitlines()


def test_scripts_and_play_lists_in_disguise_make_nothing_else_open_and_no_socket(tree):
    """Row 29; what the calls are searched for is shown to be seen: each disguised file is opened itself."""
    folder = tree / "disguised"
    folder.mkdir()
    for name in bad_videos.DISGUISED:
        shutil.copy(tree / "root" / "bad" / name, folder)
    shutil.copy(tree / "outside" / "lure.avi", folder / "good.avi")
    shutil.copy(tree / "outside" / "lure.avi", folder / "lure.avi.kept")  # beside them, as a relative name would say
    lines = traced(folder, tree / "trace")
    for name in [*bad_videos.DISGUISED, "good.avi"]:
        assert any(f'/disguised/{name}"' in line for line in lines), name
    assert not [line for line in lines if "lure.avi" in line]
    assert not [line for line in lines if re.search(r"\b(connect|bind|socket)\(", line)]
    opened = {m[1] for line in lines if (m := re.search(r'open(?:at)?\(.*?"([^"]*)"', line))}
    below = {path for path in opened if path.startswith(str(tree)) and ".h5" not in path}
    assert below <= {str(tree), str(folder), *(str(folder / name) for name in os.listdir(folder))}
