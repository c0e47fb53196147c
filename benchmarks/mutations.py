"""Damage for video files, from a seed: what disks, networks and fuzzers do to them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import av
import numpy as np

HEADER = 1024  # bytes at either end where containers keep what the rest is read by


def _flip(data: bytearray, places: np.ndarray, rng: np.random.Generator) -> bytearray:
    for place in places:
        data[place] ^= int(rng.integers(1, 256))
    return data


def _flip_few(data: bytearray, rng: np.random.Generator) -> bytearray:
    return _flip(data, rng.integers(0, len(data), rng.integers(1, 9)), rng)


def _flip_many(data: bytearray, rng: np.random.Generator) -> bytearray:
    share = 10.0 ** rng.uniform(-4, -0.5)  # of the bytes: one in ten thousand to one in three
    return _flip(data, rng.integers(0, len(data), max(9, int(len(data) * share))), rng)


def _flip_header(data: bytearray, rng: np.random.Generator) -> bytearray:
    places = rng.integers(0, min(HEADER, len(data)), rng.integers(1, 17))
    return _flip(data, places if rng.random() < 0.5 else len(data) - 1 - places, rng)


def _range(data: bytearray, rng: np.random.Generator) -> tuple[int, int]:
    start = int(rng.integers(0, len(data)))
    return start, min(len(data), start + 1 + int(len(data) * 10.0 ** rng.uniform(-4, -0.3)))


def _truncate(data: bytearray, rng: np.random.Generator) -> bytearray:
    return data[: rng.integers(0, len(data))]


def _zero(data: bytearray, rng: np.random.Generator) -> bytearray:
    start, end = _range(data, rng)
    data[start:end] = bytes(end - start)
    return data


def _repeat(data: bytearray, rng: np.random.Generator) -> bytearray:
    start, end = _range(data, rng)
    return data[:end] + data[start:]


def _remove(data: bytearray, rng: np.random.Generator) -> bytearray:
    start, end = _range(data, rng)
    return data[:start] + data[end:]


KINDS: dict[str, Callable[[bytearray, np.random.Generator], bytearray]] = {
    "few": _flip_few,
    "many": _flip_many,
    "header": _flip_header,
    "cut": _truncate,
    "zero": _zero,
    "twice": _repeat,
    "gone": _remove,
}


def write_mutants(folder: Path, sources: Sequence[Path], numbers: Sequence[int], *, seed: int = 0) -> Iterator[Path]:
    """Mutants by their numbers, sources and kinds in turn; the same seed and number give the same bytes."""
    kinds = list(KINDS)
    for n in numbers:
        source, kind = sources[n % len(sources)], kinds[n // len(sources) % len(kinds)]
        data, rng = bytearray(source.read_bytes()), np.random.default_rng((seed, n))
        path = folder / f"{n:05d}-{kind}-{source.name}"
        path.write_bytes(KINDS[kind](data, rng) if data else data)
        yield path


def shorten(source: Path, path: Path, *, packets: int = 64) -> Path:
    """The first packets of a file's streams in a container of the same kind, not encoded again."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        streams = {s.index: new.add_stream_from_template(s) for s in old.streams if s.type in ("video", "audio")}
        for packet in old.demux(*[old.streams[index] for index in streams]):
            if packet.dts is None or packets <= 0:
                break
            packets -= packet.stream.type == "video"
            packet.stream = streams[packet.stream.index]
            new.mux(packet)
    return path
