"""The soak of benchmarks/soak.py, for some dozens of jobs: nothing is lost, nothing is left open."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import soak
from synthetic_decoder import FAULTS
from watched import Held

from gcf.extract.stream import run

pytestmark = pytest.mark.slow

SLOW = ("hang", "babble")  # silent until the deadline, or until they are killed


def soaked(folder: Path, jobs, *, rounds: int, deadline: float = 60.0) -> soak.Soak:
    soak.write_jobs(folder, jobs)
    made = soak.Soak(folder, jobs, deadline)
    for _ in range(rounds):
        made.round()
    return made


def with_faults(kinds, count: int) -> list[soak.Job]:
    """`count` jobs, the faulty ones among the healthy, so that a broken decoder has work left to spoil."""
    every = count // len(kinds)
    return [
        soak.Job(f"{n}.mp4", 1 + n % 3, kinds[n // every] if n % every == 1 and n // every < len(kinds) else "")
        for n in range(count)
    ]


def test_each_kind_of_fault_is_recorded_and_costs_no_other_job_anything(tmp_path):
    jobs = with_faults(soak.KINDS, 33)
    assert {job.fault for job in jobs} == {*FAULTS, "partial", ""}
    assert soaked(tmp_path, jobs, rounds=1, deadline=4.0).problems == []


def test_rounds_of_extraction_leave_no_descriptor_thread_or_child_and_the_same_bytes(tmp_path):
    jobs = with_faults([kind for kind in soak.KINDS if kind not in SLOW], 18)
    found = soaked(tmp_path, jobs, rounds=4)
    assert found.problems == []
    assert len({(r.rest.descriptors, r.rest.threads, r.rest.children) for r in found.rounds[1:]}) == 1
    assert found.rounds[0].rest.children == 0
    assert all(r.work.children <= 2 for r in found.rounds), "a broken decoder is replaced, not added to"


def test_a_job_that_is_lost_is_noticed(tmp_path, monkeypatch):
    plain = run.stream_together

    def forgetful(*args, **options):
        yield from list(plain(*args, **options))[:-1]

    monkeypatch.setattr(run, "stream_together", forgetful)
    jobs = [soak.Job(f"{n}.mp4", 1) for n in range(4)]
    problems = soaked(tmp_path, jobs, rounds=1).problems
    assert any("arrived 0 times" in problem for problem in problems)


@pytest.mark.parametrize("field", list(Held.__dataclass_fields__))
def test_what_grows_is_said(field):
    found = soak.Soak(Path(), [], 1.0)
    for n in range(40):
        held = Held(**{name: 10**6 + 10**5 * n * (name == field) for name in Held.__dataclass_fields__})
        found.rounds.append(soak.Round(1.0, held, held, 0, ""))
    grown = [line for line in found.report() if "GREW" in line]
    assert grown
    assert all(line.startswith(field) for line in grown)
