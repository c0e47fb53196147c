"""The storage of stage one, killed or failed at a spread sample of its calls that write; benchmarks walk them all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from shims import build_shim, can_build
from stage_one import extract

from gcf.errors import RefusedError, StoppedError
from gcf.extract.stream import run

HERE = Path(__file__).parent
EVERY, OFFSET = 37, 5  # about forty of the points, in all scenarios and modes


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> list[dict]:
    if not can_build():
        pytest.skip("needs a C compiler on Linux, to build the library that fails calls")
    library = build_shim("crash_shim", tmp_path_factory.mktemp("shim"))
    command = [sys.executable, HERE / "crash_storage.py", tmp_path_factory.mktemp("points")]
    command += ["--every", str(EVERY), "--offset", str(OFFSET)]
    environment = os.environ | {"LD_PRELOAD": str(library), "OPENBLAS_NUM_THREADS": "1"}
    walked = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in walked.stdout.splitlines()]


@pytest.mark.slow
def test_at_no_point_is_a_committed_video_lost_or_a_byte_different_after_resuming(outcomes):
    assert [o for o in outcomes if o["problems"]] == []


def test_the_sample_has_kills_and_faults_in_every_scenario(outcomes):
    assert 30 <= len(outcomes) <= 60
    assert {o["scenario"] for o in outcomes} == {"extract", "update a finished file", "merge shards"}
    assert len({o["mode"] for o in outcomes}) == 10
    killed = [o for o in outcomes if o["mode"].startswith("killed")]
    assert killed
    assert {o["code"] for o in killed} == {-9}
    faults = [o for o in outcomes if o["mode"][0] == "E"]
    assert min(o["code"] for o in faults) >= 0, "no death by signal"
    assert 5 in {o["code"] for o in faults}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 192 KiB, and how to mount it anew with other options."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", place], check=True, capture_output=True)

    try:
        mount("size=192k")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("may not mount a file system here")
    yield place, mount
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.mark.slow
def test_a_disk_that_fills_up_stops_the_run_and_a_larger_one_lets_it_end(folder, reference, small_disk, monkeypatch):
    place, mount = small_disk
    monkeypatch.setattr(run, "PART_VIDEOS", 1)
    with pytest.raises(
        StoppedError, match=r"f\.h5: no room on the disk .*[\d,]+ bytes were to be written.*again"
    ) as found:
        extract(folder, place / "f.h5")
    assert found.value.exit_code == 5
    assert not list(place.glob("**/.*.tmp")), "what could not be finished makes room"
    kept = len(list(place.glob("f.h5.parts/part-*.h5")))
    assert kept > 0
    mount("remount,size=16m")
    assert extract(folder, place / "f.h5").extracted == 6 - kept
    assert (place / "f.h5").read_bytes() == reference
    assert [p.name for p in place.iterdir()] == ["f.h5"]


def test_a_disk_that_may_only_be_read_is_refused_before_work(folder, small_disk):
    place, mount = small_disk
    mount("remount,ro")
    with pytest.raises(RefusedError, match=r"f\.h5: .*choose another output") as found:
        extract(folder, place / "f.h5")
    assert found.value.exit_code == 4
