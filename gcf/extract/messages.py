"""Messages between the extraction and its decoder processes: a JSON head and raw bytes, nothing that can run code."""

import json
import os
import select
import struct
import time

_SIZES = struct.Struct("<IQ")  # bytes of the head, bytes of the payload
MAX_HEAD = 1 << 20


class StalledError(Exception):
    """No byte came within the deadline."""


class ClosedError(Exception):
    """The other side is gone."""


def send(descriptor: int, head: dict, payload: memoryview | bytes = b"") -> None:
    """Write one message, whole; payload is a flat buffer of bytes."""
    text = json.dumps(head).encode("ascii")
    _write_all(descriptor, _SIZES.pack(len(text), len(payload)) + text)
    _write_all(descriptor, payload)


def receive(descriptor: int, *, deadline: float | None = None) -> tuple[dict, bytearray]:
    """Read one message; `deadline` is how many seconds may pass without a byte. Raises StalledError or ClosedError."""
    head_size, payload_size = _SIZES.unpack(_read_exactly(descriptor, _SIZES.size, deadline))
    if head_size > MAX_HEAD:
        raise ClosedError
    head = json.loads(_read_exactly(descriptor, head_size, deadline))
    return head, _read_exactly(descriptor, payload_size, deadline)


def _write_all(descriptor: int, data: memoryview | bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _read_exactly(descriptor: int, count: int, deadline: float | None) -> bytearray:
    data = bytearray(count)
    view = memoryview(data)
    while view:
        _wait(descriptor, deadline)
        got = os.readv(descriptor, [view])
        if not got:
            raise ClosedError
        view = view[got:]
    return data


def _wait(descriptor: int, deadline: float | None) -> None:
    if deadline is None:
        return
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    ends = time.monotonic() + deadline
    while not poll.poll(max(0.0, ends - time.monotonic()) * 1000):
        if time.monotonic() >= ends:
            raise StalledError
