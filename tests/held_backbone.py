"""The tiny plug-in, as a worker that tests can hold up: what lies in its folder says when it waits.

A process notes itself in `pids/`. While there is a file `hold` it stops at its fourth batch; a black clip ends it where
there is a file `poison`; where there is a file `other`, worker processes of Ray have another recipe than the driver.
"""

import os
import runpy
import signal
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
TINY = runpy.run_path(str(HERE / "tiny_backbone.py"))  # a node's search path has no tests
RECIPE = {**TINY["RECIPE"], "name": "held"}
if (HERE / "other").exists() and Path(sys.argv[0]).name == "default_worker.py":
    RECIPE["std"] = (0.5, 0.5, 0.5)


class Held(TINY["Tiny"]):
    batches = 0

    def feature_map(self, clips):
        self.batches += 1
        while self.batches > 3 and (HERE / "hold").exists():
            time.sleep(0.01)
        if (HERE / "poison").exists() and (clips == clips.flatten()[0]).all():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().feature_map(clips)


def build():
    (HERE / "pids").mkdir(exist_ok=True)
    (HERE / "pids" / str(os.getpid())).touch()
    held = Held()
    held.load_state_dict(TINY["build"]().state_dict())
    return held.eval()
