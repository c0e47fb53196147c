"""Signals that come while Ray's compiled code runs wait until it is back."""

import signal
import threading

import pytest

from gcf.extract.engines.ray_cluster import signals_held

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class StoppedBySignalError(BaseException):
    """What the handlers of these tests raise."""


@pytest.fixture(autouse=True)
def raising():
    """Both signals raise, as the command line has it."""

    def handler(number, frame):
        raise StoppedBySignalError(number)

    before = {number: signal.signal(number, handler) for number in NUMBERS}
    yield handler
    for number, old in before.items():
        signal.signal(number, old)


def send(number):
    signal.raise_signal(number)  # its handler has run when this is back


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_waits_until_it_is_asked_for_and_is_given_once(number, raising):
    with signals_held() as deliver:
        deliver()
        send(number)
        with pytest.raises(StoppedBySignalError, match=str(int(number))):
            deliver()
        deliver()
    assert signal.getsignal(number) is raising


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_that_nobody_asked_for_is_given_at_the_end(number):
    done = []

    def work():
        with signals_held():
            send(number)
            done.append(True)

    with pytest.raises(StoppedBySignalError):
        work()
    assert done


def test_the_second_signal_does_not_wait():
    with signals_held() as deliver:
        send(signal.SIGTERM)
        with pytest.raises(StoppedBySignalError, match="2"):
            send(signal.SIGINT)
        deliver()  # one of the two is enough


def test_a_signal_that_is_ignored_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with signals_held() as deliver:
        send(signal.SIGINT)
        deliver()
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_threads_leave_signals_alone():
    faults = []

    def held():
        with signals_held() as deliver:
            deliver()
            faults.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=held)
    thread.start()
    thread.join()
    assert faults == [before]
