"""A signal ends a command wherever it comes; a standard stream that is closed ends none."""

import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

COMMAND = """
import os, signal, sys, weakref
from gcf.terminal import guarded

class Dropped:
    def __del__(self):
        os.kill(os.getpid(), {number})
        for _ in range(100):  # the handler runs, and raises, in here
            pass

def callback(_):
    os.kill(os.getpid(), {number})
    for _ in range(100):
        pass

def in_a_destructor():
    Dropped()

def in_a_weak_references_callback():
    kept = Dropped.__class__("Kept", (), {{}})()
    reference = weakref.ref(kept, callback)
    del kept

def command():
    {where}()
    print("began", flush=True)
    while True:  # ends by the signal alone
        signal.pause()

sys.exit(guarded(command))
"""
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def run(code, *arguments, **options):
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, **options)


@pytest.mark.parametrize("where", ["in_a_destructor", "in_a_weak_references_callback"])
@pytest.mark.parametrize("number", CODES)
def test_a_signal_is_not_lost_where_python_drops_exceptions(where, number):
    done = run(COMMAND.format(where=where, number=int(number)))
    assert done.returncode == CODES[number], done.stderr
    assert done.stdout == "began\n"
    assert len(done.stderr.splitlines()) == 1
    assert "the same command goes on" in done.stderr


@pytest.mark.slow
def test_nohup_is_heeded():
    code = """
import os, signal, sys
from gcf.terminal import guarded
sys.exit(guarded(lambda: os.kill(os.getpid(), signal.SIGHUP)))
"""
    ignored = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    assert run(code, **ignored).returncode == 0
    assert run(code).returncode == 129


def test_other_dropped_exceptions_are_still_printed_and_handlers_come_back():
    code = """
import signal, sys
from gcf.terminal import guarded

class Faulty:
    def __del__(self):
        raise ValueError("seen")

guarded(lambda: Faulty() and None)
sys.exit(signal.getsignal(signal.SIGTERM) != signal.SIG_DFL or sys.unraisablehook is not sys.__unraisablehook__)
"""
    done = run(code)
    assert done.returncode == 0
    assert "seen" in done.stderr


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_error_and_no_file_takes_its_number(closed, tmp_path):
    command = tmp_path / "command.py"
    command.write_text("""
import os, subprocess, sys
from gcf.terminal import guarded

def command():
    with open(sys.argv[1], "wb") as file:
        assert file.fileno() > 2
        print("for nobody", file=sys.stderr, flush=True)
        os.write(2, b"from a library")
        subprocess.run([sys.executable, "-c", "import os; [os.fstat(n) for n in (0, 1, 2)]"], check=True)
        file.write(b"mine")

sys.exit(guarded(command))
""")
    out = tmp_path / "out"
    script = f'exec "{sys.executable}" "{command}" "{out}" {closed}'
    assert subprocess.run(["sh", "-c", script], env=dict(os.environ)).returncode == 0
    assert out.read_bytes() == b"mine"
