import threading
import time

import pytest
import torch

from gcf.head.fitting.threads import Steps, is_small, one_thread, side_by_side


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_one_thread_is_for_a_while_only_even_when_the_work_fails(three_threads):
    with one_thread(True):
        assert torch.get_num_threads() == 1
    with one_thread(False):
        assert torch.get_num_threads() == 3
    with pytest.raises(KeyError), one_thread(True):
        raise KeyError
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("workers", [1, 4])
def test_every_job_is_done_once_and_torchs_threads_are_put_back(three_threads, workers):
    def work(job):
        with one_thread(True):
            return job * job, threading.current_thread() is threading.main_thread()

    found = dict(side_by_side(range(30), work, workers=workers, cancel=bool))
    assert {job: square for job, (square, _) in found.items()} == {job: job * job for job in range(30)}
    assert all(in_main == (workers == 1) for _, in_main in found.values())
    assert torch.get_num_threads() == 3
    seen = []
    other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert seen == [3]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 4])
def test_the_first_failure_ends_it_all(workers):
    done = []

    def work(job):
        if job == 3:
            raise KeyError("three")
        done.append(job)

    with pytest.raises(KeyError, match="three"):
        list(side_by_side(range(10_000), work, workers=workers, cancel=bool))
    assert len(done) < 10_000


def test_trainings_of_other_threads_end_with_their_next_step(three_threads):
    steps = Steps(disable=True)

    def work(job):
        if job == 1:
            raise KeyboardInterrupt
        while True:  # as a training that nobody tells of the end would
            steps.update()
            time.sleep(0.001)

    with pytest.raises(KeyboardInterrupt):
        list(side_by_side([0, 1], work, workers=2, cancel=steps.cancel))


def test_sixty_videos_are_small_and_a_full_batch_is_not():
    assert is_small(videos=42, clips=10, parameters=875_000)
    assert not is_small(videos=128, clips=10, parameters=875_000)
