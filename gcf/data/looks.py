"""Looks: how often a test set has judged. After many of them the best figure is partly luck."""

import fcntl
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from gcf._version import __version__
from gcf.data.home import home_folder
from gcf.data.schema import id_key
from gcf.data.text import spelling_key

SUFFIX = ".looks.jsonl"  # beside the feature file
MANY = 20  # looks after which the best figure is likely to be partly luck


def record_look(
    features_path: str | os.PathLike | None, classes: Mapping[str, Collection[str]], *, what: str
) -> int | None:
    """Note that a test set has judged something; how often it has by now, this time included.

    classes: the classes of each video of the test set, by the video's id. A test set is known by
    its content (`content_sha256`), whatever the network or the file. features_path: None where no
    feature file was read.

    A look is one line of JSON in a ledger beside the feature file, `feats.h5.looks.jsonl`, and the
    same line in `looks/SHA256.jsonl` of gcf's home: the digest, the number of videos, what was
    judged, the version; no path, no time of day. The number is the larger of the two ledgers': a
    copy of the file elsewhere on the machine goes on by the home's, a file that moved to another
    machine by the one that moved with it. Lines of earlier versions beside the file count, too:
    they know the ids alone, so they count whatever the labels.

    Several processes may write at once; a damaged line does not count. None where the test set is
    empty, or neither ledger can be written: a look is no reason to fail.
    """
    if not classes:
        return None
    digest = content_sha256(classes)
    line = {"test_set": digest, "videos": len(classes), "what": what, "gcf": __version__}
    keys = digest, _ids_sha256(classes)
    with ExitStack() as locks:  # both stay locked, or two processes could come to the same number
        counts = [_add(line, ledger, keys, locks) for ledger in _ledgers(features_path, digest)]
    return max((count for count in counts if count is not None), default=None)


def looks_notes(looks: int | None) -> list[str]:
    """What a reader must know of the number of looks; nothing where it is 1 or not known."""
    if looks is None or looks < 2:
        return []
    more = ""
    if looks > MANY:
        more = " With so many looks the best figure is partly luck: keep a last test set aside."
    return [f"These test videos have been judged on {looks} times by now.{more}"]


def content_sha256(classes: Mapping[str, Collection[str]]) -> str:
    """What names a test set: the sorted ids of its videos, each with its sorted classes.

    classes: by id. Letter case and blanks of class names do not count (`spelling_key`), so that
    `merge_labels` and annotations that spell a class in another way make no other test set.
    """
    rows = [[video, sorted(set(map(spelling_key, classes[video])))] for video in sorted(classes)]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _ids_sha256(ids: Iterable[str]) -> str:
    """What named a test set before labels counted."""
    return hashlib.sha256(b"\0".join(sorted(id_key(i) for i in ids))).hexdigest()


def _ledgers(features_path: str | os.PathLike | None, digest: str) -> Iterator[Path]:
    """Beside the feature file, then in gcf's home: every process locks them in this order."""
    if features_path is not None:
        path = Path(features_path)
        yield path.with_name(path.name + SUFFIX)
    try:
        folder = home_folder() / "looks"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: nobody knows this user's home
        return
    yield folder / f"{digest}.jsonl"


def _add(line: Mapping, ledger: Path, keys: Collection[str], locks: ExitStack) -> int | None:
    """Add a line, and count those of the test set with these keys; None where that cannot be done.

    The ledger stays locked until `locks` ends.
    """
    try:
        descriptor = os.open(ledger, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        locks.callback(os.close, descriptor)  # ends the lock, too
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        before = _contents(descriptor)
        gap = b"" if before.endswith(b"\n") or not before else b"\n"  # the last writer was killed
        os.write(descriptor, gap + json.dumps(line).encode() + b"\n")
    except OSError:
        return None
    return 1 + sum(_test_set(text) in keys for text in before.splitlines())


def _contents(descriptor: int) -> bytes:
    with open(descriptor, "rb", closefd=False) as file:
        return file.read()


def _test_set(text: bytes) -> str | None:
    """The test set of one line of a ledger; None where it is damaged."""
    try:
        return json.loads(text)["test_set"]
    except (ValueError, KeyError, TypeError):
        return None
