"""Messages between the extraction and its decoder processes: a JSON head and raw bytes, nothing that can run code."""

import json
import os
import select
import struct

from gcf.extract.decoding.silence import OwnTime

_SIZES = struct.Struct("<IQ")  # bytes of the head, bytes of the payload
MAX_HEAD, MAX_PAYLOAD = 1 << 20, 4 << 30  # bytes: a decoder may not have more memory than that
SLICE = 1.0  # seconds: silence is counted in such pieces, each of which has really been waited through
LONGER = 10  # deadlines that may pass where the other side waits for a disk or a processor


class StalledError(Exception):
    """No byte came within the deadline; the message says how long that was."""


class ClosedError(Exception):
    """The other side is gone."""


def send(descriptor: int, head: dict, payload: memoryview | bytes = b"") -> None:
    """Write one message, whole; payload is a flat buffer of bytes."""
    text = json.dumps(head).encode("ascii")
    _write_all(descriptor, _SIZES.pack(len(text), len(payload)) + text)
    _write_all(descriptor, payload)


def receive(descriptor: int, *, deadline: float | None = None, pid: int = 0) -> tuple[dict, bytearray]:
    """Read one message; `deadline` is how many seconds may pass without a byte.

    pid: the process on the other side; what it waits for a disk or a processor does not count, within ten deadlines.
    Raises StalledError, ClosedError, and ValueError for what is no message.
    """
    head_size, payload_size = _SIZES.unpack(_read_exactly(descriptor, _SIZES.size, deadline, pid))
    if head_size > MAX_HEAD or payload_size > MAX_PAYLOAD:
        raise ValueError(f"a message of {head_size} and {payload_size} bytes")
    head = json.loads(_read_exactly(descriptor, head_size, deadline, pid))
    if not isinstance(head, dict):
        raise ValueError(f"a message that is a {type(head).__name__}")
    return head, _read_exactly(descriptor, payload_size, deadline, pid)


def _write_all(descriptor: int, data: memoryview | bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _read_exactly(descriptor: int, count: int, deadline: float | None, pid: int) -> bytearray:
    data = bytearray(count)
    view = memoryview(data)
    while view:
        _wait(descriptor, deadline, pid)
        got = os.readv(descriptor, [view])
        if not got:
            raise ClosedError
        view = view[got:]
    return data


def _wait(descriptor: int, deadline: float | None, pid: int = 0) -> None:
    if deadline is None:
        return
    piece, own_time = min(deadline, SLICE), OwnTime(pid)
    own = whole = 0.0  # not by the clock: it also runs while Ctrl-Z holds this process and its decoders
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while not poll.poll(piece * 1000):
        whole += piece
        own += own_time(piece)
        if own >= deadline:
            raise StalledError(f"no progress for {deadline:g} s")
        if whole >= LONGER * deadline:
            raise StalledError(f"no progress for {whole:g} s, in which it waited for a disk or a processor")
