"""The storage of stage one, killed or failed at a spread sample of its calls that write; benchmarks walk them all."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
EVERY, OFFSET = 157, 5  # about forty of the points, in all scenarios and modes


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> list[dict]:
    if not shutil.which("gcc") or sys.platform != "linux":
        pytest.skip("needs gcc on Linux, to build the library that fails calls")
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    flags = ["-shared", "-fPIC", "-D_LARGEFILE64_SOURCE"]
    subprocess.run(["gcc", *flags, "-o", library, HERE / "crash_shim.c", "-ldl"], check=True)
    command = [sys.executable, HERE / "crash_storage.py", tmp_path_factory.mktemp("points")]
    command += ["--every", str(EVERY), "--offset", str(OFFSET)]
    environment = os.environ | {"LD_PRELOAD": str(library), "OPENBLAS_NUM_THREADS": "1"}
    walked = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in walked.stdout.splitlines()]


def test_at_no_point_is_a_committed_video_lost_or_a_byte_different_after_resuming(outcomes):
    assert [o for o in outcomes if o["problems"]] == []


def test_the_sample_has_kills_and_faults_in_every_scenario(outcomes):
    assert 30 <= len(outcomes) <= 60
    assert {o["scenario"] for o in outcomes} == {"extract", "update a finished file", "merge shards"}
    assert len({o["mode"] for o in outcomes}) == 10
    killed = [o for o in outcomes if o["mode"].startswith("killed")]
    assert killed
    assert {o["code"] for o in killed} == {-9}
    assert {o["code"] for o in outcomes if o["mode"].endswith("there on")} <= {4, 5}
