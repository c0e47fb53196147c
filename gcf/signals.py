"""A signal ends a command from within: what is in hand is put away, and none is lost on the way."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

AGAIN = 0.05  # seconds until a signal is sent again whose exception Python has dropped
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}  # 128 + number, as shells have it


class TerminatedError(BaseException):
    """SIGTERM, or SIGHUP when the terminal closed; what is in hand is put away on the way out."""

    def __init__(self, number: int = signal.SIGTERM):
        self.number = number


def exit_code(stop: BaseException) -> int:
    """Of a command that a KeyboardInterrupt or TerminatedError has ended."""
    return EXIT_CODES[getattr(stop, "number", signal.SIGINT)]


@contextmanager
def signals_raised() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into TerminatedError; SIGHUP only where it is not ignored already (nohup).

    An exception that a signal's handler raises within a destructor or a callback of compiled code is printed and
    dropped by Python. Here such a signal is sent again, until its exception arrives.
    """
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, _terminate) for number in numbers}
    hook, ended = sys.unraisablehook, threading.Event()

    def send_again(number: int) -> None:
        if not ended.wait(AGAIN):
            os.kill(os.getpid(), number)

    def dropped(unraisable) -> None:
        if not isinstance(unraisable.exc_value, KeyboardInterrupt | TerminatedError):
            return hook(unraisable)
        number = getattr(unraisable.exc_value, "number", signal.SIGINT)
        return threading.Thread(target=send_again, args=(number,), daemon=True).start()

    sys.unraisablehook = dropped
    try:
        yield
    finally:
        ended.set()
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _terminate(number: int, _frame) -> None:
    raise TerminatedError(number)
