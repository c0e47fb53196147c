"""A process that reads no weights and sends what it should not, as LIE says."""

import os
import sys
import time

from gcf.extract.decoding import messages

HEAD = {"kind": "tensor", "name": "a", "dtype": "torch.float32", "shape": [3]}
LIES = {
    "size": [(HEAD, bytes(8))],
    "type": [(HEAD | {"dtype": "torch.load"}, bytes(12))],
    "kind": [({"kind": "pickle"}, b"")],
    "twice": [(HEAD, bytes(12)), (HEAD, bytes(12))],
    "nonsense": [({"kind": "tensor", "name": ["a"], "shape": -1}, b"")],
    "too much": [(HEAD | {"shape": [1 << 25]}, bytes(1 << 27))],
}


def main(*_) -> None:
    """Tell the lie after the usual greeting."""
    messages.send(sys.stdout.fileno(), {"kind": "ready"})
    messages.receive(sys.stdin.fileno())
    if os.environ["LIE"] == "silent":
        os.close(sys.stdout.fileno())
        time.sleep(3600)
    try:
        for head, payload in LIES[os.environ["LIE"]]:
            messages.send(sys.stdout.fileno(), head, payload)
    except BrokenPipeError:
        os._exit(1)
