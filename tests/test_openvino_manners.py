"""OpenVINO as a guest: it is loaded only where it computes, tells nobody, and its first call does not hang."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from stage_one import TINY

import gcf

pytestmark = pytest.mark.slow

LISTENING = """
import sys

def hook(event, given):
    if event.startswith("socket.") and event not in ("socket.__new__", "socket.gethostname"):
        with open({log!r}, "a") as file:
            file.write(f"{{event}} {{given!r}}\\\\n")

sys.addaudithook(hook)
"""
EXTRACT = """
import sys, gcf
gcf.extract_videos(sys.argv[1], sys.argv[2], backbone=sys.argv[3], runtime="openvino")
if {report}:
    import socket
    socket.socket(socket.AF_UNIX).connect("/nowhere")
"""


@pytest.mark.parametrize("report", [False, True])
def test_nothing_is_sent_anywhere(folder, tmp_path, report):
    log = tmp_path / "log"
    (tmp_path / "sitecustomize.py").write_text(LISTENING.format(log=str(log)))
    environment = {k: v for k, v in os.environ.items() if k != "CI"}  # OpenVINO's reports rest where it sees this
    environment |= {"PYTHONPATH": str(tmp_path), "GCF_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)}
    command = [sys.executable, "-c", EXTRACT.format(report=report), str(folder), str(tmp_path / "f.h5"), TINY]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert gcf.FeatureFile(tmp_path / "f.h5").recipe["runtime"] == "openvino"
    if report:  # the one attempt that was made is seen
        assert "nowhere" in log.read_text()
        return
    assert done.returncode == 0, done.stderr
    assert not log.exists()
    assert not list(tmp_path.glob("**/*telemetry*"))


def test_telemetry_that_was_there_before_is_there_afterwards():
    code = """
import sys, types
from gcf.extract.network.openvino_map import import_openvino
theirs = sys.modules["openvino_telemetry"] = types.ModuleType("openvino_telemetry")
import_openvino()
assert sys.modules["openvino_telemetry"] is theirs
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "code",
    [
        "import gcf; gcf.extract_videos, gcf.train_head",
        "import gcf.cli\ntry: gcf.cli.main(['extract', '-h'])\nexcept SystemExit: pass",
        "import gcf.head.training, gcf.head.ablation, gcf.head.estimator",
        "import gcf; gcf.load_backbone('mobilenetv2_0.2x', weights='random')",
    ],
)
def test_it_is_not_loaded_where_it_does_not_compute(code):
    code += "\nimport sys; sys.exit('openvino' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


FIRST = """
import os, sys, threading
import numpy as np
from runtimes import tiny_map
sys.setswitchinterval(1e-6)  # threads change places as often as they can
map_of, clip, together = tiny_map(streams=4), np.zeros((1, 4, 32, 32, 3), np.uint8), threading.Barrier(4)
threads = [threading.Thread(target=lambda: (together.wait(), map_of(clip))) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_threads_that_make_the_first_call_at_once_do_not_wait_for_each_other_for_ever():
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    for _ in range(3):  # without the call that one thread makes before, each of ten hung
        subprocess.run([sys.executable, "-c", FIRST], env=environment, check=True, timeout=60)


SIGNALLED = """
import faulthandler, gc, os, signal, threading
faulthandler.enable()  # has a signal stack of its own, as many programs have
handled = []
signal.signal(signal.SIGUSR1, lambda *_: handled.append(1))
from runtimes import tiny_map
held = [tiny_map()]
thread = threading.Thread(target=lambda: (held.clear(), gc.collect()))
thread.start()
thread.join()
os.kill(os.getpid(), signal.SIGUSR1)
assert handled == [1]
"""


def test_signals_are_handled_after_another_thread_has_let_go_of_a_network():
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run([sys.executable, "-c", SIGNALLED], env=environment, check=True)
