"""A signal ends a command from within: what is in hand is put away, and none is lost on the way."""

import os
import queue
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
    again: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    hook, ended = sys.unraisablehook, threading.Event()
    inside = False  # whether Python reports what it drops: no exception gets out of there

    def raise_it(number: int, _frame) -> None:
        if inside:
            again.put(number)
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise TerminatedError(number)

    def dropped(unraisable) -> None:
        nonlocal inside
        inside = True
        try:
            if isinstance(unraisable.exc_value, KeyboardInterrupt | TerminatedError):
                again.put(getattr(unraisable.exc_value, "number", signal.SIGINT))
            else:
                hook(unraisable)
        finally:
            inside = False

    def send_again() -> None:
        while (number := again.get()) is not None:
            if not ended.wait(AGAIN):
                os.kill(os.getpid(), number)

    threading.Thread(target=send_again, daemon=True).start()
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, raise_it) for number in numbers}
    sys.unraisablehook = dropped
    try:
        yield
    finally:
        ended.set()
        again.put(None)
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
