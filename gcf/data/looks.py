"""The ledger of looks: how often a test set has been judged on. After many looks the best figure is partly luck."""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from gcf._version import __version__
from gcf.data.schema import id_key

SUFFIX = ".looks.jsonl"  # beside the feature file


def record_look(features_path: str | os.PathLike, ids: Iterable[str], *, what: str) -> int | None:
    """Note that the videos `ids` have judged something, and return how often they have, this time included.

    One line of JSON in `feats.h5.looks.jsonl` per look: the sha256 of the sorted ids (whatever the network or the
    file), their number, what was judged, the version; no time of day. Several processes may write at once; a damaged
    line does not count. None where the file cannot be written: a look is no reason to fail.
    """
    ids = set(ids)
    key = video_set_sha256(ids)
    line = {"test_set": key, "videos": len(ids), "what": what, "gcf": __version__}
    features_path = Path(features_path)
    try:
        ledger = os.open(
            features_path.with_name(features_path.name + SUFFIX), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666
        )
    except OSError:
        return None
    try:
        fcntl.flock(ledger, fcntl.LOCK_EX)  # ends with the descriptor
        before = _contents(ledger)
        gap = b"" if before.endswith(b"\n") or not before else b"\n"  # the last writer was killed
        os.write(ledger, gap + json.dumps(line).encode() + b"\n")
    except OSError:
        return None
    finally:
        os.close(ledger)
    return 1 + sum(_test_set(text) == key for text in before.splitlines())


def video_set_sha256(ids: Iterable[str]) -> str:
    """What names a set of videos, in whatever order."""
    return hashlib.sha256(b"\0".join(sorted(id_key(i) for i in ids))).hexdigest()


def _contents(descriptor: int) -> bytes:
    with open(descriptor, "rb", closefd=False) as file:
        return file.read()


def _test_set(text: bytes) -> str | None:
    """The test set of one line of the ledger; None where it is damaged."""
    try:
        return json.loads(text)["test_set"]
    except (ValueError, KeyError, TypeError):
        return None
