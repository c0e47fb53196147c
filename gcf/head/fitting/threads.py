"""How many processor threads a step deserves: none beside its own, while it is small."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TypeVar

import torch
from tqdm import tqdm

Job, Result = TypeVar("Job"), TypeVar("Result")
SMALL_STEP = 5e8  # multiply-accumulates; 128 videos through gcf-256 are 1.1e9


def is_small(*, videos: int, clips: int, parameters: int) -> bool:
    """Whether a training step costs so little that a second thread is not worth waiting for."""
    return videos * clips * parameters < SMALL_STEP


@contextmanager
def one_thread(wanted: bool) -> Iterator[None]:
    """Compute with this thread alone, if wanted, and put torch's setting back afterwards.

    Threads that share a tiny product wait for each other longer than they work: on a busy machine training sixty
    videos took fifty times as long. One thread also gives the same bits on machines with other numbers of cores.
    """
    before = torch.get_num_threads()
    if wanted:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if wanted:
            torch.set_num_threads(before)


class Steps(tqdm):
    """Counts the steps of all trainings; once it is cancelled, the next step ends its training with CancelledError."""

    is_cancelled = False

    def cancel(self) -> None:
        """End what still counts its steps here: no signal reaches the threads that train."""
        self.is_cancelled = True

    def update(self, n: float | None = 1) -> bool | None:
        """Count n steps."""
        if self.is_cancelled:
            raise CancelledError
        return super().update(n)


def side_by_side(
    jobs: Sequence[Job], function: Callable[[Job], Result], *, workers: int, cancel: Callable[[], object]
) -> Iterator[tuple[Job, Result]]:
    """Yield (job, result) as they finish; with one worker in this thread, in order, so that it can be interrupted.

    Torch's number of threads is put back at the end. The first exception ends it all: `cancel` tells the other jobs.
    """
    if workers == 1:
        yield from ((job, function(job)) for job in jobs)
        return
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers)
    try:
        waiting = {pool.submit(function, job): job for job in jobs}
        for done in as_completed(waiting):
            yield waiting[done], done.result()
    except BaseException:
        cancel()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # a new thread starts with what the last one set


class ThreadPool:
    """Threads that take jobs side by side, each computing with one of torch's; a pool of one works in the caller's.


    Threads that share a product wait for each other at its end. Where another program has a processor, that wait is
    most of the time: a pass of five heads took 62 s with two threads a product, 9 s with a pool of two.
    """

    def __init__(self, workers: int):
        self.workers = workers
        self.before = torch.get_num_threads()
        self.pool = (
            ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) if workers > 1 else None
        )

    def map(self, function: Callable[[Job], Result], jobs: Sequence[Job]) -> list[Result]:
        """The result for each job, in order; a fault is raised. The first jobs begin first."""
        if self.pool is None or len(jobs) < 2:
            return [function(job) for job in jobs]
        return list(self.pool.map(function, jobs))

    def __enter__(self) -> "ThreadPool":
        return self

    def __exit__(self, *_) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)
            torch.set_num_threads(self.before)
