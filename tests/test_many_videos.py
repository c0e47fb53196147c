"""Many videos at once: a sample of benchmarks/faults.py, faults through the command, and any order of arrival."""

import json
import random
from pathlib import Path

import pytest
import videos
from stage_one import TINY, extract

from gcf.extract.decoding import pool
from gcf.extract.stream import run

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parent


def test_crashes_hangs_and_memory_faults_lose_no_healthy_video(monkeypatch):
    monkeypatch.syspath_prepend(str(TESTS.parent / "benchmarks"))
    import faults

    monkeypatch.setattr(pool, "WORKER", "faults")
    jobs = faults.make_jobs(60, share=0.1, seed=0)
    assert sum("-ok-" not in video.id for video in jobs) == 6
    assert faults.wrong_outcomes(jobs, workers=2, deadline=3.0) == []


def test_a_crash_and_a_hang_are_recorded_and_the_run_goes_on(tmp_path, monkeypatch, invoke):  # rows 35 and 36
    root = tmp_path / "v"
    for name in ("a_crash", "b", "c_hang", "d"):
        videos.write_video(root / f"{name}.avi", 40)
    monkeypatch.setattr(pool, "WORKER", "faulty_worker")
    code, out, err = invoke("extract", root, tmp_path / "f.h5", "--backbone", TINY, "--deadline", 4, "--json")
    assert code == 3, err
    facts = json.loads(out)
    assert (facts["videos"], facts["clips"]) == (2, 6)
    assert facts["failures"] == [
        ["a_crash.avi", "decoder crashed (signal 11)"],
        ["c_hang.avi", "deadline: no progress for 4 s"],
    ]


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_any_order_of_arrival_gives_the_same_bytes(folder, tmp_path, reference, monkeypatch, workers):
    """A video's clips stay in order, as the pool promises; all else is shuffled, and so are the parts."""
    arrive = pool.DecoderPool.__iter__
    orders = []

    def shuffled(self):
        queues, rng = {}, random.Random(workers)
        for arrived in filter(None, arrive(self)):  # None: nothing came for a while, as on a busy machine
            queues.setdefault(arrived[0].id, []).append(arrived)
        order = [video_id for video_id, items in queues.items() for _ in items]
        rng.shuffle(order)
        orders.append(order)
        for video_id in order:
            yield queues[video_id].pop(0)

    monkeypatch.setattr(pool.DecoderPool, "__iter__", shuffled)
    monkeypatch.setattr(run, "PART_VIDEOS", 2)
    extract(folder, tmp_path / "f.h5", workers=workers)
    assert (tmp_path / "f.h5").read_bytes() == reference
    assert orders[0] != sorted(orders[0])
